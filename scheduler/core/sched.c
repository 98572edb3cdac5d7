/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 7 and 12 of 14: decide and absorb. Start reading at hdl_sched_step, at the end. */
#include "scheduler/core/absorb.h"
#include "scheduler/core/admit.h"
#include "scheduler/core/budget.h"
#include "scheduler/core/deadline.h"
#include "scheduler/core/group.h"
#include "scheduler/core/layout.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"

size_t hdl_sched_bytes(const hdl_sched_config *config)
{
    hdl_sched measure = {.config = *config};
    return hdl_layout(&measure, NULL);
}

hdl_sched *hdl_sched_init(void *mem, size_t bytes, const hdl_sched_config *config)
{
    HDL_ASSERT(hdl_sched_config_problem(config) == NULL);
    HDL_ASSERT_EQ((uintptr_t)mem % 64, 0);
    hdl_sched *s = mem;
    memset(s, 0, sizeof *s);
    s->config = *config;
    (void)hdl_layout(s, mem);
    memset(s->groups, 0, config->n_groups * sizeof *s->groups);
    HDL_ASSERT_LE(hdl_layout(s, mem), bytes); /* once more: what groups point to */

    s->seq_free = s->pages.free_head = NONE;
    s->pages.n_free = s->pages.total / (s->pages.sheet_mask + 1);
    memset(s->map, 0xff, (s->map_mask + 1u) * sizeof *s->map);
    for (uint32_t i = config->max_seqs; i > 0; i--)
        s->slots_free[s->n_slots_free++] = i - 1;
    for (uint32_t p = 0; p < HDL_PRIORITIES; p++)
        s->queue.again[p] = (hdl_list){NONE, NONE};
    for (uint32_t t = 0; t < config->n_tenants; t++) {
        uint32_t weight = config->tenant_weight[t] ? config->tenant_weight[t] : 1;
        s->tenants[t] = (hdl_tenant){.per_token = HDL_SHARE_UNIT / weight};
        for (uint32_t p = 0; p < HDL_PRIORITIES; p++)
            s->tenants[t].fifo[p] = (hdl_list){NONE, NONE};
    }
    for (uint32_t i = 0; i < config->n_groups; i++)
        memset(s->groups[i].decode, 0, s->slots.n_words * sizeof(uint64_t));
    s->stats.max_len = config->max_len;
    return s;
}

hdl_sched *hdl_sched_adopt(void *mem, size_t bytes, const hdl_sched_config *config)
{
    HDL_ASSERT(hdl_sched_config_problem(config) == NULL);
    HDL_ASSERT_EQ((uintptr_t)mem % 64, 0);
    hdl_sched *s = mem;
    s->config = *config;
    HDL_ASSERT_LE(hdl_layout(s, mem), bytes);
    return s;
}

#ifdef HDL_PLANT_BUGS
void hdl_sched_plant(hdl_sched *s, hdl_bug bug) { s->bug = (int)bug; }
#endif

static void refuse(hdl_sched *s, const hdl_ev_submit *ev, hdl_act_reject why)
{
    why.req = ev->req;
    hdl_act(s, HDL_ACT_REJECT)->reject = why;
    s->stats.rejected++;
}

static bool well_formed(const hdl_sched *s, const hdl_ev_submit *ev)
{
    bool prompt_only = (ev->flags & (HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS)) != 0;
    return ev->req.v != 0 && ev->tenant < s->config.n_tenants && ev->priority < HDL_PRIORITIES &&
           ev->n_prompt > 0 && ev->n_stop_ids <= HDL_STOP_IDS_MAX &&
           (ev->max_new > 0 || prompt_only);
}

/* With several tenants, one may take of the queue at most eight times as much as it leaves to the
 * others. */
static bool queue_full(const hdl_sched *s, const hdl_ev_submit *ev)
{
    uint32_t left = s->config.waiting_max - hdl_min_u32(s->queue.n_waiting, s->config.waiting_max);
    if (left == 0 || !hdl_seq_room(s, ev->n_prompt))
        return true;
    return s->config.n_tenants > 1 && s->tenants[ev->tenant].n_waiting >= 8 * left;
}

/* A fork can share what its parent computes when it would compute the very same. */
static hdl_seq *parent_of(const hdl_sched *s, const hdl_seq *seq)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    const uint8_t alone = HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS | HDL_SUBMIT_NO_CACHE;
    hdl_seq *parent = cold->fork_of ? hdl_seq_find(s, (hdl_req_id){cold->fork_of}) : NULL;
    if (!parent || parent == seq || parent->n_prompt != seq->n_prompt ||
        hdl_seq_rest(s, parent)->salt != cold->salt || ((seq->flags | parent->flags) & alone))
        return NULL;
    hdl_pages_walk a = hdl_seq_walk(s, seq), b = hdl_seq_walk(s, parent);
    for (uint32_t at = 0; at < seq->n_prompt; at += s->bt_mask + 1) {
        uint32_t n = hdl_min_u32(s->bt_mask + 1, seq->n_prompt - at);
        if (memcmp(hdl_walk_next(s, &a), hdl_walk_next(s, &b), n * sizeof(hdl_token)) != 0)
            return NULL;
    }
    return parent;
}

