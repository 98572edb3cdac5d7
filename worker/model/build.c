/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/model/build.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "kernels/numeric.h"
#include "worker/model/rope.h"

/* Lays the model out twice: once without memory to measure it, once to set the pointers. */
typedef struct cursor {
    hdl_model *model;
    unsigned char *base; /* NULL: measuring */
    size_t at;
    bool overflow;
    bool refused; /* by the backend; the shape is below */
    uint32_t n, k, n_leaves;
    hdl_wformat format;
} cursor;

static void *take(cursor *c, size_t bytes)
{
    size_t padded = 0, at = c->at;
    if (!hdl_align_up_size(bytes, 64, &padded) || !hdl_add_size(at, padded, &c->at))
        c->overflow = true;
    return c->base ? c->base + at : NULL;
}

static float *take_floats(cursor *c, size_t n)
{
    size_t bytes = 0;
    if (!hdl_mul_size(n, sizeof(float), &bytes))
        c->overflow = true;
    return take(c, bytes);
}

static float *floats_if(cursor *c, bool has, size_t n) { return has ? take_floats(c, n) : NULL; }

static hdl_weight take_weight(cursor *c, hdl_weight w)
{
    w.bytes = c->model->ops->weight_bytes(w.format, w.n, w.k, w.n_leaves);
    if (w.bytes == 0 && !c->refused) {
        c->refused = true;
        c->n = w.n, c->k = w.k, c->n_leaves = w.n_leaves, c->format = w.format;
    }
    w.data = take(c, w.bytes);
    return w;
}

static hdl_weight matrix(const cursor *c, uint32_t n, uint32_t k, uint32_t n_leaves)
{
    return (hdl_weight){.format = c->model->format, .n = n, .k = k, .n_leaves = n_leaves};
}

static void place_attention(cursor *c, hdl_layer *layer)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    uint32_t q = s->n_heads * d->head_dim, kv = s->n_kv_heads * d->head_dim;
    uint32_t rows = (d->attn_gate ? 2 * q : q) + 2 * kv;
    bool projection = d->qk_norm == HDL_QK_NORM_PROJECTION;
    bool norms = projection || d->qk_norm == HDL_QK_NORM_HEAD;
    layer->q_norm = floats_if(c, norms, projection ? q : d->head_dim);
    layer->k_norm = floats_if(c, norms, projection ? kv : d->head_dim);
    layer->qkv_bias = floats_if(c, d->qkv_bias, rows);
    layer->o_bias = floats_if(c, d->o_bias, d->hidden);
    layer->sinks = floats_if(c, d->attn_sinks, s->n_heads);
    layer->attn_sub_norm = floats_if(c, d->sub_norm, q);
    layer->qkv = take_weight(c, matrix(c, rows, d->hidden, 1));
    layer->o = take_weight(c, matrix(c, d->hidden, q, s->o_leaves));
}

static void place_dense(cursor *c, hdl_layer *layer)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    layer->gate_up = take_weight(c, matrix(c, 2 * s->inter, d->hidden, 1));
    layer->down = take_weight(c, matrix(c, d->hidden, s->inter, s->down_leaves));
    layer->gate_up_bias = floats_if(c, d->ffn_bias, (size_t)2 * s->inter);
    layer->down_bias = floats_if(c, d->ffn_bias, d->hidden);
    layer->ffn_sub_norm = floats_if(c, d->sub_norm, s->inter);
}

static hdl_weight small(const cursor *c, uint32_t n)
{
    hdl_weight w = matrix(c, n, c->model->desc->hidden, 1);
    w.format = HDL_WFORMAT_F32;
    return w;
}

