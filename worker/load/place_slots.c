/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/assert.h"
#include "worker/load/place_impl.h"

enum { JOB_ROWS = 256 }; /* of a matrix: small enough to balance, large enough to stream */

static hdl_err add_job(hdl_placer *p, hdl_place_job j)
{
    if (p->n_jobs == p->jobs_size) {
        size_t size = p->jobs_size ? p->jobs_size * 2 : 1024;
        hdl_place_job *grown = realloc(p->jobs, size * sizeof(*grown));
        if (!grown)
            return hdl_fail(HDL_NOMEM, p->why,
                            "out of memory; the machine is full; stop other "
                            "programs");
        p->jobs = grown;
        p->jobs_size = size;
    }
    j.name = p->name;
    p->jobs[p->n_jobs++] = j;
    p->bytes_total += hdl_source_bytes(&j.src);
    return HDL_OK;
}

/* Where in a packed matrix a slice begins: fused matrices hold several slots. */
typedef struct target {
    hdl_weight *dst;
    uint32_t row_at;
} target;

/* The slice lies in one part of a stacked matrix. The parts after the first are the model's too;
 * they are const only for those who compute with them. */
static target in_stack(target to)
{
    while (to.row_at >= hdl_weight_rows(to.dst)) {
        to.row_at -= hdl_weight_rows(to.dst);
        to.dst = (hdl_weight *)(uintptr_t)to.dst->more;
    }
    return to;
}

static void count(hdl_placer *p, const hdl_source *src, const hdl_weight *w)
{
    hdl_place_sum *sum = &p->sums[src->encoding][w->format];
    double share = (double)src->n_rows / hdl_weight_rows(w);
    sum->file_bytes += hdl_source_bytes(src);
    sum->memory_bytes += (uint64_t)(share * (double)w->bytes + 0.5);
    sum->exact = hdl_kind_keeps(src->encoding, (hdl_wkind){w->format, w->codebook});
}

static hdl_err add_rows(hdl_placer *p, const hdl_source *src, target to)
{
    for (uint32_t row = 0; row < src->n_rows; row += JOB_ROWS) {
        hdl_window w = {row, hdl_min_u32(JOB_ROWS, src->n_rows - row), 0, src->n_cols};
        hdl_place_job j = {
            .src = hdl_source_part(src, w), .dst = to.dst, .row_at = to.row_at + row};
        HDL_TRY(add_job(p, j));
    }
    return HDL_OK;
}

/* Every second row of src from `first` on. */
static hdl_source every_second(const hdl_source *src, uint32_t first)
{
    hdl_source s = *src;
    s.codes.data = (const char *)src->codes.data + (src->row_at + first) * src->codes.row_step;
    s.codes.row_step *= 2;
    s.row_at = 0;
    s.n_rows /= 2;
    return s;
}

/* A slice of a slot whose heads' rows take turns with those of others. */
static hdl_err add_by_heads(hdl_placer *p, const hdl_found *f, hdl_slice s, target to)
{
    uint32_t each = f->heads.each;
    HDL_ASSERT(s.row_at % each == 0 && s.n_rows % each == 0 && !f->heads.across);
    for (uint32_t row = 0; row < s.n_rows; row += each) {
        uint32_t at = hdl_found_head_row(&f->heads, (s.row_at + row) / each);
        hdl_source src = hdl_source_part(&f->src, (hdl_window){at, each, s.col_at, s.n_cols});
        count(p, &src, to.dst);
        HDL_TRY(add_rows(p, &src, (target){to.dst, to.row_at + row}));
    }
    return HDL_OK;
}

