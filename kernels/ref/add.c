/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void add_range(const void *args, size_t from, size_t to)
{
    const hdl_add_args *a = args;
    for (size_t i = from; i < to; i++)
        a->x[i] += a->y[i];
}

void hdl_ref_add(const hdl_add_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 4096, add_range, a);
}
