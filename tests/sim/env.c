/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

static uint32_t in(sim_world *w, uint32_t lo, uint32_t hi)
{
    return (uint32_t)hdl_rng_range(&w->rng, lo, hi);
}

/* Off in most worlds, so that some have one trouble alone and few have all. */
static uint32_t sometimes(sim_world *w, uint32_t percent, uint32_t most_permille)
{
    return hdl_rng_chance(&w->rng, percent, 100) ? in(w, 1, most_permille) : 0;
}

static uint32_t pick(sim_world *w, const uint32_t *of, uint32_t n)
{
    return of[hdl_rng_below(&w->rng, n)];
}
#define PICK(w, ...)                                                                               \
    pick((w), (const uint32_t[]){__VA_ARGS__},                                                     \
         sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

/* One cache group of pages in most worlds; else two or three of any kind, and sometimes none that
 * keeps every position. */
static void draw_rules(sim_world *w)
{
    enum { ALL, WINDOW, CHUNK, STATE };
    hdl_sched_config *c = &w->env.config;
    c->n_caches = PICK(w, 1, 1, 2, 2, 3);
    bool plain = c->n_caches == 1 && hdl_rng_chance(&w->rng, 3, 4);
    for (uint32_t i = 0; i < c->n_caches; i++) {
        bool all = plain || (i == 0 && hdl_rng_chance(&w->rng, 3, 4));
        uint32_t kind = all ? (uint32_t)ALL : PICK(w, ALL, WINDOW, WINDOW, CHUNK, STATE, STATE);
        hdl_cache_rule *rule = &c->caches[i].rule;
        *rule = (hdl_cache_rule){.kind = HDL_CACHE_KV_PAGES};
        uint32_t most = PICK(w, 1, 2, 40, 100);
        if (kind == WINDOW)
            rule->window = in(w, 1, most);
        else if (kind == CHUNK)
            rule->chunk = in(w, 1, 40);
        else if (kind == STATE)
            rule->kind = HDL_CACHE_STATE;
    }
    c->snapshot_tokens = PICK(w, 0, 0, 1, 3) * c->block_tokens;
}

static void draw_caches(sim_world *w)
{
    sim_env *e = &w->env;
    hdl_sched_config *c = &e->config;
    uint32_t whole = (c->max_len + c->block_tokens - 1) / c->block_tokens;
    draw_rules(w);
    for (uint32_t i = 0; i < c->n_caches; i++) {
        bool tight = hdl_rng_chance(&w->rng, 2, 3);
        uint32_t n = tight ? in(w, 2, 2 * whole + 2) : whole * in(w, 2, 8);
        if (hdl_cache_is_state(&c->caches[i].rule))
            n = tight ? in(w, 1, c->max_seqs + 2) : in(w, c->max_seqs, 4 * c->max_seqs);
        e->n_blocks[i] = n;
        c->caches[i].n_blocks = n + in(w, 0, whole);
    }
}

static void draw_config(sim_world *w)
{
    sim_env *e = &w->env;
    hdl_sched_config *c = &e->config;
    hdl_sched_config_default(c);
    c->n_groups = PICK(w, 1, 1, 1, 2, 3);
    c->max_seqs = PICK(w, 1, 2, 4, 8, 16, 24);
    c->waiting_max = PICK(w, 1, 4, 16, 64, 400);
    c->step_tokens = PICK(w, 1, 2, 4, 8, 16, 32, 64, 128);
    c->max_row_tokens = in(w, 1, c->step_tokens);
    c->prefills_max = in(w, 1, 4);
    c->block_tokens = PICK(w, 1, 2, 4, 8, 8, 16);
    c->max_len = PICK(w, 12, 40, 100, SIM_LEN_MAX);
    c->watermark_permille = PICK(w, 0, 0, 20, 100, 300);
    c->aging_us = PICK(w, 0, 2000, 100000);
    c->prefix_cache = !hdl_rng_chance(&w->rng, 1, 8);
    draw_caches(w);
    uint32_t log_of = PICK(w, 0, 0, 0, 2, 3);
    c->log_tokens = log_of ? log_of * (c->max_len + 4 * c->block_tokens) : 65536;
    e->n_tenants = PICK(w, 1, 1, 2, 3, SIM_TENANTS_MAX);
    c->n_tenants = e->n_tenants;
    for (uint32_t t = 0; t < e->n_tenants; t++)
        c->tenant_weight[t] = hdl_rng_chance(&w->rng, 1, 3) ? in(w, 1, 4) : 1;
}

/* Troubles that only meet when several things are tight at once: logs that hold two or three of the
 * longest requests, forks that wait for slow prompts, and ranks that die all the time. */
static void squeeze(sim_world *w)
{
    sim_env *e = &w->env;
    hdl_sched_config *c = &e->config;
    if (hdl_rng_chance(&w->rng, 3, 4)) { /* tight logs need a cache that is not */
        c->n_caches = 1;
        c->caches[0] = (hdl_cache_capacity){.n_blocks = 8 * c->max_len / c->block_tokens + 8};
    }
    c->log_tokens = 3 * (c->max_len + 4 * c->block_tokens);
    c->step_tokens = c->max_row_tokens = 2;
    c->max_seqs = 8;
    c->waiting_max = 64;
    c->n_groups = 1; /* whose loss hits all */
    for (uint32_t i = 0; i < c->n_caches; i++)
        e->n_blocks[i] = c->caches[i].n_blocks;
    e->prompt_max = 40;
    e->new_max = SIM_LEN_MAX;
    e->burst = 30;
    e->p_fork = 500;
    e->p_rank_lost = 100;
    e->n_reqs = 80;
    e->p_shrink = 0;
    e->p_stop = 1000;
    e->p_cancel = e->p_deadline = 0; /* which would get it out of any lock */
}

/* So many at once that whole words of the bitmaps of slots are full, which the core has loops of
 * their own for; with room for all, or for half of them. */
static void crowd(sim_world *w)
{
    sim_env *e = &w->env;
    hdl_sched_config *c = &e->config;
    c->max_seqs = in(w, 64, 140);
    c->waiting_max = 200;
    c->step_tokens = 256;
    c->max_row_tokens = in(w, 1, 64);
    c->prefills_max = 64;
    c->max_len = 100;
    c->log_tokens = 65536;
    uint32_t each = PICK(w, 25, 50);
    for (uint32_t i = 0; i < c->n_caches; i++) {
        bool is_state = hdl_cache_is_state(&c->caches[i].rule);
        uint32_t n = is_state ? 2 * each : c->max_seqs * each / c->block_tokens + 100;
        e->n_blocks[i] = c->caches[i].n_blocks = n;
    }
    e->n_reqs = 200;
    e->burst = 150;
    e->prompt_max = PICK(w, 8, 24);
    e->new_max = 60;
}

/* Speculation, in half of the worlds; most of those repeat themselves a lot. Drawn apart from all
 * else, so that a world is the same with and without. */
static void draw_guesses(sim_world *w)
{
    sim_env *e = &w->env;
    hdl_rng whole = w->rng;
    hdl_rng_init(&w->rng, hdl_hash_combine(w->seed, 0x67756573));
    e->config.guess_tokens = PICK(w, 0, 0, 0, 0, 1, 3, 7, HDL_GUESSES_MAX);
    e->config.guess_step_tokens = PICK(w, 2, 4, 8, 16, 64, 256);
    e->p_copy = e->config.guess_tokens ? PICK(w, 0, 500, 900, 990) : 0;
    e->copy_back = in(w, 1, 20);
    if (e->config.guess_tokens && e->config.log_tokens == 65536 &&
        hdl_rng_chance(&w->rng, 1, 4)) { /* tokens are filed before their block is full */
        e->config.block_tokens = 64;
        e->config.snapshot_tokens = e->config.snapshot_tokens ? 64 : 0;
    }
    w->rng = whole;
}

/* In half of the worlds prompts are cut by the time that they take. Drawn apart, too. */
static void draw_pace(sim_world *w)
{
    hdl_rng whole = w->rng;
    hdl_rng_init(&w->rng, hdl_hash_combine(w->seed, 0x70616365));
    w->env.config.step_us = PICK(w, 0, 0, 0, 1, 500, 5000, 100000);
    w->rng = whole;
}

void sim_env_draw(sim_world *w)
{
    sim_env *e = &w->env;
    memset(e, 0, sizeof *e);
    draw_config(w);
    e->n_reqs = PICK(w, 5, 20, 40, 80, 120);
    e->vocab = PICK(w, 2, 3, 10, 1000);
    e->n_families = in(w, 1, 4);
    e->prompt_max = PICK(w, 1, 8, 24, 60, 150);
    e->new_max = PICK(w, 1, 4, 12, 40, 100);
    e->step_us = PICK(w, 50, 500, 2000);
    e->gap_us = PICK(w, 1, 100, 1000, 5000);
    e->burst = PICK(w, 1, 1, 4, 30);
    e->n_priorities = PICK(w, 1, 1, 2, HDL_PRIORITIES);
    e->n_salts = PICK(w, 1, 1, 3);
    e->p_fork = sometimes(w, 40, 600);
    e->p_turn = sometimes(w, 50, 600);
    e->p_cancel = sometimes(w, 50, 500);
    e->p_deadline = sometimes(w, 40, 500);
    e->p_score = sometimes(w, 20, 300);
    e->p_logits = sometimes(w, 15, 300);
    e->p_no_cache = sometimes(w, 20, 300);
    e->p_history = sometimes(w, 30, 500);
    e->p_stop = sometimes(w, 60, 1000);
    e->p_slow = sometimes(w, 30, 200);
    e->p_lost = sometimes(w, 15, 20);
    e->p_dup = sometimes(w, 25, 200);
    e->p_bad = sometimes(w, 15, 20);
    e->p_rank_lost = sometimes(w, 30, 30);
    e->p_jump = sometimes(w, 20, 50);
    e->p_shrink = sometimes(w, 30, 500);
    e->p_huge = sometimes(w, 20, 200);
    e->drain = hdl_rng_chance(&w->rng, 1, 10);
    e->hog = e->n_tenants > 1 && hdl_rng_chance(&w->rng, 1, 2);
    draw_guesses(w);
    draw_pace(w);
    if (hdl_rng_chance(&w->rng, 1, 10))
        squeeze(w);
    else if (hdl_rng_chance(&w->rng, 1, 16))
        crowd(w);
    e->quiet_us = (uint64_t)e->n_reqs * e->gap_us / e->burst + 50ull * e->step_us;
}