static hdl_err add_matrix(hdl_placer *p, const hdl_found *f, hdl_slice s, target to)
{
    to = in_stack(to);
    p->name = f->name;
    HDL_ASSERT_EQ(s.n_cols, to.dst->k);
    HDL_ASSERT_LE(to.row_at + s.n_rows, hdl_weight_rows(to.dst));
    if (f->heads.each != 0)
        return add_by_heads(p, f, s, to);
    hdl_source src = hdl_source_part(&f->src, (hdl_window){s.row_at, s.n_rows, s.col_at, s.n_cols});
    count(p, &src, to.dst);
    if (f->pairs == 0)
        return add_rows(p, &src, to);
    HDL_ASSERT(s.row_at % f->pairs == 0 && s.n_rows % f->pairs == 0);
    for (uint32_t row = 0; row < s.n_rows; row += f->pairs) {
        hdl_source head = hdl_source_part(&src, (hdl_window){row, f->pairs, 0, src.n_cols});
        for (uint32_t half = 0; half < 2; half++) {
            hdl_source rows = every_second(&head, half);
            HDL_TRY(add_rows(p, &rows, (target){to.dst, to.row_at + row + half * f->pairs / 2}));
        }
    }
    return HDL_OK;
}

/* Rows of floats of a slot, perhaps by heads. */
static hdl_err add_floats(hdl_placer *p, const hdl_found *f, hdl_slice s, hdl_place_job job)
{
    uint32_t each = f->heads.each ? f->heads.each : s.n_rows;
    p->name = f->name;
    job.neg_exp = f->neg_exp;
    for (uint32_t row = 0; row < s.n_rows; row += each, job.vec += each) {
        uint32_t at = s.row_at + row;
        if (f->heads.each)
            at = hdl_found_head_row(&f->heads, at / each);
        job.src = hdl_source_part(&f->src, (hdl_window){at, each, 0, s.n_cols});
        HDL_TRY(add_job(p, job));
    }
    return HDL_OK;
}

/* Where a vector goes; plus is 1 for norms that are stored as w - 1. */
typedef struct vector_at {
    float *vec, plus;
} vector_at;

static hdl_err add_vector(hdl_placer *p, const hdl_found *f, hdl_slice s, vector_at to)
{
    if (f->pairs == 0)
        return add_floats(p, f, s, (hdl_place_job){.vec = to.vec, .plus = to.plus});
    hdl_source src = hdl_source_part(&f->src, (hdl_window){s.row_at, s.n_rows, 0, 1});
    p->name = f->name;
    for (uint32_t row = 0; row < s.n_rows; row += f->pairs) {
        hdl_source head = hdl_source_part(&src, (hdl_window){row, f->pairs, 0, 1});
        for (uint32_t half = 0; half < 2; half++) {
            hdl_place_job j = {.src = every_second(&head, half),
                               .vec = to.vec + row + half * f->pairs / 2,
                               .plus = to.plus};
            HDL_TRY(add_job(p, j));
        }
    }
    return HDL_OK;
}

/* The rows of Q_GATE are each head's query and then its gate; in the packed matrix the queries
 * stand first and the gates last, so that qkv_rope finds q, k and v side by side. */
static hdl_err add_gated_q(hdl_placer *p, const hdl_found *f, hdl_slice s, hdl_weight *qkv)
{
    const hdl_model *m = p->model;
    uint32_t hd = m->desc->head_dim, n_heads = m->shard.n_heads;
    uint32_t gates = (n_heads + 2 * m->shard.n_kv_heads) * hd;
    for (uint32_t h = 0; h < n_heads; h++) {
        hdl_slice half = {s.row_at + 2 * h * hd, hd, s.col_at, s.n_cols};
        HDL_TRY(add_matrix(p, f, half, (target){qkv, h * hd}));
        half.row_at += hd;
        HDL_TRY(add_matrix(p, f, half, (target){qkv, gates + h * hd}));
    }
    return HDL_OK;
}

/* A matrix of its own for each head of the rank. */
static hdl_err add_heads(hdl_placer *p, const hdl_found *f, hdl_weight *heads)
{
    const hdl_shard *s = &p->model->shard;
    p->name = f->name;
    for (uint32_t h = 0; h < s->n_heads; h++) {
        uint32_t at = hdl_found_head_row(&f->heads, s->head_at + h);
        hdl_window w = {at, f->heads.each, 0, f->src.n_cols};
        if (f->heads.across)
            w = (hdl_window){0, f->src.n_rows, at, f->heads.each};
        hdl_source src = hdl_source_part(&f->src, w);
        HDL_ASSERT(src.n_rows == heads[h].n && src.n_cols == heads[h].k);
        count(p, &src, &heads[h]);
        HDL_TRY(add_rows(p, &src, (target){&heads[h], 0}));
    }
    return HDL_OK;
}

