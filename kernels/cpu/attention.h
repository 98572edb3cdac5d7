/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over one tile of keys, for a block of query rows. attention.c walks the cache and owns
 * the buffers; attention_tile.c does the arithmetic.
 *
 * A query row is one head of one token; all rows of a block read the same KV head, so a tile of K
 * and V is loaded once for the whole group of heads and for neighbouring tokens. Over a cache of
 * INT8 attention_int8.c stands in for attention_tile.c; tiles of FP8 become bf16 on the way. */
#pragma once

#include "kernels/cpu/cpu.h"

enum { HDL_ATTN_ROWS = 64 }; /* query rows of a block */

/* Softmax over the keys seen so far, per row. */
typedef struct hdl_attn_state {
    float max[HDL_ATTN_ROWS], sum[HDL_ATTN_ROWS];
    float *out; /* [rows, value_dim] */
} hdl_attn_state;

/* A tile as the block sees it. Keys [0, n_keys) exist in the cache; row r sees [lo, hi) of them. */
typedef struct hdl_attn_tile {
    const uint16_t *k[HDL_ATTN_TILE], *v[HDL_ATTN_TILE]; /* [n_keys], [head_dim], [value_dim] */
    const unsigned char *k8, *v8; /* INT8 instead: kv.h says what a tile holds */
    uint32_t n_keys;
    uint32_t lo[HDL_ATTN_ROWS], hi[HDL_ATTN_ROWS];
} hdl_attn_tile;

/* Integers of a query row of INT8 lie so far apart. */
enum { HDL_ATTN_Q8_ROW = HDL_HEAD_DIM_MAX };

/* Per-thread buffers, 64-byte aligned. */
typedef struct hdl_attn_work {
    float *q;      /* [head_dim, HDL_ATTN_ROWS] the block's queries, transposed */
    float *keys;   /* [head_dim, HDL_ATTN_TILE] the tile's keys, transposed, f32 */
    float *weight; /* [HDL_ATTN_ROWS, HDL_ATTN_TILE] scores, then exp(score - max); INT8: then its
                      int16 at the start of each row */
    uint16_t *wide[2]; /* FP8: [2, HDL_ATTN_TILE, head_dim] keys and values of a tile as bf16, of
                          this one and the next in turn */
    int16_t *q8;       /* INT8: [HDL_ATTN_ROWS, HDL_ATTN_Q8_ROW] in the place of q */
    float *q8_step; /* INT8: [HDL_ATTN_ROWS] in the place of keys: of an integer times the scale */
} hdl_attn_work;

typedef struct hdl_attn_tile_args {
    const hdl_attn_tile *tile, *next; /* next: will follow, NULL at the end */
    const hdl_attn_work *work;
    hdl_attn_state *state;
    uint32_t n_rows, head_dim, value_dim;
    float scale, softcap;
} hdl_attn_tile_args;

#define hdl_attn_load_queries HDL_ISA_NAME(attn_load_queries)
#define hdl_attn_add_tile     HDL_ISA_NAME(attn_add_tile)
#define hdl_attn_cap_scores   HDL_ISA_NAME(attn_cap_scores)
#define hdl_attn_load_query8  HDL_ISA_NAME(attn_load_query8)
#define hdl_attn_add_tile8    HDL_ISA_NAME(attn_add_tile8)
/* rows: [n_rows], each [head_dim], a multiple of the lanes -> q, transposed as hdl_attn_work has
 * it.
 */
void hdl_attn_load_queries(const float *const *rows, uint32_t n_rows, uint32_t head_dim, float *q);
/* Adds the tile's keys to the state of every row (ref/attention.c: add_tile). */
void hdl_attn_add_tile(const hdl_attn_tile_args *a);
/* Caps the scores in work->weight; apart, because few models want it. */
void hdl_attn_cap_scores(const hdl_attn_tile_args *a);
/* The same over INT8 (ref/attention.c: make_q8, add_values_int8). load_query8 makes the integers of
 * one row and returns their step. */
float hdl_attn_load_query8(const float *row, uint32_t head_dim, int16_t *q8);
void hdl_attn_add_tile8(const hdl_attn_tile_args *a);
