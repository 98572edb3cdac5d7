/* SPDX-License-Identifier: Apache-2.0 */
/* Every message there and back, and what must be refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <heddle/types.h>

#include "base/rng.h"
#include "proto/wire.h"

enum { ARENA_BYTES = 1 << 20, PLAN_ARRAY = 64 };

typedef struct fixture {
    hdl_wire_encoder encoder;
    hdl_arena arena;
    void *mem;
    hdl_errmsg why;
} fixture;

static void set_up(fixture *f)
{
    *f = (fixture){.mem = malloc(ARENA_BYTES)};
    assert_non_null(f->mem);
    hdl_arena_init(&f->arena, f->mem, ARENA_BYTES);
    assert_int_equal(hdl_wire_encoder_init(&f->encoder, ARENA_BYTES), HDL_OK);
}

static void tear_down(fixture *f)
{
    hdl_wire_encoder_deinit(&f->encoder);
    free(f->mem);
}

static hdl_err through_worker(fixture *f, const hdl_worker_msg *in, hdl_worker_msg *out)
{
    hdl_wire_bytes bytes;
    assert_int_equal(hdl_wire_encode_worker(&f->encoder, in, &bytes), HDL_OK);
    return hdl_wire_decode_worker(bytes, &f->arena, out, &f->why);
}

static hdl_err through_sched(fixture *f, const hdl_sched_msg *in, hdl_sched_msg *out)
{
    hdl_wire_bytes bytes;
    assert_int_equal(hdl_wire_encode_sched(&f->encoder, in, &bytes), HDL_OK);
    return hdl_wire_decode_sched(bytes, &f->arena, out, &f->why);
}

/* -- control messages ------------------------------------------------------------------------ */

