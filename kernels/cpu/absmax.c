/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static float absmax_of(const float *x, uint32_t n)
{
    v16i magnitude = v16i_set1(0x7fffffff), max = v16i_set1(0);
    for (uint32_t i = 0; i < n; i += HDL_LANES) {
        v16 part = v16_load_part(x + i, hdl_min_u32(n - i, HDL_LANES));
        max = v16i_max(max, v16i_and(v16_bits(part), magnitude));
    }
    float lane[HDL_LANES], largest = 0;
    v16_store(lane, v16_from_bits(max));
    for (int i = 0; i < HDL_LANES; i++)
        largest = hdl_absmax(largest, lane[i]);
    return largest;
}

static void max_tokens(const void *args, size_t from, size_t to)
{
    const hdl_absmax_args *a = args;
    for (size_t t = from; t < to; t++)
        a->out[t] = absmax_of(a->x + t * a->x_stride, a->dim);
}

void HDL_ISA_NAME(absmax)(const hdl_absmax_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 16384 / a->dim + 1, max_tokens, a);
}
