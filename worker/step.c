/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 9 of 14: one step of one rank, from plan to result. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/inject.h"
#include "base/log.h"
#include "worker/worker_impl.h"

/* ---- before the forward pass -------------------------------------------------------------- */

static hdl_err check(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens)
{
    if (!w->joined || plan->epoch != w->epoch || plan->step != w->step + 1)
        return hdl_fail(HDL_INVALID, &w->why,
                        "step %llu of epoch %llu cannot run; this rank is at step %llu of epoch "
                        "%llu; send the next step of the current epoch",
                        (unsigned long long)plan->step, (unsigned long long)plan->epoch,
                        (unsigned long long)w->step, (unsigned long long)w->epoch);
    HDL_TRY(hdl_batch_check(&w->batch, plan, &w->why));
    for (uint32_t i = 0; w->sampler && i < plan->n_opens; i++)
        HDL_TRY(hdl_sampler_check(w->sampler, &opens[i], &w->why));
    return HDL_OK;
}

/* The head is every rank's business: all of them learn what a tenant looks at. */
static void open_slots(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens)
{
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const hdl_plan_open *o = &plan->opens[i];
        w->batch.slots[o->slot].keep = hdl_sampler_keep(&opens[i]);
        if (!w->sampler)
            continue;
        hdl_sampler_tenant tenant = {.slot = o->slot,
                                     .params = &opens[i],
                                     .history = plan->tokens + o->history_at,
                                     .n_history = o->n_history,
                                     .n_prompt = o->n_prompt};
        hdl_sampler_set(w->sampler, &tenant);
    }
}

static void copy_layer(hdl_worker *w, uint32_t cache, uint32_t layer, hdl_upload_copies copies)
{
    hdl_kv_part parts[2];
    uint32_t n_parts = hdl_kvstore_parts(&w->kv, cache, layer, parts);
    for (uint32_t i = 0; i < n_parts; i++) {
        hdl_kv_copy_args args = {.memory = parts[i].memory,
                                 .block_bytes = parts[i].block_bytes,
                                 .n_blocks = w->kv.pools[cache].n_blocks,
                                 .src = copies.src,
                                 .dst = copies.dst,
                                 .n = copies.n};
        w->model.ops->kv_copy(&args, w->forward.stream);
    }
}

void hdl_step_copy_blocks(hdl_worker *w)
{
    for (uint32_t cache = 0; cache < w->kv.n_pools; cache++) {
        hdl_upload_copies copies = hdl_upload_copies_of(&w->upload, cache);
        for (uint32_t layer = 0; copies.n != 0 && layer < w->kv.pools[cache].group.n_layers;
             layer++)
            copy_layer(w, cache, layer, copies);
    }
}

/* ---- after it ----------------------------------------------------------------------------- */

/* Appends the wanted rows of logits, in order of position, straight to the file. */
hdl_err hdl_step_dump(hdl_worker *w, const hdl_want *wants, uint32_t n)
{
    size_t row_bytes = w->desc.vocab * sizeof(float);
    for (uint32_t i = 0; i < n; i++) {
        if (!(wants[i].flags & HDL_ROW_LOGITS))
            continue;
        const char *at = (const char *)(w->forward.logits + (size_t)i * w->desc.vocab);
        for (size_t done = 0; done < row_bytes;) {
            ssize_t wrote = write(w->dump_fd, at + done, row_bytes - done);
            if (wrote < 0 && errno != EINTR)
                return HDL_IO;
            done += wrote > 0 ? (size_t)wrote : 0;
        }
    }
    return HDL_OK;
}

/* Jobs of one chunk, one for each want of a token: none is scored and sampled both. */
static uint32_t make_jobs(hdl_worker *w, const hdl_want *wants, uint32_t n)
{
    uint32_t n_jobs = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!(wants[i].flags & (HDL_ROW_SAMPLE | HDL_ROW_SCORE)))
            continue;
        bool score = (wants[i].flags & HDL_ROW_SCORE) != 0;
        bool hangs = (wants[i].flags & HDL_ROW_GUESS) != 0;
        w->jobs[n_jobs++] =
            (hdl_sample_job){.slot = wants[i].slot,
                             .pos = wants[i].pos,
                             .logits = w->forward.logits + (size_t)i * w->desc.vocab,
                             .score = score ? wants[i].next : -1,
                             .hangs = hangs,
                             .guess = hangs ? wants[i - 1].next : -1};
    }
    return n_jobs;
}

/* Rank 0: results of one chunk of wants. Their log-probabilities are packed behind those of
 * earlier chunks. */
