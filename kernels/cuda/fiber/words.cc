/* SPDX-License-Identifier: Apache-2.0 */
/* What the words of a warp compute, once all lanes have brought their operands.
 *
 * mma: fragments as PTX ISA 9.7.14 lays them out. Products of 16-bit numbers are exact; they and
 * the sum are added in double and rounded once, which no hardware does worse than by the bound that
 * the tests of such kernels state. Integers are exact. */
#include "kernels/cuda/gpu.h"

void fiber_word_sync(fiber_lane *lanes, uint32_t n)
{
    (void)lanes;
    (void)n;
}

void fiber_word_shfl(fiber_lane *lanes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        HDL_ASSERT_LT(lanes[i].in[1], n);
        lanes[i].out[0] = lanes[lanes[i].in[1]].in[0];
    }
}

/* A lane whose partner does not exist keeps its own, as on the GPU. */
void fiber_word_xor(fiber_lane *lanes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t with = i ^ lanes[i].in[1];
        lanes[i].out[0] = lanes[with < n ? with : i].in[0];
    }
}

void fiber_word_ballot(fiber_lane *lanes, uint32_t n)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < n; i++)
        bits |= (lanes[i].in[0] & 1) << i;
    for (uint32_t i = 0; i < n; i++)
        lanes[i].out[0] = bits;
}

/* Matrix m of four, 8x8 numbers of 16 bits: lane 8 m + r names row r; lane i gets columns 2 (i % 4)
 * and the next of row i / 4. */
void fiber_word_ldmatrix(fiber_lane *lanes, uint32_t n)
{
    HDL_ASSERT_EQ(n, GPU_WARP);
    for (uint32_t m = 0; m < 4; m++)
        for (uint32_t i = 0; i < GPU_WARP; i++) {
            const unsigned char *row;
            memcpy(&row, &lanes[8 * m + i / 4].in[0], sizeof row);
            HDL_ASSERT_EQ((uintptr_t)row % 16, 0);
            memcpy(&lanes[i].out[m], row + i % 4 * 4, 4);
        }
}

/* The same of the transposed matrices: lane i gets rows 2 (i % 4) and the next of column i / 4. */
void fiber_word_ldmatrix_trans(fiber_lane *lanes, uint32_t n)
{
    HDL_ASSERT_EQ(n, GPU_WARP);
    for (uint32_t m = 0; m < 4; m++)
        for (uint32_t i = 0; i < GPU_WARP; i++) {
            uint16_t pair[2];
            for (uint32_t e = 0; e < 2; e++) {
                const unsigned char *row;
                memcpy(&row, &lanes[8 * m + i % 4 * 2 + e].in[0], sizeof row);
                HDL_ASSERT_EQ((uintptr_t)row % 16, 0);
                memcpy(&pair[e], row + i / 4 * 2, 2);
            }
            memcpy(&lanes[i].out[m], pair, 4);
        }
}

static float half_of(uint32_t word, uint32_t idx, bool bf16)
{
    uint16_t h = (uint16_t)(word >> 16 * idx);
    return bf16 ? hdl_bf16_to_f32(h) : hdl_f16_to_f32(h);
}

static void mma_half(fiber_lane *lanes, uint32_t n, bool bf16)
{
    float a[16][16], b[8][16]; /* rows of k */
    HDL_ASSERT_EQ(n, GPU_WARP);
    for (uint32_t i = 0; i < GPU_WARP; i++) {
        uint32_t g = i / 4, t = i % 4;
        for (uint32_t e = 0; e < 8; e++)
            a[g + e / 2 % 2 * 8][2 * t + e % 2 + e / 4 * 8] =
                half_of(lanes[i].in[4 + e / 2], e % 2, bf16);
        for (uint32_t e = 0; e < 4; e++)
            b[g][2 * t + e % 2 + e / 2 * 8] = half_of(lanes[i].in[8 + e / 2], e % 2, bf16);
    }
    for (uint32_t i = 0; i < GPU_WARP; i++)
        for (uint32_t e = 0; e < 4; e++) {
            const float *row = a[i / 4 + e / 2 * 8], *col = b[i % 4 * 2 + e % 2];
            float d;
            memcpy(&d, &lanes[i].in[e], 4);
            double sum = 0;
            for (uint32_t k = 0; k < 16; k++)
                sum += (double)row[k] * (double)col[k];
            d = (float)((double)d + sum);
            memcpy(&lanes[i].out[e], &d, 4);
        }
}

void fiber_word_mma_bf16(fiber_lane *lanes, uint32_t n) { mma_half(lanes, n, true); }
void fiber_word_mma_f16(fiber_lane *lanes, uint32_t n) { mma_half(lanes, n, false); }

/* halves: of k, 16 each. */
static void mma_s8(fiber_lane *lanes, uint32_t n, uint32_t halves)
{
    int8_t a[16][32] = {{0}}, b[8][32] = {{0}};
    HDL_ASSERT_EQ(n, GPU_WARP);
    for (uint32_t i = 0; i < GPU_WARP; i++) {
        uint32_t g = i / 4, t = i % 4;
        for (uint32_t e = 0; e < 2 * halves; e++)
            memcpy(&a[g + e % 2 * 8][4 * t + e / 2 * 16], &lanes[i].in[4 + e], 4);
        for (uint32_t e = 0; e < halves; e++)
            memcpy(&b[g][4 * t + e * 16], &lanes[i].in[8 + e], 4);
    }
    for (uint32_t i = 0; i < GPU_WARP; i++)
        for (uint32_t e = 0; e < 4; e++) {
            const int8_t *row = a[i / 4 + e / 2 * 8], *col = b[i % 4 * 2 + e % 2];
            int32_t d;
            memcpy(&d, &lanes[i].in[e], 4);
            for (uint32_t k = 0; k < 16 * halves; k++)
                d += row[k] * col[k];
            memcpy(&lanes[i].out[e], &d, 4);
        }
}

void fiber_word_mma_s8(fiber_lane *lanes, uint32_t n) { mma_s8(lanes, n, 2); }
void fiber_word_mma_s8_k16(fiber_lane *lanes, uint32_t n) { mma_s8(lanes, n, 1); }
