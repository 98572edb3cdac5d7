/* SPDX-License-Identifier: Apache-2.0 */
/* Step after step: generation, chunks, scoring, sampling parameters, copies of blocks, epochs,
 * aborts, refused plans, and no allocation. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "rig.h"

static char model[256];

static const hdl_token prompt[] = {3, 14, 15, 92, 65, 35, 89, 79, 32, 38};
enum { PROMPT = 10, NEW = 40, VOCAB = 97 };

/* A failure in a rank's thread cannot unwind into cmocka. */
#define MUST(cond)                                                                                 \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort(), (void)0))

static void run(void (*script)(rig_rank *), void *arg)
{
    rig_group group = {.opts = {.model_path = model}, .script = script, .arg = arg};
    rig_run(&group);
}

typedef struct generation {
    uint32_t chunk;
    hdl_sampling params;
    hdl_token out[NEW];
    float logprobs[NEW];
} generation;

/* Prompt in chunks, then NEW tokens by feedback, in slot 0. */
static void generate(rig_rank *r)
{
    generation *g = r->arg;
    rig_plan *p = &r->plan;
    hdl_result result = {0};
    for (uint32_t pos = 0; pos < PROMPT; pos += g->chunk) {
        uint32_t n = hdl_min_u32(g->chunk, PROMPT - pos);
        rig_next(p);
        if (pos == 0)
            rig_open(p, 0, &g->params);
        rig_row(p, 0, pos, prompt + pos, n, pos + n == PROMPT ? HDL_ROW_SAMPLE : 0);
        result = rig_step(r);
    }
    for (uint32_t i = 0; i < NEW; i++) {
        if (r->rank == 0) {
            MUST(result.n_rows == 1 && result.rows[0].pos == PROMPT + i);
            g->out[i] = result.rows[0].token;
            g->logprobs[i] = g->params.n_logprobs < 0 ? 0 : rig_prob(&result, 0);
        }
        rig_next(p);
        rig_row(p, 0, PROMPT + i, NULL, 1, HDL_ROW_SAMPLE);
        result = rig_step(r);
    }
}

static void test_greedy_is_the_same_in_chunks(void **state)
{
    (void)state;
    generation whole = {.chunk = PROMPT}, one = {.chunk = 1}, three = {.chunk = 3};
    generation *all[] = {&whole, &one, &three};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++) {
        all[i]->params = rig_greedy();
        run(generate, all[i]);
        assert_memory_equal(all[i]->out, whole.out, sizeof(whole.out));
    }
    /* A model of random weights still has something to say. */
    uint32_t changes = 0;
    for (uint32_t i = 1; i < NEW; i++)
        changes += whole.out[i] != whole.out[i - 1];
    assert_true(changes > 3);
}

/* Sampling with a penalty, on one rank and on four with feedback across ranks. */
static void test_sampled_tokens_do_not_depend_on_the_layout(void **state)
{
    generation one = {.chunk = 4}, four = {.chunk = 7};
    (void)state;
    one.params = rig_greedy();
    one.params.temperature = 1.5f;
    one.params.top_p = 0.95f;
    one.params.seed = 77;
    one.params.repetition_penalty = 1.2f;
    one.params.n_logprobs = 0;
    four.params = one.params;
    run(generate, &one);
    rig_group group = {.opts = {.model_path = model, .layout = {.tp = 2, .ep = 4}},
                       .coll = "check+shm",
                       .script = generate,
                       .arg = &four};
    rig_run(&group);
    assert_memory_equal(one.out, four.out, sizeof(one.out));
    assert_memory_equal(one.logprobs, four.logprobs, sizeof(one.logprobs));
}

