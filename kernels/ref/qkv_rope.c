/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/kv_fp8.h"
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

/* k and v of one head, into place `at` of a block. */
typedef struct kv_store {
    uint32_t block, head, at;
    const float *k, *v; /* [head_dim] */
} kv_store;

static void store_bf16(const hdl_kv_view *kv, kv_store s)
{
    uint32_t dim = kv->head_dim;
    size_t at = (((size_t)s.block * kv->n_kv_heads + s.head) * kv->block_tokens + s.at) * dim;
    for (uint32_t i = 0; i < dim; i++) {
        kv->k[at + i] = hdl_bf16_from_f32(s.k[i]);
        kv->v[at + i] = hdl_bf16_from_f32(s.v[i]);
    }
}

static float int8_scale(const float *x, uint32_t dim)
{
    float max = 0;
    for (uint32_t i = 0; i < dim; i++)
        max = hdl_absmax(max, x[i]);
    return max / 127.0f;
}

static void store_int8(const hdl_kv_view *kv, kv_store s)
{
    uint32_t dim = kv->head_dim;
    size_t tile = hdl_kv8_tile_at(kv, s.block, s.head, s.at);
    unsigned char *k = kv->k8 + tile, *v = kv->v8 + tile;
    float k_scale = int8_scale(s.k, dim), v_scale = int8_scale(s.v, dim);
    for (uint32_t i = 0; i < dim; i++) {
        k[hdl_kv8_k_at(s.at, i)] = (unsigned char)hdl_q8_round(s.k[i], k_scale);
        v[hdl_kv8_v_at(dim, s.at, i)] = (unsigned char)hdl_q8_round(s.v[i], v_scale);
    }
    memcpy(k + hdl_kv8_scale_at(dim, s.at), &k_scale, sizeof k_scale);
    memcpy(v + hdl_kv8_scale_at(dim, s.at), &v_scale, sizeof v_scale);
}

static void store_fp8(const hdl_kv_view *kv, kv_store s)
{
    size_t tile = hdl_kv8_tile_at(kv, s.block, s.head, s.at);
    hdl_fp8_store_row(kv->k8 + tile, kv->head_dim, s.at, s.k);
    hdl_fp8_store_row(kv->v8 + tile, kv->head_dim, s.at, s.v);
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
        kv_store s = {block, h, pos % a->kv.block_tokens, key, v + (size_t)h * dim};
        if (a->kv.type == HDL_KV_INT8)
            store_int8(&a->kv, s);
        else if (a->kv.type == HDL_KV_FP8)
            store_fp8(&a->kv, s);
        else
            store_bf16(&a->kv, s);
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
