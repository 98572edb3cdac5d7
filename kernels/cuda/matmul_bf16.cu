/* SPDX-License-Identifier: Apache-2.0 */
/* BF16 weights in the matrix engine: bf16 products, f32 sums, m16n8k16. A step of 32 columns is two
 * of them: lane t's eight columns, halves of four, in place of the mma's own 2 t and 2 t + 8; since
 * both operands do so it is the same sum. Bits: sums inside an mma are the hardware's; within (k +
 * 4) 2^-24 of the sum of magnitudes of the exact one, as ref is. */
#include "kernels/cuda/matmul_tile.h"

struct mm_bf16 {
    template <int tiles>
    GPU_DEVICE void walk(const mm_lane *l, uint32_t from, uint32_t to, float (&acc)[tiles][4])
    {
        uint32_t t = gpu_lane() % 4;
        size_t next = MM_COLS * l->a->x.row_bytes;
#pragma unroll 4
        for (uint32_t step = from; step < to; step++) {
            size_t at = step * (WEIGHT_STEP * sizeof(uint16_t)) + t * sizeof(gpu_u4);
            gpu_u4 w0 = *(const gpu_u4 *)(l->w[0] + at), w1 = *(const gpu_u4 *)(l->w[1] + at);
            uint32_t first[4] = {w0.v[0], w1.v[0], w0.v[1], w1.v[1]};
            uint32_t second[4] = {w0.v[2], w1.v[2], w0.v[3], w1.v[3]};
            GPU_UNROLL
            for (int j = 0; j < tiles; j++) {
                gpu_u4 x = *(const gpu_u4 *)(l->x + (size_t)j * next + at);
                gpu_mma_bf16(acc[j], first, x.v);
                gpu_mma_bf16(acc[j], second, x.v + 2);
            }
        }
    }
};

void mm_launch_bf16(const mm_args *a, hdl_stream *stream) { mm_launch<mm_bf16>(a, stream); }
