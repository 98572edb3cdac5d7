/* SPDX-License-Identifier: Apache-2.0 */
/* Integer weights in the matrix engine: int8 dots of a group by mma, exact; then sum = fma(dot,
 * x_scale * scale, sum) and, with minima, sum = fma(x_sum, x_scale * min, sum), groups in order, as
 * ref. C gives a lane's eight codes of a row in a step: void load(const mm_args *, const unsigned
 * char *row, uint32_t step, uint32_t t, uint32_t codes[2]). Roof: memory in decode; four
 * conversions and scale products for each mma of 32 columns else. Bits: as ref where a leaf is one
 * part. */
#pragma once

#include "kernels/cuda/matmul_tile.h"

template <class C> struct mm_int {
    /* A group's integers join the sums: rows g and g + 8 by packed rows 2 t and 2 t + 1. */
    template <int tiles>
    GPU_DEVICE void scale(const mm_lane *l, uint32_t step, uint32_t half,
                          const int32_t (&dot)[tiles][4], float (&acc)[tiles][4])
    {
        const mm_args *a = l->a;
        uint32_t steps = a->k / WEIGHT_STEP, halves = WEIGHT_STEP / a->group;
        uint32_t group = step * halves + half;
        float w[2] = {l->scales[0][group], l->scales[1][group]}, min[2] = {0, 0};
        if (a->has_mins) {
            min[0] = l->mins[0][group];
            min[1] = l->mins[1][group];
        }
        GPU_UNROLL
        for (int j = 0; j < tiles; j++)
            GPU_UNROLL
        for (int e = 0; e < 4; e++) {
            size_t row = (size_t)j * MM_COLS + (size_t)(e % 2);
            float x = l->x_scales[row * steps + step];
            acc[j][e] = fmaf((float)dot[j][e], x * w[e / 2], acc[j][e]);
            if (!a->has_mins)
                continue;
            const float *sums = l->x_sums + (row * steps + step) * 2;
            float sum = halves == 2 ? sums[half] : sums[0] + sums[1];
            acc[j][e] = fmaf(sum, x * min[e / 2], acc[j][e]);
        }
    }

    template <int tiles> GPU_DEVICE void clear(int32_t (&dot)[tiles][4])
    {
        GPU_UNROLL
        for (int j = 0; j < tiles; j++)
            GPU_UNROLL
        for (int e = 0; e < 4; e++)
            dot[j][e] = 0;
    }

    template <int tiles>
    GPU_DEVICE void walk(const mm_lane *l, uint32_t from, uint32_t to, float (&acc)[tiles][4])
    {
        uint32_t t = gpu_lane() % 4;
        bool two = l->a->group == 16;
        for (uint32_t step = from; step < to; step++) {
            uint32_t w0[2], w1[2], x[tiles][2];
            int32_t dot[tiles][4];
            C::load(l->a, l->w[0], step, t, w0);
            C::load(l->a, l->w[1], step, t, w1);
            GPU_UNROLL
            for (int j = 0; j < tiles; j++) {
                gpu_u2 v = *(const gpu_u2 *)(l->x + (size_t)j * MM_COLS * l->a->x.row_bytes +
                                             step * WEIGHT_STEP + t * sizeof(gpu_u2));
                x[j][0] = v.v[0];
                x[j][1] = v.v[1];
            }
            if (two) {
                GPU_UNROLL
                for (uint32_t half = 0; half < 2; half++) {
                    uint32_t rows[2] = {w0[half], w1[half]};
                    clear<tiles>(dot);
                    GPU_UNROLL
                    for (int j = 0; j < tiles; j++)
                        gpu_mma_s8_k16(dot[j], rows, &x[j][half]);
                    scale<tiles>(l, step, half, dot, acc);
                }
                continue;
            }
            uint32_t rows[4] = {w0[0], w1[0], w0[1], w1[1]};
            clear<tiles>(dot);
            GPU_UNROLL
            for (int j = 0; j < tiles; j++)
                gpu_mma_s8(dot[j], rows, x[j]);
            scale<tiles>(l, step, 0, dot, acc);
        }
    }
};
