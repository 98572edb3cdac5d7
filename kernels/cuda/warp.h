/* SPDX-License-Identifier: Apache-2.0 */
/* What several kernels do with a warp or a thread: sums in the order of numeric.h, leaf trees in
 * registers, the row that a token belongs to. Device code, pure. */
#pragma once

#include "kernels/cuda/gpu.h"

/* hdl_lanes_fold over lanes 0 to 15; all lanes get the sum. */
GPU_DEVICE float warp_lanes_fold(float lane_sum)
{
    for (uint32_t half = HDL_LANES / 2; half > 0; half /= 2)
        lane_sum += gpu_shfl_xor(lane_sum, half);
    return gpu_shfl(lane_sum, 0);
}

/* hdl_square_sum by a whole warp, bit for bit; x in shared or global memory. */
GPU_DEVICE float warp_square_sum(const float *x, uint32_t dim)
{
    float sum = 0;
    if (gpu_lane() < HDL_LANES)
        for (uint32_t i = gpu_lane(); i < dim; i += HDL_LANES)
            sum += x[i] * x[i];
    return warp_lanes_fold(sum);
}

GPU_DEVICE float warp_rms_scale(const float *x, uint32_t dim, float eps)
{
    return hdl_rms_scale_of(warp_square_sum(x, dim), dim, eps);
}

/* hdl_leaf_tree whose places are known to the compiler, so that it lies in registers: levels must
 * be at least log2 of the pushes plus 1. After a power of two of pushes, total is the tree's sum.
 */
template <int levels> struct leaf_stack {
    float open[levels], total;
    uint32_t n;
};

template <int levels> GPU_DEVICE void leaf_push(leaf_stack<levels> *s, float sum)
{
    bool placed = false;
    GPU_UNROLL
    for (int level = 0; level < levels; level++) {
        if (placed)
            continue;
        if (s->n >> level & 1) {
            sum = s->open[level] + sum;
        } else {
            s->open[level] = sum;
            placed = true;
        }
    }
    s->total = sum;
    s->n++;
}

/* The row of the step's token; rows are in order of token_at and cover all tokens. */
GPU_DEVICE const hdl_attn_row *row_of_token(const hdl_attn_row *rows, uint32_t n_rows,
                                            uint32_t token)
{
    uint32_t lo = 0, hi = n_rows - 1;
    while (lo < hi) {
        uint32_t middle = (lo + hi + 1) / 2;
        if (rows[middle].token_at <= token)
            lo = middle;
        else
            hi = middle - 1;
    }
    return &rows[lo];
}

/* Place of a position's first value in a cache of [n_blocks, n_heads, block_tokens, head_dim]. */
GPU_DEVICE size_t kv_place(const hdl_kv_view *kv, const hdl_attn_row *row, uint32_t pos,
                           uint32_t head)
{
    size_t block = row->table[pos / kv->block_tokens];
    return ((block * kv->n_kv_heads + head) * kv->block_tokens + pos % kv->block_tokens) *
           kv->head_dim;
}
