/* SPDX-License-Identifier: Apache-2.0 */
/* 4-bit codes for matmul_int.h: a lane's eight are one word, indices into a codebook of sixteen
 * int8 that four registers hold; bytes are chosen by permutation. */
#include "kernels/cuda/matmul_int.h"

struct codes_q4 {
    /* Four indices, one in each half byte of the low 16 bits -> four codes. */
    GPU_DEVICE uint32_t look_up(const uint32_t book[4], uint32_t idx)
    {
        uint32_t low = idx & 0x7777u;
        uint32_t a = gpu_permute(book[0], book[1], low), b = gpu_permute(book[2], book[3], low);
        return gpu_permute(a, b, 0x3210u + ((idx & 0x8888u) >> 1)); /* index 8 and above: of b */
    }
    GPU_DEVICE void load(const mm_args *a, const unsigned char *row, uint32_t step, uint32_t t,
                         uint32_t codes[2])
    {
        uint32_t w = *(const uint32_t *)(row + step * (WEIGHT_STEP / 2) + t * sizeof(uint32_t));
        codes[0] = look_up(a->book, w & 0xffffu);
        codes[1] = look_up(a->book, w >> 16);
    }
};

void mm_launch_q4(const mm_args *a, hdl_stream *stream) { mm_launch<mm_int<codes_q4>>(a, stream); }
