/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void glu_tokens(const void *args, size_t from, size_t to)
{
    const hdl_glu_args *a = args;
    hdl_glu_act act = {a->kind, a->limit, a->alpha};
    for (size_t t = from; t < to; t++) {
        const float *gate = a->gate_up + t * 2 * a->inter, *up = gate + a->inter;
        for (uint32_t i = 0; i < a->inter; i++)
            a->out[t * a->inter + i] = hdl_glu(act, gate[i], up[i]);
    }
}

void hdl_ref_glu(const hdl_glu_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 1, glu_tokens, a);
}
