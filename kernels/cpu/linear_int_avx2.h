/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels of the integer formats for AVX2, with the bits of AVX-512's and ref's: one function
 * with many constants, and what makes kernels of it. Included by the files that name them.
 *
 * vpmaddubsw multiplies an unsigned by a signed byte and adds two products to 16 bits, saturating.
 * It is exact here in three ways, which differ in what the codebook holds:
 *  - linear (s4, u4; Q2): weights less the smallest are 0..15, so that sixteen products with an
 *    activation of at most 127 fit into 16 bits: 32 k are summed there.
 *  - half (E2M1, Q6K): at most 32 apart, or from -32 to 31, so that eight products fit: 16 k.
 *  - wide (Q8, the other codebooks): |w| times the activation with w's sign; two products of at
 *    most 128 * 127 fit, and vpmaddwd widens each pair.
 * The smallest value times the sum of the activations starts a sum in 16 bits. On its way it may
 * pass 16 bits and come back, in the end it fits: of the k of a sum half meet codes and start, half
 * the start alone, at most 127 * (largest |weight| + |smallest|) each. Q6K is too wide for that:
 * there both halves of a lane start with what their own k need.
 *
 * Products of factors (wformat.h) become f32 once for a tile and 32 k, in memory. */
#pragma once

#include "kernels/cpu/gemm.h"

/* sum += n, in place: gcc 12 moves accumulators about otherwise, and then spills them. */
V16_FN void add32_into(__m256i *sum, __m256i n)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(n));
}

#if defined(__clang__)
#define ONE_COPY _Pragma("clang loop unroll(disable)")
#else
#define ONE_COPY _Pragma("GCC unroll 1")
#endif

enum { TOKENS_MAX = 8, SUMS_MAX = 8 /* that registers hold */ };

/* What the inner loop needs of the codebook, in registers. */
typedef struct decoder {
    __m256i table; /* codebook (less its smallest value where run > 0) in both halves */
    __m256i low;   /* the low half of each byte */
} decoder;

V16_FN decoder decoder_of(const hdl_leaf_args *a, const hdl_int_spec s)
{
    decoder d = {.low = _mm256_set1_epi8(s.bits == 2 ? 3 : s.bits == 6 ? 63 : 15)};
    if (s.bits == 4 && !s.linear) {
        __m128i book = _mm_loadu_si128((const __m128i *)(const void *)a->codebook);
        if (s.run)
            book = _mm_sub_epi8(book, _mm_set1_epi8((char)a->codebook_min));
        d.table = _mm256_broadcastsi128_si256(book);
    }
    return d;
}

/* Two quads of k of half a tile, 8 rows. Q4: both from one register; Q2: two pairs are. */
V16_FN void decode(const decoder *d, const unsigned char *half, __m256i quad[2],
                   const hdl_int_spec s, const int pair)
{
    __m256i all = _mm256_load_si256((const __m256i *)(const void *)half);
    __asm__("" : "+x"(all)); /* gcc 12 would load it twice */
    if (s.bits == 2 && pair % 2 == 1)
        all = _mm256_srli_epi16(all, 4);
    quad[0] = _mm256_and_si256(all, d->low);
    quad[1] = _mm256_and_si256(_mm256_srli_epi16(all, s.bits), d->low);
    if (s.bits == 4 && !s.linear)
        UNROLL for (int i = 0; i < 2; i++) quad[i] = _mm256_shuffle_epi8(d->table, quad[i]);
}

/* Q6K: one quad of k of half a tile, of the four whose codes begin there. The last one is what the
 * others leave. */
V16_FN __m256i decode_q6(const decoder *d, const unsigned char *half, const int quad)
{
    const __m256i *at = (const __m256i *)(const void *)half;
    if (quad < 3)
        return _mm256_and_si256(_mm256_load_si256(at + 2 * quad), d->low);
    __m256i high = _mm256_srli_epi16(_mm256_andnot_si256(d->low, _mm256_load_si256(at)), 2);
    __m256i mid = _mm256_srli_epi16(_mm256_andnot_si256(d->low, _mm256_load_si256(at + 2)), 4);
    __m256i low = _mm256_srli_epi16(_mm256_andnot_si256(d->low, _mm256_load_si256(at + 4)), 6);
    return _mm256_or_si256(_mm256_or_si256(high, mid), low);
}

/* Of one 32 k of a panel: where sums in 16 bits start, and the sums of groups. Once for all tiles.
 */
