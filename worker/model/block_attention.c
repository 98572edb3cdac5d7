/* SPDX-License-Identifier: Apache-2.0 */
/* x += o_proj(attention(norm(x))). Grouped-query attention over the paged cache; heads are shared
 * by the tp ranks, o_proj is row-parallel. */
#include "worker/model/forward.h"

hdl_err hdl_block_attention(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    const hdl_layer *w = &m->layers[layer];
    hdl_kv_view kv = hdl_kvstore_view(f->kv, desc->layers[layer].cache_layer);

    hdl_forward_norm(f, w->attn_norm, (hdl_forward_io){f->x, f->h, t->n_tokens});
    hdl_forward_linear(f, &w->qkv, (hdl_forward_io){f->h, f->qkv, t->n_tokens});
    hdl_qkv_rope_args rope = {.qkv = f->qkv,
                              .q_norm = w->q_norm,
                              .k_norm = w->k_norm,
                              .norm_eps = desc->norm_eps,
                              .rope_cos = m->rope_cos,
                              .rope_sin = m->rope_sin,
                              .rope_dim = desc->rope.dim,
                              .n_heads = m->shard.n_heads,
                              .rows = t->rows,
                              .n_rows = t->n_rows,
                              .n_tokens = t->n_tokens,
                              .kv = kv,
                              .q = f->q};
    m->ops->qkv_rope(&rope, f->stream);
    hdl_attention_args attention = {.q = f->q,
                                    .rows = t->rows,
                                    .n_rows = t->n_rows,
                                    .n_tokens = t->n_tokens,
                                    .n_heads = m->shard.n_heads,
                                    .scale = desc->attn_scale,
                                    .window = desc->layers[layer].window,
                                    .kv = kv,
                                    .out = f->attn};
    m->ops->attention(&attention, f->stream);
    hdl_forward_linear(f, &w->o, (hdl_forward_io){f->attn, f->h, t->n_tokens});
    HDL_TRY(hdl_coll_all_reduce(f->groups.tp, f->h, (size_t)t->n_tokens * desc->hidden));
    hdl_forward_add(f, t->n_tokens);
    return HDL_OK;
}
