/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

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
        for (uint32_t i = 0; i < a->dim; i++)
            out[i] = hdl_int8_round(x[i], steps);
    }
}

void hdl_ref_int8_rows(const hdl_int8_rows_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 4, round_tokens, a);
}
