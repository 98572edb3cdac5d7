/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/model/build_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/units.h"
#include "kernels/numeric.h"
#include "worker/model/rope.h"

static void *take(hdl_build *c, size_t bytes)
{
    size_t padded = 0, at = c->at;
    if (!hdl_align_up_size(bytes, 64, &padded) || !hdl_add_size(at, padded, &c->at))
        c->overflow = true;
    return c->base ? c->base + at : NULL;
}

static float *take_floats(hdl_build *c, size_t n)
{
    size_t bytes = 0;
    if (!hdl_mul_size(n, sizeof(float), &bytes))
        c->overflow = true;
    return take(c, bytes);
}

float *hdl_build_floats_if(hdl_build *c, bool has, size_t n)
{
    return has ? take_floats(c, n) : NULL;
}

static void refuse(hdl_build *c, const hdl_weight *w)
{
    if (c->err == HDL_OK)
        c->err = hdl_fail(
            HDL_UNSUPPORTED, c->why,
            "a matrix of %u x %u in format %s with %u leaves is not supported by %s; its inner "
            "dimension does not fit the format's groups; use --weights bf16",
            w->n, w->k, hdl_wformat_info_of(w->format)->name, w->n_leaves, c->model->ops->name);
}

hdl_weight hdl_build_weight(hdl_build *c, hdl_weight w, uint32_t rows)
{
    w.bytes = c->model->ops->weight_bytes(w.format, rows, w.k, w.n_leaves);
    if (w.bytes == 0)
        refuse(c, &w);
    c->bytes[w.format] += w.bytes;
    w.data = take(c, w.bytes);
    return w;
}

static hdl_wkind kind_of(hdl_build *c, const hdl_build_rows *f, uint32_t part)
{
    hdl_wkind kind = {.format = HDL_WFORMAT_F32};
    hdl_weight_at at = {f->parts[part].slot, f->layer, f->expert};
    if (c->err == HDL_OK)
        c->err = c->kinds->of(c->kinds, at, f->k / f->n_leaves, &kind, c->why);
    return kind;
}

hdl_weight hdl_build_fused(hdl_build *c, hdl_build_rows f)
{
    hdl_weight w[HDL_BUILD_FUSED_MAX];
    uint32_t rows[HDL_BUILD_FUSED_MAX], n = 0, left = 0;
    for (uint32_t i = 0; i < f.n_parts; i++) {
        hdl_wkind kind = kind_of(c, &f, i);
        left += f.parts[i].rows;
        if (n > 0 && w[n - 1].format == kind.format && w[n - 1].codebook == kind.codebook) {
            rows[n - 1] += f.parts[i].rows;
            continue;
        }
        rows[n] = f.parts[i].rows;
        w[n++] = (hdl_weight){
            .format = kind.format, .codebook = kind.codebook, .k = f.k, .n_leaves = f.n_leaves};
    }
    for (uint32_t i = 0; i < n; left -= rows[i++]) {
        w[i].n = left;
        w[i] = hdl_build_weight(c, w[i], rows[i]);
    }
    for (uint32_t i = n - 1; i > 0; i--, c->n_more++)
        if (c->model->more) {
            c->model->more[c->n_more] = w[i];
            w[i - 1].more = &c->model->more[c->n_more];
        }
    return w[0];
}

hdl_weight hdl_build_matrix(hdl_build *c, hdl_weight_at at, hdl_weight shape)
{
    return hdl_build_fused(c, (hdl_build_rows){.k = shape.k,
                                               .n_leaves = shape.n_leaves,
                                               .layer = at.layer,
                                               .expert = at.expert,
                                               .n_parts = 1,
                                               .parts = {{at.slot, shape.n}}});
}

/* Gate rows, then up rows. */
static hdl_weight take_gate_up(hdl_build *c, hdl_weight_at gate, hdl_wslot up, uint32_t inter)
{
    return hdl_build_fused(c, (hdl_build_rows){.k = c->model->desc->hidden,
                                               .n_leaves = 1,
                                               .layer = gate.layer,
                                               .expert = gate.expert,
                                               .n_parts = 2,
                                               .parts = {{gate.slot, inter}, {up, inter}}});
}

static hdl_weight take_qkv(hdl_build *c, uint32_t layer, uint32_t q, uint32_t kv)
{
    const hdl_model_desc *d = c->model->desc;
    hdl_build_rows f = {.k = d->hidden,
                        .n_leaves = 1,
                        .layer = layer,
                        .n_parts = 3,
                        .parts = {{HDL_WSLOT_Q, q}, {HDL_WSLOT_K, kv}, {HDL_WSLOT_V, kv}}};
    if (d->attn_gate) {
        f.parts[0].slot = f.parts[3].slot = HDL_WSLOT_Q_GATE;
        f.parts[3].rows = q;
        f.n_parts = 4;
    }
    return hdl_build_fused(c, f);
}

