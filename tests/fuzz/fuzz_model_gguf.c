/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of GGUF files as descriptions: whatever the keys, they are refused or make a model whose
 * every layout that passes the check can be cut. Tensors' data are not there: zeros follow. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/load/gguf_desc.h"

enum { ZEROS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void cut(const hdl_model_desc *desc)
{
    for (uint32_t n = 1; n <= 8; n *= 2) {
        hdl_layout layout = {.tp = n, .ep = desc->n_experts ? n : 1, .pp = 1, .dp = 1};
        hdl_errmsg why;
        if (hdl_layout_check(desc, &layout, &why) != HDL_OK)
            continue;
        for (uint32_t rank = 0; rank < hdl_layout_ranks(&layout); rank++) {
            hdl_shard shard = hdl_shard_of(desc, &layout, rank);
            HDL_ASSERT(shard.vocab_at + shard.vocab <= desc->vocab);
        }
    }
    HDL_ASSERT(desc->n_layers > 0 && desc->n_layers <= HDL_LAYERS_MAX);
    HDL_ASSERT(hdl_model_count_params(desc).total > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hdl_model_desc desc;
    hdl_gguf *gguf = NULL;
    hdl_errmsg why;
    uint8_t *file = calloc(1, size + ZEROS);
    if (!file)
        return 0;
    if (size > 0)
        memcpy(file, data, size);
    if (hdl_gguf_open_bytes(&gguf, file, size + ZEROS, &why) == HDL_OK &&
        hdl_desc_of_gguf(&desc, gguf, &why) == HDL_OK)
        cut(&desc);
    hdl_gguf_close(gguf);
    free(file);
    return 0;
}
