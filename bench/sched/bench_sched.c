/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/sched/bench_sched.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/rng.h"
#include "scheduler/core/sched.h"

/* 1 % departures a step means that a sequence lives for 100 steps. */
enum {
    LIFE_STEPS = 100,
    FAMILIES = 8,
    WARM_STEPS = 300,
    ROWS = 20000000, /* of all steps: a third of a second of steps, whatever is running */
    STEPS_MIN = 1000,
};

/* Of a prompt: what it has from its family, a system prompt; and what is its own. */
typedef struct lengths {
    uint32_t shared, own;
} lengths;
static const lengths usual_prompt = {128, 32}, long_prompt = {256, 64};

typedef struct crowd {
    uint32_t running, per_step;
    lengths prompt;
    hdl_sched *sched;
    void *mem;
    hdl_result_row *rows;
    hdl_event *events;  /* of one step: arrivals, then the RESULT */
    hdl_token *prompts; /* of one step's arrivals */
    const hdl_plan *flight[HDL_PLANS_IN_FLIGHT];
    uint32_t n_flight, n_events;
    uint64_t next_req, now_us;
    hdl_rng rng;
} crowd;

/* Feeds the events of one step and returns the time that the core took. */
static uint64_t feed(crowd *c)
{
    hdl_actions actions;
    uint64_t start = hdl_clock_now_ns(), ns;
    for (uint32_t i = 0; i < c->n_events; i++) {
        hdl_sched_step(c->sched, &c->events[i], &actions);
        uint32_t k = actions.count; /* plans come last */
        while (k > 0 && actions.list[k - 1].kind == HDL_ACT_PLAN)
            k--;
        while (k < actions.count)
            c->flight[c->n_flight++] = actions.list[k++].plan.plan;
    }
    ns = hdl_clock_now_ns() - start;
    c->n_events = 0;
    return ns;
}

static void arrive(crowd *c)
{
    const uint32_t n_prompt = c->prompt.shared + c->prompt.own;
    hdl_token *prompt = c->prompts + (size_t)c->n_events * n_prompt;
    hdl_token family = (hdl_token)hdl_rng_below(&c->rng, FAMILIES);
    for (uint32_t i = 0; i < c->prompt.shared; i++)
        prompt[i] = family * 1000 + (hdl_token)i;
    for (uint32_t i = c->prompt.shared; i < n_prompt; i++)
        prompt[i] = (hdl_token)hdl_rng_below(&c->rng, 50000);
    hdl_event *ev = &c->events[c->n_events++];
    *ev = (hdl_event){.kind = HDL_EV_SUBMIT, .now_us = c->now_us};
    ev->submit = (hdl_ev_submit){
        .req = {++c->next_req},
        .max_new = LIFE_STEPS,
        .prompt = prompt,
        .n_prompt = n_prompt,
        .n_stop_ids = 2,
        .stop_ids = {100001, 100002},
    };
}

/* The answer that a worker would give to the oldest plan. */
static void answer(crowd *c)
{
    const hdl_plan *p = c->flight[0];
    c->flight[0] = c->flight[1];
    c->n_flight--;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        const hdl_plan_row *row = &p->rows[i];
        if (row->flags & HDL_ROW_SAMPLE)
            c->rows[n++] = (hdl_result_row){.slot = row->slot,
                                            .pos = row->pos + row->n_tokens,
                                            .token = (hdl_token)hdl_rng_below(&c->rng, 50000)};
    }
    hdl_event *ev = &c->events[c->n_events++];
    *ev = (hdl_event){.kind = HDL_EV_RESULT, .now_us = c->now_us += 10000};
    ev->result = (hdl_ev_result){.epoch = p->epoch, .step = p->step, .n_rows = n, .rows = c->rows};
}

