/* SPDX-License-Identifier: Apache-2.0 */
/* A step on a device that samples: the host sends what is new in the plan and asks for the rest in
 * one go, without waiting; results come back behind it. A step of decoding, one token of every row,
 * is a graph. */
#include <string.h>

#include "base/assert.h"
#include "base/inject.h"
#include "worker/worker_impl.h"

/* A device with memory of its own; of several ranks, one that may have collectives with the
 * others'. Whether it has is known in each epoch. */
static bool may_sample(const hdl_worker *w)
{
    bool reached =
        w->shard.n_ranks == 1 || (hdl_device_colls(w->device) && w->opts.nccl != HDL_NCCL_NEVER);
    return !hdl_device_is_host(w->device) && reached && w->desc.vocab <= HDL_SAMPLE_VOCAB_MAX;
}

static hdl_device_sampler_opts sampler_opts(const hdl_worker *w)
{
    return (hdl_device_sampler_opts){.device = w->device,
                                     .max_seqs = w->opts.max_seqs,
                                     .max_len = w->opts.max_len,
                                     .vocab = w->desc.vocab,
                                     .n_ranks = w->shard.n_ranks,
                                     .n_tasks_max = w->opts.step_tokens,
                                     .n_logits_max = HDL_LOGIT_ROWS};
}

size_t hdl_step_device_bytes(const hdl_worker *w)
{
    const hdl_device_sampler_opts opts = sampler_opts(w);
    return may_sample(w) ? hdl_device_sampler_bytes(&opts) : 0;
}

hdl_err hdl_step_device_open(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_device_sampler_opts opts = sampler_opts(w);
    const hdl_graphs_opts graphs = {.device = w->device,
                                    .n_rows_max =
                                        hdl_min_u32(w->opts.max_seqs, w->opts.step_tokens),
                                    .use = (hdl_graphs_use)w->opts.graphs};
    if (!may_sample(w))
        return HDL_OK;
    hdl_graphs_open(&w->graphs, &graphs);
    return hdl_device_sampler_open(&w->device_sampler, &opts, why);
}

/* ---- submit ------------------------------------------------------------------------------- */

static hdl_err open_slots(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens)
{
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const hdl_plan_open *o = &plan->opens[i];
        hdl_sampler_tenant tenant = {.slot = o->slot,
                                     .params = &opens[i],
                                     .history = plan->tokens + o->history_at,
                                     .n_history = o->n_history,
                                     .n_prompt = o->n_prompt};
        w->batch.slots[o->slot].wants_probs = opens[i].n_logprobs >= 0;
        HDL_TRY(hdl_device_sampler_set(&w->device_sampler, &tenant));
    }
    return HDL_OK;
}

/* Logits of some of the step's tokens, and what rank 0 samples from them. */
static hdl_err sample(hdl_worker *w, const hdl_token *heads, uint32_t at, uint32_t n)
{
    const hdl_forward_heads rows = {.heads = heads ? heads + at : NULL, .at = at, .n = n};
    hdl_device_sample run = {.tasks = w->upload.tasks + at, .at = at, .n = n};
    HDL_TRY(hdl_forward_logits_there(&w->forward, &rows, &run.logits));
    if (w->shard.rank == 0)
        hdl_device_sampler_run(&w->device_sampler, &run);
    return HDL_OK;
}

/* A later step may feed back what was sampled, on any rank. */
static hdl_err share(hdl_worker *w)
{
    if (w->shard.n_ranks == 1)
        return HDL_OK;
    return hdl_device_sampler_share(&w->device_sampler, w->groups.colls, w->groups.dev_world);
}

/* One token of each row, every one sampled. Asks for the same work whatever the step. */
static hdl_err decode(void *arg, uint32_t n_rows)
{
    hdl_worker *w = arg;
    hdl_tokens tokens = hdl_upload_build_decode(&w->upload, n_rows);
    HDL_TRY(hdl_forward_run(&w->forward, &tokens));
    for (uint32_t at = 0; at < n_rows; at += HDL_LOGIT_ROWS)
        HDL_TRY(sample(w, NULL, at, hdl_min_u32(HDL_LOGIT_ROWS, n_rows - at)));
    return share(w);
}

static bool is_decode(const hdl_plan *plan)
{
    bool all = plan->n_rows > 0;
    for (uint32_t i = 0; all && i < plan->n_rows; i++)
        all = plan->rows[i].n_tokens == 1 &&
              (plan->rows[i].flags | HDL_ROW_FEEDBACK) == (HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK);
    return all;
}