typedef struct group_sums {
    _Alignas(16) int32_t start[2 * TOKENS_MAX];
    float sum[2 * TOKENS_MAX];
} group_sums;

V16_FN __m128i load_sums(const int32_t *at, const int m)
{
    return m < 4 ? _mm_loadl_epi64((const void *)at) : _mm_loadu_si128((const void *)at);
}

/* Q6K: both halves of a lane start for themselves. */
V16_FN void starts_of_halves(const int32_t *x, group_sums *out, const int m)
{
    const __m128i ones = _mm_set1_epi8(1), offset = _mm_set1_epi16(-HDL_Q6_OFFSET);
    UNROLL for (int i = 0; i < m; i += 4) UNROLL for (int g = 0; g < 2; g++)
    {
        __m128i sum = _mm_setzero_si128();
        UNROLL for (int quad = 0; quad < 4; quad++)
        {
            const int32_t *at = x + (3 + g * 4 + quad) * m + i;
            __m128i n = m == 1 ? _mm_cvtsi32_si128(*at) : load_sums(at, m);
            sum = _mm_add_epi16(sum, _mm_maddubs_epi16(ones, n));
        }
        _mm_store_si128((__m128i *)(void *)(out->start + g * TOKENS_MAX + i),
                        _mm_mullo_epi16(sum, offset));
    }
}

/* Q4K's smallest code is 0. */
V16_FN bool has_starts(const hdl_int_spec s)
{
    return s.run != 0 && !(s.bits == 4 && s.scales == HDL_SCALES_FACTORS);
}

/* A start is the low half of a lane, whose sums of two halves are added in the end. */
V16_FN void sums_of(const hdl_leaf_args *a, const int32_t *x, group_sums *out, const int m,
                    const hdl_int_spec s)
{
    const bool whole = s.group == 32, wholly = whole && s.run == 32;
    if (s.bits == 6) {
        starts_of_halves(x, out, m);
        return;
    }
    const __m128i smallest = _mm_set1_epi32(a->codebook_min), low = _mm_set1_epi32(0xffff);
    UNROLL for (int i = 0; i < m; i += 4)
    {
        __m128i n[2] = {load_sums(x + m + i, m), load_sums(x + 2 * m + i, m)};
        __m128i both = _mm_add_epi32(n[0], n[1]);
        UNROLL for (int g = 0; g < 2; g++)
        {
            __m128i start = _mm_mullo_epi32(wholly ? both : n[g], smallest);
            if (has_starts(s) && g < (wholly ? 1 : 2))
                _mm_store_si128((__m128i *)(void *)(out->start + g * TOKENS_MAX + i),
                                _mm_and_si128(start, low));
            if (s.mins && g < (whole ? 1 : 2))
                _mm_storeu_ps(out->sum + g * TOKENS_MAX + i, _mm_cvtepi32_ps(whole ? both : n[g]));
        }
    }
}

/* One tile, 32 k: a group of 32 or two of 16. */
typedef struct tile_at {
    const decoder *d;
    const int32_t *x; /* { float scale[m]; int32_t sum[2][m]; int32_t quad[8][m] } */
    int m;
    const group_sums *sums;
    const void *scale; /* f32 or f16, then the minima */
    const unsigned char *codes;
    float *out;
    int out_step; /* from one token to the next */
} tile_at;

/* Tokens and halves of a tile that are computed at once. */
typedef struct part {
    int token, tokens;
    int half, halves;
} part;

/* Weights of one quad: of one half of a tile, or of both. size: |w| where wide. */
typedef struct weights {
    __m256i w[2], size[2];
} weights;

/* dot[0, halves) += weights times the activations at x, which all rows share. In asm, since both
 * compilers otherwise load and sign all tokens first, and then spill them. */
V16_FN void narrow_into(__m256i *dot, const weights *v, const int32_t *x, const int halves)
{
    __m256i t, u;
    if (halves == 1)
        __asm__("vpbroadcastd %3, %1\n\t"
                "vpmaddubsw %1, %2, %1\n\t"
                "vpaddw %1, %0, %0"
                : "+x"(dot[0]), "=&x"(t)
                : "x"(v->w[0]), "m"(*x));
    else
        __asm__("vpbroadcastd %6, %2\n\t"
                "vpmaddubsw %2, %5, %3\n\t"
                "vpmaddubsw %2, %4, %2\n\t"
                "vpaddw %3, %1, %1\n\t"
                "vpaddw %2, %0, %0"
                : "+x"(dot[0]), "+x"(dot[1]), "=&x"(t), "=&x"(u)
                : "x"(v->w[0]), "x"(v->w[1]), "m"(*x));
}

