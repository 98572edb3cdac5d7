/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 13 of 14: emits to pieces of text, and the end of an answer (DESIGN section 4). */
#include "scheduler/front/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "scheduler/front/sse.h"

enum { TEXT_BYTES_MAX = 64 * 1024 * 1024, HEAD_BYTES_MAX = 16384 };

static hdl_time_us now_us(const hdl_call *call)
{
    return hdl_loop_now_us(call->conn->thread->loop);
}

static const hdl_engine *engine_of(const hdl_call *call) { return call->model->engine; }

static bool init_choices(hdl_call *call, const hdl_api_params *params)
{
    hdl_front_thread *thread = call->conn->thread;
    for (uint32_t i = 0; i < call->n_choices; i++) {
        hdl_choice *c = &call->choices[i];
        hdl_choice **slot = hdl_pool_take(&thread->choices, &c->ref);
        c->call = call;
        c->index = i;
        c->prompt_idx = i / (uint32_t)params->n;
        hdl_detok_init(&c->detok, !params->keep_special);
        hdl_stop_init(&c->stop, call->stops, params->include_stop);
        hdl_buf_init(&c->text, TEXT_BYTES_MAX);
        hdl_lp_init(&c->lp);
        if (!slot)
            return false;
        *slot = c;
    }
    return true;
}

hdl_call *hdl_call_new(hdl_conn *conn, hdl_prep *prep)
{
    const hdl_api_params *params = &prep->params;
    hdl_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->conn = conn;
    call->model = hdl_front_model_of(conn);
    call->kind = params->kind;
    call->stream = params->stream;
    call->include_usage = params->include_usage;
    call->continuous_usage = params->continuous_usage;
    call->echo = params->echo;
    call->logprobs = params->logprobs || params->logprobs_n >= 0;
    call->created_s = hdl_clock_wall_us() / HDL_SEC_US;
    call->arrived_us = conn->arrived_us;
    hdl_buf_init(&call->head, HEAD_BYTES_MAX);
    /* The request's id is enough to find a call by, and says nothing about others. */
    (void)snprintf(call->id, sizeof call->id, "%s-%s",
                   params->kind == HDL_API_CHAT ? "chatcmpl" : "cmpl", conn->request_id + 4);
    atomic_fetch_add_explicit(&conn->thread->front->n_calls, 1, memory_order_relaxed);
    call->prompts = prep->prompts;
    call->n_prompts = prep->n_prompts;
    prep->prompts = NULL;
    prep->n_prompts = 0;
    uint32_t n = call->n_prompts * (uint32_t)params->n;
    call->choices = calloc(n, sizeof *call->choices);
    call->n_choices = call->choices ? n : 0;
    bool ok = call->choices != NULL;
    if (ok && params->n_stops)
        ok = hdl_stop_set_new(&call->stops, params->stops, params->n_stops, NULL) == HDL_OK;
    if (!ok || !init_choices(call, params)) {
        hdl_call_abandon(call);
        return NULL;
    }
    return call;
}

static void cancel(hdl_choice *c)
{
    if (c->live)
        engine_of(c->call)->cancel(engine_of(c->call)->self, c->req);
}

void hdl_call_abandon(hdl_call *call)
{
    hdl_front_thread *thread = call->conn->thread;
    for (uint32_t i = 0; i < call->n_choices; i++) {
        hdl_choice *c = &call->choices[i];
        if (!c->stopped)
            cancel(c);
        if (hdl_pool_find(&thread->choices, c->ref))
            hdl_pool_give(&thread->choices, c->ref);
        hdl_buf_deinit(&c->text);
        hdl_lp_deinit(&c->lp);
    }
    hdl_prompts_free(call->prompts, call->n_prompts);
    atomic_fetch_sub_explicit(&thread->front->n_calls, 1, memory_order_relaxed);
    hdl_stop_set_free(call->stops);
    hdl_buf_deinit(&call->head);
    free(call->choices);
    free(call);
}

bool hdl_call_streams(const hdl_call *call) { return call->stream; }

/* The headers of the stream, at the first thing to say. */
static void begin_stream(hdl_call *call)
{
    if (call->begun)
        return;
    call->begun = true;
    hdl_reply_stream_begin(call->conn);
    hdl_openai_write_head(call);
}

void hdl_call_ping(hdl_call *call)
{
    begin_stream(call);
    hdl_sse_ping(hdl_reply_stream(call->conn));
}

void hdl_call_fail(hdl_call *call, const hdl_api_error *err)
{
    hdl_conn *conn = call->conn;
    bool begun = call->begun;
    conn->call = NULL;
    hdl_call_abandon(call);
    if (!begun) {
        hdl_reply_error(conn, err);
        return;
    }
    /* A stream that just ends looks like success to many clients. */
    hdl_buf *out = hdl_reply_stream(conn);
    hdl_sse_begin(out);
    hdl_api_error_write(err, out);
    hdl_sse_end(out);
    hdl_sse_done(out);
    hdl_reply_stream_end(conn);
}

