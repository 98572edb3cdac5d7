/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf kernels for AVX2 and FMA, over the same packed weights as AVX-512 and with the same bits.
 *
 * BF16: a pair is taken apart into two f32 and multiplied in order of k; activations come as f32
 * that were rounded to bf16. Q8: weights and activations are widened to 16 bits and multiplied by
 * vpmaddwd, which is exact. vpmaddubsw was not taken: 255 * 127 * 2 saturates its 16-bit sums. */
#include "kernels/cpu/gemm.h"

/* sum += a * b. gcc 12 likes to let the product land in the register of an operand, and then spills
 * accumulators to make up for it (10 of 12 in bf16_6x1): the asm says where the sum stays. */
V16_FN void fma_into(__m256 *sum, __m256 a, __m256 b)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}

/* sum += n, in place for the same reason. */
V16_FN void add_into(__m256i *sum, __m256i n)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(n));
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

/* First all even k of a pair, then all odd ones: each broadcast serves both halves of a tile, which
 * halves the loads. */
V16_FN void leaf_bf16(const hdl_leaf_args *a, const int tokens, const int tiles)
{
    const float *x = (const float *)(const void *)a->x;
    const unsigned char *w = a->w;
    __m256 acc[12];
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) acc[i] = _mm256_setzero_ps();
    for (uint32_t k = 0; k < a->k; k += 2, w += HDL_TILE * sizeof(uint32_t))
        UNROLL for (int odd = 0; odd < 2; odd++, x += tokens) UNROLL for (int j = 0; j < tiles; j++)
        {
            const void *row = w + (size_t)j * a->w_tile_bytes;
            __m256i p0 = _mm256_load_si256(row), p1 = _mm256_load_si256((const __m256i *)row + 1);
            /* Two shifts, not a mask: the mask's register is needed. */
            p0 = _mm256_slli_epi32(odd ? p0 : _mm256_srli_epi32(p0, 16), 16);
            p1 = _mm256_slli_epi32(odd ? p1 : _mm256_srli_epi32(p1, 16), 16);
            UNROLL for (int i = 0; i < tokens; i++)
            {
                __m256 b = _mm256_broadcast_ss(x + i);
                __m256 *sum = &acc[2 * (i * tiles + j)];
                fma_into(&sum[0], b, _mm256_castsi256_ps(p0));
                fma_into(&sum[1], b, _mm256_castsi256_ps(p1));
            }
            FORGET_LOADS; /* pairs are not kept for odd k */
        }
    UNROLL for (int i = 0; i < 2 * tokens * tiles; i++) _mm256_store_ps(a->out + i * 8, acc[i]);
}

/* Panel: per group { float scale[tokens]; int32_t fix[tokens]; int16_t quad[8][tokens][4]; }.
 * A quarter tile (4 rows by 4 k) widens to one register; vpmaddwd leaves two partial sums per row,
 * which vphaddd joins at the end of the group. */