V16_FN void wide_into(__m256i *dot, const weights *v, const int32_t *x, const int halves)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i t, u;
    if (halves == 1)
        __asm__("vpbroadcastd %5, %1\n\t"
                "vpsignb %2, %1, %1\n\t"
                "vpmaddubsw %1, %3, %1\n\t"
                "vpmaddwd %4, %1, %1\n\t"
                "vpaddd %1, %0, %0"
                : "+x"(dot[0]), "=&x"(t)
                : "x"(v->w[0]), "x"(v->size[0]), "x"(ones), "m"(*x));
    else
        __asm__("vpbroadcastd %9, %2\n\t"
                "vpsignb %5, %2, %3\n\t"
                "vpsignb %4, %2, %2\n\t"
                "vpmaddubsw %3, %7, %3\n\t"
                "vpmaddubsw %2, %6, %2\n\t"
                "vpmaddwd %8, %3, %3\n\t"
                "vpmaddwd %8, %2, %2\n\t"
                "vpaddd %3, %1, %1\n\t"
                "vpaddd %2, %0, %0"
                : "+x"(dot[0]), "+x"(dot[1]), "=&x"(t), "=&x"(u)
                : "x"(v->w[0]), "x"(v->w[1]), "x"(v->size[0]), "x"(v->size[1]), "x"(ones), "m"(*x));
}

typedef struct pair_range {
    int from, to; /* of the pairs of quads of 32 k */
} pair_range;

/* dot += some pairs of quads. */
V16_FN void pairs_into(__m256i *dot, const tile_at *t, const part at, const pair_range r,
                       const hdl_int_spec s)
{
    const int32_t *words = t->x;
    const unsigned char *first = t->codes + (s.bits == 6 ? r.from * 96 : 0);
    __asm__ volatile("" : "+r"(words)); /* gcc 12 would keep the address of each on the stack */
    UNROLL for (int pair = r.from; pair < r.to; pair++)
    {
        const int bytes = s.bits == 2 ? pair / 2 * 64 : s.bits == 6 ? 0 : pair * s.bits * 16;
        const unsigned char *codes = first + bytes + at.half * 32;
        __m256i two[2][2];
        if (s.bits < 6)
            UNROLL for (int h = 0; h < at.halves; h++)
                decode(t->d, codes + h * 32, two[h], s, pair);
        UNROLL for (int quad = 0; quad < 2; quad++)
        {
            const int32_t *x = words + (3 + 2 * pair + quad) * t->m + at.token;
            weights v;
            UNROLL for (int h = 0; h < at.halves; h++)
            {
                const void *whole = codes + quad * 64 + h * 32;
                if (s.bits == 6)
                    v.w[h] = decode_q6(t->d, codes + h * 32, (pair - r.from) * 2 + quad);
                else
                    v.w[h] = s.bits == 8 ? _mm256_load_si256(whole) : two[h][quad];
                if (!s.run)
                    v.size[h] = _mm256_abs_epi8(v.w[h]);
            }
            UNROLL for (int i = 0; i < at.tokens; i++)
            {
                __m256i *sum = dot + i * at.halves;
                if (s.run)
                    narrow_into(sum, &v, x + i, at.halves);
                else
                    wide_into(sum, &v, x + i, at.halves);
            }
            if (s.bits >= 6)
                FORGET_LOADS;
        }
        FORGET_LOADS; /* codes are loaded when their turn comes */
    }
}

/* The dots of one group of 32 k. */
V16_FN void group_dots(__m256i *dot, const tile_at *t, const part at, const int g,
                       const hdl_int_spec s)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const int runs = s.group == 32 && s.run == 16 ? 2 : 1, pairs = s.group / 8 / runs;
    const int sums = at.tokens * at.halves;
    const int32_t *start = t->sums->start + g * TOKENS_MAX + at.token;
    __m256i later[SUMS_MAX];
    UNROLL for (int run = 0; run < runs; run++)
    {
        __m256i *sum = run == 0 ? dot : later;
        const int from = (g * runs + run) * pairs;
        UNROLL for (int i = 0; i < sums; i++) sum[i] =
            has_starts(s) ? _mm256_set1_epi32(start[run * TOKENS_MAX + i / at.halves])
                          : _mm256_setzero_si256();
        pairs_into(sum, t, at, (pair_range){from, from + pairs}, s);
        if (s.run)
            UNROLL for (int i = 0; i < sums; i++) sum[i] = _mm256_madd_epi16(sum[i], ones);
        if (run == 1)
            UNROLL for (int i = 0; i < sums; i++) add32_into(&dot[i], later[i]);
    }
}

