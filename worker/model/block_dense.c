/* SPDX-License-Identifier: Apache-2.0 */
/* x += down(act(gate(norm(x))) * up(norm(x))). gate and up are column-parallel over tp, down is
 * row-parallel. */
#include "worker/model/forward.h"

/* This rank's part of the block's output in f->h. */
static hdl_err dense_share(hdl_forward *f, const hdl_layer *w, const float *in, uint32_t n)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    uint32_t inter = m->shard.inter;
    HDL_TRY(hdl_forward_project(
        f, &w->gate_up,
        (hdl_forward_io){.in = in, .out = f->gate_up, .n_tokens = n, .bias = w->gate_up_bias}));
    hdl_glu_args glu = {.gate_up = f->gate_up,
                        .out = f->act,
                        .n_tokens = n,
                        .inter = inter,
                        .kind = desc->glu,
                        .limit = desc->glu_limit,
                        .alpha = desc->glu_alpha};
    m->ops->glu(&glu, f->stream);
    if (desc->sub_norm)
        HDL_TRY(hdl_forward_shared_norm(f, (hdl_shared_norm){.x = f->act,
                                                             .w = w->ffn_sub_norm,
                                                             .stride = inter,
                                                             .dim = inter,
                                                             .own = inter,
                                                             .whole = desc->inter,
                                                             .n_leaves = m->shard.down_leaves,
                                                             .n_tokens = n}));
    return hdl_forward_share(f, &w->down, f->act, n);
}

hdl_err hdl_block_dense(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    const hdl_layer *w = &m->layers[layer];
    uint32_t n = t->n_tokens;
    const float *in = hdl_forward_enter(f, w->ffn_norm, n);
    if (m->shard.inter == 0)
        HDL_TRY(hdl_forward_idle(f, f->h, (size_t)n * desc->hidden));
    else
        HDL_TRY(dense_share(f, w, in, n));
    HDL_TRY(hdl_forward_reduce(f, n));
    hdl_forward_join(f, w->down_bias, w->ffn_post_norm, n);
    return HDL_OK;
}
