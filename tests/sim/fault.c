/* SPDX-License-Identifier: Apache-2.0 */
/* Trouble: what is lost, late, doubled, garbled or dead, and when. */
#include "tests/sim/sim.h"

static bool chance(sim_world *w, uint32_t permille)
{
    return permille && !sim_quiet(w) && hdl_rng_chance(&w->rng, permille, 1000);
}

static uint64_t around(sim_world *w, uint64_t us) { return 1 + hdl_rng_below(&w->rng, 2 * us); }

void sim_fault_arrange(sim_world *w)
{
    sim_env *e = &w->env;
    uint64_t at = 0;
    for (uint32_t i = 0; i < e->n_reqs; i++) {
        if (i % e->burst == 0)
            at += around(w, e->gap_us);
        sim_push(w, at, SIM_SUBMIT, i, 0);
    }
    for (uint32_t g = 0; g < e->config.n_groups; g++)
        sim_push(w, g == 0 ? around(w, 10) : around(w, at + 1), SIM_RANK_UP, g, 1);
    if (e->drain)
        sim_push(w, around(w, at + 1), SIM_DRAIN, 0, 0);
    for (uint32_t i = 0; i < 4; i++)
        sim_push(w, around(w, at + 1), SIM_STALE, 0, 0);
}

void sim_fault_plan(sim_world *w, uint32_t group, const hdl_plan *plan)
{
    sim_group *g = &w->groups[group];
    sim_env *e = &w->env;
    uint64_t took = around(w, e->step_us);
    if (chance(w, e->p_slow))
        took *= 20;
    bool lost = chance(w, e->p_lost);
    if (lost || chance(w, e->p_rank_lost))
        sim_push(w, w->now_us + (lost ? 30 : 1) * around(w, e->step_us), SIM_RANK_LOST, group,
                 plan->epoch);
    uint64_t from = g->answer_us > w->now_us ? g->answer_us : w->now_us;
    g->answer_us = from + took;
    if (!lost)
        sim_push(w, g->answer_us, SIM_ANSWER, group, plan->epoch << 32 | plan->step);
    if (chance(w, e->p_dup))
        sim_push(w, g->answer_us + around(w, e->step_us), SIM_DUP, group,
                 plan->epoch << 32 | plan->step);
}

void sim_fault_deform(sim_world *w, uint32_t *n_rows)
{
    if (*n_rows == 0 || !chance(w, w->env.p_bad))
        return;
    hdl_result_row *row = &w->rows[hdl_rng_below(&w->rng, *n_rows)];
    switch (hdl_rng_below(&w->rng, 5)) {
    case 0: row->pos++; break;
    case 1: row->slot++; break;
    case 2: row->token = -1; break;
    case 3: --*n_rows; break;
    default: w->rows[(*n_rows)++] = (hdl_result_row){.slot = 0, .pos = 1, .token = 1}; break;
    }
}
