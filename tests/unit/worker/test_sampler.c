/* SPDX-License-Identifier: Apache-2.0 */
/* The sampler against a slow definition that sorts everything, and each parameter by itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "worker/sampler.h"

enum { VOCAB = 257, MAX_LEN = 64 };

static hdl_sampler *sampler;
static hdl_result_row row;
static hdl_logprob probs[HDL_ROW_PROBS_MAX];

static hdl_sampling params_default(void)
{
    return (hdl_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
}

static void set(const hdl_sampling *p, const hdl_token *history, uint32_t n, uint32_t n_prompt)
{
    hdl_errmsg why = {0};
    hdl_sampler_tenant t = {
        .slot = 0, .params = p, .history = history, .n_history = n, .n_prompt = n_prompt};
    assert_int_equal(hdl_sampler_check(sampler, p, &why), HDL_OK);
    hdl_sampler_set(sampler, &t);
}

static hdl_token draw(const float *logits, uint32_t pos)
{
    hdl_sample_job job = {.pos = pos, .logits = logits, .score = -1};
    hdl_sample_run run = {.jobs = &job, .n = 1, .out = &row, .probs = probs};
    assert_int_equal(hdl_sampler_run(sampler, NULL, &run), HDL_OK);
    assert_int_equal(row.pos, pos);
    return row.token;
}

static void random_logits(float *logits, uint64_t seed, bool ties)
{
    hdl_rng rng;
    hdl_rng_init(&rng, seed);
    for (uint32_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)(hdl_rng_unit(&rng) * 16 - 8);
        if (ties)
            logits[i] = roundf(logits[i]);
    }
}

/* ---- definition --------------------------------------------------------------------------- */

typedef struct item {
    float z;
    hdl_token token;
} item;

static int descending(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->z != y->z)
        return x->z > y->z ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

