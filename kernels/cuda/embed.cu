/* SPDX-License-Identifier: Apache-2.0 */
/* out[t] = table[ids[t]] (* scale): a block for each token.
 *
 * The table lies on the device, row-major, in F32, F16 or BF16: the loader turns other encodings
 * into F32. Roof: memory. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) embed(hdl_embed_args a)
{
    size_t t = gpu_block_x();
    const hdl_source *s = &a.table;
    const unsigned char *row =
        (const unsigned char *)s->codes.data + (s->row_at + (size_t)a.ids[t]) * s->codes.row_step;
    float *out = a.out + t * s->n_cols;
    for (uint32_t i = gpu_thread(); i < s->n_cols; i += gpu_threads()) {
        size_t at = s->col_at + i;
        float x;
        if (s->encoding == HDL_ENC_F32)
            x = ((const float *)row)[at];
        else if (s->encoding == HDL_ENC_F16)
            x = hdl_f16_to_f32(((const uint16_t *)row)[at]);
        else
            x = hdl_bf16_to_f32(((const uint16_t *)row)[at]);
        out[i] = a.scale != 0 ? x * a.scale : x;
    }
}

void hdl_cuda_embed(const hdl_embed_args *a, hdl_stream *stream)
{
    gpu_grid g;
    hdl_enc enc = a->table.encoding;
    int64_t item = enc == HDL_ENC_F32 ? 4 : 2;
    HDL_ASSERT(enc == HDL_ENC_F32 || enc == HDL_ENC_F16 || enc == HDL_ENC_BF16);
    HDL_ASSERT(!a->table.by_columns && a->table.codes.col_step == item);
    HDL_ASSERT_EQ(a->table.tiles.each, 0);
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->table.n_cols);
    GPU_LAUNCH(stream, g, embed, *a);
}
