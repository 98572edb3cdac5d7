/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/place.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "kernels/numeric.h"
#include "worker/model/arch.h"

enum {
    JOB_ROWS = 256, /* of a matrix: small enough to balance, large enough to stream */
    NAME_BYTES = 256,
    PROGRESS_US = 50000,
};

/* Some rows of one tensor on their way to one place. */
typedef struct job {
    hdl_tensor src;
    hdl_weight *dst; /* NULL: a vector */
    float *vec;
    uint32_t row_at; /* in dst */
} job;

typedef struct placer {
    hdl_model *model;
    const hdl_st *st;
    const hdl_place_opts *opts;
    hdl_errmsg *why;
    unsigned char *used; /* owned; [tensors]: some slot names it */
    job *jobs;           /* owned */
    size_t n_jobs, jobs_size;
    uint64_t bytes_total;
    _Atomic size_t next;
    _Atomic uint64_t bytes_done;
    uint64_t shown_us; /* thread 0: when progress was last told */
} placer;

/* ---- finding ------------------------------------------------------------------------------ */

static hdl_err check_tensor(const placer *p, const hdl_st_tensor *t, hdl_weight_at at)
{
    const hdl_slot_info *info = hdl_slot_info_of(at.slot);
    const hdl_model_desc *desc = p->model->desc;
    uint32_t n_dims = info->cols == HDL_DIM_NONE ? 1 : 2;
    uint64_t rows = hdl_dim_size(desc, info->rows), cols = hdl_dim_size(desc, info->cols);
    if (t->dtype != HDL_DTYPE_F32 && t->dtype != HDL_DTYPE_F16 && t->dtype != HDL_DTYPE_BF16)
        return hdl_fail(HDL_UNSUPPORTED, p->why,
                        "tensor %.120s is of type %.20s; F32, F16 and BF16 are supported; use the "
                        "bf16 release of the model",
                        t->name, t->dtype_name);
    if (t->n_dims != n_dims || t->shape[0] != rows || (n_dims == 2 && t->shape[1] != cols))
        return hdl_fail(HDL_CORRUPT, p->why,
                        "tensor %.120s has %u dimensions, %" PRIu64 " x %" PRIu64
                        "; config.json asks for %u, %" PRIu64 " x %" PRIu64
                        "; the files do not belong together; fetch the model again",
                        t->name, t->n_dims, t->n_dims > 0 ? t->shape[0] : 0,
                        t->n_dims > 1 ? t->shape[1] : 1, n_dims, rows, cols);
    return HDL_OK;
}

static hdl_err find(placer *p, hdl_weight_at at, const hdl_st_tensor **out)
{
    char name[NAME_BYTES];
    const hdl_arch *arch = hdl_arch_of(p->model->desc);
    if (!hdl_arch_weight_name(arch, at, name, sizeof(name)))
        return hdl_fail(HDL_BUG, p->why,
                        "%s names no weight for %s; its table is wrong; report "
                        "this",
                        arch->name, hdl_slot_info_of(at.slot)->name);
    const hdl_st_tensor *t = hdl_st_find(p->st, name);
    if (!t)
        return hdl_fail(
            HDL_CORRUPT, p->why,
            "tensor %.120s is missing; the files are not complete or not of this model; "
            "fetch the model again",
            name);
    HDL_TRY(check_tensor(p, t, at));
    p->used[t - hdl_st_at(p->st, 0)] = 1;
    *out = t;
    return HDL_OK;
}

static bool harmless(const hdl_model_desc *desc, const char *name)
{
    size_t len = strlen(name);
    static const char inv[] = "rotary_emb.inv_freq"; /* computed anew from config.json */
    if (len >= sizeof(inv) - 1 && strcmp(name + len - (sizeof(inv) - 1), inv) == 0)
        return true;
    return desc->tied && strcmp(name, "lm_head.weight") == 0; /* the embedding once more */
}

static hdl_err check_unknown(const placer *p)
{
    for (size_t i = 0; i < hdl_st_count(p->st); i++) {
        const char *name = hdl_st_at(p->st, i)->name;
        if (!p->used[i] && !harmless(p->model->desc, name))
            return hdl_fail(HDL_UNSUPPORTED, p->why,
                            "tensor %.120s has no place in %s; leaving it out might give wrong "
                            "text; choose a model of a supported architecture, or report it",
                            name, p->model->desc->arch);
    }
    return HDL_OK;
}

/* ---- jobs --------------------------------------------------------------------------------- */