static bool form(crowd *c, uint32_t running, lengths prompt)
{
    memset(c, 0, sizeof *c);
    c->prompt = prompt;
    hdl_rng_init(&c->rng, running);
    c->running = running;
    c->per_step = running / LIFE_STEPS ? running / LIFE_STEPS : 1;
    hdl_sched_config cf;
    hdl_sched_config_default(&cf);
    cf.max_seqs = running + 4 * c->per_step;
    cf.waiting_max = running;
    cf.step_tokens = hdl_min_u32(running + 2048 + 2 * prompt.own * c->per_step, 24576);
    cf.prefills_max = 16;
    cf.max_len = 1024;
    /* In use: two of what it generated and its own part of the prompt, on average, and a few that
     * all share; the rest is cache. */
    cf.caches[0].n_blocks = running * (4 + prompt.own / 32) + 1024;
    cf.log_tokens = 2 * running * 512;
    if (hdl_sched_config_problem(&cf))
        return false;
    size_t bytes = hdl_sched_bytes(&cf);
    /* Most of the state is reached at random. */
    const size_t huge = 2u << 20;
    c->mem = aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
    if (c->mem)
        (void)madvise(c->mem, bytes, MADV_HUGEPAGE);
    c->rows = calloc(cf.max_seqs, sizeof *c->rows);
    c->events = calloc(c->per_step + 1, sizeof *c->events);
    c->prompts =
        calloc((size_t)(c->per_step + 1) * (prompt.shared + prompt.own), sizeof *c->prompts);
    if (!c->mem || !c->rows || !c->events || !c->prompts)
        return false;
    c->sched = hdl_sched_init(c->mem, bytes, &cf);
    c->events[c->n_events++] = (hdl_event){
        .kind = HDL_EV_RANK_UP, .rank = {.epoch = 1, .n_blocks = {cf.caches[0].n_blocks}}};
    feed(c);
    return true;
}

static uint64_t one_step(crowd *c)
{
    for (uint32_t i = 0; i < c->per_step; i++)
        arrive(c);
    answer(c);
    return feed(c);
}

/* The first crowd comes in step by step, and each of it stays for a whole life, so that ends are
 * spread evenly. */
static void warm_up(crowd *c)
{
    arrive(c);
    feed(c);
    for (int i = 0; i < WARM_STEPS; i++)
        one_step(c);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

typedef struct row {
    uint32_t running; /* as found at the end, not as asked for */
    double min_us, median_us, p99_us, arrivals;
} row;

static bool measure(uint32_t running, lengths prompt, uint32_t steps, row *out)
{
    crowd *c = malloc(sizeof *c);
    uint64_t *ns = calloc(steps, sizeof *ns);
    bool ok = c && ns && form(c, running, prompt);
    if (ok) {
        warm_up(c);
        for (uint32_t i = 0; i < steps; i++)
            ns[i] = one_step(c);
        qsort(ns, steps, sizeof *ns, by_value);
        hdl_sched_stats st;
        hdl_sched_read_stats(c->sched, &st);
        *out = (row){.running = st.running,
                     .min_us = (double)ns[0] / 1e3,
                     .median_us = (double)ns[steps / 2] / 1e3,
                     .p99_us = (double)ns[steps - 1 - steps / 100] / 1e3,
                     .arrivals = c->per_step};
    }
    if (c) {
        free(c->mem);
        free(c->rows);
        free(c->events);
        free(c->prompts);
    }
    free(c);
    free(ns);
    return ok;
}

/* One row for each number of running sequences. */
static bool table(const hdl_bench_sched_opts *opts, lengths prompt, FILE *out)
{
    static const uint32_t usual[HDL_BENCH_SCHED_ROWS_MAX] = {1000, 10000};
    const uint32_t *running = opts->running[0] ? opts->running : usual;
    for (uint32_t i = 0; i < HDL_BENCH_SCHED_ROWS_MAX && running[i]; i++) {
        const uint32_t usually = hdl_max_u32(ROWS / running[i], STEPS_MIN);
        const uint32_t steps = opts->steps ? opts->steps : usually;
        row r;
        if (!measure(running[i], prompt, steps, &r)) {
            fprintf(stderr,
                    "heddle bench sched: cannot run %u sequences; out of range or out of memory; "
                    "try fewer\n",
                    running[i]);
            return false;
        }
        if (opts->json)
            fprintf(out,
                    "%s{\"running\":%u,\"found\":%u,\"step_us_median\":%.3f,"
                    "\"step_us_p99\":%.3f,\"step_us_min\":%.3f}",
                    i ? "," : "", running[i], r.running, r.median_us, r.p99_us, r.min_us);
        else
            fprintf(out, "%8u %7u %10.1f us %10.1f us %10.1f us %10.1f ns %7.0f/step\n",
                    prompt.shared + prompt.own, r.running, r.min_us, r.median_us, r.p99_us,
                    r.median_us * 1e3 / r.running, r.arrivals);
    }
    return true;
}

int hdl_bench_sched(const hdl_bench_sched_opts *opts)
{
    FILE *out = opts->out ? opts->out : stdout;
    fprintf(out, opts->json ? "{\"rows\":[" : "%8s %7s %13s %13s %13s %13s %12s\n", "prompt",
            "running", "fastest step", "median", "p99", "per sequence", "arrivals");
    if (!table(opts, usual_prompt, out))
        return 1;
    if (opts->json)
        fprintf(out, "],\"rows_long_prompts\":[");
    if (!table(opts, long_prompt, out))
        return 1;
    if (opts->json)
        fprintf(out, "]}\n");
    return 0;
}
