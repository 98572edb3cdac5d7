/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"

enum { ARENA_BYTES = 1 << 22 };

hdl_token fake_oracle(const hdl_token *tokens, uint32_t n)
{
    uint64_t hash = hdl_hash_bytes(tokens, n * sizeof *tokens, 1);
    return (hdl_token)(hash % FAKE_VOCAB);
}

static void say(fake_worker *w, const hdl_worker_msg *msg)
{
    hdl_wire_bytes bytes;
    hdl_err err = hdl_wire_encode_worker(&w->encoder, msg, &bytes);
    HDL_ASSERT_EQ(err, HDL_OK);
    (void)!hdl_rpc_send(w->back, bytes.data, bytes.len);
}

static hdl_token *token_at(fake_worker *w, const fake_slot *slot, uint32_t pos)
{
    uint32_t block = slot->table[pos / FAKE_BLOCK_TOKENS];
    HDL_ASSERT_LT(block, (uint32_t)FAKE_BLOCKS);
    return &w->kv[block][pos % FAKE_BLOCK_TOKENS];
}

static hdl_token sample(fake_worker *w, const fake_slot *slot, uint32_t len)
{
    hdl_token context[FAKE_LEN];
    for (uint32_t i = 0; i < len; i++)
        context[i] = *token_at(w, slot, i);
    return fake_oracle(context, len);
}

static void add_prob(fake_worker *w, hdl_result *out, hdl_result_row *row, float logprob)
{
    if (row->n_probs == 0)
        row->probs_at = out->n_probs & HDL_PROBS_AT_MAX;
    row->n_probs++;
    w->probs[out->n_probs++] = (hdl_logprob){.token = row->token, .logprob = logprob};
}

/* The token of position len. */
static void add_sample(fake_worker *w, uint32_t at, uint32_t len, hdl_result *out)
{
    fake_slot *slot = &w->slots[at];
    slot->last = sample(w, slot, len);
    hdl_result_row *r = &w->rows[out->n_rows++];
    *r = (hdl_result_row){.slot = at, .pos = len, .token = slot->last};
    if (slot->sampling.n_logprobs >= 0)
        add_prob(w, out, r, -0.25f);
    if (slot->sampling.n_logprobs > 0)
        add_prob(w, out, r, -0.25f);
}

static void run_row(fake_worker *w, const hdl_plan *plan, const hdl_plan_row *row, hdl_result *out)
{
    HDL_ASSERT_LT(row->slot, (uint32_t)FAKE_SEQS);
    fake_slot *slot = &w->slots[row->slot];
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        bool feedback = i == 0 && (row->flags & HDL_ROW_FEEDBACK);
        *token_at(w, slot, row->pos + i) = feedback ? slot->last : plan->tokens[row->token_at + i];
        const hdl_token next = plan->tokens[row->token_at + i + 1];
        if ((row->flags & HDL_ROW_SCORE) && next >= 0) {
            hdl_result_row *r = &w->rows[out->n_rows++];
            *r = (hdl_result_row){
                .slot = row->slot, .pos = row->pos + i + 1, .token = next, .scored = 1};
            add_prob(w, out, r, -1.0f);
        }
    }
    if (!(row->flags & HDL_ROW_SAMPLE))
        return;
    if (!(row->flags & HDL_ROW_GUESS)) {
        add_sample(w, row->slot, row->pos + row->n_tokens, out);
        return;
    }
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        add_sample(w, row->slot, row->pos + i + 1, out);
        if (i + 1 < row->n_tokens && plan->tokens[row->token_at + i + 1] != slot->last)
            return;
    }
}

static void run_step(fake_worker *w, const hdl_msg_step *msg)
{
    const hdl_plan *plan = &msg->plan;
    hdl_worker_msg out = {.kind = HDL_WMSG_RESULT,
                          .result = {.step = plan->step,
                                     .epoch = plan->epoch,
                                     .group = plan->group,
                                     .rank = w->assign.rank,
                                     .err = HDL_OK,
                                     .step_us = 10,
                                     .rows = w->rows,
                                     .probs = w->probs}};
    const unsigned n = atomic_fetch_add(&w->n_steps, 1) + 1;
    if (n == atomic_load(&w->fail_at))
        out.result.err = HDL_PEER;
    for (uint32_t i = 0; i < plan->n_opens; i++)
        w->slots[plan->opens[i].slot].sampling = msg->samplings[i];
    for (uint32_t i = 0; i < plan->n_grants; i++) {
        const hdl_plan_grant *grant = &plan->grants[i];
        HDL_ASSERT_LT(grant->slot, (uint32_t)FAKE_SEQS);
        for (uint32_t b = 0; b < grant->n_blocks; b++)
            w->slots[grant->slot].table[grant->table_at + b] = plan->blocks[grant->block_at + b];
    }
    for (uint32_t i = 0; i < plan->n_copies; i++)
        memcpy(w->kv[plan->copies[i].dst], w->kv[plan->copies[i].src], sizeof w->kv[0]);
    for (uint32_t i = 0; i < plan->n_rows; i++)
        run_row(w, plan, &plan->rows[i], &out.result);
    if (n == atomic_load(&w->wrong_at) && out.result.n_rows)
        w->rows[0].token = FAKE_VOCAB;
    if (w->assign.rank != 0 || out.result.err != HDL_OK)
        out.result.n_rows = out.result.n_probs = 0;
    if (atomic_load(&w->stale)) {
        hdl_worker_msg stale = out;
        stale.result.epoch--;
        if (stale.result.n_rows)
            w->rows[0].token ^= 1;
        say(w, &stale);
        if (stale.result.n_rows)
            w->rows[0].token ^= 1;
    }
    say(w, &out);
}

