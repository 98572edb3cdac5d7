/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix engine of linear and moe_experts.
 *
 * A packed weight is tiles of 16 rows that lie side by side, so that one register holds 16 outputs
 * and k is walked in order: every output has one accumulator, whatever the number of tokens.
 *
 *   F32   tile: [k] { float w[16] }
 *   BF16  tile: [k / 2] { uint32_t pair[16] }, even k in the high half, which vdpbf16ps adds first
 *   FP8   tile: [k / group] { float scale[16]; uint8_t w[group][16] }
 *   Q8    tile: [k / 32] { float scale[32 / group][16], min[32 / group][16]; uint8_t w[8][16][4] },
 *         w = code + HDL_Q8_OFFSET; min only in formats with minima
 *   Q4    tile: the same, but { uint8_t w[4][16][4] }: indices into the codebook, in the low halves
 *         of k 0..3, in the high ones of k 4..7
 *   Q2    tile: [k / 32] { float scale[16]; uint8_t w[2][16][4] }: of k 0..15 and 16..31; two bits
 *         from the lowest on are k 0..3, 4..7, 8..11, 12..15
 *   Q8H, Q4H  tile: as Q8, Q4, with { f16 scale[16] }
 *   Q4K   tile: [k / 64] { f16 scale[16], min[16]; of each 32: { int8_t scale[16], min[16] };
 *         of each 32: as Q4 }
 *   Q6K   tile: [k / 32] { f16 scale[16]; int8_t scale[2][16]; of each 16: { uint8_t w[3][16][4]
 * }}, code + 32 of k 0..3, 4..7, 8..11 in the low six bits, that of k 12..15 in the high two, its
 * highest first
 *
 * Tokens are converted once per call and laid out as panels: blocks of m tokens whose values for
 * one k lie side by side. Block sizes are a table per instruction set and format (the variants);
 * which one computes a token has no influence on its bits. */
#pragma once

#include "kernels/cpu/cpu.h"

enum {
    HDL_TILE = 16,          /* rows of a tile */
    HDL_TILE_GROUP = 4,     /* tiles that a thread takes at a time when there are many */
    HDL_INT_X_BYTES = 44,   /* of a panel of integers, per token and 32 k */
    HDL_BLOCK_MAX = 12,     /* tokens of the largest block */
    HDL_LEAF_OUT_MAX = 512, /* outputs of one kernel call */
    HDL_VARIANTS_MAX = 6,
    HDL_STACK_MAX = 4, /* parts of a stacked weight */
};

/* Of a code of Q8: vpdpbusd wants weights without a sign, AVX2 does better with it. */
#if defined(__AVX512F__)
enum { HDL_Q8_OFFSET = 128 };
#else
enum { HDL_Q8_OFFSET = 0 };
#endif

enum { HDL_Q6_OFFSET = 32 }; /* of a code of Q6K, on all levels */

/* One leaf of k for a block of tokens and a few neighbouring tiles. */
typedef struct hdl_leaf_args {
    const unsigned char *w; /* first tile, at the start of the leaf */
    size_t w_tile_bytes;    /* from one tile to the next */
    const unsigned char *x; /* panel, at the start of the leaf */
    uint32_t k;             /* of the leaf */
    const int8_t *codebook; /* [16] of 4 bits; 2 bits are the codes themselves */
    int codebook_min;       /* its smallest value */
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
    bool ints; /* x holds integers of at most 127 */
} hdl_pack_x_args;

/* Tokens that the last variant holds are one block; more are cut into blocks of `bulk`. What
 * remains is one block of the first variant that holds it. Formats with the same pack_x have the
 * same bulk and variants for the same numbers of tokens, so that parts of a stack can share panels.
 */
typedef struct hdl_gemm_format {
    void (*pack_x)(const hdl_pack_x_args *a);
    uint32_t x_group_bytes; /* of a panel, per token and 32 k */
    uint32_t bulk;          /* tokens of the variant that makes most of them; 0: the last one */
    uint32_t n_variants;
    hdl_gemm_variant variants[HDL_VARIANTS_MAX]; /* tokens ascending */
} hdl_gemm_format;

