/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"

static void glu_range(const void *args, size_t from, size_t to)
{
    const hdl_glu_args *a = args;
    hdl_glu_act act = {a->kind, a->limit, a->alpha};
    size_t inter = a->inter;
    while (from < to) { /* elements of `out`, cut at the ends of tokens */
        size_t token = from / inter, i = from % inter, n = hdl_min_size(inter - i, to - from);
        const float *gate = a->gate_up + token * 2 * inter + i;
        hdl_glu_span(act, (hdl_glu_rows){gate, gate + inter, a->out + from, n});
        from += n;
    }
}

void HDL_ISA_NAME(glu)(const hdl_glu_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, (size_t)a->n_tokens * a->inter, 2048, glu_range, a);
}
