/* SPDX-License-Identifier: Apache-2.0 */
/* The paged KV cache of one layer on one rank: what operations see of it, and where a value lies.
 *
 * BF16 keeps values as they are, rounded. INT8 keeps a code of -127..127 per value and one f32
 * scale per token and head, of k and of v: value = code * scale, scale = max / 127, codes nearest
 * even. Codes lie as integer dot products of two want them: of k, neighbouring dimensions of a key
 * side by side; of v, neighbouring keys' values of a dimension.
 *
 * FP8 keeps an E4M3 code per value and one f32 scale per token and head, the smallest power of two
 * that makes max / scale at most 448. A code times a power of two is a number of bf16, so attention
 * over FP8 is attention over BF16, bit for bit. Codes of a token lie one after the other.
 *
 * Pure data and arithmetic; any thread. Who owns a block is the scheduler's business. */
#pragma once

#include <heddle/types.h>

typedef enum hdl_kv_type { HDL_KV_BF16, HDL_KV_INT8, HDL_KV_FP8, HDL_KV_TYPE_COUNT } hdl_kv_type;

/* Of an index into HDL_CHOICES_kv_type (config.h). */
static inline hdl_kv_type hdl_kv_type_of(int choice)
{
    return choice == 2 ? HDL_KV_INT8 : choice == 3 ? HDL_KV_FP8 : HDL_KV_BF16;
}

static inline const char *hdl_kv_type_text(hdl_kv_type type)
{
    return type == HDL_KV_INT8 ? "int8" : type == HDL_KV_FP8 ? "fp8" : "bf16";
}

enum {
    HDL_ATTN_TILE = 32,  /* keys that attention takes at a time, at absolute multiples */
    HDL_ATTN_SPLIT = 512 /* holds SPLIT / TILE tiles; splits are independent, merged in order */
};

typedef struct hdl_kv_view {
    hdl_kv_type type;
    uint16_t *k; /* BF16: [n_blocks, n_kv_heads, block_tokens, head_dim] */
    uint16_t *v; /* the same shape */
    /* INT8: [n_blocks, n_kv_heads, block_tokens / TILE] tiles. A tile of k is int8
     * [head_dim / 2, TILE, 2], one of v int8 [TILE / 2, head_dim, 2]; f32 [TILE] scales follow.
     * FP8: the same tiles, but of k and of v they are E4M3 [TILE, head_dim]. */
    unsigned char *k8, *v8;
    uint32_t n_blocks, n_kv_heads, block_tokens, head_dim;
} hdl_kv_view;

/* Bytes of k, or of v, of one token and head. */
HDL_INLINE uint64_t hdl_kv_bytes(hdl_kv_type type, uint32_t dim)
{
    return type == HDL_KV_BF16 ? (uint64_t)dim * sizeof(uint16_t) : (uint64_t)dim + sizeof(float);
}

/* INT8 and FP8, from k8 or v8: where the tile of a head begins that holds token `at` of a block. */
HDL_INLINE size_t hdl_kv8_tile_at(const hdl_kv_view *kv, uint32_t block, uint32_t head, uint32_t at)
{
    size_t tiles = kv->block_tokens / HDL_ATTN_TILE;
    size_t tile = ((size_t)block * kv->n_kv_heads + head) * tiles + at / HDL_ATTN_TILE;
    return tile * HDL_ATTN_TILE * (size_t)hdl_kv_bytes(HDL_KV_INT8, kv->head_dim);
}

/* Within a tile: the code of dimension i of token `at` (INT8; of FP8 the token's first), and the
 * scale of the token. */
HDL_INLINE size_t hdl_kv8_k_at(uint32_t at, uint32_t i)
{
    return (size_t)(i / 2) * 2 * HDL_ATTN_TILE + (size_t)(at % HDL_ATTN_TILE) * 2 + i % 2;
}
HDL_INLINE size_t hdl_kv8_v_at(uint32_t dim, uint32_t at, uint32_t i)
{
    return (size_t)(at % HDL_ATTN_TILE / 2) * 2 * dim + (size_t)i * 2 + at % 2;
}
HDL_INLINE size_t hdl_kv8_row_at(uint32_t dim, uint32_t at)
{
    return (size_t)(at % HDL_ATTN_TILE) * dim;
}
HDL_INLINE size_t hdl_kv8_scale_at(uint32_t dim, uint32_t at)
{
    return (size_t)HDL_ATTN_TILE * dim + at % HDL_ATTN_TILE * sizeof(float);
}
