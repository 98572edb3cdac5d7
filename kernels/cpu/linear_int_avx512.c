/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels of the integer formats for AVX-512 with VNNI.
 *
 * vpdpbusd is exact; it takes one unsigned operand, which is the weight less the smallest code
 * (-128 of Q8, the codebook's of Q4). The smallest code times the sum of the activations starts the
 * accumulator, so that the offset cancels. */
#include "kernels/cpu/gemm.h"

/* sum += dot of four u8 * s8 per lane. From the intrinsic gcc 12 makes two register moves for each
 * vpdpbusd and spills a quarter of q8_6x2; the asm says where the sum stays. */
V16_FN void dot_into(__m512i *sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(x));
}

/* Of Q2 64 bytes are two pairs of quads: the second lies 4 bits higher. Its codes are the
 * codebook's numbers less the smallest. */
V16_FN void decode_q2(const unsigned char *half, int shift, __m512i quad[2])
{
    const __m512i low = _mm512_set1_epi8(3);
    __m512i all = _mm512_srl_epi16(_mm512_loadu_si512(half), _mm_cvtsi32_si128(shift));
    quad[0] = _mm512_and_si512(all, low);
    quad[1] = _mm512_and_si512(_mm512_srli_epi16(all, 2), low);
}

/* The four quads of 16 k; the last one is what the others leave. */
V16_FN void decode_q6(const unsigned char *codes, __m512i quad[4])
{
    const __m512i low = _mm512_set1_epi8(63);
    __m512i left[3];
    UNROLL for (int i = 0; i < 3; i++)
    {
        __m512i all = _mm512_loadu_si512(codes + i * 64);
        quad[i] = _mm512_and_si512(all, low);
        left[i] = _mm512_andnot_si512(low, all);
    }
    quad[3] = _mm512_or_si512(_mm512_srli_epi16(left[0], 2), _mm512_srli_epi16(left[1], 4));
    quad[3] = _mm512_or_si512(quad[3], _mm512_srli_epi16(left[2], 6));
}

/* Two quads of k of the tile's sixteen rows. Q4: both from one register. */
V16_FN void decode(const unsigned char *pair, __m512i table, __m512i quad[2], const int bits)
{
    const __m512i low = _mm512_set1_epi8(15);
    quad[0] = _mm512_loadu_si512(pair);
    if (bits == 8) {
        quad[1] = _mm512_loadu_si512(pair + 64);
        return;
    }
    quad[1] = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(quad[0], 4), low));
    quad[0] = _mm512_shuffle_epi8(table, _mm512_and_si512(quad[0], low));
}

V16_FN __m512i table_of(const hdl_leaf_args *a, const hdl_int_spec s)
{
    if (s.bits != 4)
        return _mm512_setzero_si512();
    __m128i book = _mm_loadu_si128((const __m128i *)(const void *)a->codebook);
    return _mm512_sub_epi8(_mm512_broadcast_i32x4(book), _mm512_set1_epi8((char)a->codebook_min));
}

typedef struct pair_at {
    const unsigned char *codes; /* of the first tile */
    const int32_t *x;           /* [2][tokens] */
    __m512i table;
    int shift; /* Q2: of the pair, 0 or 4 */
} pair_at;
typedef struct shape {
    int tokens, tiles, bits;
} shape;

/* dot += two quads of k, four of Q6K. An activation is loaded once for all tiles' weights, but
 * of Q6K there are too many of these. */
V16_FN void pair_into(const hdl_leaf_args *a, const pair_at at, __m512i *dot, const shape n)
{
    const int quads = n.bits == 6 ? 4 : 2;
    const int together = n.bits == 6 ? 1 : n.tiles;
    UNROLL for (int from = 0; from < n.tiles; from += together)
    {
        __m512i row[4][4];
        UNROLL for (int j = 0; j < together; j++)
        {
            const unsigned char *codes = at.codes + (size_t)(from + j) * a->w_tile_bytes;
            if (n.bits == 6)
                decode_q6(codes, row[j]);
            else if (n.bits == 2)
                decode_q2(codes, at.shift, row[j]);
            else
                decode(codes, at.table, row[j], n.bits);
        }
        UNROLL for (int i = 0; i < quads * n.tokens; i++)
        {
            __m512i b = _mm512_set1_epi32(at.x[i]);
            UNROLL for (int j = 0; j < together; j++)
                dot_into(&dot[i % n.tokens * n.tiles + from + j], row[j][i / n.tokens], b);
        }
        if (n.bits == 6)
            FORGET_LOADS;
    }
}

/* The sums of a block. Those of many tokens wait in memory: beside the dots, weights, a codebook
 * and a mask there are no registers for them. */
typedef struct sums {
    float *out;
    __m512 acc[12];
    bool in_memory;
} sums;

