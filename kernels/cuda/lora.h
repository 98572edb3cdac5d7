/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a step by adapter: tiles of at most LORA_TILE rows that name the same one, so that an
 * adapter's numbers are read once for all of them. Rows are not moved: a tile lists them. Their
 * order within a tile comes from a counter and may vary; bits do not, since rows are independent.
 * For lora_shrink.cu and lora_expand.cu. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

enum { LORA_TILE = 8 };

struct lora_tile {
    uint32_t adapter, at, n; /* rows lists.order[at..at + n) */
};

static_assert(sizeof(lora_tile) == 3 * sizeof(uint32_t), "scratch.cu");

/* Scratch of one op, on the device. */
struct lora_lists {
    uint32_t *order; /* [n_tokens] */
    lora_tile *tiles;
    uint32_t *n_tiles;
    uint32_t tiles_max;
};

/* One block: counts, then tiles in order of adapter, then places. Shared memory: two numbers of
 * each adapter. */
GPU_KERNEL(256) lora_sort(hdl_lora_rows rows, lora_lists l)
{
    uint32_t *count = gpu_shared<uint32_t>(), *start = count + rows.n_adapters;
    for (uint32_t i = gpu_thread(); i < rows.n_adapters; i += gpu_threads())
        count[i] = 0;
    gpu_sync();
    for (uint32_t t = gpu_thread(); t < rows.n_tokens; t += gpu_threads())
        if (rows.of_row[t] != HDL_NONE_U32)
            gpu_atomic_add(&count[rows.of_row[t]], 1);
    gpu_sync();
    if (gpu_thread() == 0) {
        uint32_t tiles = 0, at = 0;
        for (uint32_t i = 0; i < rows.n_adapters; i++) {
            start[i] = at;
            for (uint32_t left = count[i], n; left > 0; left -= n) {
                n = hdl_min_u32(left, LORA_TILE);
                lora_tile tile = {i, at, n};
                l.tiles[tiles++] = tile;
                at += n;
            }
            count[i] = 0;
        }
        *l.n_tiles = tiles;
    }
    gpu_sync();
    for (uint32_t t = gpu_thread(); t < rows.n_tokens; t += gpu_threads()) {
        uint32_t which = rows.of_row[t];
        if (which != HDL_NONE_U32)
            l.order[start[which] + gpu_atomic_add(&count[which], 1)] = t;
    }
}

static inline lora_lists lora_tiles_of(const hdl_lora_rows *rows, hdl_stream *stream)
{
    lora_lists l;
    HDL_ASSERT_LE(rows->n_adapters, HDL_LORA_ADAPTERS_MAX);
    l.tiles_max =
        hdl_min_u32(rows->n_tokens, gpu_div_up(rows->n_tokens, LORA_TILE) + rows->n_adapters);
    l.order = (uint32_t *)gpu_take(stream, rows->n_tokens * sizeof(uint32_t));
    l.tiles = (lora_tile *)gpu_take(stream, l.tiles_max * sizeof(lora_tile));
    l.n_tiles = (uint32_t *)gpu_take(stream, sizeof(uint32_t));
    gpu_grid g;
    g.shared = 2 * (size_t)rows->n_adapters * sizeof(uint32_t);
    GPU_LAUNCH(stream, g, lora_sort, *rows, l);
    return l;
}
