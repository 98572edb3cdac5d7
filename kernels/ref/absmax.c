/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void max_tokens(const void *args, size_t from, size_t to)
{
    const hdl_absmax_args *a = args;
    for (size_t t = from; t < to; t++) {
        float max = 0;
        for (uint32_t i = 0; i < a->dim; i++)
            max = hdl_absmax(max, a->x[t * a->x_stride + i]);
        a->out[t] = max;
    }
}

void hdl_ref_absmax(const hdl_absmax_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 4, max_tokens, a);
}
