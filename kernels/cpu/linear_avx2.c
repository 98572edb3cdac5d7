/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels for AVX2 and FMA, over the same packed weights as AVX-512 and with the same bits.
 *
 * BF16: a pair is taken apart into two f32 and multiplied in order of k; activations come as f32
 * that were rounded to bf16, as they do for FP8. */
#include "kernels/cpu/gemm.h"

/* sum += a * b. gcc 12 likes to let the product land in the register of an operand, and then spills
 * accumulators to make up for it (10 of 12 in bf16_6x1): the asm says where the sum stays. */
V16_FN void fma_into(__m256 *sum, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}

/* tokens and tiles are constants at every call; two accumulators per token and tile. */
V16_FN void leaf_f32(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m256 acc[12];
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t k = 0; k < a->k; k++, x += tokens, w += HDL_TILE * sizeof(float))
        UNROLL for (int j = 0; j < tiles; j++)
        {
            const float *row = (const float *)(const void *)(w + (size_t)j * a->w_tile_bytes);
            __m256 w0 = _mm256_load_ps(row), w1 = _mm256_load_ps(row + 8);
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m256 b = _mm256_broadcast_ss(x + i);
                __m256 *sum = &acc[2 * (i * tiles + j)];
                fma_into(&sum[0], b, w0);
                fma_into(&sum[1], b, w1);
            }
        }
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) _mm256_store_ps(a->out + i * 8, acc[i]);
}

/* Even or odd k of a pair, for all rows of a tile and some tokens. */
typedef struct bf16_at {
    const unsigned char *w;
    const float *x;
    bool odd;
} bf16_at;

/* acc, `step` apart from token to token, += the products there: each broadcast serves both halves
 * of a tile, which halves the loads. */
V16_FN void bf16_into(__m256 *acc, const bf16_at at, const int tokens, const int step)
{
    const __m256i *row = (const __m256i *)(const void *)at.w, high = _mm256_set1_epi32(-65536);
    __m256i p0 = _mm256_load_si256(row), p1 = _mm256_load_si256(row + 1);
    if (!at.odd && tokens < 6) {
        p0 = _mm256_and_si256(p0, high);
        p1 = _mm256_and_si256(p1, high);
    } else { /* two shifts, not a mask: its register is needed */
        p0 = _mm256_slli_epi32(at.odd ? p0 : _mm256_srli_epi32(p0, 16), 16);
        p1 = _mm256_slli_epi32(at.odd ? p1 : _mm256_srli_epi32(p1, 16), 16);
    }
    UNROLL for (int i = 0; i < tokens; i++)
    {
        __m256 b = _mm256_broadcast_ss(at.x + i);
        fma_into(&acc[i * step], b, _mm256_castsi256_ps(p0));
        fma_into(&acc[i * step + 1], b, _mm256_castsi256_ps(p1));
    }
    FORGET_LOADS; /* pairs are not kept for odd k */
}

V16_FN void leaf_bf16(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m256 acc[12];
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t k = 0; k < a->k; k += 2, w += HDL_TILE * sizeof(uint32_t))
        UNROLL for (int odd = 0; odd < 2; odd++, x += tokens) UNROLL for (int j = 0; j < tiles; j++)
        {
            const bf16_at at = {w + (size_t)j * a->w_tile_bytes, x, odd};
            bf16_into(acc + 2 * j, at, tokens, 2 * tiles);
        }
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) _mm256_store_ps(a->out + i * 8, acc[i]);
}

/* Four or eight tokens: tiles take turns of so many k, and so do the fours of a block. Weights of a
 * turn are in the first cache when the next four come, and memory gives more to more streams. */
enum { TURN = 32, AT_ONCE = 4 };

typedef struct strides {
    int x, out; /* from one k, from one token to the next */
} strides;

/* A tile's turn: the sums of four tokens. */
V16_FN void bf16_turn(float *out, bf16_at at, const uint32_t pairs, const strides step)
{
    const char *next = (const char *)at.w + TURN / 2 * 64;
    __m256 acc[2 * AT_ONCE];
    UNROLL for (int i = 0; i < 2 * AT_ONCE; i++) acc[i] =
        _mm256_load_ps(out + i / 2 * step.out + i % 2 * 8);
    for (uint32_t n = pairs; n > 0; n--, at.w += 64, next += 64) {
        _mm_prefetch(next, _MM_HINT_T0);
        UNROLL for (int odd = 0; odd < 2; odd++, at.x += step.x)
        {
            at.odd = odd;
            bf16_into(acc, at, AT_ONCE, 2);
        }
    }
    UNROLL for (int i = 0; i < 2 * AT_ONCE; i++)
        _mm256_store_ps(out + i / 2 * step.out + i % 2 * 8, acc[i]);
}

V16_FN void leaf_bf16_turns(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const float *x = (const float *)(const void *)a->x;
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++)
        _mm256_store_ps(a->out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0; k < a->k; k += TURN, x += TURN * tokens) {
        const uint32_t pairs = hdl_min_u32(a->k - k, TURN) / 2;
        for (int j = 0; j < tiles; j++)
            UNROLL for (int i = 0; i < tokens; i += AT_ONCE)
            {
                const bf16_at at = {a->w + (size_t)j * a->w_tile_bytes + k * 32, x + i, false};
                bf16_turn(a->out + (i * tiles + j) * HDL_TILE, at, pairs,
                          (strides){tokens, tiles * HDL_TILE});
            }
    }
}

