/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/rowwise.h"
#include "kernels/kv_fp8.h"

typedef struct head_to {
    uint32_t pos;
    float *out; /* [head_dim]; may be x */
} head_to;

/* Norm (w not NULL, or after the rotation) and rotation of one head. */
static void head(const hdl_qkv_rope_args *a, const float *w, const float *x, head_to to)
{
    uint32_t dim = a->kv.head_dim, half = a->rope_dim / 2;
    if (w)
        hdl_norm_span(x, (hdl_norm_by){w, v16_rms_scale(x, dim, a->norm_eps)}, to.out, dim);
    else
        memcpy(to.out, x, dim * sizeof *to.out);
    if (half > 0) {
        hdl_angles at = {.cosine = a->rope_cos + (size_t)to.pos * half,
                         .sine = a->rope_sin + (size_t)to.pos * half,
                         .half = half,
                         .interleaved = a->interleaved};
        hdl_rotate_span(at, to.out);
    }
    if (a->l2_after)
        hdl_scale_span(to.out, v16_rms_scale(to.out, dim, a->norm_eps), to.out, dim);
}

/* Codes of -127..127; returns the scale (ref: int8_scale, hdl_q8_round). */
static float make_int8(const float *x, uint32_t dim, uint8_t *code)
{
    v16i bits = v16i_set1(0);
    uint32_t i = 0, max;
    for (; i + HDL_LANES <= dim; i += HDL_LANES)
        bits = v16i_max(bits, v16i_and(v16_bits(v16_load(x + i)), v16i_set1(0x7fffffff)));
    max = (uint32_t)v16i_fold_max(bits);
    for (; i < dim; i++)
        max = hdl_max_u32(max, hdl_f32_bits(x[i]) & 0x7fffffffu);
    float scale = hdl_f32_from_bits(max) / 127.0f;
    v16 by = v16_set1(scale);
    for (i = 0; scale != 0.0f && i + HDL_LANES <= dim; i += HDL_LANES) {
        v16 q = v16_int8_clamp(v16_div(v16_load(x + i), by));
        v16i_store_u8(code + i, v16_to_i32(q));
    }
    for (; i < dim; i++)
        code[i] = (uint8_t)hdl_q8_round(x[i], scale);
    return scale;
}

typedef struct kv_place {
    uint32_t block, head, at; /* token of the block */
} kv_place;

static void store_int8(const hdl_kv_view *kv, kv_place p, const float *k, const float *v)
{
    uint32_t dim = kv->head_dim;
    uint8_t code[HDL_HEAD_DIM_MAX];
    size_t tile = hdl_kv8_tile_at(kv, p.block, p.head, p.at);
    float scale = make_int8(k, dim, code);
    for (uint32_t i = 0; i < dim; i += 2)
        memcpy(kv->k8 + tile + hdl_kv8_k_at(p.at, i), code + i, 2);
    memcpy(kv->k8 + tile + hdl_kv8_scale_at(dim, p.at), &scale, sizeof scale);
    scale = make_int8(v, dim, code);
    unsigned char *to = kv->v8 + tile + hdl_kv8_v_at(dim, p.at, 0);
    for (uint32_t i = 0; i < dim; i++)
        to[2 * (size_t)i] = code[i];
    memcpy(kv->v8 + tile + hdl_kv8_scale_at(dim, p.at), &scale, sizeof scale);
}

static void store_fp8(const hdl_kv_view *kv, kv_place p, const float *k, const float *v)
{
    size_t tile = hdl_kv8_tile_at(kv, p.block, p.head, p.at);
    hdl_fp8_store_row(kv->k8 + tile, kv->head_dim, p.at, k);
    hdl_fp8_store_row(kv->v8 + tile, kv->head_dim, p.at, v);
}

static void store_bf16(const hdl_kv_view *kv, kv_place p, const float *k, const float *v)
{
    size_t token = ((size_t)p.block * kv->n_kv_heads + p.head) * kv->block_tokens + p.at;
    hdl_store_bf16_span(k, kv->k + token * kv->head_dim, kv->head_dim);
    hdl_store_bf16_span(v, kv->v + token * kv->head_dim, kv->head_dim);
}

static void one_token(const hdl_qkv_rope_args *a, const hdl_attn_row *row, uint32_t idx)
{
    uint32_t dim = a->kv.head_dim, pos = row->pos + idx, n_kv = a->kv.n_kv_heads;
    size_t token = row->token_at + idx;
    size_t stride = a->qkv_stride ? a->qkv_stride : (a->n_heads + 2 * (size_t)n_kv) * dim;
    const float *qkv = a->qkv + token * stride;
    const float *k = qkv + (size_t)a->n_heads * dim, *v = k + (size_t)n_kv * dim;
    float *q = a->q + token * a->n_heads * dim;
    for (uint32_t h = 0; h < a->n_heads; h++)
        head(a, a->q_norm, qkv + (size_t)h * dim, (head_to){pos, q + (size_t)h * dim});
    if (a->q_scale)
        hdl_scale_span(q, a->q_scale[pos], q, (size_t)a->n_heads * dim);

    uint32_t block = row->table[pos / a->kv.block_tokens];
    HDL_ASSERT_LT(block, a->kv.n_blocks);
    float key[HDL_HEAD_DIM_MAX];
    for (uint32_t h = 0; h < n_kv; h++) {
        kv_place place = {block, h, pos % a->kv.block_tokens};
        head(a, a->k_norm, k + (size_t)h * dim, (head_to){pos, key});
        if (a->kv.type == HDL_KV_INT8)
            store_int8(&a->kv, place, key, v + (size_t)h * dim);
        else if (a->kv.type == HDL_KV_FP8)
            store_fp8(&a->kv, place, key, v + (size_t)h * dim);
        else
            store_bf16(&a->kv, place, key, v + (size_t)h * dim);
    }
}

/* Tokens [from, to), counted through the rows in their order. */
static void rope_tokens(const void *args, size_t from, size_t to)
{
    const hdl_qkv_rope_args *a = args;
    size_t before = 0;
    for (uint32_t r = 0; r < a->n_rows && before < to; before += a->rows[r++].n_tokens) {
        const hdl_attn_row *row = &a->rows[r];
        size_t first = from > before ? from - before : 0;
        for (size_t i = first; i < hdl_min_size(row->n_tokens, to - before); i++)
            one_token(a, row, (uint32_t)i);
    }
}

void HDL_ISA_NAME(qkv_rope)(const hdl_qkv_rope_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->kv.head_dim, HDL_HEAD_DIM_MAX);
    HDL_ASSERT_LE(a->rope_dim, a->kv.head_dim);
    size_t token = ((size_t)a->n_heads + 2 * a->kv.n_kv_heads) * a->kv.head_dim;
    hdl_stream_for(stream, a->n_tokens, 8192 / token + 1, rope_tokens, a);
}
