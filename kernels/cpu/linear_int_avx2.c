/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels of the integer formats for AVX2, with the bits of AVX-512's and ref's.
 *
 * vpmaddubsw multiplies an unsigned by a signed byte and adds two products to 16 bits, saturating.
 * It is exact here in three ways, which differ in what a codebook spans:
 *  - a span of at most 16 (linear 4 bits, 2 bits): weights less the codebook's smallest value are
 * 0..16, so that sixteen products with an activation of at most 127 fit into 16 bits: 32 k are
 * summed there. The smallest value times the sum of the activations is added at the end.
 *  - a span of at most 32 (E2M1): the same with eight products, 16 k.
 *  - wide (Q8, the other codebooks): |w| times the activation with w's sign; two products of at
 *    most 128 * 127 fit, and vpmaddwd widens each pair. */
#include "kernels/cpu/gemm.h"

/* sum += n, in place: gcc 12 moves accumulators about otherwise, and then spills them. */
V16_FN void add16_into(__m256i *sum, __m256i n)
{
    __asm__("vpaddw %1, %0, %0" : "+x"(*sum) : "x"(n));
}

V16_FN void add32_into(__m256i *sum, __m256i n)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(n));
}

enum { TOKENS_MAX = 8 };

/* run: k whose products 16 bits hold; 0 when wide. */
typedef struct int_spec {
    int bits, group;
    bool mins;
    int run;
} int_spec;

/* What the inner loop needs of the codebook, in registers. */
typedef struct decoder {
    __m256i table; /* Q4: codebook (less its smallest value where run > 0) in both halves */
    __m256i low;   /* Q4: the low half of each byte */
    __m256i flip;  /* Q8: stored with an offset of 128 */
} decoder;

V16_FN decoder decoder_of(const hdl_leaf_args *a, const int_spec s)
{
    decoder d = {.low = _mm256_set1_epi8(15), .flip = _mm256_set1_epi8(-128)};
    if (s.bits == 4) {
        __m128i book = _mm_loadu_si128((const __m128i *)(const void *)a->codebook);
        if (s.run)
            book = _mm_sub_epi8(book, _mm_set1_epi8((char)a->codebook_min));
        d.table = _mm256_broadcastsi128_si256(book);
    }
    return d;
}

/* Half a tile, 8 rows, of two quads of k. Q4: both from one register. */
V16_FN void decode(const decoder *d, const unsigned char *half, __m256i quad[2], const int bits)
{
    quad[0] = _mm256_load_si256((const __m256i *)(const void *)half);
    if (bits == 4) {
        quad[1] = _mm256_and_si256(_mm256_srli_epi16(quad[0], 4), d->low);
        quad[1] = _mm256_shuffle_epi8(d->table, quad[1]);
        quad[0] = _mm256_shuffle_epi8(d->table, _mm256_and_si256(quad[0], d->low));
    } else {
        quad[1] = _mm256_load_si256((const __m256i *)(const void *)(half + 64));
        quad[0] = _mm256_xor_si256(quad[0], d->flip);
        quad[1] = _mm256_xor_si256(quad[1], d->flip);
    }
}

/* The same of Q2, whose codes are the codebook's numbers less the smallest; 16 k are one register.
 */
V16_FN void decode_q2(const unsigned char *half, const int pair, __m256i quad[2])
{
    const __m256i low = _mm256_set1_epi8(3);
    __m256i all = _mm256_load_si256((const __m256i *)(const void *)half);
    if (pair == 1)
        all = _mm256_srli_epi16(all, 4);
    quad[0] = _mm256_and_si256(all, low);
    quad[1] = _mm256_and_si256(_mm256_srli_epi16(all, 2), low);
}

/* Lanes of a panel's 32 k: { float scale[m]; int32_t sum[2][m]; int32_t quad[8][m] }. */
typedef struct lanes {
    const int32_t *x; /* of the first lane */
    int m;
} lanes;

/* Of two quads of a tile's codes; Q2's two pairs share one register. */
#define PAIR_BYTES(s) ((s).bits == 2 ? 0 : (s).bits == 4 ? 64 : 128)

/* 16 k: sum16 or (wide) dot += the activations' codes times the weights', for tokens and half a
 * tile. */
