/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static void add_range(const void *args, size_t from, size_t to)
{
    const hdl_add_args *a = args;
    size_t i = from;
    for (; i + HDL_LANES <= to; i += HDL_LANES)
        v16_store(a->x + i, v16_add(v16_load(a->x + i), v16_load(a->y + i)));
    for (; i < to; i++)
        a->x[i] += a->y[i];
}

void HDL_ISA_NAME(add)(const hdl_add_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 16384, add_range, a);
}