static vector_at layer_vector(const hdl_model *m, hdl_weight_at at)
{
    const hdl_layer *layer = &m->layers[at.layer];
    const hdl_shard *sh = &m->shard;
    uint32_t q = sh->n_heads * m->desc->head_dim, kv = sh->n_kv_heads * m->desc->head_dim;
    uint32_t e = at.expert - sh->expert_at;
    float one = m->desc->norm_plus_one ? 1.0f : 0.0f;
    switch (at.slot) {
    case HDL_WSLOT_ATTN_NORM: return (vector_at){layer->attn_norm, one};
    case HDL_WSLOT_ATTN_POST_NORM: return (vector_at){layer->attn_post_norm, one};
    case HDL_WSLOT_FFN_NORM: return (vector_at){layer->ffn_norm, one};
    case HDL_WSLOT_FFN_POST_NORM: return (vector_at){layer->ffn_post_norm, one};
    case HDL_WSLOT_Q_NORM:
    case HDL_WSLOT_Q_PROJ_NORM: return (vector_at){layer->q_norm, one};
    case HDL_WSLOT_K_NORM:
    case HDL_WSLOT_K_PROJ_NORM: return (vector_at){layer->k_norm, one};
    case HDL_WSLOT_Q_BIAS: return (vector_at){layer->qkv_bias, 0};
    case HDL_WSLOT_K_BIAS: return (vector_at){layer->qkv_bias + q, 0};
    case HDL_WSLOT_V_BIAS: return (vector_at){layer->qkv_bias + q + kv, 0};
    case HDL_WSLOT_O_BIAS: return (vector_at){layer->o_bias, 0};
    case HDL_WSLOT_MLA_Q_A_NORM: return (vector_at){layer->mla.q_a_norm, 0};
    case HDL_WSLOT_MLA_KV_A_NORM: return (vector_at){layer->mla.kv_a_norm, 0};
    case HDL_WSLOT_GDN_A_LOG: return (vector_at){layer->gdn.a_log, 0};
    case HDL_WSLOT_GDN_DT_BIAS: return (vector_at){layer->gdn.dt_bias, 0};
    case HDL_WSLOT_GDN_NORM: return (vector_at){layer->gdn.norm, 0};
    case HDL_WSLOT_SINKS: return (vector_at){layer->sinks, 0};
    case HDL_WSLOT_ATTN_SUB_NORM: return (vector_at){layer->attn_sub_norm, 0};
    case HDL_WSLOT_FFN_SUB_NORM: return (vector_at){layer->ffn_sub_norm, 0};
    case HDL_WSLOT_GATE_BIAS: return (vector_at){layer->gate_up_bias, 0};
    case HDL_WSLOT_UP_BIAS: return (vector_at){layer->gate_up_bias + sh->inter, 0};
    case HDL_WSLOT_DOWN_BIAS: return (vector_at){layer->down_bias, 0};
    case HDL_WSLOT_ROUTER_BIAS: return (vector_at){layer->router_bias, 0};
    case HDL_WSLOT_CORRECTION: return (vector_at){layer->correction, 0};
    case HDL_WSLOT_EXPERT_GATE_BIAS:
        return (vector_at){layer->expert_gate_up_bias + (size_t)2 * e * sh->moe_inter, 0};
    case HDL_WSLOT_EXPERT_UP_BIAS:
        return (vector_at){layer->expert_gate_up_bias + ((size_t)2 * e + 1) * sh->moe_inter, 0};
    case HDL_WSLOT_EXPERT_DOWN_BIAS:
        return (vector_at){layer->expert_down_bias + (size_t)e * m->desc->hidden, 0};
    default: return (vector_at){0};
    }
}

