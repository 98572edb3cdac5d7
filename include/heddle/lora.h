/* SPDX-License-Identifier: Apache-2.0 */
/* Low-rank adapters (LoRA, arXiv 2106.09685) of one matrix: y[t] += scale * B (A x[t]), where rows
 * of one step may name different adapters, or none.
 *
 * Two ops, because ranks that share k hold a part of A's columns: between the two a collective
 * finishes the tree of h = A x, as it does that of y. Ranks that share n have all of A and their
 * rows of B. Numbers are bf16; B lies transposed, outputs side by side. Pure data. */
#pragma once

#include <heddle/types.h>

enum { HDL_LORA_RANK_MAX = 64, HDL_LORA_ADAPTERS_MAX = 256 };

typedef struct hdl_lora {
    const uint16_t *a; /* [rank, k] */
    const uint16_t *b; /* [rank, n] */
    uint32_t rank;     /* 1..HDL_LORA_RANK_MAX */
    float scale;
} hdl_lora;

/* Which row wants which. */
typedef struct hdl_lora_rows {
    const hdl_lora *adapters; /* [n_adapters] */
    const uint32_t *of_row;   /* [n_tokens] index of an adapter, or HDL_NONE_U32 */
    uint32_t n_adapters, n_tokens;
} hdl_lora_rows;

/* h[t, r] = A[r] x[t]: the balanced tree over n_leaves equal parts of k, inside of one element i
 * adds to lane i % 16 by fma and the lanes are folded (numeric.h). 0 where r is no row of A, and
 * where t has no adapter. */
typedef struct hdl_lora_shrink_args {
    hdl_lora_rows rows;
    const float *x;  /* [n_tokens, k] rows x_stride apart */
    size_t x_stride; /* >= k */
    uint32_t k, n_leaves;
    float *h;          /* [n_tokens, rank_max] */
    uint32_t rank_max; /* >= all ranks */
} hdl_lora_shrink_args;

/* y[t, i] = fma(scale, sum over r of B[r, i] h[t, r], y[t, i]); the sum by fma in order of r from
 * +0. Rows without an adapter stay as they are. */
typedef struct hdl_lora_expand_args {
    hdl_lora_rows rows;
    const float *h; /* [n_tokens, rank_max] */
    uint32_t rank_max, n;
    float *y;        /* [n_tokens, n] rows y_stride apart */
    size_t y_stride; /* >= n */
} hdl_lora_expand_args;
