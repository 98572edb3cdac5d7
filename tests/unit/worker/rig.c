/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/assert.h"

/* ---- plans -------------------------------------------------------------------------------- */

void rig_plan_init(rig_plan *p, uint64_t epoch)
{
    memset(p, 0, sizeof(*p));
    p->plan = (hdl_plan){.epoch = epoch,
                         .rows = p->rows,
                         .opens = p->opens,
                         .grants = p->grants,
                         .closes = p->closes,
                         .copies = p->copies,
                         .tokens = p->tokens,
                         .blocks = p->blocks};
}

void rig_next(rig_plan *p)
{
    hdl_plan *plan = &p->plan;
    plan->step++;
    plan->n_rows = plan->n_opens = plan->n_grants = plan->n_closes = plan->n_copies = 0;
    plan->n_tokens = plan->n_blocks = 0;
}

hdl_sampling rig_greedy(void)
{
    return (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
}

void rig_open(rig_plan *p, uint32_t slot, const hdl_sampling *params)
{
    uint32_t i = p->plan.n_opens++;
    p->opens[i] = (hdl_plan_open){.slot = slot, .req_lo = slot};
    p->sampling[i] = *params;
    p->given[slot] = 0;
}

void rig_close(rig_plan *p, uint32_t slot) { p->closes[p->plan.n_closes++] = slot; }

/* `need` blocks in all in each group of pages; a state with the first. */
static void grant(rig_plan *p, uint32_t slot, uint32_t need)
{
    hdl_plan *plan = &p->plan;
    uint32_t from = p->given[slot], n_caches = p->n_caches ? p->n_caches : 1;
    for (uint32_t i = 0; from < need && i < n_caches; i++) {
        bool is_state = p->n_caches && hdl_cache_is_state(&p->caches[i].rule);
        if (is_state && from != 0)
            continue;
        uint32_t n = is_state ? 1 : need - from, ring = p->ring[i] ? p->ring[i] : UINT32_MAX;
        p->grants[plan->n_grants++] = (hdl_plan_grant){
            .slot = slot, .cache = i, .table_at = from, .block_at = plan->n_blocks, .n_blocks = n};
        for (uint32_t k = from; k < from + n; k++)
            p->blocks[plan->n_blocks++] = is_state ? slot : slot * RIG_BLOCKS_PER_SEQ + k % ring;
    }
    p->given[slot] = hdl_max_u32(from, need);
}

void rig_row(rig_plan *p, uint32_t slot, uint32_t pos, const hdl_token *ids, uint32_t n,
             uint32_t flags)
{
    hdl_plan *plan = &p->plan;
    grant(p, slot, (pos + n + HDL_BLOCK_TOKENS - 1) / HDL_BLOCK_TOKENS);
    flags |= ids ? 0u : (uint32_t)HDL_ROW_FEEDBACK;
    p->rows[plan->n_rows++] = (hdl_plan_row){.slot = slot,
                                             .pos = pos,
                                             .n_tokens = n & HDL_ROW_TOKENS_MAX,
                                             .token_at = plan->n_tokens,
                                             .flags = flags & HDL_ROW_FLAGS_ALL};
    for (uint32_t i = 0; i < n + ((flags & HDL_ROW_SCORE) != 0); i++)
        p->tokens[plan->n_tokens++] = ids ? ids[i] : -1;
}

/* ---- groups ------------------------------------------------------------------------------- */

typedef struct thread_arg {
    const rig_group *group;
    char address[64];
    uint32_t rank;
    bool done;
} thread_arg;

/* A failure in a rank's thread cannot unwind to the test: it is printed and ends the program. */
static void must(hdl_err err, const hdl_errmsg *why)
{
    if (err == HDL_OK)
        return;
    fprintf(stderr, "rank failed: %s: %s\n", hdl_err_name(err), why->text);
    abort();
}

static void *run_rank(void *arg)
{
    thread_arg *t = arg;
    const rig_group *g = t->group;
    hdl_errmsg why = {0};
    hdl_worker_opts opts = g->opts;
    opts.rank = t->rank;
    if (opts.n_blocks == 0)
        opts.n_blocks = RIG_SLOTS * RIG_BLOCKS_PER_SEQ;
    if (opts.max_seqs == 0)
        opts.max_seqs = RIG_SLOTS;
    hdl_thread_set_role(HDL_ROLE_STEP);
    rig_rank *r = calloc(1, sizeof(*r));
    r->rank = t->rank;
    r->arg = g->arg;
    must(hdl_worker_open(&r->worker, &opts, &why), &why);
    uint32_t n_ranks = hdl_layout_ranks(&opts.layout);
    hdl_coll_opts coll = {.backend = g->coll       ? g->coll
                                     : n_ranks > 1 ? "shm"
                                                   : "self",
                          .address = t->address,
                          .buffer_bytes = 16384,
                          .timeout_us = 60000000};
    must(hdl_worker_join(r->worker, &coll, 1, &why), &why);
    rig_plan_init(&r->plan, 1);
    hdl_worker_info info = hdl_worker_get_info(r->worker);
    r->plan.n_caches = info.n_caches;
    memcpy(r->plan.caches, info.caches, sizeof(info.caches));
    g->script(r);
    hdl_worker_close(r->worker);
    free(r);
    t->done = true;
    return NULL;
}

void rig_run(const rig_group *group)
{
    static _Atomic unsigned serial;
    rig_group g = *group;
    if (g.opts.layout.tp == 0)
        g.opts.layout.tp = 1;
    if (g.opts.layout.ep == 0)
        g.opts.layout.ep = 1;
    uint32_t n = hdl_layout_ranks(&g.opts.layout);
    pthread_t threads[HDL_RANKS_MAX];
    thread_arg args[HDL_RANKS_MAX];
    unsigned run = atomic_fetch_add(&serial, 1);
    for (uint32_t i = 0; i < n; i++) {
        args[i] = (thread_arg){.group = &g, .rank = i};
        snprintf(args[i].address, sizeof(args[i].address), "/heddle-test-%d-%u", (int)getpid(),
                 run);
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &args[i]), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
        assert_true(args[i].done);
    }
}