/* Tokens that the filters keep, as a set; sampling frequencies are tested apart. */
static uint32_t define_kept(const float *logits, const hdl_sampling *p, bool kept[VOCAB])
{
    item items[VOCAB];
    for (uint32_t i = 0; i < VOCAB; i++)
        items[i] = (item){.z = logits[i] / p->temperature, .token = (hdl_token)i};
    qsort(items, VOCAB, sizeof(items[0]), descending);
    uint32_t n = p->top_k > 0 && p->top_k < VOCAB ? (uint32_t)p->top_k : VOCAB;
    double total = 0, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        total += exp((double)items[i].z - items[0].z);
    for (uint32_t i = 0; i < n && p->top_p < 1; i++) {
        sum += exp((double)items[i].z - items[0].z);
        if (sum >= total * (double)p->top_p)
            n = i + 1;
    }
    while (n > 1 && exp((double)items[n - 1].z - items[0].z) < (double)p->min_p)
        n--;
    memset(kept, 0, VOCAB * sizeof(kept[0]));
    for (uint32_t i = 0; i < n; i++)
        kept[items[i].token] = true;
    return n;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_greedy_takes_the_lowest_of_equals(void **state)
{
    float logits[VOCAB] = {0};
    hdl_sampling p = params_default();
    (void)state;
    p.temperature = 0;
    set(&p, NULL, 0, 0);
    logits[40] = logits[17] = logits[200] = 3;
    assert_int_equal(draw(logits, 5), 17);
    assert_true(row.n_probs == 0 && !row.scored);
}

static void test_seed_and_position_decide(void **state)
{
    float logits[VOCAB];
    hdl_token first[32];
    uint32_t same_seed = 0, other_seed = 0;
    hdl_sampling p = params_default();
    (void)state;
    random_logits(logits, 1, false);
    p.temperature = 3;
    p.seed = 0x123456789abcdefu;
    set(&p, NULL, 0, 0);
    for (uint32_t i = 0; i < 32; i++)
        first[i] = draw(logits, i);
    for (uint32_t i = 32; i-- > 0;)
        same_seed += draw(logits, i) == first[i];
    p.seed ^= (uint64_t)1 << 40;
    set(&p, NULL, 0, 0);
    for (uint32_t i = 0; i < 32; i++)
        other_seed += draw(logits, i) == first[i];
    assert_int_equal(same_seed, 32);
    assert_true(other_seed < 16);
}

static void test_filters_keep_what_is_defined(void **state)
{
    static const struct {
        int32_t top_k;
        float top_p, min_p, temperature;
    } cases[] = {
        {1, 1, 0, 1},        {5, 1, 0, 1},        {40, 1, 0, 0.7f},      {0, 0.9f, 0, 1},
        {0, 0.5f, 0, 2},     {0, 1, 0.1f, 1},     {0, 1, 0.9f, 1},       {20, 0.8f, 0.05f, 1.3f},
        {0, 1e-6f, 0, 1},    {300, 1, 0, 1},      {0, 0.999f, 0, 5},     {7, 0.3f, 0, 0.2f},
        {0, 0.9f, 0, 0.01f}, {200, 0.99f, 0, 50}, {0, 1, 0.001f, 0.05f}, {3, 1, 1, 1},
    };
    (void)state;
    for (size_t c = 0; c < HDL_ARRAY_LEN(cases); c++) {
        for (uint64_t seed = 0; seed < 6; seed++) {
            float logits[VOCAB];
            bool kept[VOCAB], seen[VOCAB] = {0};
            uint32_t n_seen = 0;
            hdl_sampling p = params_default();
            p.top_k = cases[c].top_k, p.top_p = cases[c].top_p;
            p.min_p = cases[c].min_p, p.temperature = cases[c].temperature;
            p.seed = seed;
            random_logits(logits, 100 + seed, seed % 2 != 0);
            uint32_t n_kept = define_kept(logits, &p, kept);
            set(&p, NULL, 0, 0);
            for (uint32_t pos = 0; pos < 400; pos++) {
                hdl_token t = draw(logits, pos);
                if (!kept[t])
                    fail_msg("case %zu seed %d: token %d was filtered out", c, (int)seed, t);
                n_seen += !seen[t];
                seen[t] = true;
            }
            assert_true(n_seen >= 1 && n_seen <= n_kept);
            if (n_kept <= 3 && p.temperature >= 1)
                assert_int_equal(n_seen, n_kept);
        }
    }
}

/* Frequencies of 20,000 draws against the softmax; 5 standard deviations. */
static void check_frequencies(const hdl_sampling *p, const float *logits)
{
    enum { DRAWS = 20000 };
    uint32_t counts[VOCAB] = {0};
    bool kept[VOCAB];
    double total = 0;
    set(p, NULL, 0, 0);
    for (uint32_t i = 0; i < DRAWS; i++)
        counts[draw(logits, i)]++;
    define_kept(logits, p, kept);
    for (uint32_t i = 0; i < VOCAB; i++)
        total += kept[i] ? exp((double)logits[i] / p->temperature) : 0;
    for (uint32_t i = 0; i < VOCAB; i++) {
        double share = kept[i] ? exp((double)logits[i] / p->temperature) / total : 0;
        double sigma = sqrt(DRAWS * share * (1 - share)) + 1;
        assert_true(fabs(counts[i] - DRAWS * share) < 5 * sigma);
    }
}

static void test_frequencies(void **state)
{
    float logits[VOCAB];
    hdl_sampling p = params_default();
    (void)state;
    random_logits(logits, 7, false);
    p.seed = 99;
    check_frequencies(&p, logits);
    p.temperature = 2.5f;
    check_frequencies(&p, logits);
    p.top_k = 12;
    check_frequencies(&p, logits);
    p.top_p = 0.8f;
    check_frequencies(&p, logits);
}

static void test_bias_acts_before_temperature(void **state)
{
    float logits[VOCAB] = {0};
    hdl_bias bias[] = {{.token = 3, .bias = 2}, {.token = 9, .bias = -100}};
    hdl_sampling p = params_default();
    (void)state;
    p.temperature = 0;
    p.bias = bias;
    p.n_bias = 2;
    logits[9] = 50;
    logits[4] = 1.5f;
    set(&p, NULL, 0, 0);
    bias[0].bias = 0; /* the sampler keeps a copy */
    assert_int_equal(draw(logits, 0), 3);
    assert_int_equal(draw(logits, 1), 3);
}

static void test_repetition_penalty(void **state)
{
    float logits[VOCAB];
    hdl_sampling p = params_default();
    const hdl_token history[] = {10, 11, 10};
    (void)state;
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -5;
    p.temperature = 0;
    p.repetition_penalty = 2;
    set(&p, history, 3, 2);
    logits[10] = 4, logits[12] = 2.5f, logits[11] = 3;
    assert_int_equal(draw(logits, 0),
                     12); /* 4 / 2 and 3 / 2 are less; once, though 10 came twice */
    logits[12] = 1.9f;
    assert_int_equal(draw(logits, 1), 10); /* 12 has been sampled meanwhile: 0.95 */
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -3;
    logits[10] = -2; /* doubled to -4 */
    assert_int_equal(draw(logits, 2), 0);
}

static void test_frequency_and_presence_count_the_output_only(void **state)
{
    float logits[VOCAB] = {0};
    hdl_sampling p = params_default();
    const hdl_token history[] = {1, 1, 1, 2, 2, 3};
    (void)state;
    p.temperature = 0;
    p.frequency_penalty = 0.5f;
    p.presence_penalty = 0.25f;
    set(&p, history, 6, 3); /* output: 2 2 3 */
    logits[1] = 1;          /* prompt only: not touched */
    logits[2] = 2.2f;       /* 2.2 - 1.25 = 0.95 */
    logits[3] = 1.7f;       /* 1.7 - 0.75 = 0.95 */
    assert_int_equal(draw(logits, 0), 1);
    logits[2] = 2.3f; /* 1.05, while 1 has been sampled once: 0.25 */
    assert_int_equal(draw(logits, 1), 2);
    assert_int_equal(draw(logits, 2), 3); /* now 2 costs 1.75 */
}

static void test_logprobs_are_of_the_raw_logits(void **state)
{
    float logits[VOCAB];
    hdl_bias bias = {.token = 77, .bias = 100};
    hdl_sampling p = params_default();
    double sum = 0;
    (void)state;
    random_logits(logits, 5, true);
    p.temperature = 0.3f;
    p.bias = &bias;
    p.n_bias = 1;
    p.n_logprobs = 20;
    set(&p, NULL, 0, 0);
    assert_int_equal(draw(logits, 3), 77);
    for (uint32_t i = 0; i < VOCAB; i++)
        sum += exp((double)logits[i]);
    assert_true(fabs(probs[0].logprob - ((double)logits[77] - log(sum))) < 1e-5);
    assert_int_equal(row.n_probs, 21);
    assert_int_equal(probs[0].token, 77);
    const hdl_logprob *tops = probs + 1;
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t better = 0;
        for (uint32_t j = 0; j < VOCAB; j++)
            better += logits[j] > logits[tops[i].token] ||
                      (logits[j] == logits[tops[i].token] && (hdl_token)j < tops[i].token);
        assert_int_equal(better, i);
        assert_true(fabs(tops[i].logprob - ((double)logits[tops[i].token] - log(sum))) < 1e-5);
    }
}

