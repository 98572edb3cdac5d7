/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

/* HF's rotate_half: pairs are i and i + rope_dim / 2; interleaved (Llama's own order): 2i and
 * 2i + 1. */
static void rotate(const hdl_qkv_rope_args *a, uint32_t pos, float *x)
{
    uint32_t half = a->rope_dim / 2, apart = a->interleaved ? 1 : half;
    const float *cosine = a->rope_cos + (size_t)pos * half;
    const float *sine = a->rope_sin + (size_t)pos * half;
    for (uint32_t i = 0; i < half; i++) {
        float *pair = x + (a->interleaved ? 2 * i : i), lo = pair[0], hi = pair[apart];
        pair[0] = lo * cosine[i] - hi * sine[i];
        pair[apart] = hi * cosine[i] + lo * sine[i];
    }
}

/* Norm (w not NULL, or after the rotation) and rotation of one head, in place. */
static void head(const hdl_qkv_rope_args *a, const float *w, uint32_t pos, float *x)
{
    uint32_t dim = a->kv.head_dim;
    if (w) {
        float scale = hdl_rms_scale(x, dim, a->norm_eps);
        for (uint32_t i = 0; i < dim; i++)
            x[i] = x[i] * scale * w[i];
    }
    if (a->rope_dim > 0)
        rotate(a, pos, x);
    if (a->l2_after) {
        float scale = hdl_rms_scale(x, dim, a->norm_eps);
        for (uint32_t i = 0; i < dim; i++)
            x[i] *= scale;
    }
}

static void one_token(const hdl_qkv_rope_args *a, const hdl_attn_row *row, uint32_t idx)
{
    uint32_t dim = a->kv.head_dim, pos = row->pos + idx, n_kv = a->kv.n_kv_heads;
    size_t token = row->token_at + idx;
    size_t stride = a->qkv_stride ? a->qkv_stride : (a->n_heads + 2 * (size_t)n_kv) * dim;
    const float *qkv = a->qkv + token * stride;
    const float *k = qkv + (size_t)a->n_heads * dim, *v = k + (size_t)n_kv * dim;
    float *q = a->q + token * a->n_heads * dim;
    memcpy(q, qkv, (size_t)a->n_heads * dim * sizeof *q);
    for (uint32_t h = 0; h < a->n_heads; h++)
        head(a, a->q_norm, pos, q + (size_t)h * dim);
    for (uint32_t i = 0; a->q_scale && i < a->n_heads * dim; i++)
        q[i] *= a->q_scale[pos];

    uint32_t block = row->table[pos / a->kv.block_tokens];
    HDL_ASSERT_LT(block, a->kv.n_blocks);
    for (uint32_t h = 0; h < n_kv; h++) {
        float key[HDL_HEAD_DIM_MAX];
        memcpy(key, k + (size_t)h * dim, dim * sizeof *key);
        head(a, a->k_norm, pos, key);
        size_t at =
            (((size_t)block * n_kv + h) * a->kv.block_tokens + pos % a->kv.block_tokens) * dim;
        for (uint32_t i = 0; i < dim; i++) {
            a->kv.k[at + i] = hdl_bf16_from_f32(key[i]);
            a->kv.v[at + i] = hdl_bf16_from_f32(v[(size_t)h * dim + i]);
        }
    }
}

static void rope_rows(const void *args, size_t from, size_t to)
{
    const hdl_qkv_rope_args *a = args;
    for (size_t r = from; r < to; r++)
        for (uint32_t i = 0; i < a->rows[r].n_tokens; i++)
            one_token(a, &a->rows[r], i);
}

void hdl_ref_qkv_rope(const hdl_qkv_rope_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    hdl_stream_for(stream, a->n_rows, 1, rope_rows, a);
}
