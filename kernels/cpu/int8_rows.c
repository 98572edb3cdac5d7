/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static void round_tokens(const void *args, size_t from, size_t to)
{
    const hdl_int8_rows_args *a = args;
    for (size_t t = from; t < to; t++) {
        float largest = 0;
        for (size_t part = 0; part < a->n_parts; part++)
            largest = hdl_absmax(largest, a->absmax[part * a->n_tokens + t]);
        float steps = hdl_int8_steps(largest);
        a->step[t] = 1.0f / steps;
        const float *x = a->x + t * a->dim;
        float *out = a->out + t * a->dim;
        uint32_t i = 0;
        for (; i + HDL_LANES <= a->dim; i += HDL_LANES) {
            v16 q = v16_mul(v16_load(x + i), v16_set1(steps));
            v16_store(out + i, v16_rint(v16_int8_clamp(q)));
        }
        for (; i < a->dim; i++)
            out[i] = hdl_int8_round(x[i], steps);
    }
}

void HDL_ISA_NAME(int8_rows)(const hdl_int8_rows_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 8192 / a->dim + 1, round_tokens, a);
}
