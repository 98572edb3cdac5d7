/* SPDX-License-Identifier: Apache-2.0 */
/* Op sample: tokens, log-probabilities and what stays on the device, over parameters and shapes of
 * logits, with chains of guesses, tasks of no slot and numbers that are none. */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

enum { SLOTS = 8, HISTORY = 48, TASKS_MAX = SLOTS, VOCABS = 6, CASES = 8 * VOCABS };

static const uint32_t vocabs[VOCABS] = {1, 7, 257, 1024, 4099, 33000};

typedef struct scene {
    uint32_t vocab, n_tasks;
    float *logits;
    hdl_sample_task *tasks;
    hdl_sample_state state;
} scene;

/* What a call left. */
typedef struct outcome {
    hdl_result_row *out;
    hdl_logprob *probs;
    hdl_sample_state state;
} outcome;

/* ---- logits ------------------------------------------------------------------------------- */

static uint32_t largest_of(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static void fill_row(kt *t, float *x, uint32_t n)
{
    uint32_t shape = kt_range(t, 0, 7);
    float scale = shape == 1 ? 0.05f : shape == 2 ? 8.0f : 2.5f;
    for (uint32_t i = 0; i < n; i++)
        x[i] = kt_normal(t) * scale;
    if (shape == 3) /* ties */
        for (uint32_t i = 0; i < n; i++)
            x[i] = rintf(x[i]);
    if (shape == 4) /* nothing but one number, now and then the other zero */
        for (uint32_t i = 0; i < n; i++)
            x[i] = i % 3 == 1 ? -0.0f : 0.0f;
    if (shape == 5) /* one far above */
        x[kt_range(t, 0, n - 1)] = 30;
    if (shape == 6) /* far apart: beyond the last bucket */
        for (uint32_t i = 0; i < n; i++)
            x[i] *= 100;
    if (shape == 7) /* large numbers close to each other: few keys, no ties */
        for (uint32_t i = 0; i < n; i++)
            x[i] = 1000 + x[i] * 0.01f;
}

/* ---- tenants ------------------------------------------------------------------------------ */

static float one_of(kt *t, float usual, float lo, float hi)
{
    return kt_chance(t, 50) ? usual : lo + (hi - lo) * (float)kt_range(t, 0, 1000) * 0.001f;
}

static void fill_params(kt *t, hdl_sampling *p, uint32_t vocab)
{
    static const float temperatures[] = {0, 1, 1, 0.7f, 2.5f, 0.01f, 50};
    p->seed = (uint64_t)kt_range(t, 0, UINT32_MAX - 1) << 32 | kt_range(t, 0, UINT32_MAX - 1);
    p->temperature = temperatures[kt_range(t, 0, HDL_ARRAY_LEN(temperatures) - 1)];
    p->top_p = one_of(t, 1, 0.001f, 1);
    p->min_p = one_of(t, 0, 0, 1);
    p->top_k = kt_chance(t, 50) ? 0 : (int32_t)kt_range(t, 1, vocab + 3);
    bool penalises = kt_chance(t, 50);
    p->repetition_penalty = penalises ? one_of(t, 1, 0.5f, 3) : 1;
    p->frequency_penalty = penalises ? one_of(t, 0, -1, 2) : 0;
    p->presence_penalty = penalises ? one_of(t, 0, -1, 2) : 0;
    p->n_logprobs = (int32_t)kt_range(t, 0, HDL_TOP_LOGPROBS_MAX + 1) - 1;
    if (kt_chance(t, 30))
        p->n_logprobs = -1;
}

static void fill_tenant(kt *t, const scene *s, uint32_t slot)
{
    hdl_sample_tenant *to = &s->state.tenants[slot];
    hdl_sampling *p = &to->params;
    fill_params(t, p, s->vocab);
    /* Some tokens more than once: what comes first is added first. */
    p->n_bias = kt_chance(t, 60) ? 0 : kt_chance(t, 10) ? HDL_LOGIT_BIAS_MAX : kt_range(t, 1, 30);
    for (uint32_t i = 0; i < p->n_bias; i++)
        s->state.biases[slot * HDL_LOGIT_BIAS_MAX + i] =
            (hdl_bias){.token = (hdl_token)kt_range(t, 0, hdl_min_u32(s->vocab, 600) - 1),
                       .bias = kt_normal(t) * 3};
    to->log_min_p = logf(p->min_p);
    to->keeps_history =
        p->frequency_penalty != 0 || p->presence_penalty != 0 || p->repetition_penalty != 1;
    if (!to->keeps_history)
        return;
    to->n_history = kt_chance(t, 20) ? 0 : kt_range(t, 1, HISTORY); /* full: nothing joins */
    to->n_prompt = kt_range(t, 0, to->n_history);
    for (uint32_t i = 0; i < to->n_history; i++)
        s->state.histories[slot * HISTORY + i] = (hdl_token)kt_range(t, 0, s->vocab - 1);
}

static void fill_task(kt *t, const scene *s, uint32_t i)
{
    hdl_sample_task *task = &s->tasks[i];
    float *row = s->logits + (size_t)i * s->vocab;
    fill_row(t, row, s->vocab);
    *task = (hdl_sample_task){.slot = i, .pos = kt_range(t, 0, 5000), .score = -1, .guess = -1};
    if (i > 0 && task[-1].slot != HDL_NONE_U32 && task[-1].score < 0 && kt_chance(t, 50)) {
        /* A guess that is often right. */
        task->slot = task[-1].slot;
        task->guess = (hdl_token)largest_of(row - s->vocab, s->vocab);
        if (kt_chance(t, 20))
            task->guess = (hdl_token)kt_range(t, 0, s->vocab - 1);
    } else if (kt_chance(t, 15)) {
        task->slot = HDL_NONE_U32;
        row[0] = NAN; /* is not read */
    } else if (kt_chance(t, 20)) {
        task->score = (hdl_token)kt_range(t, 0, s->vocab - 1);
    }
    if (kt_chance(t, 4)) {
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        row[kt_range(t, 0, s->vocab - 1)] = bad[kt_range(t, 0, 2)];
    }
}

static hdl_sample_state new_state(kt *t)
{
    return (hdl_sample_state){.max_seqs = SLOTS,
                              .max_history = HISTORY,
                              .tenants = KT_NEW(t, hdl_sample_tenant, SLOTS),
                              .biases = KT_NEW(t, hdl_bias, SLOTS * HDL_LOGIT_BIAS_MAX),
                              .histories = KT_NEW(t, hdl_token, SLOTS * HISTORY),
                              .last = KT_NEW(t, hdl_token, SLOTS)};
}

static scene new_scene(kt *t, uint32_t vocab)
{
    scene s = {.vocab = vocab, .n_tasks = kt_range(t, 1, vocab > 5000 ? 3 : TASKS_MAX)};
    s.logits = KT_NEW(t, float, (size_t)s.n_tasks *vocab);
    s.tasks = KT_NEW(t, hdl_sample_task, s.n_tasks);
    s.state = new_state(t);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        fill_tenant(t, &s, slot);
    for (uint32_t i = 0; i < s.n_tasks; i++)
        fill_task(t, &s, i);
    return s;
}

/* ---- runs --------------------------------------------------------------------------------- */

static outcome run(kt *t, const scene *s, const hdl_ops *ops, hdl_stream *stream)
{
    outcome o = {.out = KT_NEW(t, hdl_result_row, s->n_tasks),
                 .probs = KT_NEW(t, hdl_logprob, s->n_tasks * HDL_ROW_PROBS_MAX),
                 .state = new_state(t)};
    memcpy(o.state.tenants, s->state.tenants, SLOTS * sizeof *o.state.tenants);
    memcpy(o.state.biases, s->state.biases, SLOTS * HDL_LOGIT_BIAS_MAX * sizeof *o.state.biases);
    memcpy(o.state.histories, s->state.histories, SLOTS * HISTORY * sizeof *o.state.histories);
    size_t work = hdl_sample_work_bytes(s->n_tasks, s->vocab);
    hdl_sample_args args = {.logits = s->logits,
                            .tasks = s->tasks,
                            .n_tasks = s->n_tasks,
                            .vocab = s->vocab,
                            .state = o.state,
                            .work = kt_alloc(t, work),
                            .out = o.out,
                            .probs = o.probs};
    memset(args.work, 0xff, work); /* of no use between calls */
    ops->sample(&args, stream);
    return o;
}

static void test(kt *t, int c)
{
    scene s = new_scene(t, t->is_long && c == VOCABS - 1 ? 262144 : vocabs[c % VOCABS]);
    outcome want = run(t, &s, t->ref, t->streams[0]);
    KT_EACH(t, level, stream)
    {
        outcome got = run(t, &s, t->levels[level], t->streams[stream]);
        kt_same_bytes(t, kt_name(t, "rows", level, stream), want.out, got.out,
                      s.n_tasks * sizeof *want.out);
        kt_same_bytes(t, kt_name(t, "log-probabilities", level, stream), want.probs, got.probs,
                      s.n_tasks * HDL_ROW_PROBS_MAX * sizeof *want.probs);
        kt_same_bytes(t, kt_name(t, "tenants", level, stream), want.state.tenants,
                      got.state.tenants, SLOTS * sizeof *want.state.tenants);
        kt_same_bytes(t, kt_name(t, "histories", level, stream), want.state.histories,
                      got.state.histories, SLOTS * HISTORY * sizeof *want.state.histories);
        kt_same_bytes(t, kt_name(t, "last tokens", level, stream), want.state.last, got.state.last,
                      SLOTS * sizeof *want.state.last);
    }
    for (uint32_t i = 0; i < s.n_tasks; i++)
        kt_check(t, want.out[i].token >= HDL_SAMPLE_NO_NUMBER && want.out[i].token < (int)s.vocab,
                 "a token, or none");
}

const kt_suite kt_sample = {"sample", CASES, test};
