/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels for AVX-512 with VNNI and BF16.
 *
 * vdpbf16ps adds the product of the high halves, rounds, then adds that of the low halves and
 * rounds (checked by tests/kernels), so a pair with the even k on top walks k in order.
 *
 * Accumulators live in registers for the whole leaf: gcc keeps them there only when the loops over
 * tokens and tiles are unrolled completely, hence the constant arguments and the pragmas. */
#include "kernels/cpu/gemm.h"

/* tokens and tiles are constants at every call. */
V16_FN void leaf_f32(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m512 acc[24];
    UNROLL for (int i = 0; i < tokens * tiles; i++) acc[i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < a->k; k++, x += tokens, w += HDL_TILE * sizeof(float)) {
        __m512 row[4];
        UNROLL for (int j = 0; j < tiles; j++) row[j] =
            _mm512_load_ps(w + (size_t)j * a->w_tile_bytes);
        UNROLL for (int i = 0; i < tokens; i++)
        {
            __m512 b = _mm512_set1_ps(x[i]);
            UNROLL for (int j = 0; j < tiles; j++) acc[i * tiles + j] =
                _mm512_fmadd_ps(b, row[j], acc[i * tiles + j]);
        }
    }
    UNROLL for (int i = 0; i < tokens * tiles; i++) _mm512_store_ps(a->out + i * HDL_TILE, acc[i]);
}

V16_FN void leaf_bf16(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const int32_t *x = (const int32_t *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m512 acc[24];
    UNROLL for (int i = 0; i < tokens * tiles; i++) acc[i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < a->k; k += 2, x += tokens, w += HDL_TILE * sizeof(uint32_t)) {
        __m512bh row[4];
        UNROLL for (int j = 0; j < tiles; j++) row[j] =
            (__m512bh)_mm512_load_si512(w + (size_t)j * a->w_tile_bytes);
        /* For few tokens memory is what lasts: no prefetcher crosses a page. */
        if (tokens <= 4)
            UNROLL for (int j = 0; j < tiles; j++)
                _mm_prefetch((const char *)w + (size_t)j * a->w_tile_bytes + 1024, _MM_HINT_T0);
        UNROLL for (int i = 0; i < tokens; i++)
        {
            __m512bh b = (__m512bh)_mm512_set1_epi32(x[i]);
            UNROLL for (int j = 0; j < tiles; j++) acc[i * tiles + j] =
                _mm512_dpbf16_ps(acc[i * tiles + j], row[j], b);
        }
    }
    UNROLL for (int i = 0; i < tokens * tiles; i++) _mm512_store_ps(a->out + i * HDL_TILE, acc[i]);
}

/* A sign-extended code shifted by 7 is a binary16 number of 1/256 its value once its second bit is
 * cleared. Parts of a group stay in registers, sums in memory. */
V16_FN void leaf_fp8(const hdl_leaf_args *a, const int tokens, const int tiles,
                     const uint32_t group)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    const __m256i digits = _mm256_set1_epi16((short)0xbfff);
    UNROLL for (int i = 0; i < tokens * tiles; i++)
        _mm512_store_ps(a->out + i * HDL_TILE, _mm512_setzero_ps());
    for (uint32_t k = 0; k < a->k; k += group) {
        const unsigned char *scale = w;
        __m512 part[24];
        UNROLL for (int i = 0; i < tokens * tiles; i++) part[i] = _mm512_setzero_ps();
        w += HDL_TILE * sizeof(float);
        for (uint32_t g = 0; g < group; g++, x += tokens, w += HDL_TILE) {
            __m512 row[4];
            UNROLL for (int j = 0; j < tiles; j++)
            {
                const void *codes = w + (size_t)j * a->w_tile_bytes;
                __m256i h = _mm256_cvtepi8_epi16(_mm_load_si128(codes));
                row[j] = _mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(h, 7), digits));
            }
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m512 b = _mm512_set1_ps(x[i]);
                UNROLL for (int j = 0; j < tiles; j++) part[i * tiles + j] =
                    _mm512_fmadd_ps(b, row[j], part[i * tiles + j]);
            }
        }
        UNROLL for (int i = 0; i < tokens * tiles; i++)
        {
            float *out = a->out + i * HDL_TILE;
            __m512 s = _mm512_load_ps(scale + (size_t)(i % tiles) * a->w_tile_bytes);
            _mm512_store_ps(out, _mm512_fmadd_ps(part[i], s, _mm512_load_ps(out)));
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
    uint32_t *panel = (uint32_t *)(void *)a->panel + a->lane;
    uint32_t k = a->from;
    for (; a->x && k + HDL_LANES <= a->to; k += HDL_LANES) {
        uint32_t pair[HDL_LANES / 2];
        __m256i h = _mm512_cvtepi32_epi16(v16_to_bf16(v16_load(a->x + k)));
        _mm256_storeu_si256((__m256i *)(void *)pair, _mm256_rol_epi32(h, 16));
        for (uint32_t i = 0; i < HDL_LANES / 2; i++)
            panel[(k / 2 + i) * (size_t)a->block_tokens] = pair[i];
    }
    for (; k < a->to; k += 2) {
        uint32_t even = a->x ? hdl_bf16_from_f32(a->x[k]) : 0;
        uint32_t odd = a->x ? hdl_bf16_from_f32(a->x[k + 1]) : 0;
        panel[k / 2 * (size_t)a->block_tokens] = even << 16 | odd;
    }
}

