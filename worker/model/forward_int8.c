/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers whose activations may be int8. BitNet's layers were trained with inputs rounded to
 * 127 steps of the token's largest value, and transformers runs them so (HF:
 * integrations/bitnet.py: BitLinear and AutoBitLinear alike, offline; weights that are rounded at
 * every step, online, are refused when the configuration is read). The integers are multiplied, the
 * step afterwards: every format then sees the same exact inputs, and the sums of ranks are those of
 * one rank alone. A rank that holds part of a vector learns the largest value of the others. */
#include "worker/model/forward.h"

/* in -> integers in out, which may be in. */
static hdl_err round_rows(hdl_forward *f, hdl_forward_io io, uint32_t dim, bool shared)
{
    const hdl_ops *ops = f->model->ops;
    const hdl_shard *s = &f->model->shard;
    uint32_t n_parts = shared ? s->tp : 1;
    float *own = f->absmax + (size_t)(shared ? s->tp_idx : 0) * io.n_tokens;
    hdl_absmax_args max = {
        .x = io.in, .x_stride = dim, .out = own, .n_tokens = io.n_tokens, .dim = dim};
    ops->absmax(&max, f->stream);
    if (n_parts > 1)
        HDL_TRY(hdl_forward_all_gather(f, f->groups.tp, f->absmax, io.n_tokens));
    hdl_int8_rows_args args = {.x = io.in,
                               .out = io.out,
                               .absmax = f->absmax,
                               .step = f->step,
                               .n_parts = n_parts,
                               .n_tokens = io.n_tokens,
                               .dim = dim};
    ops->int8_rows(&args, f->stream);
    return HDL_OK;
}

static void times_step(hdl_forward *f, float *x, uint32_t n_tokens, uint32_t dim)
{
    hdl_scale_rows_args args = {.x = x, .factor = f->step, .n_tokens = n_tokens, .dim = dim};
    f->model->ops->scale_rows(&args, f->stream);
}

hdl_err hdl_forward_project(hdl_forward *f, const hdl_weight *w, hdl_forward_io io)
{
    if (!hdl_forward_ints(f)) {
        hdl_forward_linear(f, w, io);
        return HDL_OK;
    }
    HDL_TRY(round_rows(f, (hdl_forward_io){.in = io.in, .out = f->h, .n_tokens = io.n_tokens}, w->k,
                       false));
    hdl_forward_linear(
        f, w, (hdl_forward_io){.in = f->h, .out = io.out, .n_tokens = io.n_tokens, .ints = true});
    times_step(f, io.out, io.n_tokens, w->n);
    if (io.bias) {
        hdl_add_row_args add = {.x = io.out, .row = io.bias, .n_tokens = io.n_tokens, .dim = w->n};
        f->model->ops->add_row(&add, f->stream);
    }
    return HDL_OK;
}

hdl_err hdl_forward_share(hdl_forward *f, const hdl_weight *w, float *in, uint32_t n_tokens)
{
    hdl_forward_io io = {.in = in, .out = in, .n_tokens = n_tokens, .ints = hdl_forward_ints(f)};
    if (io.ints)
        HDL_TRY(round_rows(f, io, w->k, true));
    io.out = f->h;
    hdl_forward_linear(f, w, io);
    return HDL_OK;
}

hdl_err hdl_forward_reduce(hdl_forward *f, uint32_t n_tokens)
{
    uint32_t hidden = f->model->desc->hidden;
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.tp, f->h, (size_t)n_tokens * hidden));
    if (hdl_forward_ints(f))
        times_step(f, f->h, n_tokens, hidden);
    return HDL_OK;
}