static hdl_err sample_chunk(hdl_worker *w, const hdl_want *wants, uint32_t n)
{
    HDL_TRY(hdl_step_dump(w, wants, n));
    uint32_t n_jobs = make_jobs(w, wants, n);
    hdl_result_row *rows = w->rows + w->n_rows;
    hdl_logprob *probs = w->probs + (size_t)w->n_rows * HDL_ROW_PROBS_MAX;
    hdl_sample_run run = {.jobs = w->jobs, .n = n_jobs, .out = rows, .probs = probs};
    HDL_TRY(hdl_sampler_run(w->sampler, hdl_device_host(w->device), &run));
    for (uint32_t i = 0; i < n_jobs; i++) {
        hdl_result_row row = rows[i];
        if (!row.scored)
            w->sampled[1 + w->n_sampled++] = row.token;
        if (row.token < 0) /* void: behind a guess that did not come true */
            continue;
        row.probs_at = row.n_probs ? w->n_probs & HDL_PROBS_AT_MAX : 0;
        memmove(w->probs + w->n_probs, probs + (size_t)i * HDL_ROW_PROBS_MAX,
                row.n_probs * sizeof *probs);
        w->n_probs += row.n_probs;
        w->rows[w->n_rows++] = row;
    }
    return HDL_OK;
}

/* The wants of a row with guesses go through the head together. */
uint32_t hdl_step_chunk_of(const hdl_batch *b, uint32_t at)
{
    uint32_t n = hdl_min_u32(HDL_LOGIT_ROWS, b->n_wants - at);
    while (at + n < b->n_wants && (b->wants[at + n].flags & HDL_ROW_GUESS))
        n--;
    return n;
}

/* Are the largest logits of these wants all that anybody looks at? How many, in keep. */
static bool looks_at_largest(const hdl_worker *w, const hdl_want *wants, uint32_t n, uint32_t *keep)
{
    bool all = true;
    for (uint32_t i = 0; all && i < n; i++) {
        bool samples = (wants[i].flags & ~(uint32_t)HDL_ROW_GUESS) == HDL_ROW_SAMPLE;
        keep[i] = w->batch.slots[wants[i].slot].keep;
        all = samples && keep[i] > 0 && keep[i] <= HDL_SCREEN_KEEP_MAX;
    }
    return all;
}

/* The logits that the step wants, a few rows at a time. An error of rank 0 (a full disk, broken
 * weights) does not keep it from the collectives that the others wait in; they learn of it with the
 * tokens. */
static hdl_err run_head(hdl_worker *w, hdl_err *root_err)
{
    const hdl_batch *b = &w->batch;
    uint32_t idx[HDL_LOGIT_ROWS], keep[HDL_LOGIT_ROWS], n;
    _Static_assert(1 + HDL_GUESSES_MAX <= HDL_LOGIT_ROWS, "a row with guesses fits");
    for (uint32_t at = 0; at < b->n_wants; at += n) {
        n = hdl_step_chunk_of(b, at);
        for (uint32_t i = 0; i < n; i++)
            idx[i] = b->wants[at + i].token_idx;
        hdl_forward_ask ask = {.token_idx = idx, .n = n};
        if (looks_at_largest(w, b->wants + at, n, keep))
            ask.keep = keep;
        if (!hdl_forward_screens(&w->forward, &ask))
            ask.keep = NULL;
        HDL_TRY(hdl_forward_logits(&w->forward, &ask));
        if (w->shard.rank == 0 && *root_err == HDL_OK)
            *root_err = sample_chunk(w, b->wants + at, n);
    }
    return HDL_OK;
}

/* All ranks learn what rank 0 sampled, -1 where a guess before it did not come true: a later step
 * may feed it back, and goes on behind it. */
static hdl_err share_tokens(hdl_worker *w, hdl_err root_err)
{
    uint32_t n = 0;
    const hdl_batch *b = &w->batch;
    for (uint32_t i = 0; i < b->n_wants; i++)
        n += (b->wants[i].flags & HDL_ROW_SAMPLE) != 0;
    w->sampled[0] = (hdl_token)root_err;
    if (b->n_wants != 0)
        HDL_TRY(hdl_coll_broadcast(w->groups.world, w->sampled, (1 + n) * sizeof(hdl_token), 0));
    HDL_TRY((hdl_err)w->sampled[0]);
    n = 0;
    for (uint32_t i = 0; i < b->n_wants; i++) {
        if (!(b->wants[i].flags & HDL_ROW_SAMPLE))
            continue;
        const hdl_batch_sample sample = {.step = w->step,
                                         .slot = b->wants[i].slot,
                                         .pos = b->wants[i].pos,
                                         .token = w->sampled[1 + n++]};
        if (sample.token >= 0)
            hdl_batch_sampled(&w->batch, &sample);
    }
    return HDL_OK;
}

