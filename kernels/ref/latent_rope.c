/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/kv_fp8.h"
#include "kernels/ref/ref.h"

/* x[rope_dim] turned by the angles of a position, each pair in its place. */
static void rotate(const hdl_latent_rope_args *a, uint32_t pos, const float *x, float *out)
{
    uint32_t half = a->rope_dim / 2;
    const float *cosine = a->rope_cos + (size_t)pos * half;
    const float *sine = a->rope_sin + (size_t)pos * half;
    for (uint32_t i = 0; i < half; i++) {
        uint32_t first = a->interleaved ? 2 * i : i, second = a->interleaved ? 2 * i + 1 : i + half;
        float lo = x[first], hi = x[second];
        out[first] = lo * cosine[i] - hi * sine[i];
        out[second] = hi * cosine[i] + lo * sine[i];
    }
}

static void store_row(const hdl_latent_rope_args *a, const hdl_attn_row *row, uint32_t idx)
{
    uint32_t pos = row->pos + idx, block = row->table[pos / a->kv_cache.block_tokens];
    const float *kv = a->kv + (row->token_at + idx) * a->kv_stride;
    float key[HDL_HEAD_DIM_MAX], scale = hdl_rms_scale(kv, a->rank, a->norm_eps);
    HDL_ASSERT_LT(block, a->kv_cache.n_blocks);
    for (uint32_t i = 0; i < a->rank; i++)
        key[i] = kv[i] * scale * a->kv_norm[i];
    rotate(a, pos, kv + a->rank, key + a->rank);
    uint32_t in_block = pos % a->kv_cache.block_tokens;
    if (a->kv_cache.type == HDL_KV_FP8) {
        size_t tile = hdl_kv8_tile_at(&a->kv_cache, block, 0, in_block);
        hdl_fp8_store_row(a->kv_cache.k8 + tile, a->kv_cache.head_dim, in_block, key);
        return;
    }
    size_t at = ((size_t)block * a->kv_cache.block_tokens + in_block) * a->kv_cache.head_dim;
    for (uint32_t i = 0; i < a->kv_cache.head_dim; i++)
        a->kv_cache.k[at + i] = hdl_bf16_from_f32(key[i]);
}

static void turn_queries(const hdl_latent_rope_args *a, const hdl_attn_row *row, uint32_t idx)
{
    uint32_t pos = row->pos + idx, dim = a->nope_dim + a->rope_dim;
    size_t token = row->token_at + idx;
    for (uint32_t h = 0; h < a->n_heads; h++) {
        float *q = a->q + token * a->q_stride + (size_t)h * dim;
        float *out = a->q_latent + (token * a->n_heads + h) * a->kv_cache.head_dim + a->rank;
        for (uint32_t i = 0; a->q_scale && i < dim; i++)
            q[i] *= a->q_scale[pos];
        rotate(a, pos, q + a->nope_dim, out);
    }
}

static void rope_rows(const void *args, size_t from, size_t to)
{
    const hdl_latent_rope_args *a = args;
    for (size_t r = from; r < to; r++)
        for (uint32_t i = 0; i < a->rows[r].n_tokens; i++) {
            store_row(a, &a->rows[r], i);
            turn_queries(a, &a->rows[r], i);
        }
}

void hdl_ref_latent_rope(const hdl_latent_rope_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv_cache.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_EQ(a->kv_cache.head_dim, a->rank + a->rope_dim);
    hdl_stream_for(stream, a->n_rows, 1, rope_rows, a);
}
