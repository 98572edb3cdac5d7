/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 10 of 14: ids -> logits of the rows that want them. */
#include "worker/model/forward.h"

#include <string.h>

#include "base/assert.h"
#include "worker/carve.h"

/* Values of a token in the buffers around the mixers: the most that any of them takes. */
typedef struct widths {
    size_t qkv, q, attn, q_latent, latent, ba;
} widths;

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static widths widths_of(const hdl_model *m)
{
    const hdl_model_desc *d = m->desc;
    const hdl_mla_desc *mla = &d->mla;
    size_t n_heads = m->shard.n_heads, kv = (size_t)m->shard.n_kv_heads * d->head_dim;
    size_t q = n_heads * d->head_dim;
    if (!hdl_desc_has_mixer(d, HDL_MIXER_MLA)) {
        size_t keys = (size_t)2 * m->shard.gdn_k_heads * d->gdn.k_dim;
        size_t values = (size_t)m->shard.gdn_v_heads * d->gdn.v_dim;
        return (widths){.qkv = larger((d->attn_gate ? 2 : 1) * q + 2 * kv, keys + 2 * values),
                        .q = larger(q, keys + values),
                        .attn = larger(q, values),
                        .ba = (size_t)2 * m->shard.gdn_v_heads};
    }
    q = n_heads * (mla->nope_dim + mla->rope_dim);
    return (widths){.qkv = (mla->q_rank ? mla->q_rank : q) + mla->kv_rank + mla->rope_dim,
                    .q = mla->q_rank ? q : 0,
                    .attn = n_heads * mla->v_dim,
                    .q_latent = n_heads * (mla->kv_rank + mla->rope_dim),
                    .latent = n_heads * mla->kv_rank};
}

static void place(hdl_forward *f, hdl_carve *c)
{
    const hdl_model_desc *d = f->model->desc;
    const hdl_shard *s = &f->model->shard;
    size_t n = f->n_tokens_max, rows = f->n_logits_max;
    widths w = widths_of(f->model);
    size_t inter = hdl_max_u32(s->inter, s->shared);
    f->x = hdl_carve_take(c, n * d->hidden, sizeof(float));
    f->h = hdl_carve_take(c, n * d->hidden, sizeof(float));
    f->qkv = hdl_carve_take(c, n * w.qkv, sizeof(float));
    f->q = hdl_carve_take(c, n * w.q, sizeof(float));
    f->attn = hdl_carve_take(c, n * w.attn, sizeof(float));
    f->q_latent = hdl_carve_take(c, n * w.q_latent, sizeof(float));
    f->latent = hdl_carve_take(c, n * w.latent, sizeof(float));
    f->ba = hdl_carve_take(c, n * w.ba, sizeof(float));
    f->sumsq = hdl_carve_take(c, n * 2, sizeof(float));
    f->absmax = hdl_carve_take(c, d->quant.int8_inputs ? n * s->tp : 0, sizeof(float));
    f->step = hdl_carve_take(c, d->quant.int8_inputs ? n : 0, sizeof(float));
    f->gate_up = hdl_carve_take(c, n * 2 * inter, sizeof(float));
    f->act = hdl_carve_take(c, n * inter, sizeof(float));
    f->shared = hdl_carve_take(c, d->shared_inter ? n * d->hidden : 0, sizeof(float));
    f->on = hdl_carve_take(c, d->shared_gate ? n : 0, sizeof(float));
    f->router = hdl_carve_take(c, n * d->n_experts, sizeof(float));
    f->weights = hdl_carve_take(c, n * d->topk, sizeof(float));
    f->ids = hdl_carve_take(c, n * d->topk, sizeof(uint32_t));
    f->ye = hdl_carve_take(c, n * d->topk, d->hidden * sizeof(float));
    f->last = hdl_carve_take(c, rows * d->hidden, sizeof(float));
    f->part = hdl_carve_take(c, rows * s->vocab_padded, sizeof(float));
    hdl_forward_place_merge(f, c);
}

/* What the host reads. */
static void place_host(hdl_forward *f, hdl_carve *c)
{
    const hdl_shard *s = &f->model->shard;
    size_t rows = f->n_logits_max;
    bool merges = s->tp > 1 && s->rank == 0, remote = !hdl_device_is_host(f->device);
    f->part_host = hdl_carve_take(c, remote ? rows * s->vocab_padded : 0, sizeof(float));
    f->gathered = hdl_carve_take(c, merges ? rows * s->vocab_padded * s->tp : 0, sizeof(float));
    f->logits = hdl_carve_take(c, merges ? rows * f->model->desc->vocab : 0, sizeof(float));
    f->bounce = hdl_carve_take(c, remote && s->n_ranks > 1 ? HDL_BOUNCE_FLOATS : 0, sizeof(float));
    if (!remote)
        f->part_host = f->part;
    if (!merges)
        f->logits = f->part_host;
}

/* Both kinds of memory, all at once. */
static hdl_err take_memory(hdl_forward *f, hdl_errmsg *why)
{
    hdl_carve device = {0}, host = {0};
    place(f, &device);
    place_host(f, &host);
    f->memory_bytes = device.at;
    f->pinned_bytes = host.at;
    f->memory = device.overflow ? NULL : hdl_device_alloc(f->device, device.at);
    if (!f->memory)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for %zu bytes of activations; the device is full; lower "
                        "step_tokens",
                        device.at);
    f->pinned = host.overflow ? NULL : hdl_device_alloc_pinned(f->device, host.at);
    if (!f->pinned)
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for %zu bytes of logits; the machine is full; stop other "
                        "programs",
                        host.at);
    device = (hdl_carve){.base = f->memory};
    host = (hdl_carve){.base = f->pinned};
    place(f, &device);
    place_host(f, &host);
    return HDL_OK;
}

