/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tile.c over a cache of INT8: scores and values are integer products, two to a lane.
 *
 * The tile lies as the products want it (kv.h), so nothing is transposed: 32 bytes are the codes of
 * two neighbouring dimensions of 16 keys, or of two neighbouring keys in 16 dimensions, and one
 * word of a row's query or weights meets all of them. Integers have no order, so a row gives the
 * same bits in whatever company. Codes become 16 bits wide in registers: a query of 14 bits and
 * weights of 15 cost no more than 8 would, because AVX2 has no exact product of bytes that does not
 * pass through 16 bits. */
#include "kernels/cpu/attention_soften.h"

/* Rows that one kernel call keeps in registers, the most first. */
#if defined(__AVX512F__)
#define ROW_STEPS(X) X(12) X(8) X(4) X(2) X(1)
#else
#define ROW_STEPS(X) X(4) X(2) X(1)
#endif
enum { ROWS_MOST = 12 };

/* Half a line: the steps of some rows are twice as many as a tile has lines. */
enum { ASK_STEP = 32 };

float hdl_attn_load_query8(const float *row, uint32_t head_dim, int16_t *q8)
{
    v16i bits = v16i_set1(0);
    for (uint32_t d = 0; d < head_dim; d += HDL_LANES)
        bits = v16i_max(bits, v16i_and(v16_bits(v16_load(row + d)), v16i_set1(0x7fffffff)));
    hdl_fixed fixed = hdl_fixed_of((uint32_t)v16i_fold_max(bits), HDL_FIXED_Q_BITS);
    v16 to = v16_set1(fixed.to), most = v16_set1((float)HDL_FIXED_MAX);
    for (uint32_t d = 0; d < head_dim; d += HDL_LANES) {
        v16i n = v16_to_i32(v16_min(v16_mul(v16_load(row + d), to), most));
        v16i_store_u16((uint16_t *)(void *)(q8 + d), n);
    }
    return fixed.from;
}

/* Two int16 in every lane. */
V16_FN v16i pair_everywhere(const int16_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return v16i_set1(word);
}

/* Products of `rows` rows of pairs with pairs of codes, for n steps. */
typedef struct pairs {
    const int16_t *row; /* rows row_step int16 apart; neighbouring steps are neighbours */
    size_t row_step;
    const unsigned char *code; /* 32 bytes; steps code_step apart */
    size_t code_step;
    uint32_t n;
    const unsigned char *ask; /* what will be read next: every step asks for it, ask_step further */
    size_t ask_step;
} pairs;

/* rows is a constant at every call. */
V16_FN void dot_pairs(pairs p, const int rows, v16i acc[])
{
    UNROLL for (int r = 0; r < rows; r++) acc[r] = v16i_set1(0);
    for (uint32_t i = 0; i < p.n; i++, p.row += 2, p.code += p.code_step, p.ask += p.ask_step) {
        v16i code = v16i_load_i8(p.code);
        _mm_prefetch((const char *)p.ask, _MM_HINT_T1);
        UNROLL for (int r = 0; r < rows; r++)
        {
            v16i_dot16_into(&acc[r], pair_everywhere(p.row + (size_t)r * p.row_step), code);
            FORGET_LOADS;
        }
    }
}

/* Scores of rows [first, first + rows) and 16 keys. The first rows ask for the next tile's k. */
V16_FN void scores(const hdl_attn_tile_args *a, uint32_t first, const int rows, uint32_t key)
{
    const unsigned char *k = a->tile->k8;
    pairs p = {.row = a->work->q8 + (size_t)first * HDL_ATTN_Q8_ROW,
               .row_step = HDL_ATTN_Q8_ROW,
               .code = k + (size_t)key * 2,
               .code_step = (size_t)HDL_ATTN_TILE * 2,
               .n = a->head_dim / 2,
               .ask = k};
    if (a->next && first == 0) {
        p.ask = a->next->k8 + (size_t)key * a->head_dim;
        p.ask_step = ASK_STEP;
    }
    v16i acc[ROWS_MOST];
    dot_pairs(p, rows, acc);
    v16 scale = v16_load((const float *)(const void *)(k + hdl_kv8_scale_at(a->head_dim, key)));
    float *out = a->work->weight + (size_t)first * HDL_ATTN_TILE + key;
    UNROLL for (int r = 0; r < rows; r++)
    {
        v16 step = v16_set1(a->work->q8_step[first + (uint32_t)r]);
        v16_store(out + r * HDL_ATTN_TILE, v16_mul(v16_mul(v16_from_i32(acc[r]), step), scale));
    }
}

