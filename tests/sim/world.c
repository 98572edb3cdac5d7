/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

#include <stdarg.h>

#include "scheduler/core/journal.h"
#include "scheduler/core/plant.h"
#include "scheduler/record/replay.h"

_Noreturn void sim_fail(sim_world *w, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(w->why, sizeof w->why, fmt, args);
    va_end(args);
    longjmp(w->fail_at, 1);
}

bool sim_quiet(const sim_world *w) { return w->now_us >= w->env.quiet_us; }

static bool earlier(const sim_event *a, const sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_push(sim_world *w, uint64_t at_us, sim_kind kind, uint32_t a, uint64_t b)
{
    if (w->n_heap == w->heap_max) {
        w->heap_max = w->heap_max ? 2 * w->heap_max : 1024;
        w->heap = realloc(w->heap, w->heap_max * sizeof *w->heap);
        if (!w->heap)
            abort();
    }
    sim_event ev = {.at_us = at_us, .order = w->order++, .kind = kind, .a = a, .b = b};
    uint32_t i = w->n_heap++;
    while (i > 0 && earlier(&ev, &w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = ev;
}

static sim_event pop(sim_world *w)
{
    sim_event first = w->heap[0], last = w->heap[--w->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && earlier(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!earlier(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static void record(sim_world *w, const hdl_event *ev)
{
    size_t need = w->journal_bytes + HDL_JOURNAL_DIGEST_BYTES + hdl_journal_event_bytes(ev) +
                  hdl_journal_guess_bytes(&w->env.config);
    if (need > w->journal_max) {
        w->journal_max = 2 * need;
        w->journal = realloc(w->journal, w->journal_max);
        if (!w->journal)
            abort();
    }
    unsigned char *at = w->journal + w->journal_bytes;
    if (w->n_fed > 0)
        at += hdl_journal_digest(w->n_fed, w->digest, at);
    at += hdl_journal_event(w->sched, ev, w->seed, at);
    w->journal_bytes = (size_t)(at - w->journal);
    w->n_fed++;
}

static void start_journal(sim_world *w)
{
    if (w->journal_max < HDL_JOURNAL_HEADER_BYTES) {
        w->journal_max = 1 << 16;
        w->journal = malloc(w->journal_max);
        if (!w->journal)
            abort();
    }
    hdl_journal_header(&w->env.config, w->journal);
    w->journal_bytes = HDL_JOURNAL_HEADER_BYTES;
    w->n_fed = 0;
}

const char *sim_replay(sim_world *w)
{
    hdl_replay_report report;
    hdl_errmsg why = {""};
    hdl_err err = hdl_replay_bytes(w->journal, w->journal_bytes, (size_t)1 << 30, &report, &why);
    if (err != HDL_OK) {
        snprintf(w->why, sizeof w->why, "%.300s (first difference: event %llu)", why.text,
                 (unsigned long long)report.first_difference);
        return w->why;
    }
    if (report.torn || report.broken[0])
        return "replay: torn or broken";
    if (!report.same)
        snprintf(w->why, sizeof w->why, "the replay decides otherwise at event %llu",
                 (unsigned long long)report.first_difference);
    if (!report.same)
        return w->why;
    return report.digest == w->digest ? NULL : "the replay of the seed's events decides otherwise";
}

static void feed(sim_world *w, hdl_event *ev)
{
    int64_t now = (int64_t)w->now_us + w->skew_us;
    ev->now_us = now > 0 ? (uint64_t)now : 0;
    if (ev->now_us > w->core_us)
        w->core_us = ev->now_us;
    if (w->records)
        record(w, ev);
    hdl_actions actions;
    hdl_sched_step(w->sched, ev, &actions);
    if (w->records)
        w->journal_bytes += hdl_journal_guesses(&actions, w->seed, w->journal + w->journal_bytes);
    w->digest = hdl_sched_digest(w->digest, &actions);
    sim_client_take(w, &actions, ev);
    const char *broken = hdl_sched_check(w->sched);
    SIM_CHECK(w, broken == NULL, "invariant: %s", broken);
}

static void do_submit(sim_world *w, uint32_t idx)
{
    sim_env *e = &w->env;
    sim_oracle_make(w, idx);
    sim_req *r = &w->reqs[idx];
    if (e->p_deadline && hdl_rng_chance(&w->rng, e->p_deadline, 1000))
        r->submit.deadline_us = w->core_us + 1 + hdl_rng_below(&w->rng, 200ull * e->step_us);
    if (e->p_cancel && hdl_rng_chance(&w->rng, e->p_cancel, 1000))
        sim_push(w, w->now_us + hdl_rng_below(&w->rng, 60ull * e->step_us), SIM_CANCEL, idx, 0);
    sim_client_submit(w, idx);
    hdl_event ev = {.kind = HDL_EV_SUBMIT, .submit = r->submit};
    feed(w, &ev);
}

static void do_cancel(sim_world *w, uint32_t idx)
{
    w->reqs[idx].cancelled = w->reqs[idx].end == SIM_LIVE;
    hdl_event ev = {.kind = HDL_EV_CANCEL, .cancel = {.req = w->reqs[idx].submit.req}};
    feed(w, &ev);
}

static void do_answer(sim_world *w, uint32_t group, uint64_t id)
{
    sim_group *g = &w->groups[group];
    hdl_event ev = {.kind = HDL_EV_RESULT};
    ev.result = (hdl_ev_result){.group = group, .epoch = id >> 32, .step = id & UINT32_MAX};
    bool current = g->up && g->epoch == ev.result.epoch;
    if (current && (g->n_flight == 0 || g->flight[0].step != ev.result.step)) {
        /* The answer before it was lost. A worker executes in order all the same. */
        SIM_CHECK(w, g->n_flight > 0 && g->flight[1].step == ev.result.step, "answer to nothing");
    }
    if (current) {
        while (g->flight[0].step < ev.result.step) {
            sim_worker_run(w, group, g->flight[0].plan);
            g->flight[0] = g->flight[1];
            g->n_flight--;
        }
        ev.result.n_rows = sim_worker_run(w, group, g->flight[0].plan);
        g->flight[0] = g->flight[1];
        g->n_flight--;
        sim_fault_deform(w, &ev.result.n_rows);
        memcpy(g->last_rows, w->rows, ev.result.n_rows * sizeof *w->rows);
        g->n_last_rows = ev.result.n_rows;
    }
    ev.result.rows = w->rows;
    feed(w, &ev);
    if (!g->up && current)
        sim_push(w, w->now_us + 1 + hdl_rng_below(&w->rng, 20ull * w->env.step_us), SIM_RANK_UP,
                 group, g->epoch + 1);
}

static void do_dup(sim_world *w, uint32_t group, uint64_t id)
{
    sim_group *g = &w->groups[group];
    /* Only what was answered can be answered again. */
    if (g->up && g->epoch == id >> 32 && g->last_step < (id & UINT32_MAX))
        return;
    hdl_event ev = {.kind = HDL_EV_RESULT};
    ev.result = (hdl_ev_result){.group = group, .epoch = id >> 32, .step = id & UINT32_MAX};
    ev.result.rows = g->last_rows;
    ev.result.n_rows = g->n_last_rows;
    feed(w, &ev);
}

void sim_count_limit(sim_world *w)
{
    uint32_t limit = 0;
    for (uint32_t i = 0; i < w->env.config.n_groups; i++)
        if (w->groups[i].up && w->groups[i].max_len > limit)
            limit = w->groups[i].max_len;
    if (limit > 0)
        w->len_limit = limit;
}

static void do_rank_lost(sim_world *w, uint32_t group, uint64_t epoch)
{
    sim_group *g = &w->groups[group];
    bool current = g->up && g->epoch == epoch;
    if (current) {
        g->up = false;
        g->n_flight = 0;
        sim_count_limit(w);
        uint64_t back_us = w->now_us + 1 + hdl_rng_below(&w->rng, 50ull * w->env.step_us);
        uint64_t next = epoch + 1 + hdl_rng_below(&w->rng, 3);
        sim_push(w, back_us, SIM_RANK_UP, group, next);
    }
    hdl_event ev = {.kind = HDL_EV_RANK_LOST, .rank = {.group = group, .epoch = epoch}};
    feed(w, &ev);
}

/* The longest sequence that the group's pools can take alone: all its pages where all are kept; of
 * a window what one token sees, what is not published yet, and the block that is being written. */
static void limit_len(const sim_world *w, sim_group *g)
{
    const hdl_sched_config *c = &w->env.config;
    for (uint32_t i = 0; i < c->n_caches; i++) {
        const hdl_cache_rule *rule = &c->caches[i].rule;
        uint32_t span = hdl_max_u32(rule->window, rule->chunk);
        uint32_t moving = (hdl_max_u32(span, 2) + c->block_tokens - 1) / c->block_tokens + 1;
        if (hdl_cache_is_state(rule) || (span > 0 && moving <= g->n_blocks[i]))
            continue;
        g->max_len = hdl_min_u32(g->max_len, g->n_blocks[i] * c->block_tokens);
    }
}

static void do_rank_up(sim_world *w, uint32_t group, uint64_t epoch)
{
    sim_group *g = &w->groups[group];
    sim_env *e = &w->env;
    if (epoch <= g->epoch)
        return;
    sim_worker_reset(w, group);
    memcpy(g->n_blocks, e->n_blocks, sizeof g->n_blocks);
    for (uint32_t i = 0; i < e->config.n_caches; i++)
        if (e->p_shrink && hdl_rng_chance(&w->rng, e->p_shrink, 1000))
            g->n_blocks[i] = (uint32_t)hdl_rng_range(&w->rng, 1, e->config.caches[i].n_blocks);
    uint32_t max_len =
        hdl_rng_chance(&w->rng, 1, 4) ? 2 + (uint32_t)hdl_rng_below(&w->rng, 200) : 0;
    g->up = true;
    g->epoch = epoch;
    g->answer_us = w->now_us;
    g->max_len = hdl_min_u32(max_len ? max_len : e->config.max_len, e->config.max_len);
    limit_len(w, g);
    sim_count_limit(w);
    hdl_event ev = {.kind = HDL_EV_RANK_UP,
                    .rank = {.group = group, .epoch = epoch, .max_len = max_len}};
    memcpy(ev.rank.n_blocks, g->n_blocks, sizeof g->n_blocks);
    feed(w, &ev);
}

/* Words from the past, and about requests and groups that never were. */
static void do_stale(sim_world *w)
{
    uint32_t group = (uint32_t)hdl_rng_below(&w->rng, w->env.config.n_groups + 1);
    uint64_t old = group < w->env.config.n_groups ? w->groups[group].epoch : 5;
    hdl_event events[] = {
        {.kind = HDL_EV_CANCEL, .cancel = {{999}}},
        {.kind = HDL_EV_RESULT, .result = {.group = group, .epoch = old ? old - 1 : 0, .step = 1}},
        {.kind = HDL_EV_RANK_LOST, .rank = {.group = group, .epoch = old ? old - 1 : 0}},
        {.kind = HDL_EV_RANK_UP,
         .rank = {.group = group, .epoch = old ? old - 1 : 0, .n_blocks = {1}}},
        {.kind = HDL_EV_TICK},
    };
    feed(w, &events[hdl_rng_below(&w->rng, HDL_ARRAY_LEN(events))]);
}

static void do_event(sim_world *w, const sim_event *e)
{
    switch (e->kind) {
    case SIM_SUBMIT: do_submit(w, e->a); break;
    case SIM_CANCEL: do_cancel(w, e->a); break;
    case SIM_ANSWER: do_answer(w, e->a, e->b); break;
    case SIM_DUP: do_dup(w, e->a, e->b); break;
    case SIM_RANK_LOST: do_rank_lost(w, e->a, e->b); break;
    case SIM_RANK_UP: do_rank_up(w, e->a, e->b); break;
    case SIM_TICK: feed(w, &(hdl_event){.kind = HDL_EV_TICK}); break;
    case SIM_DRAIN:
        w->draining = true;
        feed(w, &(hdl_event){.kind = HDL_EV_DRAIN});
        break;
    case SIM_STALE: do_stale(w); break;
    }
}

/* Of a result: sampled and scored ones, those of guesses, and what a fault adds. */
static size_t rows_max(const hdl_sched_config *c)
{
    return 2 * (size_t)c->max_seqs + c->guess_step_tokens + 2;
}

static void free_group(sim_group *g)
{
    free(g->slots);
    free(g->last_rows);
    for (uint32_t k = 0; k < HDL_CACHE_GROUPS_MAX; k++) {
        free(g->kv[k]);
        free(g->stamp[k]);
    }
}

static void build_group(const sim_world *w, sim_group *g)
{
    const hdl_sched_config *c = &w->env.config;
    *g = (sim_group){
        .slots = calloc(c->max_seqs, sizeof *g->slots),
        .last_rows = calloc(rows_max(c), sizeof *g->last_rows),
    };
    bool ok = g->slots && g->last_rows;
    for (uint32_t k = 0; k < c->n_caches; k++) {
        g->kv[k] = calloc(sim_cells(w, k), sizeof *g->kv[k]);
        g->stamp[k] = calloc(sim_cells(w, k), sizeof *g->stamp[k]);
        ok = ok && g->kv[k] && g->stamp[k];
    }
    if (!ok)
        abort();
}

static void build(sim_world *w)
{
    const hdl_sched_config *c = &w->env.config;
    const char *problem = hdl_sched_config_problem(c);
    SIM_CHECK(w, problem == NULL, "configuration: %s", problem);
    size_t bytes = hdl_sched_bytes(c);
    if (bytes > w->mem_bytes) {
        free(w->mem);
        w->mem_bytes = bytes;
        w->mem = aligned_alloc(64, bytes);
        if (!w->mem)
            abort();
    }
    memset(w->mem, (int)(w->seed & 0xff),
           bytes < 65536 ? bytes : 65536); /* nothing may rely on zeroes */
    w->sched = hdl_sched_init(w->mem, bytes, c);
#ifdef HDL_PLANT_BUGS
    hdl_sched_plant(w->sched, (hdl_bug)w->bug);
#endif
    memset(w->reqs, 0, SIM_REQS_MAX * sizeof *w->reqs);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        free_group(&w->groups[i]);
        build_group(w, &w->groups[i]);
    }
    free(w->rows);
    w->rows = calloc(rows_max(c), sizeof *w->rows);
    if (!w->rows)
        abort();
}

static void settle(sim_world *w)
{
    SIM_CHECK(w, w->n_live == 0, "%u requests never end: nothing is left to happen", w->n_live);
    hdl_sched_stats st;
    hdl_sched_read_stats(w->sched, &st);
    SIM_CHECK(w, st.running == 0 && st.waiting == 0 && st.queued_tokens == 0,
              "ghosts in the queue");
    for (uint32_t i = 0; i < w->env.config.n_caches; i++)
        SIM_CHECK(w, st.caches[i].used == 0, "%llu blocks of cache group %u are still held",
                  (unsigned long long)st.caches[i].used, i);
    SIM_CHECK(w, st.log_tokens_used == 0, "token logs are still held");
    SIM_CHECK(w, w->draining == w->drained, "drain is not announced");
}

const char *sim_run(sim_world *w, uint64_t seed)
{
    bool canary = w->canary;
    if (!w->reqs && !(w->reqs = malloc(SIM_REQS_MAX * sizeof *w->reqs)))
        abort();
    w->seed = seed;
    hdl_rng_init(&w->rng, seed);
    w->now_us = w->order = w->global_step = w->core_us = w->n_events = w->floor = 0;
    w->skew_us = 1000000;
    w->n_live = w->n_submitted = w->n_heap = 0;
    w->draining = w->drained = false;
    w->digest = 0;
    memset(w->served, 0, sizeof w->served);
    memset(w->tenant_waiting, 0, sizeof w->tenant_waiting);
    if (setjmp(w->fail_at)) {
        w->canary = canary;
        return w->why;
    }
    sim_env_draw(w);
    build(w);
    w->len_limit = w->env.config.max_len;
    if (w->records)
        start_journal(w);
    sim_fault_arrange(w);
    uint64_t most = 20000 + 4000ull * w->env.n_reqs;
    while (w->n_heap > 0) {
        sim_event e = pop(w);
        w->now_us = e.at_us;
        if (w->env.p_jump && hdl_rng_chance(&w->rng, w->env.p_jump, 10000))
            w->skew_us += (int64_t)hdl_rng_below(&w->rng, 100000) - 30000;
        do_event(w, &e);
        SIM_CHECK(w, ++w->n_events < most, "no end after %llu events; %u requests live",
                  (unsigned long long)w->n_events, w->n_live);
    }
    settle(w);
    w->canary = canary;
    return NULL;
}

void sim_world_free(sim_world *w)
{
    for (uint32_t i = 0; i < SIM_GROUPS_MAX; i++)
        free_group(&w->groups[i]);
    free(w->mem);
    free(w->reqs);
    free(w->heap);
    free(w->rows);
    free(w->journal);
}
