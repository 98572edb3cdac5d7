/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"
#include "kernels/kv_fp8.h"

static hdl_angles angles_at(const hdl_latent_rope_args *a, uint32_t pos)
{
    uint32_t half = a->rope_dim / 2;
    return (hdl_angles){.cosine = a->rope_cos + (size_t)pos * half,
                        .sine = a->rope_sin + (size_t)pos * half,
                        .half = half,
                        .interleaved = a->interleaved};
}

static void store_row(const hdl_latent_rope_args *a, const hdl_attn_row *row, uint32_t idx)
{
    uint32_t pos = row->pos + idx, block = row->table[pos / a->kv_cache.block_tokens];
    const float *kv = a->kv + (row->token_at + idx) * a->kv_stride;
    float key[HDL_HEAD_DIM_MAX];
    HDL_ASSERT_LT(block, a->kv_cache.n_blocks);
    hdl_norm_by by = {a->kv_norm, v16_rms_scale(kv, a->rank, a->norm_eps)};
    hdl_norm_span(kv, by, key, a->rank);
    memcpy(key + a->rank, kv + a->rank, a->rope_dim * sizeof *key);
    hdl_rotate_span(angles_at(a, pos), key + a->rank);
    uint32_t in_block = pos % a->kv_cache.block_tokens;
    if (a->kv_cache.type == HDL_KV_FP8) {
        size_t tile = hdl_kv8_tile_at(&a->kv_cache, block, 0, in_block);
        hdl_fp8_store_row(a->kv_cache.k8 + tile, a->kv_cache.head_dim, in_block, key);
        return;
    }
    size_t at = (size_t)block * a->kv_cache.block_tokens + in_block;
    hdl_store_bf16_span(key, a->kv_cache.k + at * a->kv_cache.head_dim, a->kv_cache.head_dim);
}

static void turn_query(const hdl_latent_rope_args *a, const hdl_attn_row *row, uint32_t idx,
                       uint32_t head)
{
    uint32_t pos = row->pos + idx, dim = a->nope_dim + a->rope_dim;
    size_t token = row->token_at + idx;
    float *q = a->q + token * a->q_stride + (size_t)head * dim;
    float *out = a->q_latent + (token * a->n_heads + head) * a->kv_cache.head_dim + a->rank;
    if (a->q_scale)
        hdl_scale_span(q, a->q_scale[pos], q, dim);
    memcpy(out, q + a->nope_dim, a->rope_dim * sizeof *out);
    hdl_rotate_span(angles_at(a, pos), out);
}

/* Tokens [from, to), counted through the rows in their order. */
static void rope_tokens(const void *args, size_t from, size_t to)
{
    const hdl_latent_rope_args *a = args;
    size_t before = 0;
    for (uint32_t r = 0; r < a->n_rows && before < to; before += a->rows[r++].n_tokens) {
        const hdl_attn_row *row = &a->rows[r];
        size_t first = from > before ? from - before : 0;
        for (size_t i = first; i < hdl_min_size(row->n_tokens, to - before); i++) {
            store_row(a, row, (uint32_t)i);
            for (uint32_t h = 0; h < a->n_heads; h++)
                turn_query(a, row, (uint32_t)i, h);
        }
    }
}

void HDL_ISA_NAME(latent_rope)(const hdl_latent_rope_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv_cache.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->kv_cache.head_dim, a->rank + a->rope_dim);
    size_t token = a->kv_cache.head_dim + (size_t)a->n_heads * a->rope_dim;
    hdl_stream_for(stream, a->n_tokens, 8192 / token + 1, rope_tokens, a);
}
