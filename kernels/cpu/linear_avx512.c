/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels for AVX-512 with VNNI and BF16.
 *
 * vdpbf16ps adds the product of the high halves, rounds, then adds that of the low halves and
 * rounds (checked by tests/kernels), so a pair with the even k on top walks k in order. vpdpbusd is
 * exact; it takes one unsigned operand, which is the weight (q + 128), and `fix` = -128 * sum(x)
 * starts the accumulator so that the offset cancels.
 *
 * Accumulators live in registers for the whole leaf: gcc keeps them there only when the loops over
 * tokens and tiles are unrolled completely, hence the constant arguments and the pragmas. */
#include "kernels/cpu/gemm.h"

/* sum += dot of four u8 * s8 per lane. From the intrinsic gcc 12 makes two register moves for each
 * vpdpbusd and spills a quarter of q8_6x2; the asm says where the sum stays. */
V16_FN void dot_into(__m512i *sum, __m512i w, __m512i x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(x));
}

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
        UNROLL for (int i = 0; i < tokens; i++)
        {
            __m512bh b = (__m512bh)_mm512_set1_epi32(x[i]);
            UNROLL for (int j = 0; j < tiles; j++) acc[i * tiles + j] =
                _mm512_dpbf16_ps(acc[i * tiles + j], row[j], b);
        }
    }
    UNROLL for (int i = 0; i < tokens * tiles; i++) _mm512_store_ps(a->out + i * HDL_TILE, acc[i]);
}

/* Panel: per group { float scale[tokens]; int32_t fix[tokens]; int32_t quad[8][tokens]; } */
V16_FN void leaf_q8(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const int32_t *x = (const int32_t *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m512 acc[12];
    UNROLL for (int i = 0; i < tokens * tiles; i++) acc[i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < a->k; k += HDL_Q8_GROUP, w += HDL_Q8_TILE_BYTES) {
        const float *x_scale = (const float *)(const void *)x;
        __m512i dot[12];
        UNROLL for (int i = 0; i < tokens; i++) UNROLL for (int j = 0; j < tiles; j++)
            dot[i * tiles + j] = _mm512_set1_epi32(x[tokens + i]);
        x += 2 * tokens;
        for (int quad = 0; quad < HDL_Q8_GROUP / 4; quad++, x += tokens) {
            __m512i row[4];
            UNROLL for (int j = 0; j < tiles; j++) row[j] = _mm512_load_si512(
                w + (size_t)j * a->w_tile_bytes + (size_t)(quad + 1) * sizeof(__m512i));
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m512i b = _mm512_set1_epi32(x[i]);
                UNROLL for (int j = 0; j < tiles; j++) dot_into(&dot[i * tiles + j], row[j], b);
            }
        }
        UNROLL for (int j = 0; j < tiles; j++)
        {
            __m512 w_scale = _mm512_load_ps(w + (size_t)j * a->w_tile_bytes);
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale[i]), w_scale);
                acc[i * tiles + j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[i * tiles + j]), scale,
                                                     acc[i * tiles + j]);
            }
        }
    }
    UNROLL for (int i = 0; i < tokens * tiles; i++) _mm512_store_ps(a->out + i * HDL_TILE, acc[i]);
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

static void pack_x_q8(const hdl_pack_x_args *a)
{
    size_t m = a->block_tokens, words = 10 * m; /* of a group */
    int32_t *group = (int32_t *)(void *)a->panel + a->from / HDL_Q8_GROUP * words + a->lane;
    for (uint32_t k = a->from; k < a->to; k += HDL_Q8_GROUP, group += words) {
        v16i q[2] = {v16i_set1(0), v16i_set1(0)};
        float scale = 0;
        if (a->x)
            scale = v16_q8_group(v16_load(a->x + k), v16_load(a->x + k + HDL_LANES), q);
        memcpy(group, &scale, sizeof scale);
        group[m] = -128 * _mm512_reduce_add_epi32(v16i_add(q[0], q[1]));
        int32_t quads[HDL_Q8_GROUP / 4];
        v16i_store_u8((uint8_t *)quads, q[0]);
        v16i_store_u8((uint8_t *)quads + HDL_LANES, q[1]);
        for (uint32_t i = 0; i < HDL_Q8_GROUP / 4; i++)
            group[(2 + i) * m] = quads[i];
    }
}

#define KERNEL(format, tokens, tiles)                                                              \
    static void format##_##tokens##x##tiles(const hdl_leaf_args *a)                                \
    {                                                                                              \
        leaf_##format(a, tokens, tiles);                                                           \
    }
#define KERNELS_16BIT(format)                                                                      \
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
KERNELS_16BIT(f32)
KERNELS_16BIT(bf16)
KERNEL(q8, 1, 4)
KERNEL(q8, 1, 1)
KERNEL(q8, 2, 4)
KERNEL(q8, 2, 1)
KERNEL(q8, 4, 2)
KERNEL(q8, 4, 1)
KERNEL(q8, 6, 2)
KERNEL(q8, 6, 1)

#define VARIANTS_16BIT(format)                                                                     \
    .n_variants = 5,                                                                               \
    .variants = {                                                                                  \
        {1, format##_1x4, NULL, format##_1x1},    {2, format##_2x4, NULL, format##_2x1},           \
        {4, format##_4x4, NULL, format##_4x1},    {8, NULL, format##_8x2, format##_8x1},           \
        {12, NULL, format##_12x2, format##_12x1},                                                  \
    }

const hdl_gemm_format hdl_gemm_formats[HDL_WFORMAT_COUNT] = {
    [HDL_WFORMAT_F32] = {.pack_x = pack_x_f32, .x_group_bytes = 128, VARIANTS_16BIT(f32)},
    [HDL_WFORMAT_BF16] = {.pack_x = pack_x_bf16, .x_group_bytes = 64, VARIANTS_16BIT(bf16)},
    [HDL_WFORMAT_Q8] = {.pack_x = pack_x_q8,
                        .x_group_bytes = 40,
                        .n_variants = 4,
                        .variants = {{1, q8_1x4, NULL, q8_1x1},
                                     {2, q8_2x4, NULL, q8_2x1},
                                     {4, NULL, q8_4x2, q8_4x1},
                                     {6, NULL, q8_6x2, q8_6x1}}},
};
