/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/device_sampler.h"

#include <math.h>

#include "base/assert.h"
#include "worker/carve.h"

static void place(hdl_device_sampler *s, hdl_carve *c)
{
    hdl_sample_state *t = &s->state;
    t->last = hdl_carve_take(c, (size_t)t->max_seqs * s->n_ranks, sizeof *t->last);
    t->tenants = hdl_carve_take(c, t->max_seqs, sizeof *t->tenants);
    t->biases = hdl_carve_take(c, (size_t)t->max_seqs * HDL_LOGIT_BIAS_MAX, sizeof *t->biases);
    t->histories = hdl_carve_take(c, (size_t)t->max_seqs * t->max_history, sizeof *t->histories);
    s->work = hdl_carve_take(c, hdl_sample_work_bytes(s->n_logits_max, s->vocab), 1);
    s->rows = hdl_carve_take(c, s->n_tasks_max, sizeof *s->rows);
    s->probs = hdl_carve_take(c, (size_t)s->n_tasks_max * HDL_ROW_PROBS_MAX, sizeof *s->probs);
}

static void place_ring(hdl_device_sampler *s, hdl_carve *c)
{
    for (uint32_t i = 0; i < HDL_UPLOADS; i++) {
        hdl_sample_ring *r = &s->ring[i];
        r->rows = hdl_carve_take(c, s->n_tasks_max, sizeof *r->rows);
        r->probs = hdl_carve_take(c, (size_t)s->n_tasks_max * HDL_ROW_PROBS_MAX, sizeof *r->probs);
    }
}

static bool take_memory(hdl_device_sampler *s)
{
    hdl_carve there = {0}, here = {0};
    place(s, &there);
    place_ring(s, &here);
    s->memory_bytes = there.at;
    s->pinned_bytes = here.at;
    s->memory = there.overflow ? NULL : hdl_device_alloc(s->device, there.at);
    s->pinned = here.overflow ? NULL : hdl_device_alloc_pinned(s->device, here.at);
    if (!s->memory || !s->pinned)
        return false;
    there = (hdl_carve){.base = s->memory};
    here = (hdl_carve){.base = s->pinned};
    place(s, &there);
    place_ring(s, &here);
    for (uint32_t i = 0; i < HDL_UPLOADS; i++) {
        s->ring[i].event = s->plugin->event_new(hdl_device_remote(s->device));
        if (!s->ring[i].event)
            return false;
    }
    return true;
}

static hdl_device_sampler sized(const hdl_device_sampler_opts *opts)
{
    return (hdl_device_sampler){
        .device = opts->device,
        .plugin = hdl_device_plugin(opts->device),
        .n_tasks_max = opts->n_tasks_max,
        .n_logits_max = opts->n_logits_max,
        .vocab = opts->vocab,
        .n_ranks = opts->n_ranks,
        .state = {.max_seqs = opts->max_seqs, .max_history = opts->max_len + 1}};
}

size_t hdl_device_sampler_bytes(const hdl_device_sampler_opts *opts)
{
    hdl_device_sampler s = sized(opts);
    hdl_carve there = {0};
    place(&s, &there);
    return there.overflow ? SIZE_MAX : there.at;
}

hdl_err hdl_device_sampler_open(hdl_device_sampler *out, const hdl_device_sampler_opts *opts,
                                hdl_errmsg *why)
{
    *out = sized(opts);
    if (take_memory(out))
        return HDL_OK;
    size_t bytes = out->memory_bytes;
    hdl_device_sampler_close(out);
    return hdl_fail(HDL_NOMEM, why,
                    "no memory for the sampling of %u sequences, %zu bytes; the device is full; "
                    "lower max_seqs or max_len",
                    opts->max_seqs, bytes);
}

void hdl_device_sampler_close(hdl_device_sampler *s)
{
    if (!s->device)
        return;
    for (uint32_t i = 0; i < HDL_UPLOADS && s->ring[i].event; i++)
        s->plugin->event_free(s->ring[i].event);
    if (s->memory)
        hdl_device_free(s->device, s->memory, s->memory_bytes);
    hdl_device_free_pinned(s->device, s->pinned, s->pinned_bytes);
    *s = (hdl_device_sampler){0};
}

hdl_err hdl_device_sampler_set(hdl_device_sampler *s, const hdl_sampler_tenant *t)
{
    const hdl_sampling *p = t->params;
    const hdl_sample_state *state = &s->state;
    HDL_ASSERT_LT(t->slot, state->max_seqs);
    HDL_ASSERT_LE(t->n_history, state->max_history);
    hdl_sample_tenant tenant = {.params = *p,
                                .log_min_p = p->min_p > 0 ? logf(p->min_p) : 0,
                                .keeps_history = p->frequency_penalty != 0 ||
                                                 p->presence_penalty != 0 ||
                                                 p->repetition_penalty != 1,
                                .n_prompt = t->n_prompt};
    tenant.params.bias = NULL;
    if (tenant.keeps_history)
        tenant.n_history = t->n_history;
    HDL_TRY(hdl_device_write(s->device, state->biases + (size_t)t->slot * HDL_LOGIT_BIAS_MAX,
                             p->bias, p->n_bias * sizeof *p->bias));
    HDL_TRY(hdl_device_write(s->device, state->histories + (size_t)t->slot * state->max_history,
                             t->history, tenant.n_history * sizeof *t->history));
    return hdl_device_write(s->device, &state->tenants[t->slot], &tenant, sizeof tenant);
}

void hdl_device_sampler_run(hdl_device_sampler *s, const hdl_device_sample *run)
{
    const hdl_sample_args args = {.logits = run->logits,
                                  .tasks = run->tasks,
                                  .n_tasks = run->n,
                                  .vocab = s->vocab,
                                  .state = s->state,
                                  .work = s->work,
                                  .out = s->rows + run->at,
                                  .probs = s->probs + (size_t)run->at * HDL_ROW_PROBS_MAX};
    HDL_ASSERT(run->n <= s->n_logits_max && run->at + run->n <= s->n_tasks_max);
    hdl_device_ops(s->device)->sample(&args, hdl_device_stream(s->device));
}

hdl_err hdl_device_sampler_share(hdl_device_sampler *s, const hdl_plugin_colls *colls,
                                 hdl_plugin_coll *world)
{
    return colls->all_gather(world, s->state.last, s->state.max_seqs * sizeof *s->state.last);
}

hdl_err hdl_device_sampler_fetch(hdl_device_sampler *s, const hdl_sample_fetch *f)
{
    const hdl_sample_ring *r = &s->ring[f->turn];
    size_t n_probs = f->probs ? (size_t)f->n * HDL_ROW_PROBS_MAX : 0;
    HDL_TRY(hdl_device_read(s->device, r->rows, s->rows, f->n * sizeof *r->rows));
    HDL_TRY(hdl_device_read(s->device, r->probs, s->probs, n_probs * sizeof *r->probs));
    return s->plugin->event_record(r->event);
}

bool hdl_device_sampler_done(const hdl_device_sampler *s, uint32_t turn)
{
    return s->plugin->event_done(s->ring[turn].event);
}

hdl_err hdl_device_sampler_wait(const hdl_device_sampler *s, uint32_t turn)
{
    return s->plugin->event_wait(s->ring[turn].event);
}
