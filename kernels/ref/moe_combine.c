/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

/* Weighted sum, in order of expert id, of the token's choices that lie in [lo, hi). */
static float group_sum(const hdl_moe_combine_args *a, size_t token, size_t i, uint32_t lo,
                       uint32_t hi)
{
    float sum = 0;
    for (uint32_t expert = lo; expert < hi; expert++)
        for (uint32_t j = 0; j < a->topk; j++) {
            size_t item = token * a->topk + j;
            if (a->ids[item] != expert)
                continue;
            float y = a->ye[item * a->hidden + i];
            if (a->down_bias)
                y += a->down_bias[(size_t)(expert - a->expert_lo) * a->hidden + i];
            sum += a->weights ? a->weights[item] * y : y;
        }
    return sum;
}

static void combine_tokens(const void *args, size_t from, size_t to)
{
    const hdl_moe_combine_args *a = args;
    uint32_t group = a->n_experts / a->n_leaves, end = a->expert_lo + a->n_local;
    for (size_t t = from; t < to; t++)
        for (size_t i = 0; i < a->hidden; i++) {
            hdl_leaf_tree tree = {0};
            for (uint32_t lo = a->expert_lo; lo < end; lo += group)
                hdl_leaf_push(&tree, group_sum(a, t, i, lo, lo + group));
            a->y[t * a->hidden + i] = tree.open[0];
        }
}

void hdl_ref_moe_combine(const hdl_moe_combine_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->n_experts % a->n_leaves, 0);
    HDL_ASSERT_EQ(a->n_local % (a->n_experts / a->n_leaves), 0);
    hdl_stream_for(stream, a->n_tokens, 1, combine_tokens, a);
}
