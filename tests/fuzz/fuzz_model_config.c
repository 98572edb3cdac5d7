/* SPDX-License-Identifier: Apache-2.0 */
/* config.json: whatever the text, it is refused or the description can be counted, laid out and cut
 * into shards. */
#include <stddef.h>
#include <stdint.h>

#include <heddle/model.h>

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static hdl_model_desc desc;
    hdl_errmsg why;
    if (hdl_model_desc_parse(&desc, (const char *)data, size, &why) != HDL_OK)
        return 0;
    hdl_model_params params = hdl_model_count_params(&desc);
    HDL_ASSERT(params.total >= params.active || desc.topk == desc.n_experts);
    for (uint32_t tp = 1; tp <= 8; tp *= 2) {
        for (uint32_t ep = 1; ep <= 8; ep *= 2) {
            hdl_layout layout = {.tp = tp, .ep = ep, .pp = 1, .dp = 1};
            if (hdl_layout_check(&desc, &layout, &why) != HDL_OK)
                continue;
            for (uint32_t rank = 0; rank < hdl_layout_ranks(&layout); rank++) {
                hdl_shard shard = hdl_shard_of(&desc, &layout, rank);
                HDL_ASSERT(shard.head_at + shard.n_heads <= desc.n_heads);
                HDL_ASSERT(shard.kv_head_at + shard.n_kv_heads <= desc.n_kv_heads);
                HDL_ASSERT(shard.vocab_at + shard.vocab <= desc.vocab);
                (void)hdl_shard_count_bytes(&desc, &shard, HDL_WFORMAT_Q8);
            }
        }
    }
    return 0;
}