static void submit(hdl_sched *s, const hdl_ev_submit *ev)
{
    s->stats.submitted++;
    uint32_t need = ev->n_prompt + (ev->max_new > 0);
    if (s->draining)
        return refuse(s, ev, (hdl_act_reject){.err = HDL_AGAIN});
    if (!well_formed(s, ev))
        return refuse(s, ev, (hdl_act_reject){.err = HDL_INVALID});
    if (ev->n_prompt >= s->stats.max_len + (ev->max_new == 0))
        return refuse(s, ev,
                      (hdl_act_reject){.err = HDL_INVALID, .need = need, .have = s->stats.max_len});
    if (ev->deadline_us != 0 && ev->deadline_us <= s->now_us)
        return refuse(s, ev, (hdl_act_reject){.err = HDL_TIMEOUT});
    if (queue_full(s, ev))
        return refuse(s, ev,
                      (hdl_act_reject){.err = HDL_BUSY,
                                       .retry_after_ms = hdl_queue_retry_after_ms(s),
                                       .need = need});
    HDL_ASSERT_SLOW(!hdl_seq_find(s, ev->req));
    s->stats.accepted++;
    hdl_seq *seq = hdl_seq_new(s, ev);
    hdl_deadline_add(s, seq);
    hdl_seq *parent = parent_of(s, seq);
    if (!parent)
        hdl_seq_rest(s, seq)->fork_of = 0;
    if (parent && parent->acked + 1 < parent->n_prompt)
        hdl_queue_hold(s, seq, parent);
    else if (parent)
        hdl_queue_again(s, seq);
    else
        hdl_queue_push(s, seq);
}

void hdl_sched_tell(hdl_sched *s, hdl_told told)
{
    s->is_told = true;
    s->told = told;
}

bool hdl_sched_knows(const hdl_sched *s, hdl_req_id req) { return hdl_seq_find(s, req) != NULL; }

static void cancel(hdl_sched *s, hdl_req_id req)
{
    hdl_seq *seq = hdl_seq_find(s, req);
    if (!seq)
        return;
    if (hdl_planted(s, LOST_CANCEL) && seq->state == HDL_SEQ_PREFILL)
        return;
    hdl_run_end(s, seq, HDL_FINISH_CANCELLED);
}

static void expire(hdl_sched *s)
{
    hdl_seq *seq;
    while ((seq = hdl_deadline_first(s)) && hdl_seq_rest(s, seq)->deadline_us <= s->now_us) {
        if (hdl_seq_rest(s, seq)->admitted)
            hdl_run_end(s, seq, HDL_FINISH_TIMEOUT);
        else
            hdl_run_reject(s, seq, HDL_TIMEOUT);
    }
}

static void drain(hdl_sched *s)
{
    if (s->draining)
        return;
    s->draining = true;
    if (s->n_used == 0)
        hdl_trace_act(s, HDL_TRACE_DRAINED, 0, 0);
}

/* One plan for each group that can take one; true when there was any. */
static bool plan_round(hdl_sched *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->config.n_groups; i++)
        if (hdl_group_open(&s->groups[i]) && hdl_budget_plan(s, &s->groups[i]))
            any = true;
    return any;
}

static bool any_group_open(const hdl_sched *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->config.n_groups; i++)
        any = any || hdl_group_open(&s->groups[i]);
    return any;
}

/* Keeps HDL_PLANS_IN_FLIGHT plans of each group on their way. A round that only preempted is
 * followed by another: what it freed may let somebody in. Each of its victims had made progress, so
 * this ends. */
static void fill(hdl_sched *s)
{
    bool more = any_group_open(s);
    while (more) {
        uint64_t preempted = s->stats.preemptions;
        while (hdl_admit_next(s))
            ;
        more = plan_round(s) || s->stats.preemptions != preempted;
    }
}

static void ask_timer(hdl_sched *s)
{
    const hdl_seq *first = hdl_deadline_first(s);
    uint64_t at_us = first ? hdl_seq_rest(s, first)->deadline_us : 0;
    if (at_us != 0 && at_us != s->timer_us)
        hdl_act(s, HDL_ACT_TIMER)->timer.at_us = at_us;
    s->timer_us = at_us;
}

void hdl_sched_step(hdl_sched *s, const hdl_event *ev, hdl_actions *actions)
{
    s->n_actions = 0;
    if (ev->now_us > s->now_us)
        s->now_us = ev->now_us;
    expire(s);
    switch (ev->kind) {
    case HDL_EV_SUBMIT: submit(s, &ev->submit); break;
    case HDL_EV_CANCEL: cancel(s, ev->cancel.req); break;
    case HDL_EV_RESULT: hdl_absorb(s, &ev->result); break;
    case HDL_EV_TICK: break;
    case HDL_EV_RANK_UP: hdl_group_up(s, &ev->rank); break;
    case HDL_EV_RANK_LOST: hdl_group_lost(s, &ev->rank); break;
    case HDL_EV_DRAIN: drain(s); break;
    case HDL_EV_COUNT: break;
    }
    fill(s);
    ask_timer(s);
    s->told = (hdl_told){0};
    *actions = (hdl_actions){.list = s->actions, .count = s->n_actions};
}
