/* SPDX-License-Identifier: Apache-2.0 */
/* What a request's owner hears: tokens, scores, and one end. Texts come from a fixed table; what a
 * client reads never holds internals. Brain thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/cluster/state.h"

enum { RETRY_US = 50 };

/* False: the sink stayed full for as long as this turn may wait. */
static bool push(hdl_cluster *c, const hdl_request *req, const hdl_emit *emit)
{
    if (!req->sink.ring)
        return true;
    while (hdl_ring_push(req->sink.ring, emit) != HDL_OK) {
        if (c->wait_left_us < RETRY_US)
            return false;
        c->wait_left_us -= RETRY_US;
        hdl_clock_sleep_us(RETRY_US);
    }
    return true;
}

static void push_or_deafen(hdl_cluster *c, hdl_entry *entry, const hdl_emit *emit)
{
    if (entry->deaf || push(c, entry->req, emit))
        return;
    entry->deaf = true;
    c->any_deaf = true; /* cancelled by the next tick: the core is in the middle of an event */
    HDL_LOG(WARN, BRAIN, "sink_full", "req=%llu", (unsigned long long)entry->req->id.v);
}

/* The end must arrive, even if late. Takes the request. Called frozen or not. */
static void push_last(hdl_cluster *c, hdl_request *req, const hdl_emit *emit)
{
    if (!push(c, req, emit)) {
        hdl_late *late = malloc(sizeof *late);
        HDL_ASSERT(late);
        *late = (hdl_late){.next = c->late, .ring = req->sink.ring, .emit = *emit};
        c->late = late;
    }
    hdl_request_free(req);
}

void hdl_answer_retry(hdl_cluster *c)
{
    for (hdl_late **link = &c->late; *link;) {
        hdl_late *late = *link;
        if (hdl_ring_push(late->ring, &late->emit) == HDL_OK) {
            *link = late->next;
            free(late);
        } else {
            link = &late->next;
        }
    }
    if (!c->any_deaf || c->stopping)
        return;
    c->any_deaf = false;
    for (uint32_t i = 0; i <= c->requests.mask; i++) {
        const hdl_entry *entry = &c->requests.entries[i];
        const hdl_order order = {.kind = HDL_ORDER_CANCEL,
                                 .id = entry->req ? entry->req->id : (hdl_req_id){0}};
        /* Through the inbox: feeding the core here would move the entries. */
        if (entry->req && entry->deaf && hdl_ring_push(c->inbox, &order) != HDL_OK)
            c->any_deaf = true;
    }
}

static void add_logprobs(hdl_emit *emit, const hdl_result *result, const hdl_result_row *row)
{
    if (row->n_probs == 0)
        return;
    const hdl_logprob *probs = result->probs + row->probs_at;
    emit->token.logprob = probs[0].logprob;
    emit->token.n_top = row->n_probs - 1u;
    memcpy(emit->token.top, probs + 1, emit->token.n_top * sizeof *probs);
}

static void answer_token(hdl_cluster *c, const hdl_new_token *token, const hdl_result_row *row)
{
    hdl_entry *entry = hdl_requests_find(&c->requests, token->req);
    HDL_ASSERT(entry);
    hdl_emit emit = {.req = token->req, .user = entry->req->sink.user, .kind = HDL_EMIT_TOKEN};
    emit.token.token = token->token;
    emit.token.index = token->index;
    emit.token.n_top = 0;
    if (entry->req->sampling.n_logprobs >= 0)
        add_logprobs(&emit, c->result, row);
    push_or_deafen(c, entry, &emit);
    if (entry->n_emitted++ == 0) {
        entry->first_us = c->now_us;
        hdl_metric_observe(HDL_METRIC_TTFT, 0, c->now_us - entry->req->arrived_us);
    } else {
        hdl_metric_observe(HDL_METRIC_ITL, 0, c->now_us - entry->last_us);
    }
    entry->last_us = c->now_us;
}

void hdl_answer_tokens(hdl_cluster *c, const hdl_act_emit *act)
{
    HDL_ASSERT(c->result && act->result_row + act->n <= c->result->n_rows);
    for (uint32_t i = 0; i < act->n; i++)
        answer_token(c, &act->list[i], &c->result->rows[act->result_row + i]);
    hdl_metric_add(HDL_METRIC_GENERATION_TOKENS, 0, act->n);
}

static const hdl_scored *scored_by_slot(const hdl_flight *flight, uint32_t slot)
{
    for (uint32_t i = 0; i < flight->n_scored; i++)
        if (flight->scored[i].slot == slot)
            return &flight->scored[i];
    return NULL;
}