static void fail_memory(hdl_call *call)
{
    hdl_api_error err;
    (void)hdl_api_fail(&err, 500, NULL, "the answer does not fit into memory");
    hdl_call_fail(call, &err);
}

static void finish_call(hdl_call *call)
{
    hdl_conn *conn = call->conn;
    hdl_time_us now = now_us(call);
    HDL_LOG(DEBUG, FRONT, "call_done", "id=%s prompt=%llu cached=%llu new=%llu us=%llu",
            conn->request_id, (unsigned long long)call->usage_prompt,
            (unsigned long long)call->usage_cached, (unsigned long long)call->usage_new,
            (unsigned long long)(now - call->arrived_us));
    if (call->stream) {
        begin_stream(call);
        hdl_openai_write_end(call);
        conn->call = NULL;
        hdl_call_abandon(call);
        hdl_reply_stream_end(conn);
        return;
    }
    hdl_buf body;
    hdl_buf_init(&body, 2 * (size_t)TEXT_BYTES_MAX);
    hdl_openai_write_answer(call, &body);
    conn->call = NULL;
    hdl_call_abandon(call);
    hdl_reply_json(conn, &body);
    hdl_buf_deinit(&body);
}

/* ---- tokens ---- */

static uint64_t count_chars(const hdl_buf *text)
{
    uint64_t n = 0;
    for (size_t i = 0; i < text->len; i++)
        n += (hdl_buf_data(text)[i] & 0xc0) != 0x80;
    return n;
}

/* thread->piece holds new text of the choice: past the stop strings, into choice->text. False: no
 * memory. */
static bool push_piece(hdl_choice *c, hdl_buf *piece)
{
    size_t before = c->text.len;
    c->pushed += piece->len;
    c->chars += count_chars(piece);
    bool ok = hdl_stop_push(&c->stop, hdl_buf_data(piece), piece->len, &c->text) == HDL_OK;
    c->released += c->text.len - before;
    return ok;
}

static bool is_stop_id(const hdl_call *call, hdl_token token)
{
    for (uint32_t i = 0; i < call->n_stop_ids; i++)
        if (call->stop_ids[i] == token)
            return true;
    return false;
}

/* What was released goes out: into a chunk of a stream, or stays where it is. */
static void deliver(hdl_choice *c)
{
    hdl_call *call = c->call;
    if (call->logprobs)
        hdl_lp_release(c, false);
    if (!call->stream)
        return;
    begin_stream(call);
    if (c->text.len || c->lp.n_released || !c->said_role)
        hdl_openai_write_chunk(c);
}

static bool wants_scores(const hdl_call *call)
{
    return call->echo && call->logprobs && call->model->tokenizer;
}

/* One token of the prompt in the logprobs of an echoed completion. */
static void push_score(hdl_choice *c, hdl_lp_entry *entry)
{
    hdl_buf *piece = &c->call->conn->thread->piece;
    const char *bytes = "";
    size_t len = 0;
    (void)hdl_tokenizer_token_bytes(c->call->model->tokenizer, entry->token, &bytes, &len);
    hdl_buf_clear(piece);
    (void)hdl_buf_append(piece, bytes, len);
    entry->chars = c->chars;
    c->chars += count_chars(piece);
    c->n_scored++;
    hdl_lp_push(c, entry);
}

/* Tokens before `end` that no score came for, that is the first, which nothing predicts. */
static void fill_scores(hdl_choice *c, size_t end)
{
    const hdl_prompt *prompt = &c->call->prompts[c->prompt_idx];
    if (!wants_scores(c->call))
        return;
    while (c->n_scored < end && c->n_scored < prompt->n_ids)
        push_score(c, &(hdl_lp_entry){.token = prompt->ids[c->n_scored], .none = true});
    hdl_lp_release(c, false);
}

static void on_score(hdl_choice *c, const hdl_emit *emit)
{
    if (!wants_scores(c->call) || emit->token.index < c->n_scored)
        return;
    fill_scores(c, emit->token.index);
    hdl_lp_entry entry = {.token = emit->token.token,
                          .logprob = emit->token.logprob,
                          .n_top = hdl_min_u32(emit->token.n_top, HDL_TOP_LOGPROBS_MAX)};
    memcpy(entry.top, emit->token.top, entry.n_top * sizeof *entry.top);
    push_score(c, &entry);
    hdl_lp_release(c, false);
}

