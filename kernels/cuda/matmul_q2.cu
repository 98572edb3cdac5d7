/* SPDX-License-Identifier: Apache-2.0 */
/* 2-bit codes for matmul_int.h: a lane's eight are half a word, indices into a codebook of four
 * int8 that one register holds. */
#include "kernels/cuda/matmul_int.h"

struct codes_q2 {
    /* Four indices of two bits -> a half byte each -> four codes. */
    GPU_DEVICE uint32_t look_up(uint32_t book, uint32_t idx)
    {
        idx = (idx | idx << 4) & 0x0f0fu;
        idx = (idx | idx << 2) & 0x3333u;
        return gpu_permute(book, 0, idx);
    }
    GPU_DEVICE void load(const mm_args *a, const unsigned char *row, uint32_t step, uint32_t t,
                         uint32_t codes[2])
    {
        uint32_t w = *(const uint16_t *)(row + step * (WEIGHT_STEP / 4) + t * sizeof(uint16_t));
        codes[0] = look_up(a->book[0], w & 0xffu);
        codes[1] = look_up(a->book[0], w >> 8);
    }
};

void mm_launch_q2(const mm_args *a, hdl_stream *stream) { mm_launch<mm_int<codes_q2>>(a, stream); }
