/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"

static void scale_tokens(const void *args, size_t from, size_t to)
{
    const hdl_scale_rows_args *a = args;
    for (size_t t = from; t < to; t++)
        hdl_scale_span(a->x + t * a->dim, a->factor[t], a->x + t * a->dim, a->dim);
}

void HDL_ISA_NAME(scale_rows)(const hdl_scale_rows_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 16384 / a->dim + 1, scale_tokens, a);
}