/* sum + n * (x_scale * scale), eight rows. */
V16_FN __m256 plus_scaled(__m256 sum, __m256 n, __m256 x_scale, __m256 scale)
{
    return _mm256_fmadd_ps(n, _mm256_mul_ps(x_scale, scale), sum);
}

/* Of eight rows: the nth scale or minimum of a row. */
V16_FN __m256 scale_at(const tile_at *t, const int nth, const int row, const hdl_int_spec s)
{
    const void *f16 = (const unsigned char *)t->scale + (nth * HDL_TILE + row) * 2;
    if (s.scales == HDL_SCALES_F16)
        return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)f16));
    return _mm256_load_ps((const float *)t->scale + nth * HDL_TILE + row);
}

V16_FN void part_32k(const tile_at *t, const part at, const hdl_int_spec s)
{
    const float *x_scale = (const float *)(const void *)t->x + at.token;
    const int per = 32 / s.group; /* groups */
    int groups = per;
    if (per > 1) /* two copies of the loop want more registers than there are */
        __asm__("" : "+r"(groups));
    ONE_COPY for (int g = 0; g < groups; g++)
    {
        float *out = t->out + at.token * t->out_step + at.half * 8;
        const float *x_sum = t->sums->sum + g * TOKENS_MAX + at.token;
        __m256i dot[SUMS_MAX];
        __m256 f16[2];
        group_dots(dot, t, at, g, s);
        UNROLL for (int h = 0; h < at.halves; h++) f16[h] = scale_at(t, g, (at.half + h) * 8, s);
        UNROLL for (int i = 0; i < at.tokens; i++, out += t->out_step)
        {
            __m256 x = _mm256_broadcast_ss(x_scale + i);
            UNROLL for (int h = 0; h < at.halves; h++)
            {
                const int row = (at.half + h) * 8;
                __m256 n = _mm256_cvtepi32_ps(dot[i * at.halves + h]);
                __m256 sum =
                    plus_scaled(_mm256_load_ps(out + h * 8), n, x,
                                s.scales == HDL_SCALES_F16 ? f16[h] : scale_at(t, g, row, s));
                if (s.mins)
                    sum = plus_scaled(sum, _mm256_broadcast_ss(x_sum + i), x,
                                      scale_at(t, per + g, row, s));
                _mm256_store_ps(out + h * 8, sum);
            }
        }
    }
}

/* Scales, then minima, of 32 k of a tile: at the beginning of their block, or products at `to`.
 * ints: the small factors of these 32 k. */
V16_FN const void *scales_of(const unsigned char *block, const unsigned char *ints, float *to,
                             const hdl_int_spec s)
{
    const int per = 32 / s.group, kinds = s.mins ? 2 : 1;
    if (s.scales != HDL_SCALES_FACTORS)
        return block;
    UNROLL for (int kind = 0; kind < kinds; kind++) UNROLL for (int h = 0; h < 2; h++)
    {
        const void *f16 = block + kind * 32 + h * 16;
        __m256 factor = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)f16));
        UNROLL for (int g = kind * per; g < (kind + 1) * per; g++)
        {
            const void *at = ints + g * HDL_TILE + h * 8;
            __m256i n = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)at));
            _mm256_store_ps(to + g * HDL_TILE + h * 8,
                            _mm256_mul_ps(factor, _mm256_cvtepi32_ps(n)));
        }
    }
    return to;
}

/* How many tokens and halves of a tile pass at once: as many sums as registers hold beside what
 * decoding and multiplying want. */
V16_FN part part_of(const int m, const hdl_int_spec s)
{
    const bool two_sums = s.run == 16 && s.group == 32;
    const int halves = s.linear || s.bits >= 6 ? 2 : 1;
    const int tokens = m == 8 && (two_sums || halves == 2) ? 4 : m;
    return (part){.tokens = tokens, .halves = halves};
}

/* Of 32 k of a tile: the small factors, the codes, and what to ask memory for. */
typedef struct place {
    const unsigned char *ints, *codes, *ask;
} place;

