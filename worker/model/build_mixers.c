/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/model/build_impl.h"

/* A matrix for each head of the rank. A head's inner dimension may be too short for the groups of
 * the format that is asked for: such a matrix is F32. */
static hdl_weight *take_heads(hdl_build *b, hdl_weight_at at, hdl_weight shape, hdl_weight *heads)
{
    hdl_wkind kind = {.format = HDL_WFORMAT_F32};
    if (b->err == HDL_OK)
        b->err = b->kinds->of(b->kinds, at, shape.k, &kind, b->why);
    if (b->model->ops->weight_bytes(kind.format, shape.n, shape.k, 1) == 0)
        kind = (hdl_wkind){.format = HDL_WFORMAT_F32};
    shape.format = kind.format;
    shape.codebook = kind.codebook;
    for (uint32_t h = 0; h < b->model->shard.n_heads; h++)
        heads[h] = hdl_build_weight(b, shape, shape.n);
    return heads;
}

void hdl_build_mla(hdl_build *b, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = b->model->desc;
    const hdl_mla_desc *m = &d->mla;
    const hdl_shard *s = &b->model->shard;
    uint32_t q = s->n_heads * (m->nope_dim + m->rope_dim), kv = m->kv_rank + m->rope_dim;
    hdl_mla_layer *l = &layer->mla;
    hdl_weight *heads = b->model->heads + (size_t)2 * idx * s->n_heads;
    bool low = m->q_rank != 0;
    l->q_a_norm = hdl_build_floats_if(b, low, m->q_rank);
    l->kv_a_norm = hdl_build_floats_if(b, true, m->kv_rank);
    l->a = hdl_build_fused(b, (hdl_build_rows){.k = d->hidden,
                                               .n_leaves = 1,
                                               .layer = idx,
                                               .n_parts = 2,
                                               .parts = {{low ? HDL_WSLOT_MLA_Q_A : HDL_WSLOT_MLA_Q,
                                                          low ? m->q_rank : q},
                                                         {HDL_WSLOT_MLA_KV_A, kv}}});
    if (low)
        l->q_b = hdl_build_matrix(b, (hdl_weight_at){HDL_WSLOT_MLA_Q_B, idx, 0},
                                  (hdl_weight){.n = q, .k = m->q_rank, .n_leaves = 1});
    l->k_b = take_heads(b, (hdl_weight_at){HDL_WSLOT_MLA_K_B, idx, 0},
                        (hdl_weight){.n = m->kv_rank, .k = m->nope_dim, .n_leaves = 1}, heads);
    l->v_b =
        take_heads(b, (hdl_weight_at){HDL_WSLOT_MLA_V_B, idx, 0},
                   (hdl_weight){.n = m->v_dim, .k = m->kv_rank, .n_leaves = 1}, heads + s->n_heads);
    layer->o = hdl_build_matrix(
        b, (hdl_weight_at){HDL_WSLOT_MLA_O, idx, 0},
        (hdl_weight){.n = d->hidden, .k = s->n_heads * m->v_dim, .n_leaves = s->o_leaves});
}

void hdl_build_gdn(hdl_build *b, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = b->model->desc;
    const hdl_shard *s = &b->model->shard;
    uint32_t keys = s->gdn_k_heads * d->gdn.k_dim, values = s->gdn_v_heads * d->gdn.v_dim;
    hdl_gdn_layer *l = &layer->gdn;
    l->in = hdl_build_fused(b, (hdl_build_rows){.k = d->hidden,
                                                .n_leaves = 1,
                                                .layer = idx,
                                                .n_parts = 4,
                                                .parts = {{HDL_WSLOT_GDN_Q, keys},
                                                          {HDL_WSLOT_GDN_K, keys},
                                                          {HDL_WSLOT_GDN_V, values},
                                                          {HDL_WSLOT_GDN_Z, values}}});
    l->ba = hdl_build_small(b, 2 * s->gdn_v_heads);
    l->conv = hdl_build_floats_if(b, true, (size_t)d->gdn.conv * (2 * keys + values));
    l->a_log = hdl_build_floats_if(b, true, s->gdn_v_heads);
    l->dt_bias = hdl_build_floats_if(b, true, s->gdn_v_heads);
    l->norm = hdl_build_floats_if(b, true, d->gdn.v_dim);
    layer->o =
        hdl_build_matrix(b, (hdl_weight_at){HDL_WSLOT_GDN_OUT, idx, 0},
                         (hdl_weight){.n = d->hidden, .k = values, .n_leaves = s->gdn_leaves});
}
