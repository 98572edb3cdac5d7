/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static float leaf_dot(const uint16_t *a, const float *x, uint32_t n)
{
    float lane[HDL_LANES] = {0};
    for (uint32_t i = 0; i < n; i++)
        lane[i % HDL_LANES] = fmaf(hdl_bf16_to_f32(a[i]), x[i], lane[i % HDL_LANES]);
    return hdl_lanes_fold(lane);
}

static void shrink_tokens(const void *args, size_t from, size_t to)
{
    const hdl_lora_shrink_args *a = args;
    uint32_t n = a->k / a->n_leaves;
    for (size_t t = from; t < to; t++) {
        uint32_t which = a->rows.of_row[t];
        const hdl_lora *l = which == HDL_NONE_U32 ? NULL : &a->rows.adapters[which];
        for (uint32_t r = 0; r < a->rank_max; r++) {
            hdl_leaf_tree tree = {0};
            for (uint32_t at = 0; l && r < l->rank && at < a->k; at += n)
                hdl_leaf_push(
                    &tree, leaf_dot(l->a + (size_t)r * a->k + at, a->x + t * a->x_stride + at, n));
            a->h[t * a->rank_max + r] = tree.open[0];
        }
    }
}

void hdl_ref_lora_shrink(const hdl_lora_shrink_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->k % a->n_leaves, 0);
    hdl_stream_for(stream, a->rows.n_tokens, 1, shrink_tokens, a);
}
