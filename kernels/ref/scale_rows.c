/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void scale_tokens(const void *args, size_t from, size_t to)
{
    const hdl_scale_rows_args *a = args;
    for (size_t t = from; t < to; t++)
        for (uint32_t i = 0; i < a->dim; i++)
            a->x[t * a->dim + i] *= a->factor[t];
}

void hdl_ref_scale_rows(const hdl_scale_rows_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 4, scale_tokens, a);
}
