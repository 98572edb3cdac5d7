/* SPDX-License-Identifier: Apache-2.0 */
/* x += o_proj(latent attention(norm(x))). Multi-head latent attention (DeepSeek-V2, arXiv
 * 2405.04434, section 2.1) over a cache of one latent row a token, which every rank holds whole;
 * heads are shared by the tp ranks.
 *
 * Absorbed: q.k = (q W_uk).c, and the result of a head is W_uv (sum of weights * c), where c
 * is the latent. The other form makes each head's keys and values from the latents; it multiplies
 * less in a long prefill (192 + 128 instead of 576 + 512 per query, head and key), but rounds
 * differently, so a token's bits would depend on whether it came in a prefill or in a decode step
 * (N1, N3). In `fast`, which promises no bits, steps of long rows take it. */
#include "worker/model/forward.h"

/* The queries of all heads, [n_tokens, n_heads, nope_dim + rope_dim] rows `stride` apart. */
typedef struct queries {
    float *q;
    size_t stride;
} queries;

static queries project(hdl_forward *f, const hdl_mla_layer *w, const float *in, uint32_t n)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    hdl_forward_linear(f, &w->a, (hdl_forward_io){.in = in, .out = f->qkv, .n_tokens = n});
    if (d->q_rank == 0)
        return (queries){f->qkv, w->a.n};
    hdl_rms_norm_args norm = {.x = f->qkv,
                              .w = w->q_a_norm,
                              .out = f->qkv,
                              .x_stride = w->a.n,
                              .out_stride = w->a.n,
                              .n_tokens = n,
                              .dim = d->q_rank,
                              .eps = d->norm_eps};
    m->ops->rms_norm(&norm, f->stream);
    hdl_linear_args b = {.x = f->qkv,
                         .x_stride = w->a.n,
                         .w = &w->q_b,
                         .y = f->q,
                         .y_stride = w->q_b.n,
                         .n_tokens = n};
    m->ops->linear(&b, f->stream);
    return (queries){f->q, w->q_b.n};
}

/* Making a key and a value of a head costs rank (nope + v) products, as much as some 170 tokens
 * save on them. */
enum { EXPAND_TOKENS = 256 };

static bool expands(const hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    const hdl_mla_layer *w = &m->layers[layer].mla;
    const hdl_ops_limits *l = &m->ops->limits;
    if (!f->fast || t->row_least < EXPAND_TOKENS || t->n_keys > HDL_LATENT_PREFILL_KEYS)
        return false;
    if (w->k_b->format != HDL_WFORMAT_BF16 || w->v_b->format != HDL_WFORMAT_BF16)
        return false;
    return hdl_max_u32(d->nope_dim, d->v_dim) <= l->latent_prefill_dim &&
           d->rope_dim <= l->latent_prefill_rope && d->nope_dim % 2 == 0 && d->v_dim % 2 == 0;
}

/* The latent row of each token goes into the cache, the rotated parts of queries into q_latent. */
static void store(hdl_forward *f, const hdl_tokens *t, uint32_t layer, queries q)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    const hdl_layer_desc *ld = &m->desc->layers[layer];
    const hdl_mla_layer *w = &m->layers[layer].mla;
    uint32_t n_heads = m->shard.n_heads, row = d->kv_rank + d->rope_dim;
    hdl_latent_rope_args rope = {.kv = f->qkv + (w->a.n - row),
                                 .kv_stride = w->a.n,
                                 .kv_norm = w->kv_a_norm,
                                 .norm_eps = d->norm_eps,
                                 .q = q.q,
                                 .q_stride = q.stride,
                                 .q_scale = ld->q_temp ? m->q_temp : NULL,
                                 .rope_cos = m->rope_cos[ld->rope],
                                 .rope_sin = m->rope_sin[ld->rope],
                                 .interleaved = m->desc->ropes[ld->rope].interleaved,
                                 .n_heads = n_heads,
                                 .nope_dim = d->nope_dim,
                                 .rope_dim = d->rope_dim,
                                 .rank = d->kv_rank,
                                 .rows = t->rows[ld->cache_group],
                                 .n_rows = t->n_rows,
                                 .n_tokens = t->n_tokens,
                                 .kv_cache =
                                     hdl_kvstore_view(f->kv, ld->cache_group, ld->cache_layer),
                                 .q_latent = f->q_latent};
    m->ops->latent_rope(&rope, f->stream);
}

