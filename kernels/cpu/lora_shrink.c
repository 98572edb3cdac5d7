/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static float leaf_dot(const uint16_t *a, const float *x, uint32_t n)
{
    v16 sum = v16_set1(0);
    uint32_t i = 0;
    float lane[HDL_LANES];
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        sum = v16_fma(v16_load_bf16(a + i), v16_load(x + i), sum);
    v16_store(lane, sum);
    for (; i < n; i++)
        lane[i % HDL_LANES] = fmaf(hdl_bf16_to_f32(a[i]), x[i], lane[i % HDL_LANES]);
    return hdl_lanes_fold(lane);
}

/* Items are pairs of a token and a row of A, so that one token is work for many. */
static void shrink_pairs(const void *args, size_t from, size_t to)
{
    const hdl_lora_shrink_args *a = args;
    uint32_t n = a->k / a->n_leaves;
    for (size_t pair = from; pair < to; pair++) {
        size_t t = pair / a->rank_max, r = pair % a->rank_max;
        uint32_t which = a->rows.of_row[t];
        const hdl_lora *l = which == HDL_NONE_U32 ? NULL : &a->rows.adapters[which];
        hdl_leaf_tree tree = {0};
        for (uint32_t at = 0; l && r < l->rank && at < a->k; at += n)
            hdl_leaf_push(&tree, leaf_dot(l->a + r * a->k + at, a->x + t * a->x_stride + at, n));
        a->h[pair] = tree.open[0];
    }
}

void HDL_ISA_NAME(lora_shrink)(const hdl_lora_shrink_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->k % a->n_leaves, 0);
    hdl_stream_for(stream, (size_t)a->rows.n_tokens * a->rank_max, 16384 / a->k + 1, shrink_pairs,
                   a);
}