/* linear_avx2.c or linear_avx512.c: formats of floats. */
#define hdl_gemm_float_format HDL_ISA_NAME(gemm_float_format)
const hdl_gemm_format *hdl_gemm_float_format(hdl_wformat format);
/* linear_int_avx2.c or linear_int_avx512.c. codebook: [16] of 4 and 2 bits. */
#define hdl_gemm_int_format HDL_ISA_NAME(gemm_int_format)
const hdl_gemm_format *hdl_gemm_int_format(hdl_wformat format, const int8_t *codebook);
/* linear_compact_avx2.c: those of hdl_gemm_int_format whose scales are no f32. */
#define hdl_gemm_compact_format HDL_ISA_NAME(gemm_compact_format)
const hdl_gemm_format *hdl_gemm_compact_format(hdl_wformat format, const int8_t *codebook);
/* Activations as integers: per 32 k { float scale[m]; int32_t sum[2][m], quad[8][m] }; the sums are
 * those of the codes of each 16 k. */
#define hdl_gemm_pack_ints HDL_ISA_NAME(gemm_pack_ints)
void hdl_gemm_pack_ints(const hdl_pack_x_args *a);

/* y = x W^T for some tokens and the own rows of one weight. */
typedef struct hdl_gemm_job {
    const hdl_weight *w;
    const hdl_gemm_format *format; /* this and what follows to x_is_others: set by the plan */
    int codebook_min;
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
    bool ints; /* x holds integers of at most 127 */
} hdl_gemm_piece;

#define hdl_gemm_plan       HDL_ISA_NAME(gemm_plan)
#define hdl_gemm_pack_token HDL_ISA_NAME(gemm_pack_token)
#define hdl_gemm_ask        HDL_ISA_NAME(gemm_ask)
#define hdl_gemm_run        HDL_ISA_NAME(gemm_run)
/* Jobs for all parts of first->w, at most HDL_STACK_MAX, with panels from the stream's scratch;
 * their number. */
uint32_t hdl_gemm_plan(hdl_gemm_job *jobs, const hdl_gemm_job *first, hdl_stream *stream);
/* Converts a piece of one token into the panels of a plan's jobs; the last token fills up its
 * block. */
void hdl_gemm_pack_token(const hdl_gemm_job *jobs, uint32_t n_jobs, uint32_t token,
                         hdl_gemm_piece piece);
/* Asks memory for the first weights of a thread's share, so that they travel while the thread
 * packs and waits. */
void hdl_gemm_ask(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads);
/* A thread's share of all outputs of the jobs. */
void hdl_gemm_run(const hdl_gemm_job *jobs, size_t n_jobs, int thread, int n_threads);

/* Bytes of k of one tile; k: whole blocks. */
static inline size_t hdl_tile_bytes(hdl_wformat format, uint32_t k)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(format);
    size_t heads = (size_t)k / info->block * hdl_wformat_head_bytes(info);
    return ((size_t)k * info->bits / 8 + heads) * HDL_TILE;
}

/* What a kernel of integers is compiled for. run, linear: of AVX2 (linear_int_avx2.h). */
typedef struct hdl_int_spec {
    int bits, group;
    bool mins;
    hdl_scale_form scales;
    int run; /* k whose products 16 bits hold; 0 when wide */
    bool linear;
} hdl_int_spec;

/* Bytes of a tile: of a block's head and the small factors at its end, of the codes of 32 k, of a
 * block. */
typedef struct hdl_int_layout {
    int head, ints, codes, block;
    bool pairs; /* a block is 64 k */
} hdl_int_layout;

V16_FN hdl_int_layout hdl_int_layout_of(const hdl_int_spec s)
{
    const int kinds = s.mins ? 2 : 1, per = 32 / s.group, codes = s.bits * 4 * HDL_TILE;
    const bool pairs = s.scales == HDL_SCALES_FACTORS && s.mins;
    const int n = pairs ? 2 : 1;
    const int of_row = s.scales == HDL_SCALES_F32   ? kinds * per * 4
                       : s.scales == HDL_SCALES_F16 ? kinds * per * 2
                                                    : kinds * (2 + n * per);
    return (hdl_int_layout){.head = of_row * HDL_TILE,
                            .ints = kinds * n * per * HDL_TILE,
                            .codes = codes,
                            .block = of_row * HDL_TILE + n * codes,
                            .pairs = pairs};
}

/* Panels of n_tokens with k inputs, whatever the format: at most 4 bytes per element, and a block
 * that is not full pads to the next variant. */
static inline size_t hdl_panel_bytes_max(size_t n_tokens, size_t n_blocks_open, uint32_t k)
{
    size_t tokens = n_tokens + n_blocks_open * HDL_BLOCK_MAX / 2;
    return tokens * hdl_round_up(k, HDL_Q8_GROUP) * 4 + n_blocks_open * HDL_STREAM_ALIGN;
}
