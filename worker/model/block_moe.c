/* SPDX-License-Identifier: Apache-2.0 */
/* x += sum over the topk experts of weight * expert(norm(x)).
 *
 * Every rank holds all tokens and routes all of them, so nothing is dispatched: a rank runs its own
 * experts. The sum is exact on any layout because it is taken in two trees, inner first: an
 * expert's output is finished over the ranks that share its inner dimension before it is weighted,
 * then the experts' leaves are summed on each rank and the ep ranks finish that tree. Weighting
 * first and reducing once would be cheaper and would round differently on every layout. */
#include "worker/model/forward.h"

hdl_err hdl_block_moe(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_model_desc *desc = m->desc;
    const hdl_layer *w = &m->layers[layer];
    size_t hidden = desc->hidden;

    hdl_forward_norm(f, w->ffn_norm, (hdl_forward_io){f->x, f->h, t->n_tokens});
    hdl_forward_linear(f, &w->router, (hdl_forward_io){f->h, f->router, t->n_tokens});
    hdl_router_args router = {.logits = f->router,
                              .n_tokens = t->n_tokens,
                              .n_experts = desc->n_experts,
                              .topk = desc->topk,
                              .kind = desc->router,
                              .renorm = desc->router_renorm,
                              .ids = f->ids,
                              .weights = f->weights};
    m->ops->router(&router, f->stream);
    hdl_moe_experts_args experts = {.x = f->h,
                                    .ids = f->ids,
                                    .n_tokens = t->n_tokens,
                                    .topk = desc->topk,
                                    .hidden = desc->hidden,
                                    .inter = m->shard.moe_inter,
                                    .gate_up = w->expert_gate_up,
                                    .down = w->expert_down,
                                    .expert_lo = m->shard.expert_at,
                                    .n_local = m->shard.n_experts,
                                    .ye = f->ye};
    m->ops->moe_experts(&experts, f->stream);
    HDL_TRY(hdl_coll_all_reduce(f->groups.moe_tp, f->ye, t->n_tokens * desc->topk * hidden));
    hdl_moe_combine_args combine = {.ye = f->ye,
                                    .ids = f->ids,
                                    .weights = f->weights,
                                    .n_tokens = t->n_tokens,
                                    .topk = desc->topk,
                                    .hidden = desc->hidden,
                                    .n_experts = desc->n_experts,
                                    .n_leaves = hdl_expert_leaf_count(desc->n_experts),
                                    .expert_lo = m->shard.expert_at,
                                    .n_local = m->shard.n_experts,
                                    .y = f->h};
    m->ops->moe_combine(&combine, f->stream);
    HDL_TRY(hdl_coll_all_reduce(f->groups.ep, f->h, t->n_tokens * hidden));
    hdl_forward_add(f, t->n_tokens);
    return HDL_OK;
}