static hdl_err add_job(placer *p, job j)
{
    if (p->n_jobs == p->jobs_size) {
        size_t size = p->jobs_size ? p->jobs_size * 2 : 1024;
        job *grown = realloc(p->jobs, size * sizeof(*grown));
        if (!grown)
            return hdl_fail(HDL_NOMEM, p->why,
                            "out of memory; the machine is full; stop other "
                            "programs");
        p->jobs = grown;
        p->jobs_size = size;
    }
    p->jobs[p->n_jobs++] = j;
    p->bytes_total +=
        (uint64_t)j.src.shape[0] * (uint64_t)j.src.shape[1] * hdl_dtype_bytes(j.src.dtype);
    return HDL_OK;
}

/* Rows and columns of a slice, as a view into the file. */
static hdl_tensor view(const hdl_st_tensor *t, hdl_slice s, uint32_t row, uint32_t n_rows)
{
    uint64_t cols = t->n_dims == 2 ? t->shape[1] : 1;
    const char *data = t->data;
    uint64_t at = ((uint64_t)(s.row_at + row) * cols + s.col_at) * hdl_dtype_bytes(t->dtype);
    hdl_tensor v = hdl_tensor_2d((void *)(uintptr_t)(data + at), t->dtype, n_rows, s.n_cols);
    v.stride[0] = (int64_t)cols;
    return v;
}

/* Where in a packed matrix a slice begins: fused matrices hold several slots. */
typedef struct target {
    hdl_weight *dst;
    uint32_t row_at;
} target;

static hdl_err add_matrix(placer *p, const hdl_st_tensor *t, hdl_slice s, target to)
{
    HDL_ASSERT_EQ(s.n_cols, to.dst->k);
    HDL_ASSERT_LE(to.row_at + s.n_rows, to.dst->n);
    for (uint32_t row = 0; row < s.n_rows; row += JOB_ROWS) {
        uint32_t n = hdl_min_u32(JOB_ROWS, s.n_rows - row);
        job j = {.src = view(t, s, row, n), .dst = to.dst, .row_at = to.row_at + row};
        HDL_TRY(add_job(p, j));
    }
    return HDL_OK;
}

static hdl_err add_vector(placer *p, const hdl_st_tensor *t, hdl_slice s, float *vec)
{
    return add_job(p, (job){.src = view(t, s, 0, s.n_rows), .vec = vec});
}

static hdl_err add_layer_slot(placer *p, const hdl_st_tensor *t, hdl_weight_at at)
{
    hdl_model *m = p->model;
    hdl_layer *layer = &m->layers[at.layer];
    hdl_slice s = hdl_slot_slice(m->desc, &m->shard, at.slot);
    uint32_t q = m->shard.n_heads * m->desc->head_dim, kv = m->shard.n_kv_heads * m->desc->head_dim;
    uint32_t e = at.expert - m->shard.expert_at;
    switch (at.slot) {
    case HDL_WSLOT_ATTN_NORM: return add_vector(p, t, s, layer->attn_norm);
    case HDL_WSLOT_FFN_NORM: return add_vector(p, t, s, layer->ffn_norm);
    case HDL_WSLOT_Q_NORM: return add_vector(p, t, s, layer->q_norm);
    case HDL_WSLOT_K_NORM: return add_vector(p, t, s, layer->k_norm);
    case HDL_WSLOT_Q: return add_matrix(p, t, s, (target){&layer->qkv, 0});
    case HDL_WSLOT_K: return add_matrix(p, t, s, (target){&layer->qkv, q});
    case HDL_WSLOT_V: return add_matrix(p, t, s, (target){&layer->qkv, q + kv});
    case HDL_WSLOT_O: return add_matrix(p, t, s, (target){&layer->o, 0});
    case HDL_WSLOT_GATE: return add_matrix(p, t, s, (target){&layer->gate_up, 0});
    case HDL_WSLOT_UP: return add_matrix(p, t, s, (target){&layer->gate_up, m->shard.inter});
    case HDL_WSLOT_DOWN: return add_matrix(p, t, s, (target){&layer->down, 0});
    case HDL_WSLOT_ROUTER: return add_matrix(p, t, s, (target){&layer->router, 0});
    case HDL_WSLOT_EXPERT_GATE: return add_matrix(p, t, s, (target){&layer->expert_gate_up[e], 0});
    case HDL_WSLOT_EXPERT_UP:
        return add_matrix(p, t, s, (target){&layer->expert_gate_up[e], m->shard.moe_inter});
    case HDL_WSLOT_EXPERT_DOWN: return add_matrix(p, t, s, (target){&layer->expert_down[e], 0});
    default: HDL_UNREACHABLE("layer slot");
    }
}