/* Scored prompt tokens and sampled tokens have the same log-probabilities for the same context. */
static void score(rig_rank *r)
{
    const generation *g = r->arg;
    rig_plan *p = &r->plan;
    hdl_sampling params = rig_greedy();
    hdl_token tokens[PROMPT + NEW + 1];
    params.n_logprobs = 3;
    memcpy(tokens, prompt, sizeof(prompt));
    memcpy(tokens + PROMPT, g->out, sizeof(g->out));
    tokens[PROMPT + NEW] = -1;
    rig_next(p);
    rig_open(p, 4, &params);
    rig_row(p, 4, 0, tokens, 7, HDL_ROW_SCORE);
    hdl_result result = rig_step(r);
    MUST(result.n_rows == 7 && result.n_probs == 28);
    rig_next(p);
    rig_row(p, 4, 7, tokens + 7, PROMPT + NEW - 7, HDL_ROW_SCORE | HDL_ROW_SAMPLE);
    result = rig_step(r);
    MUST(result.n_rows == PROMPT + NEW - 7 && result.n_probs == 4 * result.n_rows);
    for (uint32_t i = 0; i < result.n_rows; i++) {
        const hdl_result_row *row = &result.rows[i];
        MUST(row->pos == 8 + i && row->scored == (i + 1 < result.n_rows));
        const hdl_logprob *probs = result.probs + row->probs_at;
        MUST(row->n_probs == 4 && probs[0].token == row->token);
        MUST(probs[1].logprob >= probs[0].logprob);
        if (row->pos >= PROMPT && row->scored) {
            MUST(row->token == g->out[row->pos - PROMPT]);
            MUST(probs[0].logprob == g->logprobs[row->pos - PROMPT]);
            MUST(probs[1].token == row->token); /* greedy: the best one */
        }
    }
}

static void test_scoring(void **state)
{
    generation g = {.chunk = PROMPT, .params = rig_greedy()};
    (void)state;
    g.params.n_logprobs = 0;
    run(generate, &g);
    run(score, &g);
}

/* ---- copies of blocks --------------------------------------------------------------------- */

/* A fork: slot 1 continues slot 0's sequence from a copy of its half-filled second block. */
static void fork_blocks(rig_rank *r)
{
    rig_plan *p = &r->plan;
    hdl_sampling greedy = rig_greedy();
    hdl_token tokens[45];
    for (uint32_t i = 0; i < 45; i++)
        tokens[i] = (hdl_token)(i * 5 % VOCAB);
    greedy.n_logprobs = 0;
    rig_next(p);
    rig_open(p, 0, &greedy);
    rig_row(p, 0, 0, tokens, 44, 0);
    rig_step(r);
    rig_next(p);
    rig_open(p, 1, &greedy);
    p->copies[0] = (hdl_plan_copy){.src = 1, .dst = RIG_BLOCKS_PER_SEQ + 1};
    p->plan.n_copies = 1;
    rig_row(p, 0, 44, tokens + 44, 1, HDL_ROW_SAMPLE);
    hdl_token other = 50;
    rig_row(p, 1, 44, &other, 1, HDL_ROW_SAMPLE);
    p->blocks[p->grants[0].block_at] = 0; /* shared */
    assert_int_equal(p->blocks[p->grants[0].block_at + 1], RIG_BLOCKS_PER_SEQ + 1);
    hdl_result result = rig_step(r);
    float *logprobs = r->arg;
    logprobs[0] = rig_prob(&result, 0);
    logprobs[1] = rig_prob(&result, 1);
    /* The same two sequences without sharing. */
    for (uint32_t i = 0; i < 2; i++) {
        rig_next(p);
        rig_open(p, 2 + i, &greedy);
        tokens[44] = i == 0 ? tokens[44] : other;
        rig_row(p, 2 + i, 0, tokens, 45, HDL_ROW_SAMPLE);
        result = rig_step(r);
        logprobs[2 + i] = rig_prob(&result, 0);
    }
}

static void test_copy_on_write(void **state)
{
    float logprobs[4];
    (void)state;
    run(fork_blocks, logprobs);
    assert_true(logprobs[0] == logprobs[2]);
    assert_true(logprobs[1] == logprobs[3]);
    assert_true(logprobs[0] != logprobs[1]);
}