/* Logits of the chunk, for the dump: the one thing that waits. */
static hdl_err dump(hdl_worker *w, const hdl_want *wants, uint32_t n)
{
    bool wanted = false;
    for (uint32_t i = 0; i < n; i++)
        wanted = wanted || (wants[i].flags & HDL_ROW_LOGITS);
    if (!wanted || w->shard.rank != 0)
        return HDL_OK;
    hdl_forward *f = &w->forward;
    size_t bytes = (size_t)n * w->desc.vocab * sizeof *f->part;
    HDL_TRY(hdl_device_read(w->device, f->logits, w->shard.tp > 1 ? f->whole : f->part, bytes));
    HDL_TRY(hdl_device_sync(w->device));
    return hdl_step_dump(w, wants, n);
}

static hdl_err run_any(hdl_worker *w)
{
    const hdl_batch *b = &w->batch;
    hdl_tokens tokens = hdl_upload_build(&w->upload);
    if (b->n_tokens == 0)
        return HDL_OK;
    HDL_TRY(hdl_forward_run(&w->forward, &tokens));
    for (uint32_t at = 0, n; at < b->n_wants; at += n) {
        n = hdl_step_chunk_of(b, at);
        HDL_TRY(sample(w, w->upload.heads, at, n));
        HDL_TRY(dump(w, b->wants + at, n));
    }
    return b->n_wants > 0 ? share(w) : HDL_OK;
}

/* What the step samples is known on the device first; do log-probabilities come with it? */
static bool note_samples(hdl_worker *w)
{
    bool probs = false;
    const hdl_batch *b = &w->batch;
    for (uint32_t i = 0; i < b->n_wants; i++) {
        hdl_slot *slot = &b->slots[b->wants[i].slot];
        if (b->wants[i].flags & HDL_ROW_SAMPLE)
            slot->last_on_device = true;
        probs = probs || slot->wants_probs || (b->wants[i].flags & HDL_ROW_SCORE);
    }
    return probs;
}

hdl_err hdl_step_device_submit(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens,
                               hdl_pending *pending)
{
    HDL_TRY(HDL_INJECT("worker.step"));
    HDL_TRY(hdl_coll_poll(w->groups.world));
    hdl_batch_apply(&w->batch, plan);
    HDL_TRY(open_slots(w, plan, opens));
    HDL_TRY(hdl_upload_send(&w->upload, plan));
    hdl_step_copy_blocks(w);
    if (is_decode(plan))
        HDL_TRY(hdl_graphs_run(&w->graphs, hdl_graphs_size(&w->graphs, plan->n_rows), decode, w));
    else
        HDL_TRY(run_any(w));
    pending->probs = note_samples(w);
    pending->turn = w->turn++ % HDL_UPLOADS;
    pending->n_tasks = w->shard.rank == 0 ? w->batch.n_wants : 0;
    const hdl_sample_fetch fetch = {
        .turn = pending->turn, .n = pending->n_tasks, .probs = pending->probs};
    return hdl_device_sampler_fetch(&w->device_sampler, &fetch);
}

/* ---- collect ------------------------------------------------------------------------------ */

/* Results of tasks that stand, their log-probabilities packed. */
hdl_err hdl_step_device_collect(hdl_worker *w, const hdl_pending *p)
{
    const hdl_sample_ring *ring = &w->device_sampler.ring[p->turn];
    HDL_TRY(hdl_device_sampler_wait(&w->device_sampler, p->turn));
    HDL_TRY(hdl_coll_poll(w->groups.world)); /* an abort ends what is under way, results or not */
    w->n_rows = w->n_probs = 0;
    for (uint32_t i = 0; i < p->n_tasks; i++) {
        hdl_result_row row = ring->rows[i];
        if (row.token == HDL_SAMPLE_NO_NUMBER)
            return HDL_DEVICE;
        if (row.token < 0)
            continue;
        HDL_ASSERT(row.slot < w->opts.max_seqs && row.n_probs <= HDL_ROW_PROBS_MAX);
        row.probs_at = row.n_probs ? w->n_probs & HDL_PROBS_AT_MAX : 0;
        memcpy(w->probs + w->n_probs, ring->probs + (size_t)i * HDL_ROW_PROBS_MAX,
               row.n_probs * sizeof *w->probs);
        w->n_probs += row.n_probs;
        w->rows[w->n_rows++] = row;
        const hdl_batch_sample sampled = {
            .step = p->step, .slot = row.slot, .pos = row.pos, .token = row.token};
        if (!row.scored)
            hdl_batch_sampled(&w->batch, &sampled);
    }
    return HDL_OK;
}
