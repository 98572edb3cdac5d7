/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"

static void norm_tokens(const void *args, size_t from, size_t to)
{
    const hdl_rms_norm_args *a = args;
    size_t x_stride = a->x_stride ? a->x_stride : a->dim;
    size_t out_stride = a->out_stride ? a->out_stride : a->dim;
    for (size_t t = from; t < to; t++) {
        const float *x = a->x + t * x_stride;
        float scale = a->sumsq
                          ? hdl_rms_scale_of(a->sumsq[t * a->sumsq_stride], a->whole_dim, a->eps)
                          : v16_rms_scale(x, a->dim, a->eps);
        hdl_norm_span(x, (hdl_norm_by){a->w, scale}, a->out + t * out_stride, a->dim);
    }
}

void HDL_ISA_NAME(rms_norm)(const hdl_rms_norm_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 8192 / a->dim + 1, norm_tokens, a);
}