/* ---- epochs ------------------------------------------------------------------------------- */

static hdl_err join(rig_rank *r, const char *address, uint64_t epoch, hdl_errmsg *why)
{
    hdl_coll_opts coll = {.backend = "self", .address = address, .timeout_us = 30000000};
    if (address)
        coll.backend = "shm";
    return hdl_worker_join(r->worker, &coll, epoch, why);
}

static void refused_steps(rig_rank *r)
{
    rig_plan *p = &r->plan;
    hdl_result result;
    hdl_errmsg why = {0};
    hdl_sampling greedy = rig_greedy();
    rig_next(p);
    rig_open(p, 0, &greedy);
    rig_row(p, 0, 0, prompt, PROMPT, HDL_ROW_SAMPLE);
    p->plan.epoch = 2;
    MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_INVALID);
    MUST(result.err == HDL_INVALID && result.n_rows == 0);
    p->plan.epoch = 1;
    p->plan.step = 2;
    MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_INVALID);
    p->plan.step = 1;
    p->sampling[0].top_p = 7;
    MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_BUG);
    p->sampling[0].top_p = 1;
    p->tokens[2] = VOCAB;
    MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_BUG);
    p->tokens[2] = 15;
    rig_step(r);
    /* A new epoch forgets the slot and starts at step 1. */
    MUST(join(r, NULL, 2, &why) == HDL_OK);
    rig_next(p);
    p->plan.epoch = 2;
    p->plan.step = 1;
    rig_row(p, 0, PROMPT, NULL, 1, HDL_ROW_SAMPLE);
    MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_BUG);
    p->plan.n_rows = 0;
    rig_step(r); /* an empty plan is fine */
}

static void test_refused_steps_touch_nothing(void **state)
{
    (void)state;
    run(refused_steps, NULL);
}

/* Aborts a worker again and again until told to stop: an abort that comes before the call that it
 * is meant for has no effect. */
typedef struct aborter {
    hdl_worker *worker;
    pthread_t thread;
    _Atomic bool stop;
} aborter;

static void *abort_often(void *arg)
{
    aborter *a = arg;
    while (!a->stop) {
        hdl_clock_sleep_us(5000);
        hdl_worker_abort(a->worker);
    }
    return NULL;
}

static void start_aborting(aborter *a, hdl_worker *worker)
{
    *a = (aborter){.worker = worker};
    MUST(pthread_create(&a->thread, NULL, abort_often, a) == 0);
}

static void stop_aborting(aborter *a)
{
    a->stop = true;
    pthread_join(a->thread, NULL);
}

/* Rank 1 stops taking part; rank 0 hangs in a collective, then in a join, until it is aborted; then
 * both meet in the next epoch and go on. */
static void aborted(rig_rank *r)
{
    rig_plan *p = &r->plan;
    hdl_errmsg why = {0};
    hdl_result result;
    hdl_sampling greedy = rig_greedy();
    aborter a;
    if (r->rank == 0) {
        rig_next(p);
        rig_open(p, 0, &greedy);
        rig_row(p, 0, 0, prompt, PROMPT, HDL_ROW_SAMPLE);
        start_aborting(&a, r->worker);
        MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_CANCELLED);
        /* The epoch is over for this rank. */
        p->plan.step++;
        MUST(hdl_worker_step(r->worker, &p->plan, p->sampling, &result) == HDL_INVALID);
        MUST(join(r, "heddle-nobody", 2, &why) == HDL_CANCELLED);
        stop_aborting(&a);
    }
    MUST(join(r, r->arg, 3, &why) == HDL_OK);
    rig_plan_init(p, 3);
    generation *g = calloc(1, sizeof(*g));
    g->chunk = 5;
    g->params = greedy;
    r->arg = g;
    generate(r);
    free(g);
}