static target gdn_matrix(const hdl_model *m, hdl_weight_at at)
{
    hdl_gdn_layer *l = &m->layers[at.layer].gdn;
    const hdl_shard *sh = &m->shard;
    uint32_t keys = sh->gdn_k_heads * m->desc->gdn.k_dim, heads = sh->gdn_v_heads;
    switch (at.slot) {
    case HDL_WSLOT_GDN_Q: return (target){&l->in, 0};
    case HDL_WSLOT_GDN_K: return (target){&l->in, keys};
    case HDL_WSLOT_GDN_V: return (target){&l->in, 2 * keys};
    case HDL_WSLOT_GDN_Z: return (target){&l->in, 2 * keys + heads * m->desc->gdn.v_dim};
    case HDL_WSLOT_GDN_B: return (target){&l->ba, 0};
    case HDL_WSLOT_GDN_A: return (target){&l->ba, heads};
    default: HDL_UNREACHABLE("slot of Gated DeltaNet");
    }
}

/* The convolution's weights lie tap by tap. */
static hdl_err add_conv(hdl_placer *p, const hdl_found *f, hdl_slice s, hdl_weight_at at)
{
    const hdl_model *m = p->model;
    uint32_t keys = m->shard.gdn_k_heads * m->desc->gdn.k_dim;
    uint32_t values = m->shard.gdn_v_heads * m->desc->gdn.v_dim;
    uint32_t first = at.slot == HDL_WSLOT_GDN_CONV_Q ? 0 : keys;
    if (at.slot == HDL_WSLOT_GDN_CONV_V)
        first = 2 * keys;
    return add_floats(p, f, s,
                      (hdl_place_job){.vec = m->layers[at.layer].gdn.conv + first,
                                      .col_step = 2 * keys + values});
}

static target layer_matrix(const hdl_model *m, hdl_weight_at at)
{
    hdl_layer *layer = &m->layers[at.layer];
    const hdl_shard *sh = &m->shard;
    uint32_t q = sh->n_heads * m->desc->head_dim, kv = sh->n_kv_heads * m->desc->head_dim;
    uint32_t e = at.expert - sh->expert_at, kv_a = hdl_dim_size(m->desc, HDL_DIM_KV_A);
    switch (at.slot) {
    case HDL_WSLOT_Q:
    case HDL_WSLOT_Q_GATE: return (target){&layer->qkv, 0};
    case HDL_WSLOT_K: return (target){&layer->qkv, q};
    case HDL_WSLOT_V: return (target){&layer->qkv, q + kv};
    case HDL_WSLOT_O:
    case HDL_WSLOT_GDN_OUT:
    case HDL_WSLOT_MLA_O: return (target){&layer->o, 0};
    case HDL_WSLOT_MLA_Q:
    case HDL_WSLOT_MLA_Q_A: return (target){&layer->mla.a, 0};
    case HDL_WSLOT_MLA_Q_B: return (target){&layer->mla.q_b, 0};
    case HDL_WSLOT_MLA_KV_A: return (target){&layer->mla.a, layer->mla.a.n - kv_a};
    case HDL_WSLOT_GATE: return (target){&layer->gate_up, 0};
    case HDL_WSLOT_UP: return (target){&layer->gate_up, sh->inter};
    case HDL_WSLOT_DOWN: return (target){&layer->down, 0};
    case HDL_WSLOT_ROUTER: return (target){&layer->router, 0};
    case HDL_WSLOT_EXPERT_GATE: return (target){&layer->expert_gate_up[e], 0};
    case HDL_WSLOT_EXPERT_UP: return (target){&layer->expert_gate_up[e], sh->moe_inter};
    case HDL_WSLOT_EXPERT_DOWN: return (target){&layer->expert_down[e], 0};
    case HDL_WSLOT_SHARED_GATE: return (target){&layer->shared_gate_up, 0};
    case HDL_WSLOT_SHARED_UP: return (target){&layer->shared_gate_up, sh->shared};
    case HDL_WSLOT_SHARED_DOWN: return (target){&layer->shared_down, 0};
    case HDL_WSLOT_SHARED_ON: return (target){&layer->shared_on, 0};
    default: return gdn_matrix(m, at);
    }
}