/* The router is small and decides which experts run: always f32, as transformers computes it. */
static void place_moe(cursor *c, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    layer->router = take_weight(c, small(c, d->n_experts));
    layer->router_bias = floats_if(c, d->router_bias, d->n_experts);
    layer->correction = floats_if(c, d->router_correction, d->n_experts);
    layer->expert_gate_up_bias =
        floats_if(c, d->expert_bias, (size_t)s->n_experts * 2 * s->moe_inter);
    layer->expert_down_bias = floats_if(c, d->expert_bias, (size_t)s->n_experts * d->hidden);
    if (d->shared_inter != 0) {
        layer->shared_gate_up = take_weight(c, matrix(c, 2 * s->shared, d->hidden, 1));
        layer->shared_down = take_weight(c, matrix(c, d->hidden, s->shared, s->shared_leaves));
        if (d->shared_gate)
            layer->shared_on = take_weight(c, small(c, 1));
    }
    layer->expert_gate_up = c->model->experts + (size_t)idx * 2 * s->n_experts;
    layer->expert_down = layer->expert_gate_up + s->n_experts;
    for (uint32_t e = 0; e < s->n_experts; e++) {
        layer->expert_gate_up[e] = take_weight(c, matrix(c, 2 * s->moe_inter, d->hidden, 1));
        layer->expert_down[e] =
            take_weight(c, matrix(c, d->hidden, s->moe_inter, s->moe_down_leaves));
    }
}

static void place_all(cursor *c)
{
    hdl_model *m = c->model;
    const hdl_model_desc *d = m->desc;
    for (uint32_t i = 0; i < d->n_layers; i++) {
        hdl_layer *layer = &m->layers[i];
        layer->attn_norm = floats_if(c, d->pre_norm, d->hidden);
        layer->attn_post_norm = floats_if(c, d->post_norm, d->hidden);
        layer->ffn_norm = floats_if(c, d->pre_norm, d->hidden);
        layer->ffn_post_norm = floats_if(c, d->post_norm, d->hidden);
        place_attention(c, layer);
        if (d->layers[i].ffn == HDL_FFN_MOE)
            place_moe(c, layer, i);
        else
            place_dense(c, layer);
    }
    m->final_norm = take_floats(c, d->hidden);
    m->lm_head = take_weight(c, matrix(c, m->shard.vocab_padded, d->hidden, 1));
    for (uint32_t i = 0; i < d->n_ropes; i++) {
        m->rope_cos[i] = take_floats(c, (size_t)m->max_len * (d->ropes[i].dim / 2));
        m->rope_sin[i] = take_floats(c, (size_t)m->max_len * (d->ropes[i].dim / 2));
    }
    m->q_temp = floats_if(c, d->q_temp.beta != 0, m->max_len);
}

static const char *format_name(hdl_wformat format)
{
#define NAME(name, text) text,
    static const char *const names[] = {HDL_WFORMAT_LIST(NAME)};
#undef NAME
    return names[format];
}

static hdl_err measure(cursor *c, hdl_errmsg *why)
{
    place_all(c);
    if (c->refused)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "a matrix of %u x %u in format %s with %u leaves is not supported by %s; "
                        "its inner dimension does not fit the format's groups; use --weights bf16",
                        c->n, c->k, format_name(c->format), c->n_leaves, c->model->ops->name);
    if (c->overflow)
        return hdl_fail(HDL_INVALID, why,
                        "the model's size overflows; config.json is damaged; fetch it again");
    return HDL_OK;
}

/* What ops assert at every call is refused here, where a person reads it. */
static hdl_err check_limits(const hdl_model_desc *d, hdl_errmsg *why)
{
    const struct {
        const char *what;
        uint32_t value, max;
    } limits[] = {{"head_dim", d->head_dim, HDL_HEAD_DIM_MAX},
                  {"number of experts", d->n_experts, HDL_EXPERTS_MAX},
                  {"number of experts per token", d->topk, HDL_TOPK_MAX}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(limits); i++)
        if (limits[i].value > limits[i].max)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "the model's %s is %u; the kernels take at most %u; choose another "
                            "model",
                            limits[i].what, limits[i].value, limits[i].max);
    return HDL_OK;
}

