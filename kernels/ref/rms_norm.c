/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void norm_tokens(const void *args, size_t from, size_t to)
{
    const hdl_rms_norm_args *a = args;
    for (size_t t = from; t < to; t++) {
        const float *x = a->x + t * a->dim;
        float *out = a->out + t * a->dim;
        float scale = hdl_rms_scale(x, a->dim, a->eps);
        for (uint32_t i = 0; i < a->dim; i++)
            out[i] = x[i] * scale * a->w[i];
    }
}

void hdl_ref_rms_norm(const hdl_rms_norm_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 1, norm_tokens, a);
}