static void place_attention(hdl_build *c, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    uint32_t q = s->n_heads * d->head_dim, kv = s->n_kv_heads * d->head_dim;
    uint32_t rows = (d->attn_gate ? 2 * q : q) + 2 * kv;
    bool projection = d->qk_norm == HDL_QK_NORM_PROJECTION;
    bool norms = projection || d->qk_norm == HDL_QK_NORM_HEAD;
    layer->q_norm = hdl_build_floats_if(c, norms, projection ? q : d->head_dim);
    layer->k_norm = hdl_build_floats_if(c, norms, projection ? kv : d->head_dim);
    layer->qkv_bias = hdl_build_floats_if(c, d->qkv_bias, rows);
    layer->o_bias = hdl_build_floats_if(c, d->o_bias, d->hidden);
    layer->sinks = hdl_build_floats_if(c, d->attn_sinks, s->n_heads);
    layer->attn_sub_norm = hdl_build_floats_if(c, d->sub_norm, q);
    layer->qkv = take_qkv(c, idx, q, kv);
    layer->o = hdl_build_matrix(c, (hdl_weight_at){HDL_WSLOT_O, idx, 0},
                                (hdl_weight){.n = d->hidden, .k = q, .n_leaves = s->o_leaves});
}

static void place_dense(hdl_build *c, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    if (s->inter != 0) {
        hdl_weight_at gate = {HDL_WSLOT_GATE, idx, 0};
        layer->gate_up = take_gate_up(c, gate, HDL_WSLOT_UP, s->inter);
        layer->down = hdl_build_matrix(
            c, (hdl_weight_at){HDL_WSLOT_DOWN, idx, 0},
            (hdl_weight){.n = d->hidden, .k = s->inter, .n_leaves = s->down_leaves});
    }
    layer->gate_up_bias = hdl_build_floats_if(c, d->ffn_bias, (size_t)2 * s->inter);
    layer->down_bias = hdl_build_floats_if(c, d->ffn_bias, d->hidden);
    layer->ffn_sub_norm = hdl_build_floats_if(c, d->sub_norm, s->inter);
}

hdl_weight hdl_build_small(hdl_build *c, uint32_t n)
{
    hdl_weight w = {.format = HDL_WFORMAT_F32, .n = n, .k = c->model->desc->hidden, .n_leaves = 1};
    return hdl_build_weight(c, w, n);
}

static void place_shared(hdl_build *c, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    if (s->shared != 0) {
        hdl_weight_at gate = {HDL_WSLOT_SHARED_GATE, idx, 0};
        layer->shared_gate_up = take_gate_up(c, gate, HDL_WSLOT_SHARED_UP, s->shared);
        layer->shared_down = hdl_build_matrix(
            c, (hdl_weight_at){HDL_WSLOT_SHARED_DOWN, idx, 0},
            (hdl_weight){.n = d->hidden, .k = s->shared, .n_leaves = s->shared_leaves});
    }
    if (d->shared_gate)
        layer->shared_on = hdl_build_small(c, 1);
}

/* The router is small and decides which experts run: always f32, as transformers computes it. */
static void place_moe(hdl_build *c, hdl_layer *layer, uint32_t idx)
{
    const hdl_model_desc *d = c->model->desc;
    const hdl_shard *s = &c->model->shard;
    layer->router = hdl_build_small(c, d->n_experts);
    layer->router_bias = hdl_build_floats_if(c, d->router_bias, d->n_experts);
    layer->correction = hdl_build_floats_if(c, d->router_correction, d->n_experts);
    layer->expert_gate_up_bias =
        hdl_build_floats_if(c, d->expert_bias, (size_t)s->n_experts * 2 * s->moe_inter);
    layer->expert_down_bias =
        hdl_build_floats_if(c, d->expert_bias, (size_t)s->n_experts * d->hidden);
    place_shared(c, layer, idx);
    layer->expert_gate_up = c->model->experts + (size_t)idx * 2 * s->n_experts;
    layer->expert_down = layer->expert_gate_up + s->n_experts;
    for (uint32_t e = 0; e < s->n_experts; e++) {
        hdl_weight_at gate = {HDL_WSLOT_EXPERT_GATE, idx, s->expert_at + e};
        layer->expert_gate_up[e] = take_gate_up(c, gate, HDL_WSLOT_EXPERT_UP, s->moe_inter);
        layer->expert_down[e] = hdl_build_matrix(
            c, (hdl_weight_at){HDL_WSLOT_EXPERT_DOWN, idx, s->expert_at + e},
            (hdl_weight){.n = d->hidden, .k = s->moe_inter, .n_leaves = s->moe_down_leaves});
    }
}

