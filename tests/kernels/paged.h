/* SPDX-License-Identifier: Apache-2.0 */
/* A step over a paged cache for the tests of qkv_rope and attention: rows at any position, block
 * tables that jump about, and a cache whose unused places hold NaN, so that a read of them shows.
 */
#pragma once

#include "kernel_test.h"

enum { KT_ROWS_MAX = 8 };

typedef struct kt_step_shape {
    uint32_t n_heads, n_kv_heads, head_dim, block_tokens;
    uint32_t n_rows;
    uint32_t pos[KT_ROWS_MAX], n_tokens[KT_ROWS_MAX];
} kt_step_shape;

typedef struct kt_step {
    hdl_kv_view kv;
    hdl_attn_row *rows; /* [n_rows] */
    uint32_t n_rows, n_tokens;
    size_t kv_count; /* elements of k and of v */
} kt_step;

kt_step kt_paged_step(kt *t, const kt_step_shape *s);
/* Fills positions [0, pos + n_tokens) of every row with numbers. */
void kt_paged_fill(kt *t, kt_step *step);
size_t kt_paged_at(const kt_step *step, uint32_t row, uint32_t pos, uint32_t kv_head);
