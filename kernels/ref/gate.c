/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void gate_tokens(const void *args, size_t from, size_t to)
{
    const hdl_gate_args *a = args;
    for (size_t t = from; t < to; t++) {
        const float *gate = a->gate + t * a->gate_stride;
        float *x = a->x + t * a->dim;
        for (uint32_t i = 0; i < a->dim; i++)
            x[i] *= hdl_sigmoid(gate[a->gate_dim == 1 ? 0 : i]);
    }
}

void hdl_ref_gate(const hdl_gate_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->gate_dim == 1 || a->gate_dim == a->dim);
    hdl_stream_for(stream, a->n_tokens, 1, gate_tokens, a);
}