V16_FN void leaf_q8(const hdl_leaf_args *a, const int tokens)
{
    const unsigned char *x = a->x, *w = a->w;
    const size_t x_head = 8 * (size_t)tokens, x_quad = 8 * (size_t)tokens;
    UNROLL for (int i = 0; i < 2 * tokens; i++)
        _mm256_store_ps(a->out + i * 8, _mm256_setzero_ps());
    for (uint32_t k = 0; k < a->k; k += HDL_Q8_GROUP, w += HDL_Q8_TILE_BYTES) {
        const float *x_scale = (const float *)(const void *)x;
        const int32_t *fix = (const int32_t *)(const void *)x + tokens;
        for (int half = 0; half < 2; half++) {
            __m256i dot[8];
            UNROLL for (int i = 0; i < 2 * tokens; i++) dot[i] = _mm256_setzero_si256();
            const unsigned char *quad_w = w + HDL_TILE * sizeof(float) + (size_t)half * 32;
            const unsigned char *quad_x = x + x_head;
            for (int quad = 0; quad < HDL_Q8_GROUP / 4; quad++, quad_w += 64, quad_x += x_quad) {
                __m256i w0 = _mm256_cvtepu8_epi16(_mm_load_si128((const void *)quad_w));
                __m256i w1 = _mm256_cvtepu8_epi16(_mm_load_si128((const void *)(quad_w + 16)));
                UNROLL for (int i = 0; i < tokens; i++)
                {
                    int64_t word;
                    memcpy(&word, quad_x + i * 8, sizeof word);
                    __m256i b = _mm256_set1_epi64x(word);
                    add_into(&dot[2 * i], _mm256_madd_epi16(w0, b));
                    add_into(&dot[2 * i + 1], _mm256_madd_epi16(w1, b));
                }
            }
            __m256 w_scale = _mm256_load_ps((const float *)(const void *)w + half * 8);
            UNROLL for (int i = 0; i < tokens; i++)
            {
                float *out = a->out + i * HDL_TILE + half * 8;
                __m256i rows = _mm256_hadd_epi32(dot[2 * i], dot[2 * i + 1]);
                rows = _mm256_permute4x64_epi64(rows, 0xd8);
                rows = _mm256_add_epi32(rows, _mm256_set1_epi32(fix[i]));
                __m256 scale = _mm256_mul_ps(_mm256_set1_ps(x_scale[i]), w_scale);
                _mm256_store_ps(
                    out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(rows), scale, _mm256_load_ps(out)));
            }
        }
        x += x_head + HDL_Q8_GROUP / 4 * x_quad;
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

static void pack_x_q8(const hdl_pack_x_args *a)
{
    size_t m = a->block_tokens, group_bytes = 72 * m;
    unsigned char *group = a->panel + a->from / HDL_Q8_GROUP * group_bytes;
    for (uint32_t k = a->from; k < a->to; k += HDL_Q8_GROUP, group += group_bytes) {
        v16i q[2] = {v16i_set1(0), v16i_set1(0)};
        float scale = 0;
        if (a->x)
            scale = v16_q8_group(v16_load(a->x + k), v16_load(a->x + k + HDL_LANES), q);
        int16_t wide[HDL_Q8_GROUP];
        v16i_store_u16((uint16_t *)wide, q[0]);
        v16i_store_u16((uint16_t *)wide + HDL_LANES, q[1]);
        int32_t sum = 0;
        for (int i = 0; i < HDL_Q8_GROUP; i++)
            sum += wide[i];
        int32_t fix = -128 * sum;
        memcpy(group + a->lane * sizeof scale, &scale, sizeof scale);
        memcpy(group + (m + a->lane) * sizeof fix, &fix, sizeof fix);
        for (size_t i = 0; i < HDL_Q8_GROUP / 4; i++)
            memcpy(group + 8 * m + (i * m + a->lane) * 8, wide + 4 * i, 8);
    }
}

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
KERNELS(bf16)
static void q8_1x1(const hdl_leaf_args *a) { leaf_q8(a, 1); }
static void q8_2x1(const hdl_leaf_args *a) { leaf_q8(a, 2); }
static void q8_4x1(const hdl_leaf_args *a) { leaf_q8(a, 4); }

#define VARIANTS(format)                                                                           \
    .n_variants = 4, .variants = {                                                                 \
                         {1, format##_1x4, NULL, format##_1x1},                                    \
                         {2, NULL, format##_2x2, format##_2x1},                                    \
                         {4, NULL, NULL, format##_4x1},                                            \
                         {6, NULL, NULL, format##_6x1},                                            \
    }

const hdl_gemm_format hdl_gemm_formats[HDL_WFORMAT_COUNT] = {
    [HDL_WFORMAT_F32] = {.pack_x = pack_x_f32, .x_group_bytes = 128, VARIANTS(f32)},
    [HDL_WFORMAT_BF16] = {.pack_x = pack_x_bf16, .x_group_bytes = 128, VARIANTS(bf16)},
    [HDL_WFORMAT_Q8] = {.pack_x = pack_x_q8,
                        .x_group_bytes = 72,
                        .n_variants = 3,
                        .variants = {{1, NULL, NULL, q8_1x1},
                                     {2, NULL, NULL, q8_2x1},
                                     {4, NULL, NULL, q8_4x1}}},
};
