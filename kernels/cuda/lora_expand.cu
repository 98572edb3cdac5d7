/* SPDX-License-Identifier: Apache-2.0 */
/* y[t] += scale * B h[t] for the adapter of each row: h [n_tokens, rank_max], B [rank, n] bf16,
 * y [n_tokens, n].
 *
 * A thread has one output of all rows of a tile, so a number of B serves them all; h lies in shared
 * memory. Roof: memory of the adapters that are met, and of y twice. Limits: rank_max <=
 * HDL_LORA_RANK_MAX. Bits: as ref. */
#include "kernels/cuda/lora.h"

GPU_KERNEL(256) lora_expand(hdl_lora_expand_args a, lora_lists l)
{
    if (gpu_block_x() >= *l.n_tiles)
        return;
    const lora_tile tile = l.tiles[gpu_block_x()];
    const hdl_lora adapter = a.rows.adapters[tile.adapter];
    float *h = gpu_shared<float>(); /* [LORA_TILE, rank] */
    for (uint32_t i = gpu_thread(); i < LORA_TILE * adapter.rank; i += gpu_threads()) {
        uint32_t t = hdl_min_u32(i / adapter.rank, tile.n - 1);
        h[i] = a.h[(size_t)l.order[tile.at + t] * a.rank_max + i % adapter.rank];
    }
    gpu_sync();
    uint32_t i = gpu_block_y() * gpu_threads() + gpu_thread();
    if (i >= a.n)
        return;
    float sum[LORA_TILE] = {0};
    for (uint32_t r = 0; r < adapter.rank; r++) {
        float weight = hdl_bf16_to_f32(adapter.b[(size_t)r * a.n + i]);
        GPU_UNROLL
        for (uint32_t t = 0; t < LORA_TILE; t++)
            sum[t] = fmaf(weight, h[t * adapter.rank + r], sum[t]);
    }
    GPU_UNROLL
    for (uint32_t t = 0; t < LORA_TILE; t++) {
        if (t >= tile.n)
            continue;
        float *y = a.y + l.order[tile.at + t] * a.y_stride + i;
        *y = fmaf(adapter.scale, sum[t], *y);
    }
}

void hdl_cuda_lora_expand(const hdl_lora_expand_args *a, hdl_stream *stream)
{
    size_t mark = stream->scratch_at;
    HDL_ASSERT_LE(a->rank_max, HDL_LORA_RANK_MAX);
    lora_lists l = lora_tiles_of(&a->rows, stream);
    gpu_grid g;
    g.x = l.tiles_max;
    g.y = gpu_div_up(a->n, g.threads);
    g.shared = LORA_TILE * (size_t)a->rank_max * sizeof(float);
    GPU_LAUNCH(stream, g, lora_expand, *a, l);
    stream->scratch_at = mark;
}
