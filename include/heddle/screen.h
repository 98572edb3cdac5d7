/* SPDX-License-Identifier: Apache-2.0 */
/* Screening: the largest outputs of a wide matrix without reading most of it. A head of a large
 * vocabulary is a good part of what a decode step reads, and a sampler that looks at the k largest
 * logits alone needs the bits of those only. Beside the matrix lies a copy as Q8, half of its
 * bytes, with which each output is known up to a bound; the tiles of rows that can hold one of the
 * k largest are then computed as op linear does it. What is found is exact, ties included; the
 * mathematics is in kernels/screen.h. Pure data, but for the norms that packing needs. */
#pragma once

#include <heddle/types.h>

struct hdl_linear_args;
struct hdl_source;
struct hdl_weight;

enum {
    HDL_SCREEN_TILE = 16,      /* rows that are computed together */
    HDL_SCREEN_TOKENS_MAX = 8, /* of one call */
    HDL_SCREEN_KEEP_MAX = 64,
};

/* An output that is not among the wanted ones: finite, and less than every one that is. */
#define HDL_SCREENED (-0x1p100f)

/* Norms of a row of the matrix, rounded up: of what Q8 makes of it less the row, and of what Q8
 * makes of it. */
typedef struct hdl_screen_norms {
    float *err, *size; /* [rows, up to whole tiles], 64-byte aligned; 0 where there is no row */
} hdl_screen_norms;

/* y = x W^T where it matters: of the outputs [0, n_rows) of a token those of op linear for at least
 * its keep[t] largest and all that equal one of them; what they become by a division by 1e-5 to
 * 1e6, or by softcap and then that, is more than what the others become. Whole tiles are one or the
 * other; others hold HDL_SCREENED. A token's outputs depend on that token alone, as everywhere.
 * linear: w is F32 or BF16 in one part, no bias, x_ints false, n_tokens <= HDL_SCREEN_TOKENS_MAX.
 */
typedef struct hdl_linear_screened_args {
    const struct hdl_linear_args *linear;
    const struct hdl_weight *q8; /* the same rows as Q8, one leaf */
    hdl_screen_norms norms;
    const uint32_t *keep; /* [n_tokens] 1..HDL_SCREEN_KEEP_MAX */
    uint32_t n_rows;      /* <= w->n: what comes after is padding and is not looked at */
    float softcap;        /* what the caller applies to y next; 0: nothing */
    uint64_t *n_tiles;    /* those that were computed are added, of each token; may be NULL */
} hdl_linear_screened_args;

/* Norms of all rows of src, which the matrix holds as `exact` (F32 or BF16), from row `at` on. */
typedef struct hdl_screen_norms_args {
    const struct hdl_source *src;
    int exact; /* hdl_wformat */
    hdl_screen_norms out;
    uint32_t at;
} hdl_screen_norms_args;
void hdl_screen_norms_fill(const hdl_screen_norms_args *args);
