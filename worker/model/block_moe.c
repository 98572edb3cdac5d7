/* SPDX-License-Identifier: Apache-2.0 */
/* x += sum over the topk experts of weight * expert(norm(x)).
 *
 * Every rank holds all tokens and routes all of them, so nothing is dispatched: a rank runs its own
 * experts. The sum is exact on any layout because it is taken in two trees, inner first: an
 * expert's output is finished over the ranks that share its inner dimension before it is weighted,
 * then the experts' leaves are summed on each rank and the ep ranks finish that tree. Weighting
 * first and reducing once would be cheaper and would round differently on every layout. */
#include "worker/model/forward.h"

/* The expert that sees every token, cut over tp as a dense layer is: its output in f->shared. Reads
 * the block's input before anything is written over it. */
static hdl_err shared_share(hdl_forward *f, const hdl_layer *w, const float *in, uint32_t n)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    if (m->shard.shared == 0)
        return hdl_forward_idle(f, f->shared, (size_t)n * desc->hidden);
    hdl_forward_linear(f, &w->shared_gate_up,
                       (hdl_forward_io){.in = in, .out = f->gate_up, .n_tokens = n});
    hdl_glu_args glu = {.gate_up = f->gate_up,
                        .out = f->act,
                        .n_tokens = n,
                        .inter = m->shard.shared,
                        .kind = desc->glu,
                        .limit = desc->glu_limit,
                        .alpha = desc->glu_alpha};
    m->ops->glu(&glu, f->stream);
    hdl_forward_linear(f, &w->shared_down,
                       (hdl_forward_io){.in = f->act, .out = f->shared, .n_tokens = n});
    return HDL_OK;
}

static hdl_err shared_expert(hdl_forward *f, const hdl_layer *w, const float *in, uint32_t n)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    HDL_TRY(shared_share(f, w, in, n));
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.tp, f->shared, (size_t)n * desc->hidden));
    if (!desc->shared_gate)
        return HDL_OK;
    hdl_forward_linear(f, &w->shared_on, (hdl_forward_io){.in = in, .out = f->on, .n_tokens = n});
    hdl_gate_args gate = {.x = f->shared,
                          .gate = f->on,
                          .gate_stride = 1,
                          .n_tokens = n,
                          .dim = desc->hidden,
                          .gate_dim = 1};
    m->ops->gate(&gate, f->stream);
    return HDL_OK;
}

static void route(hdl_forward *f, const hdl_layer *w, const float *in, const hdl_tokens *t)
{
    uint32_t n = t->n_tokens;
    const hdl_model_desc *desc = f->model->desc;
    hdl_forward_linear(
        f, &w->router,
        (hdl_forward_io){.in = in, .out = f->router, .n_tokens = n, .bias = w->router_bias});
    hdl_router_args router = {.logits = f->router,
                              .correction = w->correction,
                              .n_tokens = n,
                              .n_experts = desc->n_experts,
                              .topk = desc->topk,
                              .n_live = t->n_live,
                              .desc = desc->router,
                              .ids = f->ids,
                              .weights = f->weights};
    f->model->ops->router(&router, f->stream);
}

hdl_err hdl_block_moe(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    const hdl_layer *w = &m->layers[layer];
    size_t hidden = desc->hidden;
    uint32_t n = t->n_tokens;

    const float *in = hdl_forward_enter(f, w->ffn_norm, n);
    route(f, w, in, t);
    if (desc->shared_inter != 0)
        HDL_TRY(shared_expert(f, w, in, n));
    hdl_moe_experts_args experts = {.x = in,
                                    .ids = f->ids,
                                    .n_tokens = n,
                                    .topk = desc->topk,
                                    .hidden = desc->hidden,
                                    .inter = m->shard.moe_inter,
                                    .gate_up = w->expert_gate_up,
                                    .down = w->expert_down,
                                    .gate_up_bias = w->expert_gate_up_bias,
                                    .x_weights = desc->router_on_input ? f->weights : NULL,
                                    .glu = desc->glu,
                                    .glu_limit = desc->glu_limit,
                                    .glu_alpha = desc->glu_alpha,
                                    .expert_lo = m->shard.expert_at,
                                    .n_local = m->shard.n_experts,
                                    .ye = f->ye};
    m->ops->moe_experts(&experts, f->stream);
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.moe_tp, f->ye, n * desc->topk * hidden));
    hdl_moe_combine_args combine = {.ye = f->ye,
                                    .ids = f->ids,
                                    .weights = desc->router_on_input ? NULL : f->weights,
                                    .down_bias = w->expert_down_bias,
                                    .n_tokens = n,
                                    .topk = desc->topk,
                                    .hidden = desc->hidden,
                                    .n_experts = desc->n_experts,
                                    .n_leaves = hdl_expert_leaf_count(desc->n_experts),
                                    .expert_lo = m->shard.expert_at,
                                    .n_local = m->shard.n_experts,
                                    .y = f->h};
    m->ops->moe_combine(&combine, f->stream);
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.ep, f->h, n * hidden));
    if (desc->shared_inter != 0)
        m->ops->add(&(hdl_add_args){.x = f->h, .y = f->shared, .n = n * hidden}, f->stream);
    hdl_forward_join(f, NULL, w->ffn_post_norm, n);
    return HDL_OK;
}