static hdl_err run(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens)
{
    HDL_TRY(HDL_INJECT("worker.step"));
    hdl_batch_apply(&w->batch, plan);
    open_slots(w, plan, opens);
    HDL_TRY(hdl_upload_send(&w->upload, plan));
    hdl_step_copy_blocks(w);
    hdl_tokens tokens = hdl_upload_build(&w->upload);
    if (w->batch.n_tokens == 0)
        return hdl_coll_poll(w->groups.world);
    hdl_err root_err = HDL_OK;
    HDL_TRY(hdl_forward_run(&w->forward, &tokens));
    HDL_TRY(run_head(w, &root_err));
    return share_tokens(w, root_err);
}

/* ---- submit and collect ------------------------------------------------------------------- */

uint32_t hdl_worker_steps_max(const hdl_worker *w)
{
    return hdl_worker_samples_there(w) ? HDL_UPLOADS : 1;
}

static hdl_result result_of(const hdl_worker *w, const hdl_plan *plan, hdl_err err)
{
    return (hdl_result){.step = plan->step,
                        .epoch = plan->epoch,
                        .group = plan->group,
                        .rank = w->shard.rank,
                        .err = (uint32_t)err};
}

static hdl_err begin(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens,
                     hdl_pending *pending)
{
    uint64_t coll_us = hdl_coll_time_us(w->groups.world);
    w->step = plan->step;
    hdl_err err = HDL_OK;
    if (hdl_worker_samples_there(w)) {
        err = hdl_step_device_submit(w, plan, opens, pending);
    } else {
        w->n_rows = w->n_probs = w->n_sampled = 0;
        err = run(w, plan, opens);
    }
    pending->coll_us = hdl_coll_time_us(w->groups.world) - coll_us;
    return err;
}

hdl_err hdl_worker_submit(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens,
                          hdl_result *refused)
{
    HDL_ON_THREAD(STEP);
    hdl_pending pending = {
        .step = plan->step, .group = plan->group, .start_us = hdl_clock_now_us()};
    hdl_err err = check(w, plan, opens);
    if (err != HDL_OK) {
        HDL_LOG(ERROR, STEP, "refuse", "step=%llu err=%s why=%s", (unsigned long long)plan->step,
                hdl_err_name(err), HDL_LOG_QUOTE(w->why.text));
        *refused = result_of(w, plan, err);
        return err;
    }
    HDL_ASSERT_LT(w->n_pending, hdl_worker_steps_max(w));
    err = begin(w, plan, opens, &pending);
    if (err != HDL_OK) {
        w->joined = false; /* of no use until the next epoch */
        *refused = result_of(w, plan, err);
        refused->coll_us = (uint32_t)pending.coll_us;
        refused->step_us = (uint32_t)(hdl_clock_now_us() - pending.start_us);
        return err;
    }
    w->pending[w->n_pending++] = pending;
    return HDL_OK;
}

bool hdl_worker_is_done(const hdl_worker *w)
{
    HDL_ASSERT_LT(0, w->n_pending);
    return !hdl_worker_samples_there(w) ||
           hdl_device_sampler_done(&w->device_sampler, w->pending[0].turn);
}

hdl_err hdl_worker_collect(hdl_worker *w, hdl_result *out)
{
    HDL_ON_THREAD(STEP);
    HDL_ASSERT_LT(0, w->n_pending);
    const hdl_pending p = w->pending[0];
    w->n_pending--;
    memmove(w->pending, w->pending + 1, w->n_pending * sizeof *w->pending);
    hdl_err err = HDL_OK;
    if (hdl_worker_samples_there(w))
        err = hdl_step_device_collect(w, &p);
    /* A step that waited for the one before it began when that one ended. */
    const uint64_t now_us = hdl_clock_now_us();
    const uint64_t start_us = p.start_us > w->collected_us ? p.start_us : w->collected_us;
    w->collected_us = now_us;
    *out = (hdl_result){.step = p.step,
                        .epoch = w->epoch,
                        .group = p.group,
                        .rank = w->shard.rank,
                        .err = (uint32_t)err,
                        .coll_us = (uint32_t)p.coll_us,
                        .step_us = (uint32_t)(now_us - start_us)};
    if (err != HDL_OK) {
        w->joined = false;
        return err;
    }
    out->n_rows = w->n_rows;
    out->n_probs = w->n_probs;
    out->rows = w->rows;
    out->probs = w->probs;
    return HDL_OK;
}

hdl_err hdl_worker_step(hdl_worker *w, const hdl_plan *plan, const hdl_sampling *opens,
                        hdl_result *out)
{
    HDL_TRY(hdl_worker_submit(w, plan, opens, out));
    return hdl_worker_collect(w, out);
}
