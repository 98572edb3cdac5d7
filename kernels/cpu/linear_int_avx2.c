/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels of the integer formats for AVX2, with the bits of AVX-512's and ref's.
 *
 * vpmaddubsw multiplies an unsigned by a signed byte and adds two products to 16 bits, saturating.
 * It is exact here in three ways, which differ in what the codebook holds:
 *  - linear (s4, u4; Q2): weights less the smallest are 0..15, so that sixteen products with an
 *    activation of at most 127 fit into 16 bits: 32 k are summed there.
 *  - half (E2M1): at most 32 apart, so that eight products fit: 16 k.
 *  - wide (Q8, the other codebooks): |w| times the activation with w's sign; two products of at
 *    most 128 * 127 fit, and vpmaddwd widens each pair.
 * The smallest value times the sum of the activations starts a sum in 16 bits. On its way it may
 * pass 16 bits and come back, in the end it fits: of the k of a sum half meet codes and start, half
 * the start alone, at most 127 * (largest |weight| + |smallest|) each. */
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

/* run: k whose products 16 bits hold; 0 when wide. */
typedef struct int_spec {
    int bits, group;
    bool mins;
    int run;
    bool linear;
} int_spec;

/* What the inner loop needs of the codebook, in registers. */
typedef struct decoder {
    __m256i table; /* codebook (less its smallest value where run > 0) in both halves */
    __m256i low;   /* the low half of each byte */
} decoder;

V16_FN decoder decoder_of(const hdl_leaf_args *a, const int_spec s)
{
    decoder d = {.low = _mm256_set1_epi8(s.bits == 2 ? 3 : 15)};
    if (s.bits == 4 && !s.linear) {
        __m128i book = _mm_loadu_si128((const __m128i *)(const void *)a->codebook);
        if (s.run)
            book = _mm_sub_epi8(book, _mm_set1_epi8((char)a->codebook_min));
        d.table = _mm256_broadcastsi128_si256(book);
    }
    return d;
}

/* Two quads of k of half a tile, 8 rows. Q4: both from one register; Q2: two pairs are. */
V16_FN void decode(const decoder *d, const unsigned char *half, __m256i quad[2], const int_spec s,
                   const int pair)
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