void hdl_answer_scores(hdl_cluster *c, const hdl_flight *flight, const hdl_result *result)
{
    for (uint32_t i = 0; i < result->n_rows; i++) {
        const hdl_result_row *row = &result->rows[i];
        const hdl_scored *scored = row->scored ? scored_by_slot(flight, row->slot) : NULL;
        hdl_entry *entry = scored ? hdl_requests_find(&c->requests, scored->req) : NULL;
        if (!entry)
            continue;
        hdl_emit emit = {.req = scored->req, .user = entry->req->sink.user, .kind = HDL_EMIT_SCORE};
        emit.token.token = row->token;
        emit.token.index = row->pos;
        add_logprobs(&emit, result, row);
        push_or_deafen(c, entry, &emit);
    }
}

static void count_end(hdl_cluster *c, const hdl_entry *entry, const hdl_act_done *done)
{
    static const char *const outcome[] = {[HDL_FINISH_STOP] = "done",
                                          [HDL_FINISH_LENGTH] = "done",
                                          [HDL_FINISH_CANCELLED] = "cancelled",
                                          [HDL_FINISH_TIMEOUT] = "failed",
                                          [HDL_FINISH_FAILED] = "failed"};
    hdl_metric_add(HDL_METRIC_REQUESTS,
                   hdl_metric_label(HDL_METRIC_REQUESTS, outcome[done->reason]), 1);
    hdl_metric_observe(HDL_METRIC_E2E, 0, c->now_us - entry->req->arrived_us);
    if (entry->n_emitted > 1)
        hdl_metric_observe(HDL_METRIC_TPOT, 0,
                           (entry->last_us - entry->first_us) / (entry->n_emitted - 1));
    hdl_metric_add(HDL_METRIC_PROMPT_TOKENS, 0, done->n_prompt);
}

static void set_error(hdl_emit *emit, hdl_err err, const char *text)
{
    emit->kind = HDL_EMIT_ERROR;
    emit->error.err = err;
    emit->error.retry_after_ms = err == HDL_AGAIN || err == HDL_BUSY ? 1000 : 0;
    snprintf(emit->error.text, sizeof emit->error.text, "%s", text);
}

void hdl_answer_done(hdl_cluster *c, const hdl_act_done *done)
{
    hdl_entry *entry = hdl_requests_find(&c->requests, done->req);
    HDL_ASSERT(entry);
    hdl_emit emit = {.req = done->req, .user = entry->req->sink.user, .kind = HDL_EMIT_DONE};
    emit.done = *done;
    if (done->reason == HDL_FINISH_TIMEOUT)
        set_error(&emit, HDL_TIMEOUT, "the request's deadline passed");
    else if (done->reason == HDL_FINISH_FAILED)
        set_error(&emit, HDL_AGAIN, "the request cannot go on; too little memory is left for it");
    count_end(c, entry, done);
    hdl_alloc_thaw(); /* the request came from the heap and goes back there */
    push_last(c, hdl_requests_remove(&c->requests, entry), &emit);
    hdl_alloc_freeze();
}

static void reject_text(const hdl_act_reject *reject, char *out, size_t size, const char **reason)
{
    *reason = "other";
    switch (reject->err) {
    case HDL_BUSY:
        *reason = "queue_full";
        snprintf(out, size,
                 "the server is full; try again later, or with fewer prompts and choices");
        break;
    case HDL_INVALID:
        *reason = "too_long";
        snprintf(out, size,
                 "the request needs %u tokens but at most %u fit; shorten the prompt or "
                 "lower max_tokens",
                 reject->need, reject->have);
        break;
    case HDL_TIMEOUT:
        *reason = "deadline";
        snprintf(out, size, "the request's deadline passed while it waited");
        break;
    case HDL_AGAIN:
        *reason = "draining";
        snprintf(out, size, "the server is shutting down; try another one");
        break;
    default: snprintf(out, size, "the request was refused");
    }
}

void hdl_answer_reject(hdl_cluster *c, const hdl_act_reject *reject)
{
    hdl_entry *entry = hdl_requests_find(&c->requests, reject->req);
    HDL_ASSERT(entry);
    const char *reason;
    char text[192];
    hdl_emit emit = {.req = reject->req, .user = entry->req->sink.user};
    reject_text(reject, text, sizeof text, &reason);
    set_error(&emit, reject->err, text);
    emit.error.retry_after_ms = reject->retry_after_ms;
    hdl_metric_add(HDL_METRIC_REQUESTS, hdl_metric_label(HDL_METRIC_REQUESTS, "rejected"), 1);
    hdl_metric_add(HDL_METRIC_REJECTED, hdl_metric_label(HDL_METRIC_REJECTED, reason), 1);
    hdl_alloc_thaw();
    push_last(c, hdl_requests_remove(&c->requests, entry), &emit);
    hdl_alloc_freeze();
}

void hdl_answer_error(hdl_cluster *c, hdl_request *req, hdl_err err, const char *text)
{
    hdl_emit emit = {.req = req->id, .user = req->sink.user};
    set_error(&emit, err, text);
    hdl_metric_add(HDL_METRIC_REQUESTS, hdl_metric_label(HDL_METRIC_REQUESTS, "rejected"), 1);
    push_last(c, req, &emit);
}
