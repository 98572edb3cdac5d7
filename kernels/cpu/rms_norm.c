/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"

static void norm_tokens(const void *args, size_t from, size_t to)
{
    const hdl_rms_norm_args *a = args;
    for (size_t t = from; t < to; t++) {
        const float *x = a->x + t * a->dim;
        hdl_norm_span(x, a->w, v16_rms_scale(x, a->dim, a->eps), a->out + t * a->dim, a->dim);
    }
}

void HDL_ISA_NAME(rms_norm)(const hdl_rms_norm_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 8192 / a->dim + 1, norm_tokens, a);
}