static bool wants_screen(const hdl_build *c, size_t copy_bytes)
{
    const hdl_model *m = c->model;
    bool floats = m->lm_head.format == HDL_WFORMAT_F32 || m->lm_head.format == HDL_WFORMAT_BF16;
    const hdl_shard_bytes bytes = {.weight_bytes = c->at,
                                   .head_bytes = floats ? m->lm_head.bytes : 0,
                                   .screen_bytes = copy_bytes};
    return m->ops->linear_screened && m->shard.rank < m->shard.tp &&
           hdl_shard_screen_bytes(&bytes, (int)c->head_screen) != 0;
}

static void place_screen(hdl_build *c)
{
    hdl_model *m = c->model;
    hdl_weight w = {.format = HDL_WFORMAT_Q8, .n = m->lm_head.n, .k = m->lm_head.k, .n_leaves = 1};
    size_t rows = hdl_div_ceil_u32(w.n, HDL_SCREEN_TILE) * (size_t)HDL_SCREEN_TILE;
    w.bytes = m->ops->weight_bytes(w.format, w.n, w.k, w.n_leaves);
    if (!wants_screen(c, w.bytes))
        return;
    w.data = take(c, w.bytes);
    m->head_q8 = w;
    m->head_norms.err = take_floats(c, rows);
    m->head_norms.size = take_floats(c, rows);
}

static void place_all(hdl_build *c)
{
    hdl_model *m = c->model;
    const hdl_model_desc *d = m->desc;
    for (uint32_t i = 0; i < d->n_layers; i++) {
        hdl_layer *layer = &m->layers[i];
        layer->attn_norm = hdl_build_floats_if(c, d->pre_norm, d->hidden);
        layer->attn_post_norm = hdl_build_floats_if(c, d->post_norm, d->hidden);
        layer->ffn_norm = hdl_build_floats_if(c, d->pre_norm, d->hidden);
        layer->ffn_post_norm = hdl_build_floats_if(c, d->post_norm, d->hidden);
        if (d->layers[i].mixer == HDL_MIXER_MLA)
            hdl_build_mla(c, layer, i);
        else if (d->layers[i].mixer == HDL_MIXER_GDN)
            hdl_build_gdn(c, layer, i);
        else
            place_attention(c, layer, i);
        if (d->layers[i].ffn == HDL_FFN_MOE)
            place_moe(c, layer, i);
        else
            place_dense(c, layer, i);
    }
    m->final_norm = take_floats(c, d->hidden);
    m->lm_head =
        hdl_build_matrix(c, (hdl_weight_at){.slot = d->tied ? HDL_WSLOT_EMBED : HDL_WSLOT_LM_HEAD},
                         (hdl_weight){.n = m->shard.vocab_padded, .k = d->hidden, .n_leaves = 1});
    place_screen(c);
    m->weight_bytes = c->at;
    for (uint32_t i = 0; i < d->n_ropes; i++) {
        m->rope_cos[i] = take_floats(c, (size_t)m->max_len * (d->ropes[i].dim / 2));
        m->rope_sin[i] = take_floats(c, (size_t)m->max_len * (d->ropes[i].dim / 2));
    }
    m->q_temp = hdl_build_floats_if(c, d->q_temp.beta != 0, m->max_len);
}

static hdl_err measure(hdl_build *c, hdl_errmsg *why)
{
    place_all(c);
    HDL_TRY(c->err);
    if (c->overflow)
        return hdl_fail(HDL_INVALID, why,
                        "the model's size overflows; config.json is damaged; fetch it again");
    c->model->more = calloc(c->n_more ? c->n_more : 1, sizeof(*c->model->more));
    if (!c->model->more)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    return HDL_OK;
}