static hdl_err add_model_slot(placer *p, const hdl_st_tensor *t, hdl_weight_at at)
{
    hdl_model *m = p->model;
    hdl_slice s = hdl_slot_slice(m->desc, &m->shard, at.slot);
    switch (at.slot) {
    case HDL_WSLOT_EMBED:
        m->embed = hdl_source_of_tensor(
            &(hdl_tensor){.data = (void *)(uintptr_t)t->data,
                          .dtype = t->dtype,
                          .n_dims = 2,
                          .shape = {(int64_t)t->shape[0], (int64_t)t->shape[1]},
                          .stride = {(int64_t)t->shape[1], 1}});
        if (!m->desc->tied)
            return HDL_OK;
        s = hdl_slot_slice(m->desc, &m->shard, HDL_WSLOT_LM_HEAD);
        return add_matrix(p, t, s, (target){&m->lm_head, 0});
    case HDL_WSLOT_FINAL_NORM: return add_vector(p, t, s, m->final_norm);
    case HDL_WSLOT_LM_HEAD: return add_matrix(p, t, s, (target){&m->lm_head, 0});
    default: HDL_UNREACHABLE("model slot");
    }
}

static hdl_err add_expert_slots(placer *p, hdl_weight_at at)
{
    const hdl_shard *s = &p->model->shard;
    for (uint32_t e = 0; e < p->model->desc->n_experts; e++) {
        const hdl_st_tensor *t = NULL;
        at.expert = e;
        HDL_TRY(find(p, at, &t));
        if (e >= s->expert_at && e < s->expert_at + s->n_experts)
            HDL_TRY(add_layer_slot(p, t, at));
    }
    return HDL_OK;
}

static hdl_err add_slot(placer *p, hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : p->model->desc->n_layers;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        const hdl_st_tensor *t = NULL;
        hdl_weight_at at = {.slot = slot, .layer = layer};
        if (!hdl_slot_used(p->model->desc, slot, layer))
            continue;
        if (info->scope == HDL_SCOPE_EXPERT) {
            HDL_TRY(add_expert_slots(p, at));
            continue;
        }
        HDL_TRY(find(p, at, &t));
        HDL_TRY(info->scope == HDL_SCOPE_MODEL ? add_model_slot(p, t, at)
                                               : add_layer_slot(p, t, at));
    }
    return HDL_OK;
}

/* ---- running ------------------------------------------------------------------------------ */

static float element(const hdl_tensor *t, size_t i)
{
    if (t->dtype == HDL_DTYPE_F32)
        return ((const float *)t->data)[i];
    uint16_t half = ((const uint16_t *)t->data)[i];
    return t->dtype == HDL_DTYPE_BF16 ? hdl_bf16_to_f32(half) : hdl_f16_to_f32(half);
}

static void run_job(const job *j, const hdl_ops *ops)
{
    if (j->dst) {
        ops->weight_pack(&(hdl_pack_args){
            .src = hdl_source_of_tensor(&j->src), .dst = j->dst, .row_at = j->row_at});
        return;
    }
    for (int64_t i = 0; i < j->src.shape[0]; i++)
        j->vec[i] = element(&j->src, (size_t)i);
}

static void tell(placer *p, bool last)
{
    uint64_t now = hdl_clock_now_us();
    if (!p->opts->progress || (!last && now - p->shown_us < PROGRESS_US))
        return;
    p->shown_us = now;
    p->opts->progress(p->opts->progress_arg, last ? p->bytes_total : atomic_load(&p->bytes_done),
                      p->bytes_total);
}

static void run_jobs(void *arg, uint32_t thread, uint32_t n_threads)
{
    placer *p = arg;
    (void)n_threads;
    for (;;) {
        size_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n_jobs)
            return;
        const job *j = &p->jobs[i];
        run_job(j, p->model->ops);
        atomic_fetch_add(&p->bytes_done, (uint64_t)j->src.shape[0] * (uint64_t)j->src.shape[1] *
                                             hdl_dtype_bytes(j->src.dtype));
        if (thread == 0)
            tell(p, false);
    }
}

static hdl_err place_all(placer *p)
{
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++)
        HDL_TRY(add_slot(p, slot));
    HDL_TRY(check_unknown(p));
    hdl_stream_run(p->opts->stream, run_jobs, p);
    tell(p, true);
    return HDL_OK;
}

hdl_err hdl_place_weights(hdl_model *model, const hdl_st *st, const hdl_place_opts *opts,
                          hdl_errmsg *why)
{
    placer p = {.model = model, .st = st, .opts = opts, .why = why};
    p.used = calloc(hdl_st_count(st) + 1, 1);
    hdl_err err = HDL_NOMEM;
    if (p.used)
        err = place_all(&p);
    else
        hdl_fail(err, why, "out of memory; the machine is full; stop other programs");
    free(p.used);
    free(p.jobs);
    return err;
}
