/* SPDX-License-Identifier: Apache-2.0 */
/* Per tile of 32 keys: transpose K, scores = Q K^T, weights = exp(scores - max), out += weights V.
 *
 * Scores have keys across lanes and walk the head dimension in order; the output has the head
 * dimension across lanes and walks the keys in order. So every number has one accumulator and one
 * order, however many rows are computed together. */
#include "kernels/cpu/attention_soften.h"

/* How many rows one kernel call keeps in registers, the most first, and how many v16 of an output
 * row. AVX2 has room for 12 accumulators, which are 6 v16. */
#if defined(__AVX512F__)
enum { ACCUMULATORS = 24, SCORE_ROWS = 12, VALUE_WIDTH = 2, VALUE_WIDE = 2 };
#define SCORE_STEPS(X) X(12) X(8) X(4) X(2) X(1)
#define VALUE_STEPS(X) X(12) X(8) X(4) X(2) X(1)
#else
enum { ACCUMULATORS = 6, SCORE_ROWS = 3, VALUE_WIDTH = 1, VALUE_WIDE = 2 };
#define SCORE_STEPS(X) X(3) X(2) X(1)
#define VALUE_STEPS(X) X(6) X(4) X(2) X(1)
#endif

enum { LINE = 32 }; /* bf16 of a cache line */

