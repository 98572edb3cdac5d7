/* SPDX-License-Identifier: Apache-2.0 */
/* FP8 weights in the matrix engine: E4M3 codes become bf16 numbers of code / 256, exactly; a
 * group's products add from +0, and sum = fma(part, scale * 256, sum), groups in order. Roof:
 * memory in decode; the conversion beside the mma else. Bits: inside a group as BF16. */
#include "kernels/cuda/matmul_tile.h"

/* Two codes -> two bf16 of code / 256. */
GPU_DEVICE uint32_t pair_of(uint32_t codes)
{
    uint32_t lo = hdl_f32_bits(hdl_e4m3_to_f32((uint8_t)codes) * 0x1p-8f);
    uint32_t hi = hdl_f32_bits(hdl_e4m3_to_f32((uint8_t)(codes >> 8)) * 0x1p-8f);
    return lo >> 16 | (hi & 0xffff0000u);
}

struct mm_fp8 {
    template <int tiles>
    GPU_DEVICE void step(const mm_lane *l, uint32_t step, float (&part)[tiles][4])
    {
        uint32_t t = gpu_lane() % 4;
        size_t at = step * WEIGHT_STEP + t * sizeof(gpu_u2);
        gpu_u2 w0 = *(const gpu_u2 *)(l->w[0] + at), w1 = *(const gpu_u2 *)(l->w[1] + at);
        uint32_t half[2][4];
        GPU_UNROLL
        for (int i = 0; i < 2; i++) {
            half[i][0] = pair_of(w0.v[i]);
            half[i][1] = pair_of(w1.v[i]);
            half[i][2] = pair_of(w0.v[i] >> 16);
            half[i][3] = pair_of(w1.v[i] >> 16);
        }
        size_t x_at = step * (WEIGHT_STEP * sizeof(uint16_t)) + t * sizeof(gpu_u4);
        GPU_UNROLL
        for (int j = 0; j < tiles; j++) {
            gpu_u4 x = *(const gpu_u4 *)(l->x + (size_t)j * MM_COLS * l->a->x.row_bytes + x_at);
            gpu_mma_bf16(part[j], half[0], x.v);
            gpu_mma_bf16(part[j], half[1], x.v + 2);
        }
    }

    template <int tiles>
    GPU_DEVICE void walk(const mm_lane *l, uint32_t from, uint32_t to, float (&acc)[tiles][4])
    {
        uint32_t steps = l->a->group / WEIGHT_STEP;
        for (uint32_t at = from; at < to; at += steps) {
            float part[tiles][4], scale[2] = {l->scales[0][at / steps], l->scales[1][at / steps]};
            mm_clear<tiles>(part);
            for (uint32_t i = 0; i < steps; i++)
                step<tiles>(l, at + i, part);
            GPU_UNROLL
            for (int j = 0; j < tiles; j++)
                GPU_UNROLL
            for (int e = 0; e < 4; e++)
                acc[j][e] = fmaf(part[j][e], scale[e / 2], acc[j][e]);
        }
    }
};

void mm_launch_fp8(const mm_args *a, hdl_stream *stream) { mm_launch<mm_fp8>(a, stream); }
