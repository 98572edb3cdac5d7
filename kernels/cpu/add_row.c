/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static void add_tokens(const void *args, size_t from, size_t to)
{
    const hdl_add_row_args *a = args;
    for (size_t t = from; t < to; t++) {
        float *x = a->x + t * a->dim;
        uint32_t i = 0;
        for (; i + HDL_LANES <= a->dim; i += HDL_LANES)
            v16_store(x + i, v16_add(v16_load(x + i), v16_load(a->row + i)));
        for (; i < a->dim; i++)
            x[i] += a->row[i];
    }
}

void HDL_ISA_NAME(add_row)(const hdl_add_row_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 16384 / a->dim + 1, add_tokens, a);
}
