/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void embed_tokens(const void *args, size_t from, size_t to)
{
    const hdl_embed_args *a = args;
    int64_t vocab = a->table.shape[0];
    size_t hidden = (size_t)a->table.shape[1];
    size_t row_bytes = (size_t)a->table.stride[0] * hdl_dtype_bytes(a->table.dtype);
    for (size_t t = from; t < to; t++) {
        HDL_ASSERT(a->ids[t] >= 0 && a->ids[t] < vocab);
        const char *row = (const char *)a->table.data + (size_t)a->ids[t] * row_bytes;
        for (size_t i = 0; i < hidden; i++)
            a->out[t * hidden + i] = hdl_element(row, a->table.dtype, i);
    }
}

void hdl_ref_embed(const hdl_embed_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 1, embed_tokens, a);
}