/* What ops assert at every call is refused here, where a person reads it. */
static hdl_err check_limits(const hdl_model_opts *opts, hdl_errmsg *why)
{
    const hdl_model_desc *d = opts->desc;
    const hdl_ops *ops = hdl_device_ops(opts->device);
    const hdl_ops_limits *l = &ops->limits;
    const struct {
        const char *what;
        uint32_t value, max;
    } limits[] = {{"head_dim", d->mla.kv_rank ? 0 : d->head_dim, l->head_dim},
                  {"key head of recurrent layers", d->gdn.k_dim, l->gdn_k_dim},
                  {"value head of recurrent layers", d->gdn.v_dim, l->gdn_v_dim},
                  {"convolution", d->gdn.conv, l->gdn_taps},
                  {"row of the latent cache", d->mla.kv_rank + d->mla.rope_dim, l->latent_row},
                  {"rank of the latent cache", d->mla.kv_rank, l->latent_rank},
                  {"number of experts", d->n_experts, l->n_experts},
                  {"number of experts per token", d->topk, l->topk},
                  {"vocabulary", d->vocab, l->vocab}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(limits); i++)
        if (limits[i].value > limits[i].max)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "the model's %s is %u; the kernels of %s take at most %u; %s another "
                            "model",
                            limits[i].what, limits[i].value, ops->name, limits[i].max,
                            hdl_device_is_host(opts->device) ? "choose"
                                                             : "say --device cpu or choose");
    return HDL_OK;
}

/* The tables of positions, where the host can write them: they lie behind the weights. */
typedef struct tables {
    const hdl_model *model;
    ptrdiff_t shift; /* bytes from the model's tables to these */
} tables;

static float *host_table(const tables *t, float *of)
{
    return (float *)(void *)((char *)of + t->shift);
}

/* 128k positions would take one thread a third of a second. */
static void fill_rope(void *arg, uint32_t thread, uint32_t n_threads)
{
    const tables *t = arg;
    const hdl_model *m = t->model;
    uint64_t len = m->max_len;
    hdl_rope_part part = {.max_len = m->max_len,
                          .from = (uint32_t)(len * thread / n_threads),
                          .to = (uint32_t)(len * (thread + 1) / n_threads)};
    for (uint32_t i = 0; i < m->desc->n_ropes; i++) {
        part.cos = host_table(t, m->rope_cos[i]);
        part.sin = host_table(t, m->rope_sin[i]);
        hdl_rope_fill(&m->desc->ropes[i], part);
    }
    if (m->q_temp)
        hdl_q_temp_fill(&m->desc->q_temp, part, host_table(t, m->q_temp));
}

static hdl_err fill_tables(hdl_model *m, hdl_errmsg *why)
{
    tables t = {.model = m};
    size_t bytes = m->memory_bytes - m->weight_bytes;
    char *there = (char *)m->memory + m->weight_bytes;
    if (bytes == 0)
        return HDL_OK;
    if (hdl_device_is_host(m->device)) {
        hdl_stream_run(hdl_device_host(m->device), fill_rope, &t);
        return HDL_OK;
    }
    char *here = malloc(bytes);
    if (!here)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    t.shift = here - there;
    hdl_stream_run(hdl_device_host(m->device), fill_rope, &t);
    hdl_err err = hdl_device_write(m->device, there, here, bytes);
    free(here);
    if (err != HDL_OK)
        return hdl_fail(err, why,
                        "the device does not take the tables of positions; %s; look at "
                        "its driver's log",
                        hdl_err_text(err));
    return HDL_OK;
}

static hdl_err check_budget(uint64_t weights, const hdl_budget *b, hdl_errmsg *why)
{
    char text[5][HDL_UNITS_TEXT_BYTES];
    uint64_t sum = 0;
    bool counts = hdl_add_u64(weights, b->activations, &sum) && hdl_add_u64(sum, b->cache, &sum);
    if (b->free == 0 || (counts && sum <= b->free))
        return HDL_OK;
    return hdl_fail(HDL_NOMEM, why,
                    "the device has %s free; this rank needs %s: weights %s, activations %s, KV "
                    "cache %s or more; use --weights q8 or q4, more ranks (--tp, --ep), or less of "
                    "--step-tokens and --kv-bytes",
                    hdl_format_size(b->free, text[0]),
                    hdl_format_size(counts ? sum : UINT64_MAX, text[1]),
                    hdl_format_size(weights, text[2]), hdl_format_size(b->activations, text[3]),
                    hdl_format_size(b->cache, text[4]));
}

