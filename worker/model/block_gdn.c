/* SPDX-License-Identifier: Apache-2.0 */
/* x += out_proj(gated delta rule(conv(in_proj(norm(x))))): Gated DeltaNet (arXiv 2412.06464). Heads
 * are shared by the tp ranks, k heads together with the v heads that use them; a sequence's state,
 * with what the convolution looks back at, is an entry of the layer's cache group. */
#include "worker/model/forward.h"

/* What the ops of a layer share. */
typedef struct gdn {
    const hdl_gdn_layer *w;
    const hdl_attn_row *rows;
    hdl_state_view state;
    uint32_t n_k_heads, n_v_heads; /* of the rank */
    size_t channels, matrix_floats;
} gdn;

static gdn gdn_of(const hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_gdn_desc *d = &m->desc->gdn;
    const hdl_layer_desc *ld = &m->desc->layers[layer];
    const hdl_kvpool *pool = &f->kv->pools[ld->cache_group];
    uint32_t n_k = m->shard.gdn_k_heads, n_v = m->shard.gdn_v_heads;
    return (gdn){
        .w = &m->layers[layer].gdn,
        .rows = t->rows[ld->cache_group],
        .state = {.data = hdl_kvstore_states(f->kv, ld->cache_group, ld->cache_layer),
                  .n_entries = pool->n_blocks,
                  .entry_floats = (size_t)pool->n_heads * pool->group.k_dim},
        .n_k_heads = n_k,
        .n_v_heads = n_v,
        .channels = (size_t)2 * n_k * d->k_dim + (size_t)n_v * d->v_dim,
        .matrix_floats = (size_t)n_v * d->k_dim * d->v_dim,
    };
}

static void convolve(hdl_forward *f, const gdn *g, const hdl_tokens *t)
{
    const hdl_gdn_desc *d = &f->model->desc->gdn;
    hdl_gdn_conv_args args = {.x = f->qkv,
                              .x_stride = g->w->in.n,
                              .w = g->w->conv,
                              .taps = d->conv,
                              .n_k_heads = g->n_k_heads,
                              .n_v_heads = g->n_v_heads,
                              .k_dim = d->k_dim,
                              .v_dim = d->v_dim,
                              .rows = g->rows,
                              .n_rows = t->n_rows,
                              .n_tokens = t->n_tokens,
                              .state = g->state,
                              .state_at = g->matrix_floats,
                              .y = f->q};
    f->model->ops->gdn_conv(&args, f->stream);
}

static void recur(hdl_forward *f, const gdn *g, const hdl_tokens *t)
{
    const hdl_gdn_desc *d = &f->model->desc->gdn;
    hdl_gated_delta_args args = {.qkv = f->q,
                                 .z = f->qkv + g->channels,
                                 .z_stride = g->w->in.n,
                                 .ba = f->ba,
                                 .a_log = g->w->a_log,
                                 .dt_bias = g->w->dt_bias,
                                 .norm = g->w->norm,
                                 .norm_eps = f->model->desc->norm_eps,
                                 .n_k_heads = g->n_k_heads,
                                 .n_v_heads = g->n_v_heads,
                                 .k_dim = d->k_dim,
                                 .v_dim = d->v_dim,
                                 .rows = g->rows,
                                 .n_rows = t->n_rows,
                                 .n_tokens = t->n_tokens,
                                 .state = g->state,
                                 .out = f->attn};
    f->model->ops->gated_delta(&args, f->stream);
}

hdl_err hdl_block_gdn(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_layer *w = &f->model->layers[layer];
    gdn g = gdn_of(f, t, layer);
    uint32_t n = t->n_tokens;
    const float *in = hdl_forward_enter(f, w->attn_norm, n);
    hdl_forward_linear(f, &g.w->in, (hdl_forward_io){.in = in, .out = f->qkv, .n_tokens = n});
    hdl_forward_linear(f, &g.w->ba, (hdl_forward_io){.in = in, .out = f->ba, .n_tokens = n});
    convolve(f, &g, t);
    recur(f, &g, t);
    hdl_forward_linear(f, &w->o, (hdl_forward_io){.in = f->attn, .out = f->h, .n_tokens = n});
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.tp, f->h, (size_t)n * f->model->desc->hidden));
    hdl_forward_join(f, NULL, w->attn_post_norm, n);
    return HDL_OK;
}