/* Transposes 16 x 16 words: afterwards lane j of r[i] is what lane i of r[j] was. */
#if defined(__AVX512F__)
V16_FN void transpose(v16i r[16])
{
    v16i t[16];
    UNROLL for (int i = 0; i < 16; i += 2)
    {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4)
    {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        v16i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        v16i b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        v16i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        v16i d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    UNROLL for (int i = 0; i < 16; i++) r[i] = t[i];
}
V16_FN v16i load_words(const uint16_t *p, uint32_t n_words)
{
    return _mm512_maskz_loadu_epi32((__mmask16)((1u << n_words) - 1u), p);
}
#else
V16_FN void transpose8(__m256i r[8])
{
    __m256i t[8];
    UNROLL for (int i = 0; i < 8; i += 2)
    {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    __m256i u[8];
    UNROLL for (int i = 0; i < 8; i += 4)
    {
        u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        r[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
    }
}
V16_FN void transpose(v16i r[16])
{
    __m256i q[4][8]; /* quarters: rows 0-7 | 8-15 by lanes lo | hi */
    for (int i = 0; i < 8; i++) {
        q[0][i] = r[i].lo;
        q[1][i] = r[i].hi;
        q[2][i] = r[i + 8].lo;
        q[3][i] = r[i + 8].hi;
    }
    for (int i = 0; i < 4; i++)
        transpose8(q[i]);
    for (int i = 0; i < 8; i++) {
        r[i] = (v16i){q[0][i], q[2][i]};
        r[i + 8] = (v16i){q[1][i], q[3][i]};
    }
}
#endif

/* Row by row, each element would go to a line of its own: as much time as the scores take. */
void hdl_attn_load_queries(const float *const *rows, uint32_t n_rows, uint32_t head_dim, float *q)
{
    for (uint32_t r = 0; r < n_rows; r += HDL_LANES)
        for (uint32_t d = 0; d < head_dim; d += HDL_LANES) {
            v16i word[HDL_LANES];
            for (uint32_t i = 0; i < HDL_LANES; i++)
                word[i] = r + i < n_rows ? v16_bits(v16_load(rows[r + i] + d)) : v16i_set1(0);
            transpose(word);
            for (uint32_t i = 0; i < HDL_LANES; i++)
                v16_store(q + (size_t)(d + i) * HDL_ATTN_ROWS + r, v16_from_bits(word[i]));
        }
}

/* keys[d][j] = f32 of k[j][d]. Two neighbouring dimensions travel as one word; keys that do not
 * exist are zeros. */
#if defined(__AVX512F__)
static void transpose_keys(const hdl_attn_tile *tile, uint32_t head_dim, float *keys)
{
    for (uint32_t half = 0; half < HDL_ATTN_TILE; half += HDL_LANES)
        for (uint32_t d = 0; d < head_dim; d += 2 * HDL_LANES) {
            uint32_t n_words = hdl_min_u32((head_dim - d) / 2, HDL_LANES);
            v16i word[HDL_LANES];
            for (uint32_t j = 0; j < HDL_LANES; j++)
                word[j] = half + j < tile->n_keys ? load_words(tile->k[half + j] + d, n_words)
                                                  : v16i_set1(0);
            transpose(word);
            for (uint32_t i = 0; i < n_words; i++) {
                float *at = keys + (size_t)(d + 2 * i) * HDL_ATTN_TILE + half;
                v16i odd = v16i_and(word[i], v16i_set1((int32_t)0xffff0000));
                v16_store(at, v16_from_bits(v16i_shl(word[i], 16)));
                v16_store(at + HDL_ATTN_TILE, v16_from_bits(odd));
            }
        }
}
#else
/* Eight by eight: more words than that do not stay in registers. */
static void transpose_keys(const hdl_attn_tile *tile, uint32_t head_dim, float *keys)
{
    const __m256i odd = _mm256_set1_epi32((int32_t)0xffff0000);
    for (uint32_t first = 0; first < HDL_ATTN_TILE; first += 8)
        for (uint32_t d = 0; d < head_dim; d += HDL_LANES) {
            __m256i word[8];
            float *at = keys + (size_t)d * HDL_ATTN_TILE + first;
            UNROLL for (uint32_t j = 0; j < 8; j++)
            {
                word[j] = _mm256_setzero_si256();
                if (first + j < tile->n_keys)
                    word[j] = _mm256_loadu_si256((const void *)(tile->k[first + j] + d));
            }
            transpose8(word);
            UNROLL for (int i = 0; i < 8; i++, at += 2 * HDL_ATTN_TILE)
            {
                __m256i high = _mm256_and_si256(word[i], odd);
                _mm256_store_ps(at, _mm256_castsi256_ps(_mm256_slli_epi32(word[i], 16)));
                _mm256_store_ps(at + HDL_ATTN_TILE, _mm256_castsi256_ps(high));
            }
        }
}
#endif

/* The next tile has as many lines of K as a head has dimensions: one is asked for in each step of
 * the first rows' scores, or half of them there and half with the second rows. Asked for in one
 * burst, they stall the core for as long as they take. In the order of memory: the keys of a tile
 * follow one another in a block (where blocks are smaller than tiles, other lines are asked for,
 * which costs only that). */
V16_FN void ask_key(const hdl_attn_tile *next, uint32_t d, uint32_t first, bool in_halves)
{
    if (next && (!in_halves || d % 2 == (first != 0)))
        _mm_prefetch((const char *)(next->k[0] + d * LINE), _MM_HINT_T1);
}

/* rows is a constant at every call. */
V16_FN void scores(const hdl_attn_tile_args *a, uint32_t first, const int rows)
{
    const float *q = a->work->q + first, *keys = a->work->keys;
    const hdl_attn_tile *next = first <= SCORE_ROWS ? a->next : NULL;
    const bool in_halves = a->n_rows > SCORE_ROWS;
    v16 acc[ACCUMULATORS];
    UNROLL for (int r = 0; r < 2 * rows; r++) acc[r] = v16_zero();
    for (uint32_t d = 0; d < a->head_dim; d++, q += HDL_ATTN_ROWS, keys += HDL_ATTN_TILE) {
        ask_key(next, d, first, in_halves);
        UNROLL for (int half = 0; half < 2; half++)
        {
            v16 k = v16_load(keys + half * HDL_LANES);
            UNROLL for (int r = 0; r < rows; r++) acc[2 * r + half] =
                v16_fma(v16_set1(q[r]), k, acc[2 * r + half]);
            FORGET_LOADS;
        }
    }
    float *out = a->work->weight + (size_t)first * HDL_ATTN_TILE;
    v16 scale = v16_set1(a->scale);
    UNROLL for (int r = 0; r < 2 * rows; r++)
        v16_store(out + r * HDL_LANES, v16_mul(acc[r], scale));
}

/* out rows [first, first + rows) += weights * V over keys [lo, hi), for `width` v16 of the head
 * dimension from d. The first rows to come by also ask for the next tile's V, in the order of
 * memory, as many values a step as it takes. Latent V was asked for with K. */
V16_FN void values(const hdl_attn_tile_args *a, uint32_t first, const int rows, const int width,
                   uint32_t d)
{
    const uint32_t lo = a->tile->lo[first], hi = a->tile->hi[first];
    const float *weight = a->work->weight + (size_t)first * HDL_ATTN_TILE + lo;
    float *out = a->state->out + (size_t)first * a->value_dim + d;
    v16 acc[ACCUMULATORS];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < width; i++)
        acc[r * width + i] = v16_load(out + (size_t)r * a->value_dim + i * HDL_LANES);
    const hdl_attn_tile *next = a->next;
    if (next && (first > 0 || next->v[0] == next->k[0]))
        next = NULL;
    for (uint32_t j = lo; j < hi; j++, weight++) {
        v16 v[2];
        if (next)
            _mm_prefetch(
                (const char *)(next->v[0] + (d * HDL_ATTN_TILE + j * (uint32_t)width * HDL_LANES)),
                _MM_HINT_T1);
        UNROLL for (int i = 0; i < width; i++) v[i] =
            v16_load_bf16(a->tile->v[j] + d + i * HDL_LANES);
        UNROLL for (int r = 0; r < rows; r++)
        {
            v16 b = v16_set1(weight[r * HDL_ATTN_TILE]);
            UNROLL for (int i = 0; i < width; i++) acc[r * width + i] =
                v16_fma(b, v[i], acc[r * width + i]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < width; i++)
        v16_store(out + (size_t)r * a->value_dim + i * HDL_LANES, acc[r * width + i]);
}

/* Few rows take more of the head dimension at once: sums must be many to hide their latency. */
V16_FN void values_rows(const hdl_attn_tile_args *a, uint32_t first, const int rows)
{
    uint32_t d = 0;
    if (rows * VALUE_WIDE <= ACCUMULATORS)
        for (; d + VALUE_WIDE * HDL_LANES <= a->value_dim; d += VALUE_WIDE * HDL_LANES)
            values(a, first, rows, VALUE_WIDE, d);
    for (; d + VALUE_WIDTH * HDL_LANES <= a->value_dim; d += VALUE_WIDTH * HDL_LANES)
        values(a, first, rows, VALUE_WIDTH, d);
    if (d < a->value_dim)
        values(a, first, rows, 1, d);
}

static void soften_row(const hdl_attn_tile_args *a, uint32_t r)
{
    float *weight = a->work->weight + (size_t)r * HDL_ATTN_TILE;
    hdl_attn_keys w = hdl_attn_soften(a, r);
    v16_store(weight, w.lo);
    v16_store(weight + HDL_LANES, w.hi);
}

/* Rows from r on that see the same keys as row r. */
static uint32_t alike(const hdl_attn_tile *tile, uint32_t r, uint32_t n_rows)
{
    uint32_t end = r + 1;
    while (end < n_rows && tile->lo[end] == tile->lo[r] && tile->hi[end] == tile->hi[r])
        end++;
    return end - r;
}

/* Rows [r, end), the widest kernel that fits first. */
static void scores_all(const hdl_attn_tile_args *a, uint32_t r, uint32_t end)
{
#define STEP(rows)                                                                                 \
    for (; r + (rows) <= end; r += (rows))                                                         \
        scores(a, r, rows);
    SCORE_STEPS(STEP)
#undef STEP
}

static void values_all(const hdl_attn_tile_args *a, uint32_t r, uint32_t end)
{
#define STEP(rows)                                                                                 \
    for (; r + (rows) <= end; r += (rows))                                                         \
        values_rows(a, r, rows);
    VALUE_STEPS(STEP)
#undef STEP
}

void hdl_attn_cap_scores(const hdl_attn_tile_args *a)
{
    float *score = a->work->weight;
    for (size_t i = 0; i < (size_t)a->n_rows * HDL_ATTN_TILE; i += HDL_LANES)
        v16_store(score + i, v16_softcap(v16_load(score + i), a->softcap));
}

void hdl_attn_add_tile(const hdl_attn_tile_args *a)
{
    transpose_keys(a->tile, a->head_dim, a->work->keys);
    scores_all(a, 0, a->n_rows);
    if (a->softcap != 0.0f)
        hdl_attn_cap_scores(a);
    for (uint32_t r = 0, end = 0; r < a->n_rows; r = end) {
        end = r + alike(a->tile, r, a->n_rows);
        if (a->tile->lo[r] >= a->tile->hi[r])
            continue; /* sees nothing here: the state stays */
        for (uint32_t i = r; i < end; i++)
            soften_row(a, i);
        values_all(a, r, end);
    }
}
