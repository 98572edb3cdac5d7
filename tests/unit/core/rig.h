/* SPDX-License-Identifier: Apache-2.0 */
/* A core under test: a small state, short ways to feed it, and its last actions by kind. Every step
 * checks all invariants. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/core/sched.h"

typedef struct rig {
    hdl_sched *s;
    hdl_sched_config config;
    uint64_t now_us;
    hdl_actions acts;
    hdl_token prompt[256];
    hdl_result_row rows[64];
} rig;

static inline hdl_sched_config rig_config(void)
{
    hdl_sched_config c;
    hdl_sched_config_default(&c);
    c.max_seqs = 8;
    c.waiting_max = 16;
    c.step_tokens = 32;
    c.max_row_tokens = 32;
    c.block_tokens = 4;
    c.caches[0].n_blocks = 64;
    c.max_len = 128;
    c.watermark_permille = 0;
    return c;
}

static inline void rig_init(rig *r, const hdl_sched_config *config)
{
    memset(r, 0, sizeof *r);
    r->config = *config;
    r->now_us = 1000;
    assert_null(hdl_sched_config_problem(config));
    size_t bytes = hdl_sched_bytes(config);
    r->s = hdl_sched_init(aligned_alloc(64, bytes), bytes, config);
    for (int i = 0; i < 256; i++)
        r->prompt[i] = 100 + i;
}

static inline void rig_free(rig *r) { free(r->s); }

static inline void rig_feed(rig *r, hdl_event ev)
{
    ev.now_us = r->now_us;
    hdl_sched_step(r->s, &ev, &r->acts);
    const char *broken = hdl_sched_check(r->s);
    if (broken)
        fail_msg("invariant: %s", broken);
}

static inline void rig_up(rig *r, uint64_t epoch)
{
    hdl_event up = {.kind = HDL_EV_RANK_UP, .rank = {.epoch = epoch}};
    for (uint32_t i = 0; i < r->config.n_caches; i++)
        up.rank.n_blocks[i] = r->config.caches[i].n_blocks;
    rig_feed(r, up);
}

static inline hdl_ev_submit rig_request(rig *r, uint64_t id, uint32_t n_prompt, uint32_t max_new)
{
    return (hdl_ev_submit){
        .req = {id}, .max_new = max_new, .prompt = r->prompt, .n_prompt = n_prompt};
}

static inline void rig_submit(rig *r, hdl_ev_submit submit)
{
    rig_feed(r, (hdl_event){.kind = HDL_EV_SUBMIT, .submit = submit});
}

static inline void rig_cancel(rig *r, uint64_t id)
{
    rig_feed(r, (hdl_event){.kind = HDL_EV_CANCEL, .cancel = {.req = {id}}});
}

/* The n-th action of a kind, or NULL. */
static inline const hdl_action *rig_act(const rig *r, hdl_action_kind kind, uint32_t n)
{
    for (uint32_t i = 0; i < r->acts.count; i++)
        if (r->acts.list[i].kind == kind && n-- == 0)
            return &r->acts.list[i];
    return NULL;
}

static inline uint32_t rig_count(const rig *r, hdl_action_kind kind)
{
    uint32_t n = 0;
    while (rig_act(r, kind, n))
        n++;
    return n;
}

static inline const hdl_plan *rig_plan(const rig *r, uint32_t n)
{
    const hdl_action *a = rig_act(r, HDL_ACT_PLAN, n);
    assert_non_null(a);
    return a->plan.plan;
}

/* The n-th new token, or NULL. */
static inline const hdl_new_token *rig_token(const rig *r, uint32_t n)
{
    const hdl_action *a;
    for (uint32_t i = 0; (a = rig_act(r, HDL_ACT_EMIT, i)); n -= a->emit.n, i++)
        if (n < a->emit.n)
            return &a->emit.list[n];
    return NULL;
}

static inline uint32_t rig_token_count(const rig *r)
{
    uint32_t n = 0;
    while (rig_token(r, n))
        n++;
    return n;
}

/* Answers a plan: every sampling row gets `token`. */
static inline void rig_answer(rig *r, const hdl_plan *p, hdl_token token)
{
    hdl_ev_result res = {.group = p->group, .epoch = p->epoch, .step = p->step, .rows = r->rows};
    for (uint32_t i = 0; i < p->n_rows; i++)
        if (p->rows[i].flags & HDL_ROW_SAMPLE)
            r->rows[res.n_rows++] = (hdl_result_row){.slot = p->rows[i].slot,
                                                     .pos = p->rows[i].pos + p->rows[i].n_tokens,
                                                     .token = token};
    rig_feed(r, (hdl_event){.kind = HDL_EV_RESULT, .result = res});
}

static inline hdl_sched_stats rig_stats(const rig *r)
{
    hdl_sched_stats st;
    hdl_sched_read_stats(r->s, &st);
    return st;
}