/* FP8 takes the numbers of BF16 as f32: its weights become f32 too. */
static void pack_x_fp8(const hdl_pack_x_args *a)
{
    float *panel = (float *)(void *)a->panel + a->lane;
    for (uint32_t k = a->from; k < a->to; k++)
        panel[(size_t)k * a->block_tokens] =
            a->x ? hdl_bf16_to_f32(hdl_bf16_from_f32(a->x[k])) : 0.0f;
}

#define KERNEL(format, tokens, tiles)                                                              \
    static void format##_##tokens##x##tiles(const hdl_leaf_args *a)                                \
    {                                                                                              \
        leaf_##format(a, tokens, tiles);                                                           \
    }
#define KERNELS(format)                                                                            \
    KERNEL(format, 1, 4)                                                                           \
    KERNEL(format, 1, 1)                                                                           \
    KERNEL(format, 2, 4)                                                                           \
    KERNEL(format, 2, 1)                                                                           \
    KERNEL(format, 4, 4)                                                                           \
    KERNEL(format, 4, 1)                                                                           \
    KERNEL(format, 8, 2)                                                                           \
    KERNEL(format, 8, 1)                                                                           \
    KERNEL(format, 12, 2)                                                                          \
    KERNEL(format, 12, 1)
KERNELS(f32)
KERNELS(bf16)
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
    .n_variants = 5,                                                                               \
    .variants = {                                                                                  \
        {1, format##_1x4, NULL, format##_1x1},    {2, format##_2x4, NULL, format##_2x1},           \
        {4, format##_4x4, NULL, format##_4x1},    {8, NULL, format##_8x2, format##_8x1},           \
        {12, NULL, format##_12x2, format##_12x1},                                                  \
    }

const hdl_gemm_format *hdl_gemm_float_format(hdl_wformat format)
{
    static const hdl_gemm_format formats[HDL_WFORMAT_COUNT] = {
        [HDL_WFORMAT_F32] = {.pack_x = pack_x_f32, .x_group_bytes = 128, VARIANTS(f32)},
        [HDL_WFORMAT_BF16] = {.pack_x = pack_x_bf16, .x_group_bytes = 64, VARIANTS(bf16)},
        [HDL_WFORMAT_FP8] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_128)},
        [HDL_WFORMAT_FP8_64] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_64)},
        [HDL_WFORMAT_FP8_32] = {.pack_x = pack_x_fp8, .x_group_bytes = 128, VARIANTS(fp8_32)},
    };
    return &formats[format];
}
