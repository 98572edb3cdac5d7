/* SPDX-License-Identifier: Apache-2.0 */
/* `heddle replay` on any bytes: it refuses or it replays, and the state's invariants hold at the
 * end. Checksums are put right first, or no mutation would ever reach the core. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "scheduler/core/journal.h"
#include "scheduler/record/replay.h"

static void mend(unsigned char *bytes, size_t size)
{
    size_t at = HDL_JOURNAL_HEADER_BYTES;
    while (at + 8 <= size) {
        uint32_t body;
        memcpy(&body, bytes + at, sizeof body);
        if (body > size - at - 8)
            return;
        uint32_t crc = hdl_crc32c(0, bytes + at + 8, body);
        memcpy(bytes + at + 4, &crc, sizeof crc);
        at += 8 + body;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 << 20)
        return 0;
    unsigned char *bytes = aligned_alloc(8, (size + 8) / 8 * 8);
    HDL_ASSERT(bytes != NULL);
    memcpy(bytes, data, size);
    mend(bytes, size);
    hdl_replay_report report;
    hdl_errmsg why = {""};
    hdl_err err = hdl_replay_bytes(bytes, size, 16u << 20, &report, &why);
    HDL_ASSERT((err == HDL_OK) == (why.text[0] == 0));
    HDL_ASSERT(report.broken[0] == 0);
    free(bytes);
    return 0;
}