V16_FN place place_of(const unsigned char *block, const hdl_int_layout l, int second,
                      const int tiles)
{
    const int step = l.block / (l.pairs ? 2 : 1), ints = l.head - l.ints; /* of 32 k on average */
    /* No prefetcher crosses a page. One tile alone needs more time than four that take turns. */
    const int ahead = tiles == 1 ? 4 * step : step;
    place p = {.ints = block + ints + second * (l.ints / 2),
               .codes = block + l.head + second * l.codes,
               .ask = block + ahead + second * step};
    if (l.pairs) /* gcc 12 would keep each sum of `second` and a constant, on the stack */
        __asm__("" : "+r"(p.ints), "+r"(p.codes), "+r"(p.ask));
    return p;
}

LEAF_FN void leaf_ints(const hdl_leaf_args *a, const int m, const int tiles, const hdl_int_spec s)
{
    const hdl_int_layout l = hdl_int_layout_of(s);
    const int step = l.block / (l.pairs ? 2 : 1); /* bytes of 32 k on average */
    const decoder d = decoder_of(a, s);
    const part each = part_of(m, s);
    const unsigned char *w = a->w;
    const int32_t *x = (const int32_t *)(const void *)a->x;
    int second = 0;
    float *out = a->out;
    UNROLL for (int i = 0; i < 2 * m * tiles; i++)
        _mm256_store_ps(out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0, n = a->k; k < n; k += 32, x += 11 * m) {
        group_sums memory, *sums = &memory;
        _Alignas(32) float scale_memory[4 * HDL_TILE], *scales = scale_memory;
        sums_of(a, x, sums, m, s);
        /* In memory, where a load broadcasts them: a compiler would rather keep registers, and
         * spill. */
        __asm__ volatile("" : "+r"(sums), "+r"(scales)::"memory");
        tile_at t = {
            .d = &d, .x = x, .m = m, .sums = sums, .out = out, .out_step = tiles * HDL_TILE};
        const unsigned char *tile = w;
        for (int j = 0; j < tiles; j++, tile += a->w_tile_bytes, t.out += HDL_TILE) {
            const place p = place_of(tile, l, second, tiles);
            t.scale = scales_of(tile, p.ints, scales, s);
            t.codes = p.codes;
            UNROLL for (int at = 0; at < step; at += 64)
                _mm_prefetch((const char *)p.ask + at, _MM_HINT_T0);
            UNROLL for (int half = 0; half < 2; half += each.halves)
                UNROLL for (int at = 0; at < m; at += each.tokens)
                    part_32k(&t, (part){at, each.tokens, half, each.halves}, s);
        }
        if (l.pairs)
            second ^= 1;
        w += second ? 0 : l.block;
    }
}

enum { LINEAR, HALF, WIDE };

/* Of 4 bits; the others have kernels for their own codes. */
V16_FN int class_of(const int8_t *codebook)
{
    int min = 127, max = -128;
    bool linear = true;
    for (int i = 0; i < 16; i++) {
        min = codebook[i] < min ? codebook[i] : min;
        max = codebook[i] > max ? codebook[i] : max;
        linear = linear && codebook[i] == codebook[0] + i;
    }
    int largest = (max > -min ? max : -min) + (min < 0 ? -min : min);
    if (linear && largest <= 16)
        return LINEAR;
    return max - min <= 32 && largest <= 32 ? HALF : WIDE;
}

/* Few tokens take four tiles at once: memory gives more to more streams. */
#define KERNEL(name, tokens, tiles, ...)                                                           \
    static void name##_##tokens##x##tiles(const hdl_leaf_args *a)                                  \
    {                                                                                              \
        leaf_ints(a, tokens, tiles, (hdl_int_spec){__VA_ARGS__});                                  \
    }
#define KERNELS(name, ...)                                                                         \
    KERNEL(name, 1, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 1, 4, __VA_ARGS__)                                                                \
    KERNEL(name, 2, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 2, 4, __VA_ARGS__)                                                                \
    KERNEL(name, 4, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 4, 4, __VA_ARGS__)                                                                \
    KERNEL(name, 8, 1, __VA_ARGS__)
#define FORMAT(name)                                                                               \
    {                                                                                              \
        .pack_x = hdl_gemm_pack_ints, .x_group_bytes = HDL_INT_X_BYTES, .n_variants = 4,           \
        .variants = {                                                                              \
            {1, name##_1x4, NULL, name##_1x1},                                                     \
            {2, name##_2x4, NULL, name##_2x1},                                                     \
            {4, name##_4x4, NULL, name##_4x1},                                                     \
            {8, NULL, NULL, name##_8x1},                                                           \
        },                                                                                         \
    }