hdl_err hdl_model_build(hdl_model *out, const hdl_model_opts *opts, hdl_errmsg *why)
{
    hdl_err err = HDL_NOMEM;
    *out = (hdl_model){.desc = opts->desc,
                       .shard = opts->shard,
                       .ops = hdl_device_ops(opts->device),
                       .max_len = opts->max_len,
                       .device = opts->device};
    HDL_TRY(check_limits(opts, why));
    size_t n_experts = (size_t)2 * opts->shard.n_experts * opts->desc->n_layers;
    out->layers = calloc(opts->desc->n_layers, sizeof(*out->layers));
    out->experts = calloc(n_experts ? n_experts : 1, sizeof(*out->experts));
    size_t n_heads = (size_t)2 * opts->shard.n_heads * opts->desc->n_layers;
    out->heads = calloc(opts->desc->mla.kv_rank ? n_heads : 1, sizeof(*out->heads));
    if (!out->layers || !out->experts || !out->heads) {
        err = hdl_fail(err, why, "out of memory; the machine is full; stop other programs");
        goto fail;
    }
    hdl_build c = {
        .model = out, .kinds = opts->kinds, .head_screen = opts->head_screen, .why = why};
    HDL_TRY_GOTO(measure(&c, why), fail);
    HDL_TRY_GOTO(check_budget(c.at, &opts->budget, why), fail);
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
    c = (hdl_build){.model = out,
                    .kinds = opts->kinds,
                    .head_screen = opts->head_screen,
                    .base = out->memory,
                    .why = why};
    place_all(&c);
    HDL_TRY_GOTO(c.err, fail);
    for (hdl_wformat f = 0; f < HDL_WFORMAT_COUNT; f++)
        if (c.bytes[f] > c.bytes[out->format])
            out->format = f;
    HDL_TRY_GOTO(fill_tables(out, why), fail);
    return HDL_OK;
fail:
    hdl_model_free(out);
    return err;
}

void hdl_model_free(hdl_model *model)
{
    if (model->memory)
        hdl_device_free(model->device, model->memory, model->memory_bytes);
    if (model->embed_memory)
        hdl_device_free(model->device, model->embed_memory, model->embed_bytes);
    free(model->layers);
    free(model->experts);
    free(model->heads);
    free(model->more);
    *model = (hdl_model){0};
}

/* Largest dimensions of the matrices around the mixers: n outputs of k inputs. */
static void mixer_extent(const hdl_model_desc *desc, const hdl_shard *s, uint32_t *n, uint32_t *k)
{
    const hdl_mla_desc *m = &desc->mla;
    if (m->kv_rank != 0) {
        uint32_t q = s->n_heads * (m->nope_dim + m->rope_dim);
        *n = hdl_max_u32(q, m->q_rank) + m->kv_rank + m->rope_dim;
        *k = hdl_max_u32(hdl_max_u32(m->q_rank, m->kv_rank), s->n_heads * m->v_dim);
        return;
    }
    uint32_t n_q = (desc->attn_gate ? 2 : 1) * s->n_heads;
    uint32_t values = s->gdn_v_heads * desc->gdn.v_dim;
    *n = hdl_max_u32((n_q + 2 * s->n_kv_heads) * desc->head_dim,
                     2 * (s->gdn_k_heads * desc->gdn.k_dim + values));
    *k = hdl_max_u32(s->n_heads * desc->head_dim, values);
}

hdl_ops_extent hdl_model_extent(const hdl_model_desc *desc, const hdl_shard *shard,
                                uint32_t n_tokens, uint32_t max_len)
{
    uint32_t inter = hdl_max_u32(shard->inter, shard->shared), n = 0, k = 0;
    mixer_extent(desc, shard, &n, &k);
    uint32_t n_max = hdl_max_u32(n, shard->vocab_padded);
    n_max = hdl_max_u32(n_max, 2 * hdl_max_u32(inter, shard->moe_inter));
    n_max = hdl_max_u32(n_max, hdl_max_u32(desc->hidden, desc->n_experts));
    uint32_t k_max = hdl_max_u32(desc->hidden, k);
    k_max = hdl_max_u32(k_max, hdl_max_u32(inter, shard->moe_inter));
    uint32_t latent_row = desc->mla.kv_rank + desc->mla.rope_dim;
    return (hdl_ops_extent){
        .n_tokens = n_tokens,
        .n_rows = n_tokens,
        .hidden = desc->hidden,
        .inter = inter,
        .moe_inter = shard->moe_inter,
        .n_heads = shard->n_heads,
        .n_kv_heads = shard->n_kv_heads,
        .head_dim = hdl_max_u32(desc->head_dim, latent_row),
        .n_experts = desc->n_experts,
        .topk = desc->topk,
        .n_max = n_max,
        .k_max = k_max,
        .max_len = max_len,
        .latent_rank = desc->mla.kv_rank,
        .nope_dim = desc->mla.nope_dim,
        .latent_v_dim = desc->mla.v_dim,
    };
}