V16_FN void sum_into(sums *s, int i, __m512i n, const void *scale, float x_scale)
{
    __m512 both = _mm512_mul_ps(_mm512_set1_ps(x_scale), _mm512_load_ps(scale));
    __m512 acc = s->in_memory ? _mm512_load_ps(s->out + i * HDL_TILE) : s->acc[i];
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n), both, acc);
    if (s->in_memory)
        _mm512_store_ps(s->out + i * HDL_TILE, acc);
    else
        s->acc[i] = acc;
}

/* The sum of a group's activations: a group of 32 is two halves. */
V16_FN int32_t x_sum(const int32_t *at, const int tokens, const int per)
{
    return at[0] + (per == 1 ? at[tokens] : 0);
}

/* f32 scales of a group of some tiles, then minima: where they lie, or converted to `to`. */
typedef struct scales {
    const unsigned char *at;
    size_t tile_bytes, mins; /* from one tile to the next; from scales to minima */
} scales;

typedef struct group_at {
    const unsigned char *block; /* of the first tile */
    int second;                 /* 1: these 32 k are a block's second */
    int g;                      /* of the groups of 32 k */
    int tiles;
} group_at;

V16_FN scales scales_of(const hdl_leaf_args *a, const group_at at, float *to, const hdl_int_spec s)
{
    const int per = 32 / s.group, kinds = s.mins ? 2 : 1;
    if (s.scales == HDL_SCALES_F32)
        return (scales){at.block + at.g * 64, a->w_tile_bytes, (size_t)per * 64};
    UNROLL for (int i = 0; i < at.tiles * kinds; i++)
    {
        const unsigned char *tile = at.block + (size_t)(i / kinds) * a->w_tile_bytes;
        const int kind = i % kinds, ints = 2 * kinds + (at.second * kinds + kind) * per + at.g;
        v16 factor = v16_load_f16((const uint16_t *)(const void *)(tile + kind * 2 * HDL_TILE));
        if (s.scales == HDL_SCALES_FACTORS) {
            const void *of = tile + ints * HDL_TILE;
            __m512i n = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)of));
            factor = _mm512_mul_ps(factor, _mm512_cvtepi32_ps(n));
        }
        _mm512_store_ps(to + i * HDL_TILE, factor);
    }
    return (scales){(const unsigned char *)to, (size_t)kinds * 64, 64};
}

/* Asks memory for the next block of each tile, as AVX2 does: no prefetcher crosses a page, and
 * short tiles begin anew all the time. Blocks of many tokens have the time to wait. */
V16_FN void ask_ahead(const hdl_leaf_args *a, const unsigned char *block, const int tiles,
                      const int bytes)
{
    const int ahead = tiles == 1 ? 4 * bytes : bytes;
    UNROLL for (int j = 0; j < tiles; j++) UNROLL for (int at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)block + (size_t)j * a->w_tile_bytes + ahead + at, _MM_HINT_T0);
}

/* Panel: per 32 k { float scale[tokens]; int32_t sum[2][tokens]; int32_t quad[8][tokens] }. */
V16_FN void leaf_ints(const hdl_leaf_args *a, const int tokens, const int tiles,
                      const hdl_int_spec s)
{
    const int per = 32 / s.group; /* groups in 32 k */
    const hdl_int_layout l = hdl_int_layout_of(s);
    const size_t pair_bytes = (size_t)s.bits * 16;
    const int32_t *x = (const int32_t *)(const void *)a->x;
    const unsigned char *w = a->w;
    const int offset = s.bits == 8   ? -HDL_Q8_OFFSET
                       : s.bits == 6 ? -HDL_Q6_OFFSET
                                     : a->codebook_min;
    int second = 0;
    /* Two copies of the inner loop want more registers than there are: its length is hidden. */
    int pairs = s.bits == 6 ? 1 : s.group / 8;
    __asm__("" : "+r"(pairs));
    const pair_at whole = {.table = table_of(a, s)};
    sums sum = {.out = a->out, .in_memory = s.bits == 6 || tokens * tiles > (s.bits == 8 ? 12 : 8)};
    UNROLL for (int i = 0; i < tokens * tiles; i++)
    {
        if (sum.in_memory)
            _mm512_store_ps(a->out + i * HDL_TILE, _mm512_setzero_ps());
        else
            sum.acc[i] = _mm512_setzero_ps();
    }
    for (uint32_t k = 0; k < a->k; k += 32, x += 11 * tokens) {
        if (tokens <= 4 && !second)
            ask_ahead(a, w, tiles, (int)l.block);
        UNROLL for (int g = 0; g < per; g++)
        {
            _Alignas(64) float f32[8 * HDL_TILE];
            const scales scale = scales_of(a, (group_at){w, second, g, tiles}, f32, s);
            pair_at at = whole;
            const int32_t *sums_at = x + (1 + g) * tokens;
            __m512i dot[16];
            at.codes = w + l.head + second * l.codes + (size_t)g * 2 * pair_bytes;
            at.x = x + (3 + g * 4) * tokens;
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m512i start = _mm512_set1_epi32(offset * x_sum(sums_at + i, tokens, per));
                UNROLL for (int j = 0; j < tiles; j++) dot[i * tiles + j] = start;
            }
            int left = pairs;
            do {
                pair_into(a, at, dot, (shape){tokens, tiles, s.bits});
                at.codes += s.bits == 2 ? (size_t)at.shift * 16 : pair_bytes;
                at.shift ^= 4;
                at.x += 2 * tokens;
            } while (--left > 0);
            FORGET_LOADS; /* the sums of activations do not wait in registers */
            UNROLL for (int i = 0; i < tokens * tiles; i++)
            {
                const unsigned char *of = scale.at + (size_t)(i % tiles) * scale.tile_bytes;
                float x_scale = ((const float *)(const void *)x)[i / tiles];
                sum_into(&sum, i, dot[i], of, x_scale);
                if (s.mins)
                    sum_into(&sum, i, _mm512_set1_epi32(x_sum(sums_at + i / tiles, tokens, per)),
                             of + scale.mins, x_scale);
            }
        }
        if (l.pairs)
            second ^= 1;
        w += second ? 0 : l.block;
    }
    if (!sum.in_memory)
        UNROLL for (int i = 0; i < tokens * tiles; i++)
            _mm512_store_ps(a->out + i * HDL_TILE, sum.acc[i]);
}