static void worker_messages(void **state)
{
    (void)state;
    fixture f;
    hdl_worker_msg out;
    set_up(&f);
    hdl_worker_msg in = {.kind = HDL_WMSG_HELLO,
                         .hello = {.protocol = 1,
                                   .pid = 77,
                                   .n_cpus = 4,
                                   .memory_bytes = UINT64_C(1) << 40,
                                   .instance = UINT64_MAX,
                                   .holds = 5,
                                   .epoch = 9,
                                   .machine = UINT64_MAX - 1,
                                   .version = "1.2",
                                   .host = "a host",
                                   .device = "cpu",
                                   .token = "secret"}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_int_equal(out.kind, HDL_WMSG_HELLO);
    assert_memory_equal(&out.hello, &in.hello, offsetof(hdl_msg_hello, version));
    assert_string_equal(out.hello.host, "a host");
    assert_string_equal(out.hello.token, "secret");

    in = (hdl_worker_msg){.kind = HDL_WMSG_PROGRESS, .progress = {10, 20}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_memory_equal(&out.progress, &in.progress, sizeof in.progress);

    in = (hdl_worker_msg){.kind = HDL_WMSG_JOINED, .joined = {.epoch = 12}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_int_equal(out.joined.epoch, 12);

    in = (hdl_worker_msg){.kind = HDL_WMSG_FAILED,
                          .failed = {.epoch = 1, .err = HDL_DEVICE, .fatal = true, .text = "x; y"}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_true(out.failed.fatal);
    assert_int_equal(out.failed.err, HDL_DEVICE);
    assert_string_equal(out.failed.text, "x; y");
    in.failed.err = HDL_ERR_COUNT;
    assert_int_equal(through_worker(&f, &in, &out), HDL_INVALID);

    in = (hdl_worker_msg){.kind = HDL_WMSG_HEARTBEAT, .heartbeat = {.count = 8}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_int_equal(out.heartbeat.count, 8);

    in = (hdl_worker_msg){.kind = HDL_WMSG_LISTENING,
                          .listening = {.epoch = 3, .address = "[fd00::7]:7001"}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_int_equal(out.listening.epoch, 3);
    assert_string_equal(out.listening.address, "[fd00::7]:7001");
    in.listening.address[0] = '\0';
    assert_int_equal(through_worker(&f, &in, &out), HDL_INVALID);
    tear_down(&f);
}

static void ready_says_what_each_cache_holds(void **state)
{
    (void)state;
    fixture f;
    hdl_worker_msg out;
    set_up(&f);
    hdl_worker_msg in = {
        .kind = HDL_WMSG_READY,
        .ready = {.key = 3,
                  .weight_bytes = 1,
                  .kv_bytes = 2,
                  .n_caches = 2,
                  .caches = {{{HDL_CACHE_KV_PAGES, 0, 0}, 100}, {{HDL_CACHE_KV_PAGES, 128, 0}, 7}},
                  .block_tokens = 32,
                  .max_seqs = 8,
                  .step_tokens = 64,
                  .max_len = 2048,
                  .vocab = 1000,
                  .device = "cpu-avx2"}};
    assert_int_equal(through_worker(&f, &in, &out), HDL_OK);
    assert_int_equal(out.ready.n_caches, 2);
    assert_memory_equal(out.ready.caches, in.ready.caches, sizeof in.ready.caches);
    assert_string_equal(out.ready.device, "cpu-avx2");
    in.ready.caches[1].n_blocks = 0; /* a worker without memory is of no use */
    assert_int_equal(through_worker(&f, &in, &out), HDL_INVALID);
    assert_non_null(strstr(f.why.text, "ready.n_blocks"));
    in.ready.caches[1].n_blocks = 1;
    in.ready.caches[1].rule.chunk = 5;
    assert_int_equal(through_worker(&f, &in, &out), HDL_INVALID);
    assert_non_null(strstr(f.why.text, "both a window and chunks"));
    in.ready.n_caches = 0;
    assert_int_equal(through_worker(&f, &in, &out), HDL_INVALID);
    assert_non_null(strstr(f.why.text, "ready.caches"));
    tear_down(&f);
}

static hdl_sched_msg good_assign(void)
{
    return (hdl_sched_msg){.kind = HDL_SMSG_ASSIGN,
                           .assign = {.key = 1,
                                      .group = 2,
                                      .rank = 3,
                                      .tp = 4,
                                      .ep = 4,
                                      .pp = 1,
                                      .dp = 3,
                                      .weights = 2,
                                      .kv_type = 1,
                                      .kv_bytes = 5,
                                      .block_tokens = 32,
                                      .max_seqs = 16,
                                      .step_tokens = 512,
                                      .max_len = 0,
                                      .coll_timeout_us = 1000,
                                      .heartbeat_us = 500000,
                                      .hang_us = 2000000,
                                      .model_path = "/models/a b",
                                      .logits_path = ""}};
}

static void scheduler_messages(void **state)
{
    (void)state;
    fixture f;
    hdl_sched_msg out, in = good_assign();
    set_up(&f);
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_memory_equal(&out.assign, &in.assign, offsetof(hdl_msg_assign, model_path));
    assert_string_equal(out.assign.model_path, "/models/a b");

    in = (hdl_sched_msg){
        .kind = HDL_SMSG_JOIN,
        .join = {.epoch = 4, .self_test = true, .backend = "shm", .address = "heddle-x"}};
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_int_equal(out.join.epoch, 4);
    assert_true(out.join.self_test);
    assert_string_equal(out.join.address, "heddle-x");
    assert_int_equal(out.join.n_peers, 0);

    in.join.n_peers = HDL_RANKS_MAX;
    for (uint32_t i = 0; i < HDL_RANKS_MAX; i++)
        snprintf(in.join.peers[i], sizeof in.join.peers[i], "10.0.0.%u:7001", i);
    memset(in.join.secret, 0xa5, sizeof in.join.secret);
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_int_equal(out.join.n_peers, HDL_RANKS_MAX);
    assert_string_equal(out.join.peers[HDL_RANKS_MAX - 1], "10.0.0.63:7001");
    assert_memory_equal(out.join.secret, in.join.secret, sizeof in.join.secret);
    in.join.peers[1][0] = '\n';
    assert_int_equal(through_sched(&f, &in, &out), HDL_INVALID);

    in = (hdl_sched_msg){.kind = HDL_SMSG_LISTEN, .listen = {.epoch = 6}};
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_int_equal(out.kind, HDL_SMSG_LISTEN);
    assert_int_equal(out.listen.epoch, 6);

    in = (hdl_sched_msg){.kind = HDL_SMSG_ABORT, .abort = {.epoch = UINT64_MAX}};
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_true(out.abort.epoch == UINT64_MAX);

    in = (hdl_sched_msg){.kind = HDL_SMSG_HEARTBEAT, .heartbeat = {.count = 1}};
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);

    in = (hdl_sched_msg){.kind = HDL_SMSG_GOODBYE, .goodbye = {.err = HDL_OK, .text = "bye"}};
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_string_equal(out.goodbye.text, "bye");
    tear_down(&f);
}

static void assign_ranges(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
        const char *field;
    } bad[] = {
        {offsetof(hdl_msg_assign, group), HDL_GROUPS_MAX, "assign.group"},
        {offsetof(hdl_msg_assign, rank), HDL_RANKS_MAX, "assign.rank"},
        {offsetof(hdl_msg_assign, tp), 0, "assign.tp"},
        {offsetof(hdl_msg_assign, ep), HDL_RANKS_MAX + 1, "assign.ep"},
        {offsetof(hdl_msg_assign, pp), 0, "assign.pp"},
        {offsetof(hdl_msg_assign, dp), UINT32_MAX, "assign.dp"},
        {offsetof(hdl_msg_assign, max_seqs), HDL_SEQS_MAX + 1, "assign.max_seqs"},
        {offsetof(hdl_msg_assign, step_tokens), 0, "assign.step_tokens"},
        {offsetof(hdl_msg_assign, block_tokens), 1u << 31, "assign.block_tokens"},
        {offsetof(hdl_msg_assign, max_len), UINT32_MAX, "assign.max_len"},
    };
    fixture f;
    set_up(&f);
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        hdl_sched_msg out, in = good_assign();
        memcpy((char *)&in.assign + bad[i].at, &bad[i].value, sizeof bad[i].value);
        assert_int_equal(through_sched(&f, &in, &out), HDL_INVALID);
        assert_non_null(strstr(f.why.text, bad[i].field));
    }
    tear_down(&f);
}

static void texts(void **state)
{
    (void)state;
    fixture f;
    hdl_sched_msg out, in = good_assign();
    set_up(&f);
    snprintf(in.assign.model_path, sizeof in.assign.model_path, "a\nb");
    assert_int_equal(through_sched(&f, &in, &out), HDL_INVALID);
    memset(in.assign.model_path, 'x', sizeof in.assign.model_path); /* no NUL: cut when sent */
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    assert_int_equal(strlen(out.assign.model_path), sizeof in.assign.model_path - 1);
    tear_down(&f);
}

/* -- steps ----------------------------------------------------------------------------------- */

typedef struct plan_mem {
    hdl_plan_row rows[PLAN_ARRAY];
    hdl_plan_open opens[PLAN_ARRAY];
    hdl_plan_grant grants[PLAN_ARRAY];
    uint32_t closes[PLAN_ARRAY];
    hdl_plan_copy copies[PLAN_ARRAY];
    hdl_token tokens[PLAN_ARRAY * 8];
    uint32_t blocks[PLAN_ARRAY * 4];
    hdl_sampling samplings[PLAN_ARRAY];
    hdl_bias biases[PLAN_ARRAY * 4];
} plan_mem;

static hdl_sampling random_sampling(hdl_rng *rng)
{
    return (hdl_sampling){.seed = hdl_rng_u64(rng),
                          .temperature = (float)hdl_rng_unit(rng),
                          .top_p = (float)hdl_rng_unit(rng),
                          .min_p = (float)hdl_rng_unit(rng),
                          .top_k = (int32_t)hdl_rng_below(rng, 100) - 1,
                          .frequency_penalty = (float)hdl_rng_unit(rng) - 0.5f,
                          .presence_penalty = -2,
                          .repetition_penalty = 1.25f,
                          .n_logprobs = (int32_t)hdl_rng_below(rng, 22) - 1};
}

static hdl_sched_msg random_step(hdl_rng *rng, plan_mem *m)
{
    hdl_plan plan = {.step = 1 + hdl_rng_below(rng, 1000),
                     .epoch = hdl_rng_u64(rng),
                     .group = (uint32_t)hdl_rng_below(rng, 4),
                     .n_rows = (uint32_t)hdl_rng_below(rng, PLAN_ARRAY),
                     .n_opens = (uint32_t)hdl_rng_below(rng, PLAN_ARRAY),
                     .n_grants = (uint32_t)hdl_rng_below(rng, PLAN_ARRAY),
                     .n_closes = (uint32_t)hdl_rng_below(rng, PLAN_ARRAY),
                     .n_copies = (uint32_t)hdl_rng_below(rng, PLAN_ARRAY),
                     .rows = m->rows,
                     .opens = m->opens,
                     .grants = m->grants,
                     .closes = m->closes,
                     .copies = m->copies,
                     .tokens = m->tokens,
                     .blocks = m->blocks};
    for (uint32_t i = 0; i < plan.n_rows; i++) {
        hdl_plan_row *row = &m->rows[i];
        *row =
            (hdl_plan_row){.slot = (uint32_t)hdl_rng_below(rng, 256),
                           .pos = (uint32_t)hdl_rng_below(rng, 4096),
                           .n_tokens = (1 + (uint32_t)hdl_rng_below(rng, 3)) & HDL_ROW_TOKENS_MAX,
                           .token_at = plan.n_tokens,
                           .flags = (uint32_t)hdl_rng_below(rng, 32) & HDL_ROW_FLAGS_ALL};
        plan.n_tokens += row->n_tokens + (row->flags & HDL_ROW_SCORE ? 1u : 0u);
    }
    for (uint32_t i = 0; i < plan.n_grants; i++) {
        m->grants[i] = (hdl_plan_grant){.slot = (uint32_t)hdl_rng_below(rng, 256),
                                        .cache = (uint32_t)hdl_rng_below(rng, 4),
                                        .table_at = (uint32_t)hdl_rng_below(rng, 128),
                                        .block_at = plan.n_blocks,
                                        .n_blocks = 1 + (uint32_t)hdl_rng_below(rng, 3)};
        plan.n_blocks += m->grants[i].n_blocks;
    }
    for (uint32_t i = 0; i < plan.n_copies; i++)
        m->copies[i] = (hdl_plan_copy){.cache = (uint32_t)hdl_rng_below(rng, 4), .src = i};
    uint32_t n_bias = 0;
    for (uint32_t i = 0; i < plan.n_opens; i++) {
        m->opens[i] = (hdl_plan_open){.slot = i, .req_lo = i, .n_prompt = 1, .history_at = 0};
        if (plan.n_tokens > 2)
            m->opens[i].n_history = 2;
        m->samplings[i] = random_sampling(rng);
        m->samplings[i].n_bias = (uint32_t)hdl_rng_below(rng, 4);
        m->samplings[i].bias = m->biases + n_bias;
        for (uint32_t b = 0; b < m->samplings[i].n_bias; b++)
            m->biases[n_bias++] = (hdl_bias){.token = (hdl_token)b, .bias = -1.5f};
    }
    for (uint32_t i = 0; i < plan.n_tokens; i++)
        m->tokens[i] = (hdl_token)hdl_rng_below(rng, 50000) - 1;
    for (uint32_t i = 0; i < plan.n_blocks; i++)
        m->blocks[i] = (uint32_t)hdl_rng_u64(rng);
    return (hdl_sched_msg){.kind = HDL_SMSG_STEP,
                           .step = {.plan = plan, .samplings = m->samplings}};
}

static void assert_same_bytes(const void *a, const void *b, size_t len)
{
    if (len)
        assert_memory_equal(a, b, len);
}

static void steps_there_and_back(void **state)
{
    (void)state;
    fixture f;
    plan_mem *m = calloc(1, sizeof *m);
    hdl_rng rng;
    hdl_rng_init(&rng, 7);
    set_up(&f);
    for (int round = 0; round < 200; round++) {
        hdl_sched_msg out, in = random_step(&rng, m);
        assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
        const hdl_plan *a = &in.step.plan, *b = &out.step.plan;
        assert_int_equal(a->step, b->step);
        assert_true(a->epoch == b->epoch && a->group == b->group);
        assert_true(a->n_rows == b->n_rows && a->n_opens == b->n_opens &&
                    a->n_grants == b->n_grants && a->n_closes == b->n_closes &&
                    a->n_copies == b->n_copies && a->n_tokens == b->n_tokens &&
                    a->n_blocks == b->n_blocks);
        assert_same_bytes(a->rows, b->rows, a->n_rows * sizeof *a->rows);
        assert_same_bytes(a->opens, b->opens, a->n_opens * sizeof *a->opens);
        assert_same_bytes(a->grants, b->grants, a->n_grants * sizeof *a->grants);
        assert_same_bytes(a->closes, b->closes, a->n_closes * sizeof *a->closes);
        assert_same_bytes(a->copies, b->copies, a->n_copies * sizeof *a->copies);
        assert_same_bytes(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
        assert_same_bytes(a->blocks, b->blocks, a->n_blocks * sizeof *a->blocks);
        for (uint32_t i = 0; i < a->n_opens; i++) {
            const hdl_sampling *s = &in.step.samplings[i], *t = &out.step.samplings[i];
            assert_same_bytes(s, t, offsetof(hdl_sampling, n_bias));
            assert_int_equal(s->n_bias, t->n_bias);
            assert_same_bytes(s->bias, t->bias, s->n_bias * sizeof *s->bias);
        }
    }
    free(m);
    tear_down(&f);
}

/* One row of one token, one open with one sampling. */
static hdl_sched_msg small_step(plan_mem *m)
{
    m->rows[0] = (hdl_plan_row){.n_tokens = 1, .flags = HDL_ROW_SAMPLE};
    m->opens[0] = (hdl_plan_open){.req_lo = 1};
    m->grants[0] = (hdl_plan_grant){.n_blocks = 1};
    m->copies[0] = (hdl_plan_copy){.dst = 1};
    m->samplings[0] = (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
    return (hdl_sched_msg){.kind = HDL_SMSG_STEP,
                           .step = {.samplings = m->samplings,
                                    .plan = {.step = 1,
                                             .n_rows = 1,
                                             .n_opens = 1,
                                             .n_grants = 1,
                                             .n_copies = 1,
                                             .n_tokens = 2,
                                             .n_blocks = 1,
                                             .rows = m->rows,
                                             .opens = m->opens,
                                             .grants = m->grants,
                                             .copies = m->copies,
                                             .tokens = m->tokens,
                                             .blocks = m->blocks}}};
}

static void refused(fixture *f, const hdl_sched_msg *in)
{
    hdl_sched_msg out;
    assert_int_equal(through_sched(f, in, &out), HDL_INVALID);
    assert_non_null(strstr(f->why.text, "refused"));
}

static void bad_plans_are_refused(void **state)
{
    (void)state;
    fixture f;
    plan_mem *m = calloc(1, sizeof *m);
    hdl_sched_msg out, in = small_step(m);
    set_up(&f);
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        in = small_step(m);                                                                        \
        change;                                                                                    \
        refused(&f, &in);                                                                          \
    } while (0)
    REFUSED(in.step.plan.step = 0);
    REFUSED(m->rows[0].flags = 1u << 5);
    REFUSED(m->rows[0].n_tokens = 0);
    REFUSED(m->rows[0].n_tokens = 3);
    REFUSED(m->rows[0].n_tokens = HDL_ROW_TOKENS_MAX);
    REFUSED(m->rows[0].token_at = 2);
    REFUSED(m->rows[0].token_at = UINT32_MAX);
    REFUSED((m->rows[0].token_at = 1, m->rows[0].flags = HDL_ROW_SCORE));
    REFUSED(m->rows[0].pos = UINT32_MAX);
    REFUSED(m->grants[0].n_blocks = 2);
    REFUSED(m->grants[0].n_blocks = 0);
    REFUSED(m->grants[0].block_at = 1);
    REFUSED(m->grants[0].block_at = UINT32_MAX);
    REFUSED(m->grants[0].table_at = UINT32_MAX);
    REFUSED(m->grants[0].cache = HDL_CACHE_GROUPS_MAX);
    REFUSED(m->copies[0].cache = HDL_CACHE_GROUPS_MAX);
    REFUSED((m->opens[0].n_history = 1, m->opens[0].history_at = 2));
    REFUSED((m->opens[0].n_history = 1, m->opens[0].n_prompt = 2));
    REFUSED(m->samplings[0].temperature = -1);
    REFUSED(m->samplings[0].temperature = NAN);
    REFUSED(m->samplings[0].top_p = 1.5f);
    REFUSED(m->samplings[0].min_p = NAN);
    REFUSED(m->samplings[0].frequency_penalty = INFINITY);
    REFUSED(m->samplings[0].presence_penalty = NAN);
    REFUSED(m->samplings[0].repetition_penalty = 0);
    REFUSED(m->samplings[0].n_logprobs = HDL_TOP_LOGPROBS_MAX + 1);
    REFUSED(m->samplings[0].n_logprobs = -2);
    m->biases[0] = (hdl_bias){.token = -1};
    REFUSED((m->samplings[0].n_bias = 1, m->samplings[0].bias = m->biases));
    m->biases[0] = (hdl_bias){.bias = NAN};
    REFUSED((m->samplings[0].n_bias = 1, m->samplings[0].bias = m->biases));
#undef REFUSED
    free(m);
    tear_down(&f);
}

static void too_many_tokens_in_a_step(void **state)
{
    (void)state;
    fixture f;
    plan_mem *m = calloc(1, sizeof *m);
    hdl_token *tokens = calloc(HDL_STEP_TOKENS_MAX, sizeof *tokens);
    hdl_sched_msg out, in = small_step(m);
    set_up(&f);
    m->rows[0].n_tokens = HDL_STEP_TOKENS_MAX;
    m->rows[1] = (hdl_plan_row){.n_tokens = 1}; /* may share the entries: only the sum counts */
    in.step.plan.tokens = tokens;
    in.step.plan.n_tokens = HDL_STEP_TOKENS_MAX;
    assert_int_equal(through_sched(&f, &in, &out), HDL_OK);
    in.step.plan.n_rows = 2;
    refused(&f, &in);
    free(tokens);
    free(m);
    tear_down(&f);
}

/* -- results --------------------------------------------------------------------------------- */

static void results(void **state)
{
    (void)state;
    fixture f;
    set_up(&f);
    hdl_result_row rows[2] = {
        {.slot = 1, .pos = 5, .token = 7, .probs_at = 0, .n_probs = 2},
        {.slot = 2, .pos = 9, .token = 0, .probs_at = 2, .n_probs = 1, .scored = 1}};
    hdl_logprob probs[3] = {{7, -0.5f}, {8, -1.5f}, {0, -INFINITY}};
    const hdl_worker_msg good = {.kind = HDL_WMSG_RESULT,
                                 .result = {.step = 3,
                                            .epoch = 4,
                                            .group = 1,
                                            .rank = 0,
                                            .err = HDL_OK,
                                            .step_us = 100,
                                            .coll_us = 10,
                                            .n_rows = 2,
                                            .n_probs = 3,
                                            .rows = rows,
                                            .probs = probs}};
    hdl_worker_msg out;
    assert_int_equal(through_worker(&f, &good, &out), HDL_OK);
    assert_int_equal(out.result.n_rows, 2);
    assert_memory_equal(out.result.rows, rows, sizeof rows);
    assert_memory_equal(out.result.probs, probs, sizeof probs);
    assert_int_equal(out.result.coll_us, 10);
#define REFUSED(lvalue, value)                                                                     \
    do {                                                                                           \
        __typeof__(lvalue) saved = lvalue;                                                         \
        lvalue = value;                                                                            \
        assert_int_equal(through_worker(&f, &good, &out), HDL_INVALID);                            \
        lvalue = saved;                                                                            \
    } while (0)
    REFUSED(rows[0].token, -1);
    REFUSED(rows[0].pos, UINT32_MAX);
    REFUSED(probs[0].token, 8); /* the first one is the row's own */
    REFUSED(probs[1].token, -5);
    REFUSED(probs[1].logprob, NAN);
    hdl_result_row two[2] = {rows[0], rows[1]};
    rows[0].n_probs = 4;
    assert_int_equal(through_worker(&f, &good, &out), HDL_INVALID);
    rows[0].n_probs = HDL_ROW_PROBS_MAX + 1;
    assert_int_equal(through_worker(&f, &good, &out), HDL_INVALID);
    rows[0] = two[0];
    rows[1].probs_at = HDL_PROBS_AT_MAX;
    assert_int_equal(through_worker(&f, &good, &out), HDL_INVALID);
    rows[1] = two[1];
    assert_int_equal(through_worker(&f, &good, &out), HDL_OK);
#undef REFUSED
    hdl_worker_msg bad = good;
    bad.result.err = HDL_ERR_COUNT;
    assert_int_equal(through_worker(&f, &bad, &out), HDL_INVALID);
    tear_down(&f);
}

/* -- bytes that are no message --------------------------------------------------------------- */

static void every_cut_and_flip_is_survived(void **state)
{
    (void)state;
    fixture f;
    plan_mem *m = calloc(1, sizeof *m);
    hdl_rng rng;
    hdl_sched_msg out;
    hdl_wire_bytes bytes;
    hdl_rng_init(&rng, 3);
    set_up(&f);
    hdl_sched_msg in = random_step(&rng, m);
    assert_int_equal(hdl_wire_encode_sched(&f.encoder, &in, &bytes), HDL_OK);
    unsigned char *copy = malloc(bytes.len);
    for (size_t cut = 1; cut < bytes.len; cut += 7) {
        hdl_err err = hdl_wire_decode_sched((hdl_wire_bytes){bytes.data, bytes.len - cut}, &f.arena,
                                            &out, &f.why);
        assert_true(err == HDL_CORRUPT || err == HDL_INVALID);
    }
    for (int i = 0; i < 5000;
         i++) { /* whatever comes out, it is whole: ASan and the checks say so */
        memcpy(copy, bytes.data, bytes.len);
        copy[hdl_rng_below(&rng, bytes.len)] ^= (unsigned char)(1 + hdl_rng_below(&rng, 255));
        hdl_err err =
            hdl_wire_decode_sched((hdl_wire_bytes){copy, bytes.len}, &f.arena, &out, &f.why);
        assert_true(err == HDL_OK || err == HDL_CORRUPT || err == HDL_INVALID || err == HDL_BUSY);
    }
    free(copy);
    free(m);
    tear_down(&f);
}

static void memory_is_bounded(void **state)
{
    (void)state;
    fixture f;
    hdl_sched_msg out;
    hdl_cluster_status status;
    hdl_wire_bytes bytes;
    plan_mem *m = calloc(1, sizeof *m);
    set_up(&f);
    /* 200 thousand empty sub-messages in 400 kB: protobuf-c would take tens of megabytes. */
    size_t len = 400000;
    unsigned char *bomb = malloc(len);
    for (size_t i = 0; i < len; i += 2) {
        bomb[i] = 8 << 3 | 2; /* StatusReply.ranks, length 0 */
        bomb[i + 1] = 0;
    }
    assert_int_equal(hdl_wire_decode_status((hdl_wire_bytes){bomb, len}, &f.arena, &status, &f.why),
                     HDL_BUSY);
    hdl_sched_msg in = small_step(m);
    assert_int_equal(hdl_wire_encode_sched(&f.encoder, &in, &bytes), HDL_OK);
    hdl_arena_init(&f.arena, f.mem, 64);
    assert_int_equal(hdl_wire_decode_sched(bytes, &f.arena, &out, &f.why), HDL_BUSY);
    hdl_wire_encoder tiny = {.mem = f.mem, .size = 64};
    assert_int_equal(hdl_wire_encode_sched(&tiny, &in, &bytes), HDL_BUSY);
    free(bomb);
    free(m);
    tear_down(&f);
}

static void status_there_and_back(void **state)
{
    (void)state;
    fixture f;
    hdl_cluster_status out;
    hdl_wire_bytes bytes;
    set_up(&f);
    const hdl_rank_status ranks[2] = {{.rank = 0, .pid = 5, .state = "running", .host = "h"},
                                      {.rank = 1, .silent_us = 7, .state = "missing"}};
    const hdl_cluster_status in = {.ready = true,
                                   .epoch = 3,
                                   .running = 2,
                                   .kv_tokens = 4096,
                                   .n_ranks = 2,
                                   .state = "ready",
                                   .ranks = ranks};
    assert_int_equal(hdl_wire_encode_status(&f.encoder, &in, &bytes), HDL_OK);
    assert_int_equal(hdl_wire_decode_status(bytes, &f.arena, &out, &f.why), HDL_OK);
    assert_true(out.ready && !out.draining && out.epoch == 3 && out.n_ranks == 2);
    assert_string_equal(out.state, "ready");
    assert_string_equal(out.ranks[0].state, "running");
    assert_int_equal(out.ranks[1].silent_us, 7);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker_messages),
        cmocka_unit_test(ready_says_what_each_cache_holds),
        cmocka_unit_test(scheduler_messages),
        cmocka_unit_test(assign_ranges),
        cmocka_unit_test(texts),
        cmocka_unit_test(steps_there_and_back),
        cmocka_unit_test(bad_plans_are_refused),
        cmocka_unit_test(too_many_tokens_in_a_step),
        cmocka_unit_test(results),
        cmocka_unit_test(every_cut_and_flip_is_survived),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(status_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