/* out rows [first, first + rows) += weights * V; step: of the rows' integers. Keys that a row does
 * not see have weight 0. The first rows ask for the next tile's v. */
V16_FN void values(const hdl_attn_tile_args *a, uint32_t first, const int rows, const float *step)
{
    uint32_t last = first + (uint32_t)rows - 1, from = a->tile->lo[first] / 2;
    const float *weight = a->work->weight + (size_t)first * HDL_ATTN_TILE;
    pairs p = {.row = (const int16_t *)(const void *)weight + (size_t)from * 2,
               .row_step = (size_t)HDL_ATTN_TILE * 2,
               .code_step = (size_t)a->value_dim * 2,
               .n = (a->tile->hi[last] + 1) / 2 - from,
               .ask = a->tile->v8};
    bool asks = a->next && first == 0;
    for (uint32_t d = 0; d < a->value_dim; d += HDL_LANES) {
        v16i acc[ROWS_MOST];
        p.code = a->tile->v8 + from * p.code_step + (size_t)d * 2;
        if (asks) {
            p.ask = a->next->v8 + (size_t)d * HDL_ATTN_TILE;
            p.ask_step = ASK_STEP;
        }
        dot_pairs(p, rows, acc);
        float *out = a->state->out + (size_t)first * a->value_dim + d;
        UNROLL for (int r = 0; r < rows; r++, out += a->value_dim) v16_store(
            out, v16_fma(v16_from_i32(acc[r]), v16_set1(step[first + (uint32_t)r]), v16_load(out)));
    }
}

/* Scores become integers of weight times the value's scale; returns the step. */
static float soften_row(const hdl_attn_tile_args *a, uint32_t r)
{
    const float *scale =
        (const float *)(const void *)(a->tile->v8 + hdl_kv8_scale_at(a->value_dim, 0));
    hdl_attn_keys w = hdl_attn_soften(a, r);
    w.lo = v16_mul(w.lo, v16_load(scale));
    w.hi = v16_mul(w.hi, v16_load(scale + HDL_LANES));
    w = hdl_attn_mask(a->tile, r, w, 0); /* a scale that nobody sees may be a NaN */
    v16i magnitude = v16i_set1(0x7fffffff);
    v16i bits = v16i_max(v16i_and(v16_bits(w.lo), magnitude), v16i_and(v16_bits(w.hi), magnitude));
    hdl_fixed fixed = hdl_fixed_of((uint32_t)v16i_fold_max(bits), HDL_FIXED_WEIGHT_BITS);
    v16 to = v16_set1(fixed.to), most = v16_set1((float)HDL_FIXED_MAX);
    uint16_t *out = (uint16_t *)(void *)(a->work->weight + (size_t)r * HDL_ATTN_TILE);
    v16i_store_u16(out, v16_to_i32(v16_min(v16_mul(w.lo, to), most)));
    v16i_store_u16(out + HDL_LANES, v16_to_i32(v16_min(v16_mul(w.hi, to), most)));
    return fixed.from;
}

static void scores_all(const hdl_attn_tile_args *a)
{
    uint32_t r = 0;
#define STEP(rows)                                                                                 \
    for (; r + (rows) <= a->n_rows; r += (rows))                                                   \
        for (uint32_t key = 0; key < HDL_ATTN_TILE; key += HDL_LANES)                              \
            scores(a, r, rows, key);
    ROW_STEPS(STEP)
#undef STEP
}

static void values_all(const hdl_attn_tile_args *a, uint32_t r, uint32_t end, const float *step)
{
#define STEP(rows)                                                                                 \
    for (; r + (rows) <= end; r += (rows))                                                         \
        values(a, r, rows, step);
    ROW_STEPS(STEP)
#undef STEP
}

void hdl_attn_add_tile8(const hdl_attn_tile_args *a)
{
    float step[HDL_ATTN_ROWS];
    scores_all(a);
    if (a->softcap != 0.0f)
        hdl_attn_cap_scores(a);
    /* Rows that see nothing here keep their state; the others lie together, because both ends of
     * what a row sees grow with the row. */
    uint32_t first = 0, end;
    while (first < a->n_rows && a->tile->lo[first] >= a->tile->hi[first])
        first++;
    for (end = first; end < a->n_rows && a->tile->lo[end] < a->tile->hi[end]; end++)
        step[end] = soften_row(a, end);
    values_all(a, first, end, step);
}
