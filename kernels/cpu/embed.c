/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

static v16 load(const unsigned char *row, hdl_dtype dtype, size_t i)
{
    if (dtype == HDL_DTYPE_F32)
        return v16_load((const float *)(const void *)row + i);
    const uint16_t *h = (const uint16_t *)(const void *)row + i;
    return dtype == HDL_DTYPE_F16 ? v16_load_f16(h) : v16_load_bf16(h);
}

static void embed_tokens(const void *args, size_t from, size_t to)
{
    const hdl_embed_args *a = args;
    size_t hidden = (size_t)a->table.shape[1];
    size_t row_bytes = (size_t)a->table.stride[0] * hdl_dtype_bytes(a->table.dtype);
    for (size_t t = from; t < to; t++) {
        HDL_ASSERT(a->ids[t] >= 0 && a->ids[t] < a->table.shape[0]);
        const unsigned char *row =
            (const unsigned char *)a->table.data + (size_t)a->ids[t] * row_bytes;
        float *out = a->out + t * hidden;
        size_t i = 0;
        for (; i + HDL_LANES <= hidden; i += HDL_LANES)
            v16_store(out + i, load(row, a->table.dtype, i));
        for (; i < hidden; i++)
            out[i] = hdl_element(row, a->table.dtype, i);
    }
}

void HDL_ISA_NAME(embed)(const hdl_embed_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n_tokens, 8, embed_tokens, a);
}