hdl_err hdl_forward_open(hdl_forward *out, const hdl_forward_opts *opts, hdl_errmsg *why)
{
    *out = (hdl_forward){.model = opts->model,
                         .kv = opts->kv,
                         .device = opts->device,
                         .stream = hdl_device_stream(opts->device),
                         .n_tokens_max = opts->n_tokens_max,
                         .n_logits_max = opts->n_logits_max,
                         .fast = opts->fast};
    HDL_TRY(take_memory(out, why));
    return hdl_forward_fill_merge(out, why);
}

size_t hdl_forward_bytes(const hdl_forward_opts *opts)
{
    hdl_forward f = {.model = opts->model,
                     .device = opts->device,
                     .n_tokens_max = opts->n_tokens_max,
                     .n_logits_max = opts->n_logits_max};
    hdl_carve device = {0};
    place(&f, &device);
    return device.overflow ? SIZE_MAX : device.at;
}

void hdl_forward_close(hdl_forward *f)
{
    if (f->memory)
        hdl_device_free(f->device, f->memory, f->memory_bytes);
    if (f->pinned)
        hdl_device_free_pinned(f->device, f->pinned, f->pinned_bytes);
    *f = (hdl_forward){0};
}

static hdl_err run_mixer(hdl_forward *f, const hdl_tokens *t, uint32_t layer)
{
    if (f->model->desc->layers[layer].mixer == HDL_MIXER_MLA)
        return hdl_block_mla(f, t, layer);
    if (f->model->desc->layers[layer].mixer == HDL_MIXER_GDN)
        return hdl_block_gdn(f, t, layer);
    return hdl_block_attention(f, t, layer);
}

hdl_err hdl_forward_run(hdl_forward *f, const hdl_tokens *t)
{
    const hdl_model *m = f->model;
    HDL_ASSERT_LE(t->n_tokens, f->n_tokens_max);
    hdl_embed_args embed = {.table = m->embed,
                            .ids = t->ids,
                            .out = f->x,
                            .n_tokens = t->n_tokens,
                            .scale = m->desc->embed_scale};
    m->ops->embed(&embed, f->stream);
    for (uint32_t layer = 0; layer < m->desc->n_layers; layer++) {
        HDL_TRY(run_mixer(f, t, layer));
        if (m->desc->layers[layer].ffn == HDL_FFN_MOE)
            HDL_TRY(hdl_block_moe(f, t, layer));
        else
            HDL_TRY(hdl_block_dense(f, t, layer));
    }
    return HDL_OK;
}

const float *hdl_forward_enter(const hdl_forward *f, const float *norm, uint32_t n_tokens)
{
    if (!norm)
        return f->x;
    hdl_forward_norm(f, norm, (hdl_forward_io){.in = f->x, .out = f->h, .n_tokens = n_tokens});
    return f->h;
}

void hdl_forward_join(const hdl_forward *f, const float *bias, const float *post_norm,
                      uint32_t n_tokens)
{
    if (bias) {
        hdl_add_row_args add = {
            .x = f->h, .row = bias, .n_tokens = n_tokens, .dim = f->model->desc->hidden};
        f->model->ops->add_row(&add, f->stream);
    }
    if (post_norm)
        hdl_forward_norm(f, post_norm,
                         (hdl_forward_io){.in = f->h, .out = f->h, .n_tokens = n_tokens});
    hdl_forward_add(f, n_tokens);
}

hdl_err hdl_forward_idle(hdl_forward *f, float *out, size_t n)
{
    const float nothing = -0.0f; /* +0 would turn a leaf's -0 into +0 */
    uint32_t word;
    memcpy(&word, &nothing, sizeof word);
    return hdl_device_fill(f->device, (uint32_t *)(void *)out, word, n);
}

hdl_err hdl_forward_shared_norm(hdl_forward *f, hdl_shared_norm norm)
{
    const hdl_ops *ops = f->model->ops;
    HDL_ASSERT(norm.own > 0 && norm.own_at + norm.own <= norm.dim);
    hdl_sumsq_args sum = {.x = norm.x + norm.own_at,
                          .x_stride = norm.stride,
                          .out = f->sumsq,
                          .out_stride = 1,
                          .n_tokens = norm.n_tokens,
                          .dim = norm.own,
                          .n_leaves = norm.n_leaves};
    ops->sumsq(&sum, f->stream);
    HDL_TRY(hdl_forward_all_reduce(f, f->groups.tp, f->sumsq, norm.n_tokens));
    hdl_rms_norm_args args = {.x = norm.x,
                              .w = norm.w,
                              .out = norm.x,
                              .x_stride = norm.stride,
                              .out_stride = norm.stride,
                              .sumsq = f->sumsq,
                              .sumsq_stride = 1,
                              .whole_dim = norm.whole,
                              .n_tokens = norm.n_tokens,
                              .dim = norm.dim,
                              .eps = f->model->desc->norm_eps};
    ops->rms_norm(&args, f->stream);
    return HDL_OK;
}