/* A start is the low half of a lane, whose sums of two halves are added in the end. */
V16_FN void sums_of(const hdl_leaf_args *a, const int32_t *x, group_sums *out, const int m,
                    const int_spec s)
{
    const bool whole = s.group == 32, wholly = whole && s.run == 32;
    const __m128i smallest = _mm_set1_epi32(a->codebook_min), low = _mm_set1_epi32(0xffff);
    UNROLL for (int i = 0; i < m; i += 4)
    {
        __m128i n[2] = {load_sums(x + m + i, m), load_sums(x + 2 * m + i, m)};
        __m128i both = _mm_add_epi32(n[0], n[1]);
        UNROLL for (int g = 0; g < 2; g++)
        {
            __m128i start = _mm_mullo_epi32(wholly ? both : n[g], smallest);
            if (s.run && g < (wholly ? 1 : 2))
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
    const float *scale; /* then the minima */
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

/* dot += the pairs of quads [from, to) of 32 k. */
V16_FN void pairs_into(__m256i *dot, const tile_at *t, const part at, const int from, const int to,
                       const int_spec s)
{
    const int32_t *words = t->x;
    __asm__ volatile("" : "+r"(words)); /* gcc 12 would keep the address of each on the stack */
    UNROLL for (int pair = from; pair < to; pair++)
    {
        const int bytes = s.bits == 2 ? pair / 2 * 64 : pair * s.bits * 16;
        const unsigned char *codes = t->codes + bytes + at.half * 32;
        __m256i two[2][2];
        if (s.bits != 8)
            UNROLL for (int h = 0; h < at.halves; h++)
                decode(t->d, codes + h * 32, two[h], s, pair);
        UNROLL for (int quad = 0; quad < 2; quad++)
        {
            const int32_t *x = words + (3 + 2 * pair + quad) * t->m + at.token;
            weights v;
            UNROLL for (int h = 0; h < at.halves; h++)
            {
                const void *whole = codes + quad * 64 + h * 32;
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
            if (s.bits == 8)
                FORGET_LOADS;
        }
        FORGET_LOADS; /* codes are loaded when their turn comes */
    }
}

/* The dots of one group of 32 k. */
V16_FN void group_dots(__m256i *dot, const tile_at *t, const part at, const int g, const int_spec s)
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
            s.run ? _mm256_set1_epi32(start[run * TOKENS_MAX + i / at.halves])
                  : _mm256_setzero_si256();
        pairs_into(sum, t, at, from, from + pairs, s);
        if (s.run)
            UNROLL for (int i = 0; i < sums; i++) sum[i] = _mm256_madd_epi16(sum[i], ones);
        if (run == 1)
            UNROLL for (int i = 0; i < sums; i++) add32_into(&dot[i], later[i]);
    }
}

/* out += n * (x_scale * scale), eight rows. */
V16_FN void scaled_into(float *out, __m256 n, __m256 x_scale, __m256 scale)
{
    __m256 both = _mm256_mul_ps(x_scale, scale);
    _mm256_store_ps(out, _mm256_fmadd_ps(n, both, _mm256_load_ps(out)));
}

V16_FN void part_32k(const tile_at *t, const part at, const int_spec s)
{
    const float *x_scale = (const float *)(const void *)t->x + at.token;
    const int per = 32 / s.group; /* groups */
    int groups = per;
    if (per > 1) /* two copies of the loop want more registers than there are */
        __asm__("" : "+r"(groups));
    ONE_COPY for (int g = 0; g < groups; g++)
    {
        const float *scale = t->scale + g * HDL_TILE + at.half * 8;
        float *out = t->out + at.token * t->out_step + at.half * 8;
        const float *x_sum = t->sums->sum + g * TOKENS_MAX + at.token;
        __m256i dot[SUMS_MAX];
        group_dots(dot, t, at, g, s);
        UNROLL for (int i = 0; i < at.tokens; i++, out += t->out_step)
        {
            __m256 x = _mm256_broadcast_ss(x_scale + i);
            UNROLL for (int h = 0; h < at.halves; h++)
            {
                __m256 n = _mm256_cvtepi32_ps(dot[i * at.halves + h]);
                scaled_into(out + h * 8, n, x, _mm256_load_ps(scale + h * 8));
                if (s.mins)
                    scaled_into(out + h * 8, _mm256_broadcast_ss(x_sum + i), x,
                                _mm256_load_ps(scale + per * HDL_TILE + h * 8));
            }
        }
    }
}

/* How many tokens and halves of a tile pass at once: as many sums as registers hold beside what
 * decoding and multiplying want. */
V16_FN part part_of(const int m, const int_spec s)
{
    const bool two_sums = s.run == 16 && s.group == 32;
    const int halves = s.linear || s.bits == 8 ? 2 : 1;
    const int tokens = m == 8 && (two_sums || halves == 2) ? 4 : m;
    return (part){.tokens = tokens, .halves = halves};
}

LEAF_FN void leaf_ints(const hdl_leaf_args *a, const int m, const int tiles, const int_spec s)
{
    const int per = 32 / s.group; /* groups in 32 k */
    const size_t head = (size_t)per * (s.mins ? 2 : 1) * HDL_TILE * sizeof(float);
    const size_t step = head + (size_t)s.bits * 64;
    /* No prefetcher crosses a page. One tile alone needs more time than four that take turns. */
    const size_t ahead = tiles == 1 ? 4 * step : step;
    const decoder d = decoder_of(a, s);
    const part each = part_of(m, s);
    const unsigned char *w = a->w;
    const int32_t *x = (const int32_t *)(const void *)a->x;
    float *out = a->out;
    UNROLL for (int i = 0; i < 2 * m * tiles; i++)
        _mm256_store_ps(out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0, n = a->k; k < n; k += 32, w += step, x += 11 * m) {
        group_sums memory, *sums = &memory;
        sums_of(a, x, sums, m, s);
        /* In memory, where a load broadcasts them: a compiler would rather keep registers, and
         * spill. */
        __asm__ volatile("" : "+r"(sums)::"memory");
        tile_at t = {
            .d = &d, .x = x, .m = m, .sums = sums, .out = out, .out_step = tiles * HDL_TILE};
        const unsigned char *tile = w;
        for (int j = 0; j < tiles; j++, tile += a->w_tile_bytes, t.out += HDL_TILE) {
            t.scale = (const float *)(const void *)tile;
            t.codes = tile + head;
            UNROLL for (size_t at = 0; at < step; at += 64)
                _mm_prefetch((const char *)tile + ahead + at, _MM_HINT_T0);
            UNROLL for (int half = 0; half < 2; half += each.halves)
                UNROLL for (int at = 0; at < m; at += each.tokens)
                    part_32k(&t, (part){at, each.tokens, half, each.halves}, s);
        }
    }
}

/* Few tokens take four tiles at once: memory gives more to more streams. */
#define KERNEL(name, tokens, tiles, ...)                                                           \
    static void name##_##tokens##x##tiles(const hdl_leaf_args *a)                                  \
    {                                                                                              \
        leaf_ints(a, tokens, tiles, (int_spec){__VA_ARGS__});                                      \
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

KERNELS(q8, 8, 32, false, 0, false)
KERNELS(q8m, 8, 32, true, 0, false)
KERNELS(q8_16, 8, 16, false, 0, false)
KERNELS(q4, 4, 32, false, 32, true)
KERNELS(q4m, 4, 32, true, 32, true)
KERNELS(q4_16, 4, 16, false, 32, true)
KERNELS(q4m_16, 4, 16, true, 32, true)
KERNELS(q2, 2, 32, false, 32, true)
KERNELS(q4half, 4, 32, false, 16, false)
KERNELS(q4mhalf, 4, 32, true, 16, false)
KERNELS(q4half_16, 4, 16, false, 16, false)
KERNELS(q4mhalf_16, 4, 16, true, 16, false)
KERNELS(q4wide, 4, 32, false, 0, false)
KERNELS(q4mwide, 4, 32, true, 0, false)
KERNELS(q4wide_16, 4, 16, false, 0, false)
KERNELS(q4mwide_16, 4, 16, true, 0, false)

enum { LINEAR, HALF, WIDE };

/* Q8 and Q2 have kernels for their own codes. */
static int class_of(const int8_t *codebook)
{
    int min = 127, max = -128;
    bool linear = codebook != NULL;
    for (int i = 0; codebook && i < 16; i++) {
        min = codebook[i] < min ? codebook[i] : min;
        max = codebook[i] > max ? codebook[i] : max;
        linear = linear && codebook[i] == codebook[0] + i;
    }
    int largest = (max > -min ? max : -min) + (min < 0 ? -min : min);
    if (!codebook)
        return WIDE;
    if (linear && largest <= 16)
        return LINEAR;
    return max - min <= 32 && largest <= 32 ? HALF : WIDE;
}

const hdl_gemm_format *hdl_gemm_int_format(hdl_wformat format, const int8_t *codebook)
{
    static const hdl_gemm_format q8 = FORMAT(q8), q8m = FORMAT(q8m), q8_16 = FORMAT(q8_16);
    static const hdl_gemm_format q2 = FORMAT(q2);
    static const hdl_gemm_format q4[3] = {FORMAT(q4), FORMAT(q4half), FORMAT(q4wide)};
    static const hdl_gemm_format q4m[3] = {FORMAT(q4m), FORMAT(q4mhalf), FORMAT(q4mwide)};
    static const hdl_gemm_format q4_16[3] = {FORMAT(q4_16), FORMAT(q4half_16), FORMAT(q4wide_16)};
    static const hdl_gemm_format q4m_16[3] = {FORMAT(q4m_16), FORMAT(q4mhalf_16),
                                              FORMAT(q4mwide_16)};
    switch (format) {
    case HDL_WFORMAT_Q8: return &q8;
    case HDL_WFORMAT_Q8M: return &q8m;
    case HDL_WFORMAT_Q8_16: return &q8_16;
    case HDL_WFORMAT_Q4: return &q4[class_of(codebook)];
    case HDL_WFORMAT_Q4M: return &q4m[class_of(codebook)];
    case HDL_WFORMAT_Q4_16: return &q4_16[class_of(codebook)];
    case HDL_WFORMAT_Q4M_16: return &q4m_16[class_of(codebook)];
    default: return &q2;
    }
}