static void test_abort_and_next_epoch(void **state)
{
    char address[64];
    (void)state;
    snprintf(address, sizeof(address), "heddle-step-%d", (int)getpid());
    rig_group group = {.opts = {.model_path = model, .layout = {.tp = 2, .ep = 2}},
                       .script = aborted,
                       .arg = address};
    rig_run(&group);
}

/* ---- self-test, memory -------------------------------------------------------------------- */

static void self_test(rig_rank *r)
{
    hdl_errmsg why = {0};
    MUST(hdl_worker_self_test(r->worker, &why) == HDL_OK);
    generation *g = calloc(1, sizeof(*g));
    g->chunk = 5;
    g->params = rig_greedy();
    r->arg = g;
    generate(r); /* step 1 comes next, nothing is left open */
    free(g);
}

static void test_self_test(void **state)
{
    (void)state;
    static const hdl_layout layouts[] = {{1, 1, 1, 1}, {2, 1, 1, 1}, {2, 2, 1, 1}, {1, 4, 1, 1}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(layouts); i++) {
        rig_group group = {.opts = {.model_path = model, .layout = layouts[i]},
                           .script = self_test};
        rig_run(&group);
    }
    /* Caches and steps so small that parts of it do not fit. */
    for (uint32_t n = 1; n < 9; n++) {
        rig_group group = {
            .opts = {.model_path = model, .step_tokens = 5 * n, .n_blocks = 16, .max_seqs = n},
            .script = self_test};
        rig_run(&group);
    }
}

/* Sanitizers replace the allocator that the trap sits in: there a tenth says as much. */
#if defined(HDL_TRAP_ALLOC)
enum { STEPS = 10000 };
#else
enum { STEPS = 1000 };
#endif

/* Two slots with every parameter in use decode for STEPS; a slot changes hands now and then. */
static void decode_forever(rig_rank *r)
{
    rig_plan *p = &r->plan;
    hdl_sampling all = {.temperature = 0.8f,
                        .top_p = 0.9f,
                        .top_k = 40,
                        .min_p = 0.01f,
                        .repetition_penalty = 1.1f,
                        .frequency_penalty = 0.1f,
                        .n_logprobs = 5};
    hdl_sampling greedy = rig_greedy();
    uint32_t pos[2] = {0, 0};
    uint64_t count = 0;
    for (uint32_t step = 0; step < 10 + STEPS; step++) {
        if (step == 10) {
            count = hdl_alloc_count();
            hdl_alloc_freeze();
        }
        rig_next(p);
        for (uint32_t slot = 0; slot < 2; slot++) {
            if (pos[slot] == 200 + slot) {
                rig_close(p, slot);
                pos[slot] = 0;
            }
            if (pos[slot] == 0) {
                rig_open(p, slot, slot ? &all : &greedy);
                rig_row(p, slot, 0, prompt, PROMPT, HDL_ROW_SAMPLE);
                pos[slot] = PROMPT;
            } else {
                rig_row(p, slot, pos[slot]++, NULL, 1, HDL_ROW_SAMPLE);
            }
        }
        rig_step(r);
    }
    hdl_alloc_thaw();
    MUST(hdl_alloc_count() == count);
}

static void test_steps_without_allocation(void **state)
{
    (void)state;
    run(decode_forever, NULL);
    rig_group group = {.opts = {.model_path = model, .layout = {.tp = 2, .ep = 2}},
                       .script = decode_forever};
    rig_run(&group);
}

static int setup(void **state)
{
    (void)state;
    rig_make_model(model, rig_config_moe, HDL_DTYPE_BF16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_remove(model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_the_same_in_chunks),
        cmocka_unit_test(test_sampled_tokens_do_not_depend_on_the_layout),
        cmocka_unit_test(test_scoring),
        cmocka_unit_test(test_copy_on_write),
        cmocka_unit_test(test_refused_steps_touch_nothing),
        cmocka_unit_test(test_abort_and_next_epoch),
        cmocka_unit_test(test_self_test),
        cmocka_unit_test(test_steps_without_allocation),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