#define KERNEL(name, tokens, tiles, ...)                                                           \
    static void name##_##tokens##x##tiles(const hdl_leaf_args *a)                                  \
    {                                                                                              \
        leaf_ints(a, tokens, tiles, (hdl_int_spec){__VA_ARGS__, .run = 0});                        \
    }
#define KERNELS(name, ...)                                                                         \
    KERNEL(name, 1, 4, __VA_ARGS__)                                                                \
    KERNEL(name, 1, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 2, 4, __VA_ARGS__)                                                                \
    KERNEL(name, 2, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 4, 2, __VA_ARGS__)                                                                \
    KERNEL(name, 4, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 6, 2, __VA_ARGS__)                                                                \
    KERNEL(name, 6, 1, __VA_ARGS__)                                                                \
    KERNEL(name, 8, 2, __VA_ARGS__)                                                                \
    KERNEL(name, 8, 1, __VA_ARGS__)
#define FORMAT(name)                                                                               \
    {                                                                                              \
        .pack_x = hdl_gemm_pack_ints, .x_group_bytes = HDL_INT_X_BYTES, .n_variants = 5,           \
        .variants = {                                                                              \
            {1, name##_1x4, NULL, name##_1x1}, {2, name##_2x4, NULL, name##_2x1},                  \
            {4, NULL, name##_4x2, name##_4x1}, {6, NULL, name##_6x2, name##_6x1},                  \
            {8, NULL, name##_8x2, name##_8x1},                                                     \
        },                                                                                         \
    }

KERNELS(q8, 8, 32, false, HDL_SCALES_F32)
KERNELS(q8m, 8, 32, true, HDL_SCALES_F32)
KERNELS(q8_16, 8, 16, false, HDL_SCALES_F32)
KERNELS(q4, 4, 32, false, HDL_SCALES_F32)
KERNELS(q4m, 4, 32, true, HDL_SCALES_F32)
KERNELS(q4_16, 4, 16, false, HDL_SCALES_F32)
KERNELS(q4m_16, 4, 16, true, HDL_SCALES_F32)
KERNELS(q2, 2, 32, false, HDL_SCALES_F32)
KERNELS(q8h, 8, 32, false, HDL_SCALES_F16)
KERNELS(q4h, 4, 32, false, HDL_SCALES_F16)
KERNELS(q4k, 4, 32, true, HDL_SCALES_FACTORS)
KERNELS(q6k, 6, 16, false, HDL_SCALES_FACTORS)

const hdl_gemm_format *hdl_gemm_int_format(hdl_wformat format, const int8_t *codebook)
{
    static const hdl_gemm_format formats[HDL_WFORMAT_COUNT] = {
        [HDL_WFORMAT_Q8] = FORMAT(q8),         [HDL_WFORMAT_Q8M] = FORMAT(q8m),
        [HDL_WFORMAT_Q8_16] = FORMAT(q8_16),   [HDL_WFORMAT_Q4] = FORMAT(q4),
        [HDL_WFORMAT_Q4M] = FORMAT(q4m),       [HDL_WFORMAT_Q4_16] = FORMAT(q4_16),
        [HDL_WFORMAT_Q4M_16] = FORMAT(q4m_16), [HDL_WFORMAT_Q2] = FORMAT(q2),
        [HDL_WFORMAT_Q8H] = FORMAT(q8h),       [HDL_WFORMAT_Q4H] = FORMAT(q4h),
        [HDL_WFORMAT_Q4K] = FORMAT(q4k),       [HDL_WFORMAT_Q6K] = FORMAT(q6k),
    };
    (void)codebook; /* any unsigned operand is exact */
    return &formats[format];
}