static void test_scoring(void **state)
{
    float logits[VOCAB] = {0};
    hdl_sampling p = params_default();
    hdl_sample_job job = {.pos = 9, .logits = logits, .score = 4};
    hdl_sample_run run = {.jobs = &job, .n = 1, .out = &row, .probs = probs};
    (void)state;
    p.n_logprobs = 2;
    set(&p, NULL, 0, 0);
    logits[8] = 2;
    assert_int_equal(hdl_sampler_run(sampler, NULL, &run), HDL_OK);
    assert_int_equal(row.scored, 1);
    assert_int_equal(row.token, 4);
    assert_true(fabs(probs[0].logprob + log(VOCAB - 1 + exp(2))) < 1e-5);
    assert_int_equal(row.n_probs, 3);
    assert_int_equal(probs[1].token, 8);
    assert_int_equal(probs[2].token, 0);
}

static void test_broken_logits_are_an_error(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    hdl_sampling p = params_default();
    (void)state;
    set(&p, NULL, 0, 0);
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        float logits[VOCAB] = {0};
        logits[100] = bad[i];
        hdl_sample_job job = {.logits = logits, .score = -1};
        hdl_sample_run run = {.jobs = &job, .n = 1, .out = &row, .probs = probs};
        assert_int_equal(hdl_sampler_run(sampler, NULL, &run), HDL_DEVICE);
    }
}

