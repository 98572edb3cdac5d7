/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"

static void gate_span(float *x, const float *gate, uint32_t n)
{
    uint32_t i = 0;
    for (; i + HDL_LANES <= n; i += HDL_LANES)
        v16_store(x + i, v16_mul(v16_load(x + i), v16_sigmoid(v16_load(gate + i))));
    for (; i < n; i++)
        x[i] *= hdl_sigmoid(gate[i]);
}

static void gate_tokens(const void *args, size_t from, size_t to)
{
    const hdl_gate_args *a = args;
    for (size_t t = from; t < to; t++) {
        const float *gate = a->gate + t * a->gate_stride;
        float *x = a->x + t * a->dim;
        if (a->gate_dim == 1)
            hdl_scale_span(x, hdl_sigmoid(gate[0]), x, a->dim);
        else
            gate_span(x, gate, a->dim);
    }
}

void HDL_ISA_NAME(gate)(const hdl_gate_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->gate_dim == 1 || a->gate_dim == a->dim);
    hdl_stream_for(stream, a->n_tokens, 4096 / a->dim + 1, gate_tokens, a);
}
