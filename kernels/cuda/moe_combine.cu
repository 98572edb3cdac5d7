/* SPDX-License-Identifier: Apache-2.0 */
/* y[t] = tree over expert leaves of the weighted sums, in order of expert id: a block for each
 * token.
 *
 * The token's choices are put in order of (expert, choice) once, in shared memory; then each thread
 * walks them for its columns. Roof: memory, topk + 1 numbers read and written for a column. Limits:
 * topk <= HDL_TOPK_MAX, leaves <= HDL_LEAVES_MAX. Bits: as ref. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

struct choices {
    uint32_t expert[HDL_TOPK_MAX]; /* ascending */
    uint32_t choice[HDL_TOPK_MAX];
};

/* Rank of choice j among the token's. */
GPU_DEVICE void sort_choices(const uint32_t *ids, uint32_t topk, choices *out)
{
    for (uint32_t j = gpu_thread(); j < topk; j += gpu_threads()) {
        uint32_t at = 0;
        for (uint32_t other = 0; other < topk; other++)
            at += ids[other] < ids[j] || (ids[other] == ids[j] && other < j);
        out->expert[at] = ids[j];
        out->choice[at] = j;
    }
    gpu_sync();
}

GPU_DEVICE float choice_value(const hdl_moe_combine_args *a, size_t item, uint32_t expert,
                              uint32_t i)
{
    float y = a->ye[item * a->hidden + i];
    if (a->down_bias)
        y += a->down_bias[(size_t)(expert - a->expert_lo) * a->hidden + i];
    return a->weights ? a->weights[item] * y : y;
}

GPU_KERNEL(256) moe_combine(hdl_moe_combine_args a)
{
    size_t t = gpu_block_x();
    choices *sorted = gpu_shared<choices>();
    uint32_t group = a.n_experts / a.n_leaves, end = a.expert_lo + a.n_local;
    sort_choices(a.ids + t * a.topk, a.topk, sorted);
    for (uint32_t i = gpu_thread(); i < a.hidden; i += gpu_threads()) {
        leaf_stack<HDL_TREE_DEPTH> tree = {};
        uint32_t at = 0;
        while (at < a.topk && sorted->expert[at] < a.expert_lo)
            at++;
        for (uint32_t lo = a.expert_lo; lo < end; lo += group) {
            float sum = 0;
            for (; at < a.topk && sorted->expert[at] < lo + group; at++)
                sum += choice_value(&a, t * a.topk + sorted->choice[at], sorted->expert[at], i);
            leaf_push(&tree, sum);
        }
        a.y[t * a.hidden + i] = tree.total;
    }
}

void hdl_cuda_moe_combine(const hdl_moe_combine_args *a, hdl_stream *stream)
{
    gpu_grid g;
    HDL_ASSERT_EQ(a->n_experts % a->n_leaves, 0);
    HDL_ASSERT_EQ(a->n_local % (a->n_experts / a->n_leaves), 0);
    HDL_ASSERT(a->topk <= HDL_TOPK_MAX && a->n_leaves <= HDL_LEAVES_MAX);
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->hidden);
    g.shared = sizeof(choices);
    GPU_LAUNCH(stream, g, moe_combine, *a);
}
