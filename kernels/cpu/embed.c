/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"
#include "kernels/cpu/source.h"

static void embed_tokens(const void *args, size_t from, size_t to)
{
    const hdl_embed_args *a = args;
    uint32_t hidden = a->table.n_cols;
    for (size_t t = from; t < to; t++) {
        HDL_ASSERT(a->ids[t] >= 0 && (uint32_t)a->ids[t] < a->table.n_rows);
        hdl_span row = {.row = (uint32_t)a->ids[t], .n = hidden};
        float *out = a->out + t * hidden;
        hdl_source_row(&a->table, row, out);
        if (a->scale != 0.0f)
            hdl_scale_span(out, a->scale, out, hidden);
    }
}

void HDL_ISA_NAME(embed)(const hdl_embed_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 8, embed_tokens, a);
}