V16_FN void dots_16k(const decoder *d, const unsigned char *w, const lanes quads, __m256i *sum,
                     const int tokens, const int_spec s)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const int32_t *x = quads.x;
    for (int pair = 0; pair < 2; pair++, w += PAIR_BYTES(s), x += 2 * quads.m) {
        __m256i v[2];
        if (s.bits == 2)
            decode_q2(w, pair, v);
        else
            decode(d, w, v, s.bits);
        UNROLL for (int quad = 0; quad < 2; quad++)
        {
            __m256i size = s.run ? v[quad] : _mm256_abs_epi8(v[quad]);
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m256i b = _mm256_set1_epi32(x[quad * quads.m + i]);
                if (!s.run)
                    b = _mm256_sign_epi8(b, v[quad]);
                b = _mm256_maddubs_epi16(size, b);
                if (s.run)
                    add16_into(&sum[i], b);
                else
                    add32_into(&sum[i], _mm256_madd_epi16(b, ones));
            }
        }
    }
}

/* A group's dots: codes of one half of a tile. */
V16_FN void dots_group(const decoder *d, const unsigned char *w, const lanes quads, __m256i *dot,
                       const int tokens, const int_spec s)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const int runs = s.group == 32 && s.run == 16 ? 2 : 1, halves = s.group / 16 / runs;
    const lanes later = {quads.x + 4 * quads.m, quads.m};
    const size_t half_bytes = (size_t)s.bits * 32;
    __m256i part[TOKENS_MAX];
    UNROLL for (int run = 0; run < runs; run++)
    {
        __m256i *sum = run == 0 ? dot : part;
        UNROLL for (int i = 0; i < tokens; i++) sum[i] = _mm256_setzero_si256();
        dots_16k(d, w + (size_t)run * half_bytes, run == 0 ? quads : later, sum, tokens, s);
        if (halves == 2)
            dots_16k(d, w + half_bytes, later, sum, tokens, s);
        if (s.run)
            UNROLL for (int i = 0; i < tokens; i++) sum[i] = _mm256_madd_epi16(sum[i], ones);
        if (run == 1)
            UNROLL for (int i = 0; i < tokens; i++) add32_into(&dot[i], part[i]);
    }
}

/* out += n * (x_scale * scale), eight rows. */
V16_FN void scaled_into(float *out, __m256 n, float x_scale, const float *scale)
{
    __m256 both = _mm256_mul_ps(_mm256_set1_ps(x_scale), _mm256_load_ps(scale));
    _mm256_store_ps(out, _mm256_fmadd_ps(n, both, _mm256_load_ps(out)));
}

/* One half of a tile, 32 k: a group of 32 or two of 16. */
typedef struct half_tile {
    const float *scale, *min; /* of its rows */
    const unsigned char *codes;
    float *out;   /* of its rows */
    int out_step; /* from one token to the next */
} half_tile;

/* Of one 32 k of a panel, for each group: what the codebook's smallest value adds to the dots, and
 * the sums of the codes. Once for both halves of a tile. */
typedef struct group_sums {
    _Alignas(16) int32_t base[2][TOKENS_MAX];
    float sum[2][TOKENS_MAX];
} group_sums;

V16_FN void sums_of(const hdl_leaf_args *a, const int32_t *x, group_sums *out, const int m,
                    const int_spec s)
{
    UNROLL for (int g = 0; g < 2; g++)
    {
        if (g * s.group == 32) /* that is one group */
            continue;
        const int32_t *sum = x + (1 + g) * m;
        UNROLL for (int i = 0; i < m; i += 4)
        {
            __m128i n = m < 4 ? _mm_loadl_epi64((const void *)(sum + i))
                              : _mm_loadu_si128((const void *)(sum + i));
            if (s.group == 32)
                n = _mm_add_epi32(n, m < 4 ? _mm_loadl_epi64((const void *)(sum + m + i))
                                           : _mm_loadu_si128((const void *)(sum + m + i)));
            if (s.run)
                _mm_store_si128((__m128i *)(void *)(out->base[g] + i),
                                _mm_mullo_epi32(n, _mm_set1_epi32(a->codebook_min)));
            if (s.mins)
                _mm_storeu_ps(out->sum[g] + i, _mm_cvtepi32_ps(n));
        }
    }
}

/* Tokens [at, at + tokens) of the panel at x. */
V16_FN void half_32k(const decoder *d, const half_tile t, const group_sums *sums, const lanes x,
                     const int at, const int tokens, const int_spec s)
{
    const float *x_scale = (const float *)(const void *)x.x + at;
    UNROLL for (int g = 0; g < 2; g++)
    {
        if (g * s.group == 32) /* that is one group */
            continue;
        const lanes quads = {x.x + (3 + g * 4) * x.m + at, x.m};
        __m256i dot[TOKENS_MAX];
        dots_group(d, t.codes + g * s.bits * 32, quads, dot, tokens, s);
        UNROLL for (int i = 0; i < tokens; i++)
        {
            float *out = t.out + (at + i) * t.out_step;
            if (s.run)
                add32_into(&dot[i], _mm256_set1_epi32(sums->base[g][at + i]));
            scaled_into(out, _mm256_cvtepi32_ps(dot[i]), x_scale[i], t.scale + g * HDL_TILE);
            if (s.mins)
                scaled_into(out, _mm256_set1_ps(sums->sum[g][at + i]), x_scale[i],
                            t.min + g * HDL_TILE);
        }
    }
}