static void test_bad_parameters_are_refused(void **state)
{
    hdl_bias bias = {.token = VOCAB};
    hdl_sampling bad[12];
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++)
        bad[i] = params_default();
    bad[0].temperature = -1;
    bad[1].temperature = NAN;
    bad[2].top_p = 0;
    bad[3].top_p = 1.5f;
    bad[4].min_p = -0.1f;
    bad[5].repetition_penalty = 0;
    bad[6].frequency_penalty = INFINITY;
    bad[7].presence_penalty = NAN;
    bad[8].n_logprobs = HDL_TOP_LOGPROBS_MAX + 1;
    bad[9].n_bias = HDL_LOGIT_BIAS_MAX + 1;
    bad[10].bias = &bias, bad[10].n_bias = 1;
    bad[11].min_p = 2;
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        hdl_errmsg why = {0};
        assert_int_equal(hdl_sampler_check(sampler, &bad[i], &why), HDL_BUG);
        assert_true(why.text[0] != '\0');
    }
}

/* A chain draws what single draws would, each with the history that the one before left, and stops
 * at the first guess that is wrong. */
static void test_a_chain_is_as_single_draws(void **state)
{
    enum { N = 5, RIGHT = 2 };
    static float logits[N][VOCAB];
    hdl_token single[N];
    hdl_result_row out[N];
    hdl_logprob many[N * HDL_ROW_PROBS_MAX];
    hdl_sampling p = params_default();
    (void)state;
    p.repetition_penalty = 3;
    p.frequency_penalty = 1;
    p.n_logprobs = 1;
    set(&p, NULL, 0, 0);
    for (uint32_t i = 0; i < N; i++) {
        random_logits(logits[i], 3, false); /* the same ones: only the history tells them apart */
        single[i] = draw(logits[i], i);
    }
    hdl_sample_job jobs[N];
    for (uint32_t i = 0; i < N; i++)
        jobs[i] = (hdl_sample_job){.pos = i,
                                   .logits = logits[i],
                                   .score = -1,
                                   .hangs = i > 0,
                                   .guess = i > 0 ? single[i - 1] + (i == RIGHT + 1) : 0};
    set(&p, NULL, 0, 0);
    hdl_sample_run chain = {.jobs = jobs, .n = N, .out = out, .probs = many};
    hdl_device *device = NULL;
    hdl_errmsg why = {0};
    hdl_cpu_device_opts opts = {.n_threads = 2};
    assert_int_equal(hdl_device_open_cpu(&device, &opts, &why), HDL_OK);
    assert_int_equal(hdl_sampler_run(sampler, hdl_device_stream(device), &chain), HDL_OK);
    hdl_device_close(device);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(out[i].token, i <= RIGHT ? single[i] : -1);
        assert_int_equal(out[i].n_probs, i <= RIGHT ? 2 : 0);
    }
    assert_int_equal(draw(logits[RIGHT + 1], RIGHT + 1), single[RIGHT + 1]);
}

/* ---- the same as op sample ---------------------------------------------------------------- */

enum { HISTORY = MAX_LEN + 1, CHAIN = 4 };

/* What the op keeps of slot 0, beside what the sampler has. */
static struct {
    hdl_sample_tenant tenant;
    hdl_bias biases[HDL_LOGIT_BIAS_MAX];
    hdl_token history[HISTORY], last;
    float work[CHAIN * (VOCAB + 3 + HDL_SAMPLE_PEAKS * 2)];
} kept;

static void open_tenant(hdl_rng *rng, hdl_sampling *p, uint64_t c)
{
    hdl_token history[20];
    hdl_bias bias[40];
    *p = params_default();
    p->seed = hdl_rng_u64(rng);
    p->temperature = c % 5 == 0 ? 0 : (float)hdl_rng_unit(rng) * 3 + 0.01f;
    p->top_p = c % 2 ? 1 : (float)hdl_rng_unit(rng) * 0.99f + 0.01f;
    p->top_k = c % 3 ? 0 : (int32_t)hdl_rng_range(rng, 1, VOCAB + 2);
    p->min_p = c % 7 < 4 ? 0 : (float)hdl_rng_unit(rng);
    p->repetition_penalty = c % 4 < 2 ? 1 : (float)hdl_rng_unit(rng) + 0.6f;
    p->frequency_penalty = c % 4 == 3 ? (float)hdl_rng_unit(rng) : 0;
    p->n_logprobs = (int32_t)hdl_rng_range(rng, 0, HDL_TOP_LOGPROBS_MAX + 1) - 1;
    p->bias = bias;
    p->n_bias = c % 6 == 1 ? HDL_ARRAY_LEN(bias) : 0;
    for (uint32_t i = 0; i < HDL_ARRAY_LEN(bias); i++)
        bias[i] = (hdl_bias){.token = (hdl_token)hdl_rng_below(rng, 50),
                             .bias = (float)hdl_rng_unit(rng) * 6 - 3};
    for (uint32_t i = 0; i < HDL_ARRAY_LEN(history); i++)
        history[i] = (hdl_token)hdl_rng_below(rng, 40);
    set(p, history, HDL_ARRAY_LEN(history), 12);
    memcpy(kept.history, history, sizeof history);
    memcpy(kept.biases, bias, sizeof bias);
    kept.tenant = (hdl_sample_tenant){.params = *p, .log_min_p = logf(p->min_p)};
    kept.tenant.keeps_history = c % 4 >= 2;
    kept.tenant.n_prompt = 12;
    kept.tenant.n_history = kept.tenant.keeps_history ? HDL_ARRAY_LEN(history) : 0;
}

