/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix engine of linear and moe_experts.
 *
 * A packed weight is tiles of 16 rows that lie side by side, so that one register holds 16 outputs
 * and k is walked in order: every output has one accumulator, whatever the number of tokens.
 *
 *   F32   tile: [k] { float w[16] }
 *   BF16  tile: [k / 2] { uint32_t pair[16] }, even k in the high half, which vdpbf16ps adds first
 *   Q8    tile: [k / 32] { float scale[16]; uint8_t w[8][16][4] }, w = q + 128
 *
 * Tokens are converted once per call and laid out as panels: blocks of m tokens whose values for
 * one k lie side by side. Block sizes are a table per instruction set and format (the variants);
 * which one computes a token has no influence on its bits. */
#pragma once

#include "kernels/cpu/cpu.h"

enum {
    HDL_TILE = 16,           /* rows of a tile */
    HDL_TILE_GROUP = 4,      /* tiles that a thread takes at a time when there are many */
    HDL_Q8_TILE_BYTES = 576, /* of a group of 32 k */
    HDL_BLOCK_MAX = 12,      /* tokens of the largest block */
    HDL_LEAF_OUT_MAX = 384,  /* outputs of one kernel call */
    HDL_VARIANTS_MAX = 6,
    HDL_STACK_MAX = 4, /* parts of a stacked weight */
};

/* One leaf of k for a block of tokens and a few neighbouring tiles. */
typedef struct hdl_leaf_args {
    const unsigned char *w; /* first tile, at the start of the leaf */
    size_t w_tile_bytes;    /* from one tile to the next */
    const unsigned char *x; /* panel, at the start of the leaf */
    uint32_t k;             /* of the leaf */
    float *out;             /* [block tokens, tiles * 16] */
} hdl_leaf_args;
typedef void hdl_leaf_fn(const hdl_leaf_args *a);

/* Kernels for blocks of `tokens`: for 4, 2 and 1 tiles at once; the wide ones may be NULL. */
typedef struct hdl_gemm_variant {
    uint32_t tokens;
    hdl_leaf_fn *tiles4, *tiles2, *tiles1;
} hdl_gemm_variant;

/* One token's way into a panel: k [from, to), `from` a multiple of 32. x NULL: zeros. */
typedef struct hdl_pack_x_args {
    const float *x; /* [k] */
    unsigned char *panel;
    uint32_t block_tokens, lane; /* of the panel; the token's place in it */
    uint32_t from, to;
} hdl_pack_x_args;

/* Tokens are cut into blocks of the last variant; what remains is one block of the first variant
 * that holds it. */
typedef struct hdl_gemm_format {
    void (*pack_x)(const hdl_pack_x_args *a);
    uint32_t x_group_bytes; /* of a panel, per token and 32 k */
    uint32_t n_variants;
    hdl_gemm_variant variants[HDL_VARIANTS_MAX]; /* tokens ascending */
} hdl_gemm_format;

/* linear_avx2.c or linear_avx512.c */
#define hdl_gemm_formats HDL_ISA_NAME(gemm_formats)
extern const hdl_gemm_format hdl_gemm_formats[HDL_WFORMAT_COUNT];

/* y = x W^T for some tokens and the own rows of one weight. */
typedef struct hdl_gemm_job {
    const hdl_weight *w;
    unsigned char *x; /* panels of all blocks, one after the other, 64-byte aligned */
    bool x_is_others; /* an earlier job of the stack has them */
    float *y;
    size_t y_stride;
    const uint32_t *y_rows; /* [n_tokens] row of y of each token; NULL: the token's number */
    const float *bias;      /* [n] or NULL */
    uint32_t n_tokens;
} hdl_gemm_job;

/* k [from, to) of one token's x. */
typedef struct hdl_gemm_piece {
    const float *x; /* [k] */
    uint32_t from, to;
} hdl_gemm_piece;

#define hdl_gemm_plan       HDL_ISA_NAME(gemm_plan)
#define hdl_gemm_pack_token HDL_ISA_NAME(gemm_pack_token)
#define hdl_gemm_run        HDL_ISA_NAME(gemm_run)
/* Jobs for all parts of first->w, at most HDL_STACK_MAX, with panels from the stream's scratch;
 * their number. first: everything but x. */
uint32_t hdl_gemm_plan(hdl_gemm_job *jobs, const hdl_gemm_job *first, hdl_stream *stream);
/* Converts a piece of one token into the panels of a plan's jobs; the last token fills up its
 * block. */
void hdl_gemm_pack_token(const hdl_gemm_job *jobs, uint32_t n_jobs, uint32_t token,
                         hdl_gemm_piece piece);
/* A thread's share of all outputs of the jobs. */
void hdl_gemm_run(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads);

/* Bytes of one tile and of all tiles. */
static inline size_t hdl_tile_bytes(hdl_wformat format, uint32_t k)
{
    switch (format) {
    case HDL_WFORMAT_F32: return (size_t)k * HDL_TILE * 4;
    case HDL_WFORMAT_BF16: return (size_t)k * HDL_TILE * 2;
    default: return (size_t)k / HDL_Q8_GROUP * HDL_Q8_TILE_BYTES;
    }
}

/* Panels of n_tokens with k inputs, whatever the format: at most 4 bytes per element, and a block
 * that is not full pads to the next variant. */
static inline size_t hdl_panel_bytes_max(size_t n_tokens, size_t n_blocks_open, uint32_t k)
{
    size_t tokens = n_tokens + n_blocks_open * HDL_BLOCK_MAX / 2;
    return tokens * hdl_round_up(k, HDL_Q8_GROUP) * 4 + n_blocks_open * HDL_STREAM_ALIGN;
}