/* m: tokens of the block. Where a dot has two sums, four tokens pass and then the other
 * four, while the codes are near. */
V16_FN void leaf_ints(const hdl_leaf_args *a, const int m, const int tiles, const int_spec s)
{
    const int per = 32 / s.group; /* groups in 32 k */
    const int tokens = m > 4 && s.run == 16 && s.group == 32 ? 4 : m;
    const size_t head = (size_t)per * (s.mins ? 2 : 1) * HDL_TILE * sizeof(float);
    const size_t code_bytes = (size_t)s.bits * 64;
    const decoder d = decoder_of(a, s);
    const unsigned char *w = a->w;
    const int32_t *x = (const int32_t *)(const void *)a->x;
    UNROLL for (int i = 0; i < 2 * m * tiles; i++)
        _mm256_store_ps(a->out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0; k < a->k; k += 32, w += head + code_bytes, x += 11 * m) {
        group_sums memory, *sums = &memory;
        sums_of(a, x, sums, m, s);
        /* In memory, where a load broadcasts them: a compiler would rather keep registers, and
         * spill. */
        __asm__ volatile("" : "+r"(sums)::"memory");
        const unsigned char *tile = w;
        float *out = a->out;
        for (int j = 0; j < tiles; j++, tile += a->w_tile_bytes, out += HDL_TILE) {
            const float *scale = (const float *)(const void *)tile;
            half_tile t = {.scale = scale,
                           .min = scale + per * HDL_TILE,
                           .codes = tile + head,
                           .out = out,
                           .out_step = tiles * HDL_TILE};
            half_tile u = {.scale = t.scale + 8,
                           .min = t.min + 8,
                           .codes = t.codes + 32,
                           .out = out + 8,
                           .out_step = t.out_step};
            UNROLL for (int at = 0; at < m; at += tokens)
                half_32k(&d, t, sums, (lanes){x, m}, at, tokens, s);
            UNROLL for (int at = 0; at < m; at += tokens)
                half_32k(&d, u, sums, (lanes){x, m}, at, tokens, s);
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

KERNELS(q8, 8, 32, false, 0)
KERNELS(q8m, 8, 32, true, 0)
KERNELS(q8_16, 8, 16, false, 0)
KERNELS(q4, 4, 32, false, 32)
KERNELS(q4m, 4, 32, true, 32)
KERNELS(q4_16, 4, 16, false, 32)
KERNELS(q4m_16, 4, 16, true, 32)
KERNELS(q2, 2, 32, false, 32)
KERNELS(q4half, 4, 32, false, 16)
KERNELS(q4mhalf, 4, 32, true, 16)
KERNELS(q4wide, 4, 32, false, 0)
KERNELS(q4mwide, 4, 32, true, 0)
KERNELS(q4wide_16, 4, 16, false, 0)
KERNELS(q4mwide_16, 4, 16, true, 0)

const hdl_gemm_format *hdl_gemm_int_format(hdl_wformat format, int span)
{
    static const hdl_gemm_format formats[3][HDL_WFORMAT_COUNT] = {
        {
            [HDL_WFORMAT_Q8] = FORMAT(q8),
            [HDL_WFORMAT_Q8M] = FORMAT(q8m),
            [HDL_WFORMAT_Q8_16] = FORMAT(q8_16),
            [HDL_WFORMAT_Q4] = FORMAT(q4),
            [HDL_WFORMAT_Q4M] = FORMAT(q4m),
            [HDL_WFORMAT_Q4_16] = FORMAT(q4_16),
            [HDL_WFORMAT_Q4M_16] = FORMAT(q4m_16),
            [HDL_WFORMAT_Q2] = FORMAT(q2),
        },
        {
            [HDL_WFORMAT_Q4] = FORMAT(q4half),
            [HDL_WFORMAT_Q4M] = FORMAT(q4mhalf),
            [HDL_WFORMAT_Q4_16] = FORMAT(q4_16),
            [HDL_WFORMAT_Q4M_16] = FORMAT(q4m_16),
        },
        {
            [HDL_WFORMAT_Q4] = FORMAT(q4wide),
            [HDL_WFORMAT_Q4M] = FORMAT(q4mwide),
            [HDL_WFORMAT_Q4_16] = FORMAT(q4wide_16),
            [HDL_WFORMAT_Q4M_16] = FORMAT(q4mwide_16),
        },
    };
    return &formats[span <= 16 ? 0 : span <= 32 ? 1 : 2][format];
}