static hdl_err add_layer_slot(hdl_placer *p, const hdl_found *f, hdl_weight_at at)
{
    hdl_model *m = p->model;
    hdl_slice s = hdl_slot_slice(m->desc, &m->shard, at.slot);
    if (s.n_rows == 0 || s.n_cols == 0)
        return HDL_OK; /* others hold the leaves */
    if (hdl_slot_info_of(at.slot)->cols == HDL_DIM_NONE)
        return add_vector(p, f, s, layer_vector(m, at));
    if (at.slot == HDL_WSLOT_GDN_CONV_Q || at.slot == HDL_WSLOT_GDN_CONV_K ||
        at.slot == HDL_WSLOT_GDN_CONV_V)
        return add_conv(p, f, s, at);
    if (at.slot == HDL_WSLOT_MLA_K_B)
        return add_heads(p, f, m->layers[at.layer].mla.k_b);
    if (at.slot == HDL_WSLOT_MLA_V_B)
        return add_heads(p, f, m->layers[at.layer].mla.v_b);
    target to = layer_matrix(m, at);
    if (at.slot == HDL_WSLOT_Q_GATE)
        return add_gated_q(p, f, s, to.dst);
    return add_matrix(p, f, s, to);
}

/* And its copy, where there is one. */
static hdl_err add_head(hdl_placer *p, const hdl_found *f)
{
    hdl_model *m = p->model;
    hdl_slice s = hdl_slot_slice(m->desc, &m->shard, HDL_WSLOT_LM_HEAD);
    HDL_TRY(add_matrix(p, f, s, (target){&m->lm_head, 0}));
    if (m->head_q8.n == 0)
        return HDL_OK;
    HDL_ASSERT(f->heads.each == 0 && f->pairs == 0);
    hdl_source src = hdl_source_part(&f->src, (hdl_window){s.row_at, s.n_rows, s.col_at, s.n_cols});
    return add_rows(p, &src, (target){&m->head_q8, 0});
}

static hdl_err add_model_slot(hdl_placer *p, const hdl_found *f, hdl_weight_at at)
{
    hdl_model *m = p->model;
    hdl_slice s = hdl_slot_slice(m->desc, &m->shard, at.slot);
    switch (at.slot) {
    case HDL_WSLOT_EMBED: m->embed = f->src; return m->desc->tied ? add_head(p, f) : HDL_OK;
    case HDL_WSLOT_FINAL_NORM:
        return add_vector(p, f, s,
                          (vector_at){m->final_norm, m->desc->norm_plus_one ? 1.0f : 0.0f});
    case HDL_WSLOT_LM_HEAD: return add_head(p, f);
    default: HDL_UNREACHABLE("model slot");
    }
}

static hdl_err find(hdl_placer *p, hdl_weight_at at, hdl_found *out)
{
    return hdl_files_find(p->files, (hdl_files_ask){p->model->desc, at}, out, p->why);
}

static hdl_err add_expert_slots(hdl_placer *p, hdl_weight_at at)
{
    const hdl_shard *s = &p->model->shard;
    for (uint32_t e = 0; e < p->model->desc->n_experts; e++) {
        hdl_found f;
        at.expert = e;
        HDL_TRY(find(p, at, &f));
        if (e >= s->expert_at && e < s->expert_at + s->n_experts)
            HDL_TRY(add_layer_slot(p, &f, at));
    }
    return HDL_OK;
}

hdl_err hdl_place_add_slot(hdl_placer *p, hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : p->model->desc->n_layers;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        hdl_found f;
        hdl_weight_at at = {.slot = slot, .layer = layer};
        if (!hdl_slot_used(p->model->desc, slot, layer))
            continue;
        if (info->scope == HDL_SCOPE_EXPERT) {
            HDL_TRY(add_expert_slots(p, at));
            continue;
        }
        HDL_TRY(find(p, at, &f));
        HDL_TRY(info->scope == HDL_SCOPE_MODEL ? add_model_slot(p, &f, at)
                                               : add_layer_slot(p, &f, at));
    }
    return HDL_OK;
}
