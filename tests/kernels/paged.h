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
    size_t kv_bytes; /* of k and of v */
} kt_step;

kt_step kt_paged_step(kt *t, const kt_step_shape *s, hdl_kv_type type);
/* k, or v, of a fresh cache: NaN everywhere. */
void kt_paged_clear(kt *t, const kt_step *step, hdl_kv_view *out);
/* Fills positions [0, pos + n_tokens) of every row with numbers. */
void kt_paged_fill(kt *t, kt_step *step);

/* One head of the token at a position of a row. */
typedef struct kt_place {
    uint32_t row, pos, kv_head;
} kt_place;
/* Of bf16: the index of its first value. */
size_t kt_paged_at(const kt_step *step, kt_place at);
/* Value i of its k, or of its v. */
double kt_paged_k(const kt_step *step, kt_place at, uint32_t i);
double kt_paged_v(const kt_step *step, kt_place at, uint32_t i);
/* Makes its k and v NaN; what they were goes to `was`, whence kt_paged_restore takes it. */
void kt_paged_break(const kt_step *step, kt_place at, float was[2]);
void kt_paged_restore(const kt_step *step, kt_place at, const float was[2]);
