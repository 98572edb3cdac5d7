/* SPDX-License-Identifier: Apache-2.0 */
/* Safetensors files: whatever the bytes, opening refuses or every tensor lies inside the file. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/load/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t read_to; /* so that no read is left out */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_st *st = NULL;
    hdl_errmsg why;
    /* Of its own, so that a read past the end is seen, and aligned as a mapping is. */
    uint8_t *file = malloc(size ? size : 1);
    if (!file)
        return 0;
    memcpy(file, data, size);
    if (hdl_st_open_bytes(&st, file, size, &why) == HDL_OK) {
        uint64_t sum = 0;
        for (size_t i = 0; i < hdl_st_count(st); i++) {
            const hdl_st_tensor *t = hdl_st_at(st, i);
            const uint8_t *at = t->data;
            HDL_ASSERT(at >= file && t->bytes <= size && at + t->bytes <= file + size);
            HDL_ASSERT(hdl_st_find(st, t->name) == t);
            sum += t->bytes;
            if (t->bytes != 0)
                sum += at[0] + at[t->bytes - 1];
        }
        read_to = sum;
    }
    hdl_st_close(st);
    free(file);
    return 0;
}