static void expand(hdl_forward *f, const hdl_tokens *t, uint32_t layer, queries q)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    const hdl_layer_desc *ld = &m->desc->layers[layer];
    hdl_latent_prefill_args args = {.q = q.q,
                                    .q_stride = q.stride,
                                    .q_latent = f->q_latent,
                                    .k_b = m->layers[layer].mla.k_b,
                                    .v_b = m->layers[layer].mla.v_b,
                                    .n_heads = m->shard.n_heads,
                                    .nope_dim = d->nope_dim,
                                    .rope_dim = d->rope_dim,
                                    .rank = d->kv_rank,
                                    .v_dim = d->v_dim,
                                    .scale = m->desc->attn_scale,
                                    .rows = t->rows[ld->cache_group],
                                    .n_rows = t->n_rows,
                                    .n_tokens = t->n_tokens,
                                    .n_keys = (uint32_t)t->n_keys,
                                    .kv = hdl_kvstore_view(f->kv, ld->cache_group, ld->cache_layer),
                                    .out = f->attn};
    m->ops->latent_prefill(&args, f->stream);
}

/* The queries go into the latents' space. */
static void absorb(hdl_forward *f, const hdl_tokens *t, uint32_t layer, queries q)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    const hdl_mla_layer *w = &m->layers[layer].mla;
    uint32_t n_heads = m->shard.n_heads, row = d->kv_rank + d->rope_dim;
    hdl_linear_heads_args k_b = {.x = q.q,
                                 .x_stride = q.stride,
                                 .x_head = d->nope_dim + d->rope_dim,
                                 .w = w->k_b,
                                 .y = f->q_latent,
                                 .y_stride = (size_t)n_heads * row,
                                 .y_head = row,
                                 .n_heads = n_heads,
                                 .n_tokens = t->n_tokens};
    m->ops->linear_heads(&k_b, f->stream);
}

/* Attention over the latents, and each head's values of its result. */
static void attend(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_mla_desc *d = &m->desc->mla;
    const hdl_layer_desc *ld = &m->desc->layers[layer];
    uint32_t n_heads = m->shard.n_heads;
    hdl_attention_args attention = {.q = f->q_latent,
                                    .rows = t->rows[ld->cache_group],
                                    .n_rows = t->n_rows,
                                    .n_tokens = t->n_tokens,
                                    .n_heads = n_heads,
                                    .scale = m->desc->attn_scale,
                                    .latent = d->kv_rank,
                                    .kv = hdl_kvstore_view(f->kv, ld->cache_group, ld->cache_layer),
                                    .out = f->latent};
    m->ops->attention(&attention, f->stream);
    hdl_linear_heads_args v_b = {.x = f->latent,
                                 .x_stride = (size_t)n_heads * d->kv_rank,
                                 .x_head = d->kv_rank,
                                 .w = m->layers[layer].mla.v_b,
                                 .y = f->attn,
                                 .y_stride = (size_t)n_heads * d->v_dim,
                                 .y_head = d->v_dim,
                                 .n_heads = n_heads,
                                 .n_tokens = t->n_tokens};
    m->ops->linear_heads(&v_b, f->stream);
}

hdl_err hdl_block_mla(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_layer *w = &f->model->layers[layer];
    uint32_t n = t->n_tokens;
    const float *in = hdl_forward_enter(f, w->attn_norm, n);
    queries q = project(f, &w->mla, in, n);
    store(f, t, layer, q);
    if (expands(f, t, layer)) {
        expand(f, t, layer, q);
    } else {
        absorb(f, t, layer, q);
        attend(f, t, layer);
    }
    hdl_forward_linear(f, &w->o, (hdl_forward_io){.in = f->attn, .out = f->h, .n_tokens = n});
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.tp, f->h, (size_t)n * f->model->desc->hidden));
    hdl_forward_join(f, NULL, w->attn_post_norm, n);
    return HDL_OK;
}
