/* SPDX-License-Identifier: Apache-2.0 */
/* 8-bit codes for matmul_int.h: a lane's eight lie side by side. */
#include "kernels/cuda/matmul_int.h"

struct codes_q8 {
    GPU_DEVICE void load(const mm_args *a, const unsigned char *row, uint32_t step, uint32_t t,
                         uint32_t codes[2])
    {
        (void)a;
        gpu_u2 w = *(const gpu_u2 *)(row + step * WEIGHT_STEP + t * sizeof(gpu_u2));
        codes[0] = w.v[0];
        codes[1] = w.v[1];
    }
};

void mm_launch_q8(const mm_args *a, hdl_stream *stream) { mm_launch<mm_int<codes_q8>>(a, stream); }
