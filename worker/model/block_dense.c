/* SPDX-License-Identifier: Apache-2.0 */
/* x += down(silu(gate(norm(x))) * up(norm(x))). gate and up are column-parallel over tp, down is
 * row-parallel. */
#include "worker/model/forward.h"

hdl_err hdl_block_dense(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    const hdl_model *m = f->model;
    const hdl_layer *w = &m->layers[layer];
    hdl_forward_norm(f, w->ffn_norm, (hdl_forward_io){f->x, f->h, t->n_tokens});
    hdl_forward_linear(f, &w->gate_up, (hdl_forward_io){f->h, f->gate_up, t->n_tokens});
    hdl_glu_args glu = {
        .gate_up = f->gate_up, .out = f->act, .n_tokens = t->n_tokens, .inter = m->shard.inter};
    m->ops->glu(&glu, f->stream);
    hdl_forward_linear(f, &w->down, (hdl_forward_io){f->act, f->h, t->n_tokens});
    HDL_TRY(hdl_coll_all_reduce(f->groups.tp, f->h, (size_t)t->n_tokens * m->desc->hidden));
    hdl_forward_add(f, t->n_tokens);
    return HDL_OK;
}
