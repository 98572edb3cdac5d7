/* SPDX-License-Identifier: Apache-2.0 */
/* x += o_proj(attention(norm(x))). Grouped-query attention over the paged cache; heads are shared
 * by the tp ranks, o_proj is row-parallel. The optional parts (biases, norms over whole
 * projections, output gate, norms around o_proj) are what the description asks for. */
#include "worker/model/forward.h"

static uint32_t q_dim(const hdl_model *m) { return m->shard.n_heads * m->desc->head_dim; }
static uint32_t kv_dim(const hdl_model *m) { return m->shard.n_kv_heads * m->desc->head_dim; }

/* RMS norms over all heads' queries and all heads' keys. */
static hdl_err projection_norms(hdl_forward *f, const hdl_layer *w, uint32_t n_tokens)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *d = m->desc;
    hdl_shared_norm norm = {.x = f->qkv,
                            .w = w->q_norm,
                            .stride = w->qkv.n,
                            .dim = q_dim(m),
                            .own = q_dim(m),
                            .whole = d->n_heads * d->head_dim,
                            .n_leaves = m->shard.o_leaves,
                            .n_tokens = n_tokens};
    HDL_TRY(hdl_forward_shared_norm(f, norm));
    norm.x += q_dim(m);
    norm.w = w->k_norm;
    norm.dim = kv_dim(m);
    norm.whole = d->n_kv_heads * d->head_dim;
    norm.own = norm.whole / m->shard.tp; /* less than dim where ranks hold the same head */
    norm.own_at = m->shard.tp_idx * norm.own - m->shard.kv_head_at * d->head_dim;
    norm.n_leaves = m->shard.kv_leaves;
    return hdl_forward_shared_norm(f, norm);
}

static void rope(hdl_forward *f, const hdl_tokens *t, uint32_t layer, hdl_kv_view kv)
{
    const hdl_model *m = f->model;
    const hdl_layer_desc *ld = &m->desc->layers[layer];
    const hdl_layer *w = &m->layers[layer];
    bool by_head = m->desc->qk_norm == HDL_QK_NORM_HEAD, rotated = ld->rope != HDL_ROPE_NONE;
    hdl_qkv_rope_args args = {.qkv = f->qkv,
                              .q_norm = by_head ? w->q_norm : NULL,
                              .k_norm = by_head ? w->k_norm : NULL,
                              .l2_after = rotated && m->desc->qk_norm == HDL_QK_NORM_L2_AFTER,
                              .norm_eps = m->desc->norm_eps,
                              .q_scale = ld->q_temp ? m->q_temp : NULL,
                              .qkv_stride = w->qkv.n,
                              .n_heads = m->shard.n_heads,
                              .rows = t->rows[ld->cache_group],
                              .n_rows = t->n_rows,
                              .n_tokens = t->n_tokens,
                              .kv = kv,
                              .q = f->q};
    if (rotated) {
        args.rope_cos = m->rope_cos[ld->rope];
        args.rope_sin = m->rope_sin[ld->rope];
        args.rope_dim = m->desc->ropes[ld->rope].dim;
        args.interleaved = m->desc->ropes[ld->rope].interleaved;
    }
    m->ops->qkv_rope(&args, f->stream);
}

/* attention * sigmoid(gate): the gates are the last rows of qkv. */
static void gate(hdl_forward *f, const hdl_layer *w, uint32_t n_tokens)
{
    uint32_t q = q_dim(f->model);
    hdl_gate_args args = {.x = f->attn,
                          .gate = f->qkv + q + (size_t)2 * kv_dim(f->model),
                          .gate_stride = w->qkv.n,
                          .n_tokens = n_tokens,
                          .dim = q,
                          .gate_dim = q};
    f->model->ops->gate(&args, f->stream);
}

hdl_err hdl_block_attention(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    const hdl_layer *w = &m->layers[layer];
    const hdl_layer_desc *ld = &desc->layers[layer];
    hdl_kv_view kv = hdl_kvstore_view(f->kv, ld->cache_group, ld->cache_layer);
    uint32_t n = t->n_tokens;

    const float *in = hdl_forward_enter(f, w->attn_norm, n);
    HDL_TRY(hdl_forward_project(
        f, &w->qkv, (hdl_forward_io){.in = in, .out = f->qkv, .n_tokens = n, .bias = w->qkv_bias}));
    if (desc->qk_norm == HDL_QK_NORM_PROJECTION)
        HDL_TRY(projection_norms(f, w, n));
    rope(f, t, layer, kv);
    hdl_attention_args attention = {.q = f->q,
                                    .rows = t->rows[ld->cache_group],
                                    .n_rows = t->n_rows,
                                    .n_tokens = n,
                                    .n_heads = m->shard.n_heads,
                                    .scale = desc->attn_scale,
                                    .softcap = desc->attn_softcap,
                                    .sinks = w->sinks,
                                    .window = ld->window,
                                    .chunk = ld->chunk,
                                    .kv = kv,
                                    .out = f->attn};
    m->ops->attention(&attention, f->stream);
    if (desc->attn_gate)
        gate(f, w, n);
    if (desc->sub_norm)
        HDL_TRY(
            hdl_forward_shared_norm(f, (hdl_shared_norm){.x = f->attn,
                                                         .w = w->attn_sub_norm,
                                                         .stride = q_dim(m),
                                                         .dim = q_dim(m),
                                                         .own = q_dim(m),
                                                         .whole = desc->n_heads * desc->head_dim,
                                                         .n_leaves = m->shard.o_leaves,
                                                         .n_tokens = n}));
    HDL_TRY(hdl_forward_share(f, &w->o, f->attn, n));
    HDL_TRY(hdl_forward_reduce(f, n));
    hdl_forward_join(f, w->o_bias, w->attn_post_norm, n);
    return HDL_OK;
}