static void on_token(hdl_choice *c, const hdl_emit *emit)
{
    hdl_call *call = c->call;
    hdl_buf *piece = &call->conn->thread->piece;
    if (c->stopped || c->finished)
        return;
    if (c->n_new++ == 0)
        fill_scores(c, SIZE_MAX);
    if (is_stop_id(call, emit->token.token))
        return; /* its DONE is behind it */
    hdl_lp_entry entry = {.token = emit->token.token,
                          .logprob = emit->token.logprob,
                          .n_top = hdl_min_u32(emit->token.n_top, HDL_TOP_LOGPROBS_MAX),
                          .start = c->pushed,
                          .chars = c->chars};
    hdl_buf_clear(piece);
    bool ok = !call->model->tokenizer ||
              hdl_detok_push(&c->detok, call->model->tokenizer, emit->token.token, piece) == HDL_OK;
    ok = ok && push_piece(c, piece);
    if (!ok) {
        fail_memory(call);
        return;
    }
    if (call->logprobs) {
        entry.end = c->pushed;
        memcpy(entry.top, emit->token.top, entry.n_top * sizeof *entry.top);
        hdl_lp_push(c, &entry);
    }
    if (hdl_stop_matched(&c->stop)) {
        c->stopped = true;
        cancel(c);
    }
    deliver(c);
}

/* ---- the end of a choice ---- */

static bool flush_text(hdl_choice *c)
{
    hdl_buf *piece = &c->call->conn->thread->piece;
    if (c->stopped)
        return true;
    hdl_buf_clear(piece);
    const hdl_tokenizer *tok = c->call->model->tokenizer;
    if (tok && hdl_detok_flush(&c->detok, tok, piece) != HDL_OK)
        return false;
    if (!push_piece(c, piece))
        return false;
    if (hdl_stop_matched(&c->stop)) {
        c->stopped = true;
        return true;
    }
    size_t before = c->text.len;
    bool ok = hdl_stop_flush(&c->stop, &c->text) == HDL_OK;
    c->released += c->text.len - before;
    return ok;
}

/* Ends of the engine that are not ends of an answer. */
static bool fail_of(const hdl_choice *c, const hdl_act_done *done, hdl_api_error *err)
{
    if (c->stopped || done->reason == HDL_FINISH_STOP || done->reason == HDL_FINISH_LENGTH)
        return true;
    switch (done->reason) {
    case HDL_FINISH_TIMEOUT:
        return hdl_api_fail(err, 504, NULL, "the request's deadline passed while it ran");
    case HDL_FINISH_CANCELLED:
        (void)hdl_api_fail(err, 503, NULL, "the request was ended by the server");
        break;
    default:
        (void)hdl_api_fail(err, 503, NULL,
                           "the request cannot be continued; the cluster lost memory that it "
                           "needs; try again later");
        break;
    }
    err->retry_after_ms = 1000;
    return false;
}

static void on_done(hdl_choice *c, const hdl_act_done *done)
{
    hdl_call *call = c->call;
    hdl_prompt *prompt = &call->prompts[c->prompt_idx];
    hdl_api_error err;
    c->live = false;
    if (!fail_of(c, done, &err)) {
        hdl_call_fail(call, &err);
        return;
    }
    fill_scores(c, SIZE_MAX);
    if (!flush_text(c)) {
        fail_memory(call);
        return;
    }
    c->finish = c->stopped || done->reason == HDL_FINISH_STOP ? "stop" : "length";
    c->finished = true;
    if (!prompt->counted) {
        prompt->counted = true;
        call->usage_prompt += done->n_prompt;
        call->usage_cached += done->n_cached;
    }
    call->usage_new += c->n_new;
    if (call->logprobs)
        hdl_lp_release(c, true);
    if (call->stream) {
        begin_stream(call);
        hdl_openai_write_chunk(c);
    }
    if (++call->n_finished == call->n_choices)
        finish_call(call);
}

static void on_error(hdl_choice *c, const hdl_emit *emit)
{
    hdl_api_error err;
    hdl_err code = emit->error.err;
    c->live = false;
    (void)hdl_api_fail(&err, hdl_err_http_status(code), NULL, "%s",
                       emit->error.text[0] ? emit->error.text : hdl_err_text(code));
    err.retry_after_ms = emit->error.retry_after_ms;
    if (code == HDL_BUSY) {
        err.code = "rate_limit_exceeded";
        if (!err.retry_after_ms)
            err.retry_after_ms = 1000;
    }
    hdl_call_fail(c->call, &err);
}

void hdl_call_on_emit(hdl_front_thread *thread, const hdl_emit *emit)
{
    hdl_choice **slot = hdl_pool_find(&thread->choices, hdl_pool_ref_of(emit->user));
    if (!slot)
        return; /* its call ended before */
    hdl_choice *c = *slot;
    if (c->finished)
        return;
    switch (emit->kind) {
    case HDL_EMIT_TOKEN: on_token(c, emit); break;
    case HDL_EMIT_SCORE: on_score(c, emit); break;
    case HDL_EMIT_DONE: on_done(c, &emit->done); break;
    case HDL_EMIT_ERROR: on_error(c, emit); break;
    }
}
