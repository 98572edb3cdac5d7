/* SPDX-License-Identifier: Apache-2.0 */
/* The bound of rule 5: what ops take from the stream for a step of these extents. */
#include "kernels/cuda/fast.h"
#include "kernels/cuda/matmul.h"

enum { LORA_TILE_WORDS = 3 /* lora.h */ };

/* Rows that a mixture packs: every choice, and less than a tile wasted by each expert. */
static size_t moe_rows(const hdl_ops_extent *e)
{
    size_t n = (size_t)e->n_tokens * e->topk, most = 0;
    for (size_t tile = 8; tile <= MM_TILE_ROWS_MAX; tile *= 2) {
        size_t tiles = (n + tile - 1) / tile + e->n_experts;
        tiles = tiles < n ? tiles : n;
        most = tiles * tile > most ? tiles * tile : most;
    }
    return most;
}

/* A place in the order for each row, and a tile for each at worst. */
static size_t lora_bytes(size_t n_tokens)
{
    return n_tokens * (1 + LORA_TILE_WORDS) * sizeof(uint32_t);
}

size_t hdl_cuda_scratch_bytes(const hdl_ops_extent *e)
{
    size_t tokens =
               ((size_t)e->n_tokens + MM_TILE_ROWS_MAX - 1) / MM_TILE_ROWS_MAX * MM_TILE_ROWS_MAX,
           k = hdl_max_u32(e->k_max, e->hidden);
    size_t linear = mm_scratch_bytes(tokens, k) + (e->fast ? fast_scratch_bytes() : 0);
    size_t heads = e->n_heads * sizeof(hdl_weight) +
                   mm_scratch_bytes(tokens * e->n_heads, hdl_max_u32(e->nope_dim, e->latent_rank));
    size_t rows = moe_rows(e), wide = 2 * (size_t)e->moe_inter;
    size_t moe = rows * (wide * sizeof(float) + sizeof(uint32_t) + sizeof(mm_tile)) +
                 e->n_experts * 2 * (sizeof(uint32_t) + sizeof(hdl_weight)) +
                 mm_scratch_bytes(rows, hdl_max_u32(e->hidden, e->moe_inter));
    size_t most = linear > heads ? linear : heads;
    size_t attention = hdl_cuda_attention_scratch(e) + hdl_cuda_latent_prefill_scratch(e),
           lora = lora_bytes(e->n_tokens);
    most = most > moe ? most : moe;
    most = most > lora ? most : lora;
    return (most > attention ? most : attention) +
           16 * 256; /* each piece may lose up to its alignment */
}
