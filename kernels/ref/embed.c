/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void embed_tokens(const void *args, size_t from, size_t to)
{
    const hdl_embed_args *a = args;
    uint32_t hidden = a->table.n_cols;
    for (size_t t = from; t < to; t++) {
        HDL_ASSERT(a->ids[t] >= 0 && (uint32_t)a->ids[t] < a->table.n_rows);
        hdl_span row = {.row = (uint32_t)a->ids[t], .n = hidden};
        float *out = a->out + t * hidden;
        hdl_source_values(&a->table, row, out);
        for (uint32_t i = 0; a->scale != 0.0f && i < hidden; i++)
            out[i] *= a->scale;
    }
}

void hdl_ref_embed(const hdl_embed_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 1, embed_tokens, a);
}