hdl_result rig_step(rig_rank *r)
{
    hdl_result result;
    hdl_errmsg why = {0};
    must(hdl_worker_step(r->worker, &r->plan.plan, r->plan.sampling, &result), &why);
    return result;
}

/* ---- logits ------------------------------------------------------------------------------- */

/* As many blocks as one row and the window before it lie in. */
static void use_windows(rig_plan *p, uint32_t row_tokens, uint32_t early)
{
    for (uint32_t i = 0; i < p->n_caches; i++) {
        uint32_t span = hdl_max_u32(p->caches[i].rule.window, p->caches[i].rule.chunk);
        if (span == 0)
            continue;
        p->ring[i] = (span - 1 + row_tokens + HDL_BLOCK_TOKENS - 1) / HDL_BLOCK_TOKENS + 1;
        assert_in_range(p->ring[i], 2, RIG_BLOCKS_PER_SEQ);
        p->ring[i] -= early;
    }
}

/* The prompt in slot 0, in chunks; the others decode beside it from steps before to steps after. */
static void logits_script(rig_rank *r)
{
    const rig_logits_opts *o = r->arg;
    hdl_sampling greedy = rig_greedy();
    rig_plan *p = &r->plan;
    hdl_token first[4] = {1, 5, 9, 2};
    if (o->frees)
        use_windows(p, o->chunk ? o->chunk : o->n, o->early);
    rig_next(p);
    for (uint32_t i = 1; i <= o->others; i++) {
        rig_open(p, i, &greedy);
        first[1] = (hdl_token)i;
        rig_row(p, i, 0, first, 1 + i % 4, HDL_ROW_SAMPLE);
    }
    if (o->others != 0)
        rig_step(r);
    else
        p->plan.step--;
    uint32_t chunk = o->chunk ? o->chunk : o->n;
    for (uint32_t pos = 0, step = 0; pos < o->n; pos += chunk, step++) {
        rig_next(p);
        if (pos == 0)
            rig_open(p, 0, &greedy);
        for (uint32_t i = 1; i <= o->others / 2; i++)
            rig_row(p, i, 1 + i % 4 + step, NULL, 1, HDL_ROW_SAMPLE);
        rig_row(p, 0, pos, o->ids + pos, hdl_min_u32(chunk, o->n - pos), HDL_ROW_LOGITS);
        for (uint32_t i = o->others / 2 + 1; i <= o->others; i++)
            rig_row(p, i, 1 + i % 4 + step, NULL, 1, HDL_ROW_SAMPLE);
        rig_step(r);
    }
}

float *rig_logits(const rig_logits_opts *opts, uint32_t vocab)
{
    char path[] = "/tmp/heddle-logits-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    rig_group group = {.opts = opts->worker,
                       .coll = opts->coll,
                       .script = logits_script,
                       .arg = (void *)(uintptr_t)opts};
    group.opts.logits_dump_path = path;
    rig_run(&group);
    size_t len = 0;
    float *logits = (float *)(void *)rig_read(path, &len);
    unlink(path);
    assert_int_equal(len, (size_t)opts->n * vocab * sizeof(float));
    return logits;
}