static void say_ready(fake_worker *w)
{
    say(w, &(hdl_worker_msg){.kind = HDL_WMSG_READY,
                             .ready = {.key = w->assign.key,
                                       .n_caches = 1,
                                       .caches = {{.n_blocks = FAKE_BLOCKS}},
                                       .block_tokens = FAKE_BLOCK_TOKENS,
                                       .max_seqs = FAKE_SEQS,
                                       .step_tokens = 64,
                                       .max_len = FAKE_LEN,
                                       .vocab = FAKE_VOCAB,
                                       .device = "cpu-fake"}});
}

static bool is_held(fake_worker *w)
{
    unsigned at = atomic_load(&w->hold_at);
    return at && atomic_load(&w->n_steps) >= at;
}

static void on_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    fake_worker *w = arg;
    hdl_sched_msg msg;
    hdl_errmsg why = {0};
    hdl_err err = hdl_wire_decode_sched((hdl_wire_bytes){bytes, len}, &w->arena, &msg, &why);
    HDL_ASSERT_EQ(err, HDL_OK);
    w->back = stream;
    if (atomic_load(&w->mute))
        return;
    switch (msg.kind) {
    case HDL_SMSG_ASSIGN:
        w->assign = msg.assign;
        atomic_fetch_add(&w->n_assigns, 1);
        say_ready(w);
        break;
    case HDL_SMSG_JOIN:
        w->epoch = msg.join.epoch;
        w->join = msg.join;
        memset(w->kv, 0x7f, sizeof w->kv); /* nothing survives an epoch */
        atomic_fetch_add(&w->n_joins, 1);
        say(w, &(hdl_worker_msg){.kind = HDL_WMSG_JOINED, .joined = {.epoch = w->epoch}});
        break;
    case HDL_SMSG_LISTEN:
        atomic_fetch_add(&w->n_listens, 1);
        say(w,
            &(hdl_worker_msg){.kind = HDL_WMSG_LISTENING,
                              .listening = {.epoch = msg.listen.epoch, .address = "192.0.2.1:1"}});
        break;
    case HDL_SMSG_STEP:
        if (msg.step.plan.epoch == w->epoch && !is_held(w))
            run_step(w, &msg.step);
        break;
    case HDL_SMSG_ABORT:
        w->epoch = 0;
        atomic_fetch_add(&w->n_aborts, 1);
        break;
    case HDL_SMSG_HEARTBEAT:
        say(w, &(hdl_worker_msg){.kind = HDL_WMSG_HEARTBEAT, .heartbeat = {.count = 1}});
        break;
    case HDL_SMSG_GOODBYE: atomic_store(&w->dismissed, true); break;
    }
}

static void on_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)stream;
    (void)text;
    fake_worker *w = arg;
    atomic_store(&w->close_err, err);
    atomic_store(&w->closed, true);
}

fake_worker *fake_start(const fake_opts *opts)
{
    hdl_errmsg why;
    fake_worker *w = calloc(1, sizeof *w);
    HDL_ASSERT(w && (w->mem = malloc(ARENA_BYTES)));
    hdl_arena_init(&w->arena, w->mem, ARENA_BYTES);
    atomic_store(&w->hold_at, opts->hold_at);
    const hdl_rpc_callbacks callbacks = {.on_message = on_message, .on_close = on_close, .arg = w};
    HDL_ASSERT(hdl_wire_encoder_init(&w->encoder, ARENA_BYTES) == HDL_OK);
    HDL_ASSERT(hdl_rpc_client_open(&w->client, &(hdl_rpc_client_opts){.address = opts->address},
                                   &why) == HDL_OK);
    /* The encoder is the rpc thread's as soon as the stream is open; the Hello has one of its own.
     */
    unsigned char mem[1024];
    hdl_wire_encoder encoder = {.mem = mem, .size = sizeof mem};
    hdl_wire_bytes bytes;
    hdl_worker_msg hello = {
        .kind = HDL_WMSG_HELLO,
        .hello = {.protocol = opts->protocol ? opts->protocol : HDL_WIRE_PROTOCOL,
                  .pid = (uint32_t)getpid(),
                  .holds = opts->holds,
                  .machine = opts->machine,
                  .host = "fake"}};
    snprintf(hello.hello.device, sizeof hello.hello.device, "%s",
             opts->device ? opts->device : "cpu");
    snprintf(hello.hello.token, sizeof hello.hello.token, "%s", opts->token ? opts->token : "");
    HDL_ASSERT(hdl_wire_encode_worker(&encoder, &hello, &bytes) == HDL_OK);
    HDL_ASSERT(hdl_rpc_stream_open(&w->stream, w->client, HDL_WIRE_ATTACH, &callbacks) == HDL_OK);
    HDL_ASSERT(hdl_rpc_send(w->stream, bytes.data, bytes.len) == HDL_OK);
    return w;
}

void fake_kill(fake_worker *w)
{
    if (!w)
        return;
    hdl_rpc_client_close(w->client);
    hdl_rpc_stream_drop(w->stream);
    hdl_wire_encoder_deinit(&w->encoder);
    free(w->mem);
    free(w);
}

hdl_request *fake_request(uint32_t n_prompt, uint32_t max_new, hdl_sink sink)
{
    hdl_request *req = calloc(1, sizeof *req);
    req->prompt = calloc(n_prompt, sizeof *req->prompt);
    req->n_prompt = n_prompt;
    for (uint32_t i = 0; i < n_prompt; i++)
        req->prompt[i] = (hdl_token)((sink.user * 31 + i * 7) % FAKE_VOCAB);
    req->max_new = max_new;
    req->sampling = (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
    req->sink = sink;
    req->arrived_us = hdl_clock_now_us();
    return req;
}
