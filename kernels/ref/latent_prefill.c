/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/kv_fp8.h"
#include "kernels/ref/ref.h"

/* One row and head: what attention sees of it. Keys and values have `dim` numbers, zeros behind
 * their own. */
typedef struct expanded {
    const hdl_latent_prefill_args *a;
    const hdl_attn_row *row;
    uint32_t head, dim, len; /* len: positions of the row */
    float *q, *out;          /* [n_tokens of the row, dim] */
    uint16_t *latent;        /* [rank + rope_dim] of a position */
    uint16_t *k, *v;         /* [len rounded up to blocks, dim] */
    uint32_t *table;
} expanded;

static void load_latent(const expanded *e, uint32_t pos)
{
    const hdl_kv_view *kv = &e->a->kv;
    uint32_t block = e->row->table[pos / kv->block_tokens], at = pos % kv->block_tokens;
    HDL_ASSERT_LT(block, kv->n_blocks);
    if (kv->type == HDL_KV_FP8)
        hdl_fp8_load_row(kv->k8 + hdl_kv8_tile_at(kv, block, 0, at), kv->head_dim, at, e->latent);
    else
        memcpy(e->latent, kv->k + ((size_t)block * kv->block_tokens + at) * kv->head_dim,
               kv->head_dim * sizeof *e->latent);
}

/* The head's key and value of a position, in order of the rank. */
static void expand(const expanded *e, uint32_t pos)
{
    const hdl_latent_prefill_args *a = e->a;
    const uint16_t *k_b = a->k_b[e->head].data, *v_b = a->v_b[e->head].data;
    uint16_t *k = e->k + (size_t)pos * e->dim, *v = e->v + (size_t)pos * e->dim;
    for (uint32_t i = 0; i < a->nope_dim; i++) {
        float sum = 0;
        for (uint32_t r = 0; r < a->rank; r++)
            sum += hdl_bf16_to_f32(e->latent[r]) * hdl_bf16_to_f32(k_b[r * a->nope_dim + i]);
        k[i] = hdl_bf16_from_f32(sum);
    }
    memcpy(k + a->nope_dim, e->latent + a->rank, a->rope_dim * sizeof *k);
    for (uint32_t i = 0; i < a->v_dim; i++) {
        float sum = 0;
        for (uint32_t r = 0; r < a->rank; r++)
            sum += hdl_bf16_to_f32(e->latent[r]) * hdl_bf16_to_f32(v_b[i * a->rank + r]);
        v[i] = hdl_bf16_from_f32(sum);
    }
}

static void load_queries(const expanded *e)
{
    const hdl_latent_prefill_args *a = e->a;
    uint32_t row = a->rank + a->rope_dim, own = a->nope_dim + a->rope_dim;
    for (uint32_t i = 0; i < e->row->n_tokens; i++) {
        size_t token = e->row->token_at + i;
        float *q = e->q + (size_t)i * e->dim;
        memcpy(q, a->q + token * a->q_stride + (size_t)e->head * own, a->nope_dim * sizeof *q);
        memcpy(q + a->nope_dim, a->q_latent + (token * a->n_heads + e->head) * row + a->rank,
               a->rope_dim * sizeof *q);
    }
}

static void attend(const expanded *e, hdl_stream *stream)
{
    const hdl_latent_prefill_args *a = e->a;
    hdl_attn_row row = {.n_tokens = e->row->n_tokens, .pos = e->row->pos, .table = e->table};
    hdl_attention_args attention = {.q = e->q,
                                    .rows = &row,
                                    .n_rows = 1,
                                    .n_tokens = row.n_tokens,
                                    .n_heads = 1,
                                    .scale = a->scale,
                                    .kv = {.k = e->k,
                                           .v = e->v,
                                           .n_blocks = hdl_div_ceil_u32(e->len, HDL_ATTN_TILE),
                                           .n_kv_heads = 1,
                                           .block_tokens = HDL_ATTN_TILE,
                                           .head_dim = e->dim},
                                    .out = e->out};
    hdl_ref_attention(&attention, stream);
    for (uint32_t i = 0; i < row.n_tokens; i++)
        memcpy(a->out + ((size_t)(e->row->token_at + i) * a->n_heads + e->head) * a->v_dim,
               e->out + (size_t)i * e->dim, a->v_dim * sizeof *e->out);
}

static void *zeros(hdl_stream *stream, size_t count, size_t item)
{
    void *at = hdl_stream_take(stream, count, item);
    memset(at, 0, count * item);
    return at;
}

void hdl_ref_latent_prefill(const hdl_latent_prefill_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->kv.head_dim, a->rank + a->rope_dim);
    HDL_ASSERT(a->k_b->format == HDL_WFORMAT_BF16 && a->v_b->format == HDL_WFORMAT_BF16);
    uint32_t dim = hdl_latent_prefill_dim(a->nope_dim + a->rope_dim, a->v_dim);
    for (uint32_t r = 0; r < a->n_rows; r++) {
        size_t mark = hdl_stream_mark(stream);
        expanded e = {.a = a, .row = &a->rows[r], .dim = dim};
        e.len = e.row->pos + e.row->n_tokens;
        size_t n_blocks = hdl_div_ceil_u32(e.len, HDL_ATTN_TILE), places = n_blocks * HDL_ATTN_TILE;
        e.q = zeros(stream, (size_t)e.row->n_tokens * dim, sizeof *e.q);
        e.out = zeros(stream, (size_t)e.row->n_tokens * dim, sizeof *e.out);
        e.latent = zeros(stream, a->kv.head_dim, sizeof *e.latent);
        e.k = zeros(stream, places * dim, sizeof *e.k);
        e.v = zeros(stream, places * dim, sizeof *e.v);
        e.table = zeros(stream, n_blocks, sizeof *e.table);
        for (uint32_t i = 0; i < n_blocks; i++)
            e.table[i] = i;
        for (e.head = 0; e.head < a->n_heads; e.head++) {
            for (uint32_t pos = 0; pos < e.len; pos++) {
                load_latent(&e, pos);
                expand(&e, pos);
            }
            load_queries(&e);
            attend(&e, stream);
        }
        hdl_stream_release(stream, mark);
    }
}