/* 128k positions would take one thread a third of a second. */
static void fill_rope(void *arg, uint32_t thread, uint32_t n_threads)
{
    hdl_model *m = arg;
    uint64_t len = m->max_len;
    hdl_rope_part part = {.from = (uint32_t)(len * thread / n_threads),
                          .to = (uint32_t)(len * (thread + 1) / n_threads)};
    for (uint32_t i = 0; i < m->desc->n_ropes; i++) {
        part.cos = m->rope_cos[i];
        part.sin = m->rope_sin[i];
        hdl_rope_fill(&m->desc->ropes[i], part);
    }
    if (m->q_temp)
        hdl_q_temp_fill(&m->desc->q_temp, part, m->q_temp);
}

hdl_err hdl_model_build(hdl_model *out, const hdl_model_opts *opts, hdl_errmsg *why)
{
    hdl_err err = HDL_NOMEM;
    *out = (hdl_model){.desc = opts->desc,
                       .shard = opts->shard,
                       .ops = hdl_device_ops(opts->device),
                       .format = opts->format,
                       .max_len = opts->max_len,
                       .device = opts->device};
    HDL_TRY(check_limits(opts->desc, why));
    size_t n_experts = (size_t)2 * opts->shard.n_experts * opts->desc->n_layers;
    out->layers = calloc(opts->desc->n_layers, sizeof(*out->layers));
    out->experts = calloc(n_experts ? n_experts : 1, sizeof(*out->experts));
    if (!out->layers || !out->experts) {
        err = hdl_fail(err, why, "out of memory; the machine is full; stop other programs");
        goto fail;
    }
    cursor c = {.model = out};
    HDL_TRY_GOTO(measure(&c, why), fail);
    out->memory_bytes = c.at;
    out->memory = hdl_device_alloc(opts->device, c.at);
    if (!out->memory) {
        err =
            hdl_fail(HDL_NOMEM, why,
                     "no memory for %zu bytes of weights; the device is full; use --weights q8 or "
                     "more ranks",
                     c.at);
        goto fail;
    }
    c = (cursor){.model = out, .base = out->memory};
    place_all(&c);
    hdl_stream_run(hdl_device_stream(out->device), fill_rope, out);
    return HDL_OK;
fail:
    hdl_model_free(out);
    return err;
}

void hdl_model_free(hdl_model *model)
{
    if (model->memory)
        hdl_device_free(model->device, model->memory, model->memory_bytes);
    free(model->layers);
    free(model->experts);
    *model = (hdl_model){0};
}

hdl_ops_extent hdl_model_extent(const hdl_model_desc *desc, const hdl_shard *shard,
                                uint32_t n_tokens, uint32_t max_len)
{
    uint32_t n_q = (desc->attn_gate ? 2 : 1) * shard->n_heads;
    uint32_t qkv = (n_q + 2 * shard->n_kv_heads) * desc->head_dim;
    uint32_t inter = hdl_max_u32(shard->inter, shard->shared);
    uint32_t n_max = hdl_max_u32(qkv, shard->vocab_padded);
    n_max = hdl_max_u32(n_max, 2 * hdl_max_u32(inter, shard->moe_inter));
    n_max = hdl_max_u32(n_max, hdl_max_u32(desc->hidden, desc->n_experts));
    uint32_t k_max = hdl_max_u32(desc->hidden, shard->n_heads * desc->head_dim);
    k_max = hdl_max_u32(k_max, hdl_max_u32(inter, shard->moe_inter));
    return (hdl_ops_extent){
        .n_tokens = n_tokens,
        .n_rows = n_tokens,
        .hidden = desc->hidden,
        .inter = inter,
        .moe_inter = shard->moe_inter,
        .n_heads = shard->n_heads,
        .n_kv_heads = shard->n_kv_heads,
        .head_dim = desc->head_dim,
        .n_experts = desc->n_experts,
        .topk = desc->topk,
        .n_max = n_max,
        .k_max = k_max,
        .max_len = max_len,
    };
}