/* A sign-extended code shifted by 7 is a binary16 number of 1/256 its value once its second bit is
 * cleared. Parts of a group stay in registers, sums in memory. */
V16_FN void leaf_fp8(const hdl_leaf_args *a, const int tokens, const int tiles,
                     const uint32_t group)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    const __m256i digits = _mm256_set1_epi16((short)0xbfff);
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++)
        _mm256_store_ps(a->out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0; k < a->k; k += group) {
        const unsigned char *scale = w;
        __m256 part[12];
        UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) part[i] = _mm256_setzero_ps();
        w += HDL_TILE * sizeof(float);
        for (uint32_t g = 0; g < group; g++, x += tokens, w += HDL_TILE)
            UNROLL for (int j = 0; j < tiles; j++)
            {
                const void *codes = w + (size_t)j * a->w_tile_bytes;
                __m256i h = _mm256_cvtepi8_epi16(_mm_load_si128(codes));
                h = _mm256_and_si256(_mm256_slli_epi16(h, 7), digits);
                __m256 w0 = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
                __m256 w1 = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
                UNROLL for (int i = 0; i < tokens; i++)
                {
                    __m256 b = _mm256_broadcast_ss(x + i);
                    __m256 *sum = &part[2 * (i * tiles + j)];
                    fma_into(&sum[0], b, w0);
                    fma_into(&sum[1], b, w1);
                }
            }
        UNROLL for (int i = 0; i < 2 * tokens * tiles; i++)
        {
            float *out = a->out + i * 8;
            const float *of =
                (const float *)(const void *)(scale + (size_t)(i / 2 % tiles) * a->w_tile_bytes);
            __m256 s = _mm256_load_ps(of + i % 2 * 8);
            _mm256_store_ps(out, _mm256_fmadd_ps(part[i], s, _mm256_load_ps(out)));
        }
    }
}

static void pack_x_f32(const hdl_pack_x_args *a)
{
    float *panel = (float *)(void *)a->panel + a->lane;
    for (uint32_t k = a->from; k < a->to; k++)
        panel[(size_t)k * a->block_tokens] = a->x ? a->x[k] : 0.0f;
}

static void pack_x_bf16(const hdl_pack_x_args *a)
{
    float *panel = (float *)(void *)a->panel + a->lane;
    for (uint32_t k = a->from; k < a->to; k++)
        panel[(size_t)k * a->block_tokens] =
            a->x ? hdl_bf16_to_f32(hdl_bf16_from_f32(a->x[k])) : 0.0f;
}

/* Its own: blocks differ from those of BF16. */
static void pack_x_fp8(const hdl_pack_x_args *a) { pack_x_bf16(a); }

#define KERNEL(format, tokens, tiles)                                                              \
    static void format##_##tokens##x##tiles(const hdl_leaf_args *a)                                \
    {                                                                                              \
        leaf_##format(a, tokens, tiles);                                                           \
    }
#define KERNELS(format)                                                                            \
    KERNEL(format, 1, 4)                                                                           \
    KERNEL(format, 1, 1)                                                                           \
    KERNEL(format, 2, 2)                                                                           \
    KERNEL(format, 2, 1)                                                                           \
    KERNEL(format, 4, 1)                                                                           \
    KERNEL(format, 6, 1)
KERNELS(f32)
KERNEL(bf16, 1, 4)
KERNEL(bf16, 1, 1)
KERNEL(bf16, 2, 2)
KERNEL(bf16, 2, 1)
KERNEL(bf16, 6, 1)
KERNEL(bf16_turns, 4, 4)
KERNEL(bf16_turns, 4, 1)
KERNEL(bf16_turns, 8, 4)
KERNEL(bf16_turns, 8, 1)
V16_FN void leaf_fp8_128(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    leaf_fp8(a, tokens, tiles, 128);
}
V16_FN void leaf_fp8_64(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    leaf_fp8(a, tokens, tiles, 64);
}
V16_FN void leaf_fp8_32(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    leaf_fp8(a, tokens, tiles, 32);
}
KERNELS(fp8_128)
KERNELS(fp8_64)
KERNELS(fp8_32)

#define VARIANTS(format)                                                                           \
    .n_variants = 4, .variants = {                                                                 \
                         {1, format##_1x4, NULL, format##_1x1},                                    \
                         {2, NULL, format##_2x2, format##_2x1},                                    \
                         {4, NULL, NULL, format##_4x1},                                            \
                         {6, NULL, NULL, format##_6x1},                                            \
    }

const hdl_gemm_format *hdl_gemm_float_format(hdl_wformat format)
{
    static const hdl_gemm_format formats[HDL_WFORMAT_COUNT] = {
        [HDL_WFORMAT_F32] = {.pack_x = pack_x_f32, .x_group_bytes = 128, VARIANTS(f32)},
        [HDL_WFORMAT_BF16] = {.pack_x = pack_x_bf16,
                              .x_group_bytes = 128,
                              .bulk = 6,
                              .n_variants = 5,
                              .variants = {{1, bf16_1x4, NULL, bf16_1x1},
                                           {2, NULL, bf16_2x2, bf16_2x1},
                                           {4, bf16_turns_4x4, NULL, bf16_turns_4x1},
                                           {6, NULL, NULL, bf16_6x1},
                                           {8, bf16_turns_8x4, NULL, bf16_turns_8x1}}},
        [HDL_WFORMAT_FP8] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_128)},
        [HDL_WFORMAT_FP8_64] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_64)},
        [HDL_WFORMAT_FP8_32] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_32)},
    };
    return &formats[format];
}