static void test_the_op_draws_the_same(void **state)
{
    static float logits[CHAIN][VOCAB];
    hdl_rng rng;
    hdl_sampling p;
    hdl_device *device = NULL;
    hdl_errmsg why = {0};
    hdl_cpu_device_opts opts = {.n_threads = 1, .scratch_bytes = 1 << 16};
    (void)state;
    hdl_rng_init(&rng, 11);
    assert_int_equal(hdl_device_open_cpu(&device, &opts, &why), HDL_OK);
    for (uint64_t c = 0; c < 420; c++) {
        hdl_sample_job jobs[CHAIN];
        hdl_sample_task tasks[CHAIN];
        hdl_result_row mine[CHAIN], its[CHAIN];
        hdl_logprob my_probs[CHAIN * HDL_ROW_PROBS_MAX] = {0},
                                     its_probs[CHAIN * HDL_ROW_PROBS_MAX] = {0};
        open_tenant(&rng, &p, c);
        for (uint32_t i = 0; i < CHAIN; i++) {
            random_logits(logits[i], 1000 * c + i, c % 3 == 0);
            logits[i][i] = 9; /* what a greedy request guesses rightly */
            jobs[i] = (hdl_sample_job){.pos = i, .logits = logits[i], .score = -1, .hangs = i > 0};
            jobs[i].guess = i > 0 ? (hdl_token)i - 1 : -1;
            tasks[i] = (hdl_sample_task){.pos = i, .score = -1, .guess = jobs[i].guess};
        }
        if (c % 10 == 9)
            jobs[0].score = tasks[0].score = 17;
        hdl_sample_run run = {.jobs = jobs, .n = CHAIN, .out = mine, .probs = my_probs};
        assert_int_equal(hdl_sampler_run(sampler, hdl_device_stream(device), &run), HDL_OK);
        hdl_sample_args args = {.logits = logits[0],
                                .tasks = tasks,
                                .n_tasks = CHAIN,
                                .vocab = VOCAB,
                                .state = {.max_seqs = 1,
                                          .max_history = HISTORY,
                                          .tenants = &kept.tenant,
                                          .biases = kept.biases,
                                          .histories = kept.history,
                                          .last = &kept.last},
                                .work = kept.work,
                                .out = its,
                                .probs = its_probs};
        hdl_ops_ref()->sample(&args, hdl_device_stream(device));
        assert_memory_equal(mine, its, sizeof mine);
        assert_memory_equal(my_probs, its_probs, sizeof my_probs);
    }
    hdl_device_close(device);
}

static int setup(void **state)
{
    hdl_errmsg why = {0};
    hdl_sampler_opts opts = {.max_seqs = 2, .max_len = MAX_LEN, .vocab = VOCAB, .n_threads = 2};
    (void)state;
    return hdl_sampler_open(&sampler, &opts, &why) == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hdl_sampler_close(sampler);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(test_seed_and_position_decide),
        cmocka_unit_test(test_filters_keep_what_is_defined),
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_bias_acts_before_temperature),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_frequency_and_presence_count_the_output_only),
        cmocka_unit_test(test_logprobs_are_of_the_raw_logits),
        cmocka_unit_test(test_scoring),
        cmocka_unit_test(test_broken_logits_are_an_error),
        cmocka_unit_test(test_a_chain_is_as_single_draws),
        cmocka_unit_test(test_bad_parameters_are_refused),
        cmocka_unit_test(test_the_op_draws_the_same),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
