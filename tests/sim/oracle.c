/* SPDX-License-Identifier: Apache-2.0 */
/* The one right answer: a token is a function of all tokens before it, the request's seed and its
 * salt, and of nothing else. */
#include "tests/sim/sim.h"

static hdl_token family_token(const sim_world *w, uint32_t family, uint32_t pos)
{
    uint64_t h = hdl_hash_combine(w->seed, (uint64_t)family << 32 | pos);
    return (hdl_token)(h % w->env.vocab);
}

uint64_t sim_hash_next(uint64_t hash, hdl_token token)
{
    return hdl_hash_mix(hash * 31 + (uint64_t)(uint32_t)token + 1);
}

uint64_t sim_oracle_hash(sim_req *r, uint32_t n)
{
    while (r->n_known < n) {
        uint32_t i = r->n_known++;
        r->hash[i + 1] = sim_hash_next(r->hash[i], r->tokens[i]);
    }
    return r->hash[n];
}

hdl_token sim_oracle_token(const sim_world *w, sim_req *r, uint32_t pos)
{
    if (pos < r->submit.n_prompt)
        return r->tokens[pos];
    /* All earlier ones are in place: callers ask in order or for what was asked before. */
    const sim_env *e = &w->env;
    uint64_t h = hdl_hash_combine(sim_oracle_hash(r, pos), r->seed);
    bool copies = pos >= e->copy_back && (h >> 32) % 1000 < e->p_copy;
    r->tokens[pos] = copies ? r->tokens[pos - e->copy_back] : (hdl_token)(h % e->vocab);
    return r->tokens[pos];
}

uint32_t sim_req_idx(sim_world *w, hdl_req_id id)
{
    SIM_CHECK(w, id.v >= 1000 && (id.v - 1000) / 7 < w->env.n_reqs && (id.v - 1000) % 7 == 0,
              "an action names request %llu, which never was", (unsigned long long)id.v);
    return (uint32_t)((id.v - 1000) / 7);
}

static bool chance(sim_world *w, uint32_t permille)
{
    return permille && hdl_rng_chance(&w->rng, permille, 1000);
}

/* A turn of a chat goes on from an earlier request: its prompt, its answer, and something new. */
static uint32_t prompt_of_turn(sim_world *w, sim_req *r, uint32_t idx)
{
    sim_req *old = &w->reqs[hdl_rng_below(&w->rng, idx)];
    uint32_t n = old->submit.n_prompt + old->n_emitted;
    uint32_t most = w->env.config.max_len - 2;
    if (n > most)
        n = most;
    for (uint32_t i = 0; i < n; i++)
        r->tokens[i] = sim_oracle_token(w, old, i);
    r->submit.salt = old->submit.salt;
    uint32_t more = (uint32_t)hdl_rng_below(&w->rng, 6);
    while (more-- > 0 && n < most)
        r->tokens[n++] = (hdl_token)hdl_rng_below(&w->rng, w->env.vocab);
    return n;
}

static uint32_t prompt_of_family(sim_world *w, sim_req *r)
{
    uint32_t most = w->env.prompt_max;
    if (chance(w, w->env.p_huge))
        most = SIM_LEN_MAX;
    uint32_t n = (uint32_t)hdl_rng_range(&w->rng, 1, most);
    uint32_t shared = hdl_rng_chance(&w->rng, 1, 4) ? n : (uint32_t)hdl_rng_below(&w->rng, n + 1);
    uint32_t family = (uint32_t)hdl_rng_below(&w->rng, w->env.n_families);
    for (uint32_t i = 0; i < n; i++)
        r->tokens[i] = i < shared ? family_token(w, family, i)
                                  : (hdl_token)hdl_rng_below(&w->rng, w->env.vocab);
    return n;
}

static uint32_t draw_flags(sim_world *w)
{
    uint32_t f = 0;
    f |= chance(w, w->env.p_score) ? HDL_SUBMIT_SCORE : 0u;
    f |= chance(w, w->env.p_logits) ? HDL_SUBMIT_LOGITS : 0u;
    f |= chance(w, w->env.p_no_cache) ? HDL_SUBMIT_NO_CACHE : 0u;
    f |= chance(w, w->env.p_history) ? HDL_SUBMIT_HISTORY : 0u;
    f |= chance(w, 100) ? HDL_SUBMIT_IGNORE_EOS : 0u;
    return f;
}

void sim_oracle_make(sim_world *w, uint32_t idx)
{
    sim_env *e = &w->env;
    sim_req *r = &w->reqs[idx];
    hdl_ev_submit *s = &r->submit;
    /* One draw a statement: the order of initialisers is the compiler's to choose. */
    *s = (hdl_ev_submit){.req = {1000 + 7ull * idx}, .prompt = r->tokens};
    bool flood = e->hog && !hdl_rng_chance(&w->rng, 1, 8);
    s->tenant = flood ? 0 : (uint32_t)hdl_rng_below(&w->rng, e->n_tenants);
    s->priority = (uint32_t)hdl_rng_below(&w->rng, e->n_priorities);
    s->flags = draw_flags(w);
    s->max_new = (uint32_t)hdl_rng_range(&w->rng, 1, e->new_max);
    s->salt = hdl_rng_below(&w->rng, e->n_salts);
    if ((s->flags & (HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS)) && chance(w, 500))
        s->max_new = 0;
    if (idx > 0 && chance(w, e->p_fork)) {
        sim_req *parent = &w->reqs[idx - 1 - hdl_rng_below(&w->rng, idx < 3 ? idx : 3)];
        s->fork_of = parent->submit.req;
        s->n_prompt = parent->submit.n_prompt;
        s->salt = parent->submit.salt;
        memcpy(r->tokens, parent->tokens, s->n_prompt * sizeof *r->tokens);
        if (chance(w, 20)) /* a client that lies */
            r->tokens[hdl_rng_below(&w->rng, s->n_prompt)] ^= 1;
    } else if (idx > 0 && chance(w, e->p_turn)) {
        s->n_prompt = prompt_of_turn(w, r, idx);
    } else {
        s->n_prompt = prompt_of_family(w, r);
    }
    if (chance(w, e->p_stop)) {
        s->n_stop_ids = (uint32_t)hdl_rng_range(&w->rng, 1, 3);
        for (uint32_t i = 0; i < s->n_stop_ids; i++)
            s->stop_ids[i] = (hdl_token)hdl_rng_below(&w->rng, e->vocab);
    }
    r->seed = hdl_rng_u64(&w->rng);
    r->hash[0] = hdl_hash_mix(s->salt + 77);
    r->n_known = 0;
    r->limit = UINT32_MAX;
}
