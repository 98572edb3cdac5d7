/* SPDX-License-Identifier: Apache-2.0 */
/* h[t, r] = A x[t] for the adapter of each row: x [n_tokens, k], A [rank, k] bf16, h [n_tokens,
 * rank_max].
 *
 * A block takes a tile of rows and sixteen rows of A, half a warp each: a lane is a lane of
 * numeric.h's sum, and a number of A that it reads serves all rows of the tile. Roof: memory of the
 * adapters that are met. Limits: rank_max <= HDL_LORA_RANK_MAX. Bits: as ref. */
#include "kernels/cuda/lora.h"

enum { HALF = HDL_LANES, SHRINK_WARPS = 8, RANKS = SHRINK_WARPS * GPU_WARP / HALF };

/* What no tile writes. */
GPU_KERNEL(256) lora_zero(hdl_lora_shrink_args a)
{
    size_t n = (size_t)a.rows.n_tokens * a.rank_max;
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        uint32_t which = a.rows.of_row[i / a.rank_max];
        if (which == HDL_NONE_U32 || i % a.rank_max >= a.rows.adapters[which].rank)
            a.h[i] = 0;
    }
}

GPU_KERNEL(256) lora_shrink(hdl_lora_shrink_args a, lora_lists l)
{
    if (gpu_block_x() >= *l.n_tiles)
        return;
    const lora_tile tile = l.tiles[gpu_block_x()];
    const hdl_lora adapter = a.rows.adapters[tile.adapter];
    uint32_t lane = gpu_thread() % HALF, r = gpu_block_y() * RANKS + gpu_thread() / HALF;
    const uint16_t *row = adapter.a + (size_t)hdl_min_u32(r, adapter.rank - 1) * a.k;
    const float *x[LORA_TILE];
    leaf_stack<HDL_TREE_DEPTH> tree[LORA_TILE];
    GPU_UNROLL
    for (uint32_t t = 0; t < LORA_TILE; t++) {
        x[t] = a.x + l.order[tile.at + hdl_min_u32(t, tile.n - 1)] * a.x_stride;
        tree[t].n = 0;
    }
    uint32_t n = a.k / a.n_leaves;
    for (uint32_t leaf = 0; leaf < a.n_leaves; leaf++) {
        float sum[LORA_TILE] = {0};
        for (uint32_t i = leaf * n + lane; i < (leaf + 1) * n; i += HALF) {
            float weight = hdl_bf16_to_f32(row[i]);
            GPU_UNROLL
            for (uint32_t t = 0; t < LORA_TILE; t++)
                sum[t] = fmaf(weight, x[t][i], sum[t]);
        }
        gpu_warp_sync();
        GPU_UNROLL
        for (uint32_t t = 0; t < LORA_TILE; t++) {
            for (uint32_t half = HALF / 2; half > 0; half /= 2)
                sum[t] += gpu_shfl_xor(sum[t], half);
            leaf_push(&tree[t], sum[t]);
        }
    }
    GPU_UNROLL
    for (uint32_t t = 0; t < LORA_TILE; t++)
        if (lane == 0 && r < adapter.rank && t < tile.n)
            a.h[(size_t)l.order[tile.at + t] * a.rank_max + r] = tree[t].total;
}

void hdl_cuda_lora_shrink(const hdl_lora_shrink_args *a, hdl_stream *stream)
{
    size_t mark = stream->scratch_at;
    HDL_ASSERT_EQ(a->k % a->n_leaves, 0);
    HDL_ASSERT_LE(a->rank_max, HDL_LORA_RANK_MAX);
    GPU_LAUNCH(stream, gpu_grid_for((size_t)a->rows.n_tokens * a->rank_max), lora_zero, *a);
    lora_lists l = lora_tiles_of(&a->rows, stream);
    gpu_grid g;
    g.x = l.tiles_max;
    g.y = gpu_div_up(a->rank_max, RANKS);
    GPU_LAUNCH(stream, g, lora_shrink, *a, l);
    stream->scratch_at = mark;
}
