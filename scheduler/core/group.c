/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/group.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/run.h"
#include "scheduler/core/side.h"

/* How many groups are up and how long a sequence may be: the most that any of them takes. While
 * none is up the last answer stands. */
static void count_groups(hdl_sched *s)
{
    uint32_t up = 0, max_len = 0;
    for (uint32_t i = 0; i < s->config.n_groups; i++) {
        if (!s->groups[i].up)
            continue;
        up++;
        max_len = hdl_max_u32(max_len, s->groups[i].max_len);
    }
    s->stats.groups_up = up;
    if (up > 0)
        s->stats.max_len = max_len;
}

void hdl_group_end_epoch(hdl_sched *s, hdl_group *g)
{
    g->up = false;
    for (uint32_t i = 0; i < g->n_run; i++) {
        hdl_seq *seq = &s->seqs[g->run[i].stay.seq];
        if (seq->gen == g->run[i].stay.gen)
            hdl_run_back(s, seq, HDL_TRACE_REQUEUE);
    }
    g->n_run = g->n_prefills = g->in_flight = g->n_closes = 0;
    g->guesses = false;
    HDL_ASSERT_EQ(g->n_live, 0);
    count_groups(s);
    hdl_trace_act(s, HDL_TRACE_EPOCH_END, (uint64_t)(g - s->groups), g->epoch);
}

/* The same blocks serve the main cache and its twins. */
static uint32_t main_blocks(const hdl_sched *s, const hdl_ev_rank *ev)
{
    const hdl_caches *c = &s->caches;
    if (c->main == NONE)
        return hdl_ghost_blocks(&s->config);
    uint32_t n = hdl_min_u32(ev->n_blocks[c->main], s->config.caches[c->main].n_blocks);
    for (uint32_t i = 0; i < c->n_twins; i++)
        n = hdl_min_u32(n, ev->n_blocks[c->twins[i]]);
    return n;
}

void hdl_group_up(hdl_sched *s, const hdl_ev_rank *ev)
{
    if (ev->group >= s->config.n_groups || ev->epoch <= s->groups[ev->group].epoch)
        return;
    hdl_group *g = &s->groups[ev->group];
    if (g->up)
        hdl_group_end_epoch(s, g);
    g->up = true;
    g->epoch = ev->epoch;
    g->token_ns = 0;
    g->next_step = 1;
    uint32_t n_blocks = main_blocks(s, ev);
    uint32_t max_len = ev->max_len ? ev->max_len : s->config.max_len;
    uint64_t kv_len = (uint64_t)n_blocks << s->bt_shift;
    g->max_len = (uint32_t)hdl_min_size(hdl_min_u32(max_len, s->config.max_len), kv_len);
    hdl_kv_reset(&g->kv, n_blocks);
    hdl_sides_reset(s, g, ev);
    count_groups(s);
    hdl_trace_act(s, HDL_TRACE_EPOCH_UP, ev->group, ev->epoch);
}

void hdl_group_lost(hdl_sched *s, const hdl_ev_rank *ev)
{
    if (ev->group >= s->config.n_groups)
        return;
    hdl_group *g = &s->groups[ev->group];
    if (g->up && g->epoch == ev->epoch)
        hdl_group_end_epoch(s, g);
}
