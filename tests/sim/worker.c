/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that compute nothing: a KV entry is the hash of the prefix that it stands for. A row may
 * read only what an earlier step wrote and what is exactly its own prefix; so a stale, foreign or
 * prematurely reused block shows at the first read. */
#include "tests/sim/sim.h"

/* Cells of a block: a token's each, or one state. */
static uint32_t block_cells(const sim_world *w, uint32_t cache)
{
    const hdl_sched_config *c = &w->env.config;
    return hdl_cache_is_state(&c->caches[cache].rule) ? 1 : c->block_tokens;
}

size_t sim_cells(const sim_world *w, uint32_t cache)
{
    return (size_t)w->env.config.caches[cache].n_blocks * block_cells(w, cache);
}

void sim_worker_reset(sim_world *w, uint32_t group)
{
    sim_group *g = &w->groups[group];
    const hdl_sched_config *c = &w->env.config;
    memset(g->slots, 0, c->max_seqs * sizeof *g->slots);
    for (uint32_t i = 0; i < c->n_caches; i++)
        memset(g->kv[i], 0, sim_cells(w, i) * sizeof *g->kv[i]);
    g->n_flight = 0;
    g->last_step = 0;
    g->n_last_rows = 0;
}

static sim_slot *slot_of(sim_world *w, sim_group *g, uint32_t slot, bool open)
{
    SIM_CHECK(w, slot < w->env.config.max_seqs, "slot %u is out of range", slot);
    SIM_CHECK(w, g->slots[slot].open == open, "slot %u should be %s", slot,
              open ? "open" : "closed");
    return &g->slots[slot];
}

static void open_slots(sim_world *w, sim_group *g, const hdl_plan *p)
{
    for (uint32_t i = 0; i < p->n_closes; i++)
        slot_of(w, g, p->closes[i], true)->open = false;
    for (uint32_t i = 0; i < p->n_opens; i++) {
        const hdl_plan_open *o = &p->opens[i];
        sim_slot *slot = slot_of(w, g, o->slot, false);
        uint32_t idx = sim_req_idx(w, (hdl_req_id){o->req_lo | (uint64_t)o->req_hi << 32});
        sim_req *r = &w->reqs[idx];
        *slot = (sim_slot){.open = true, .req = idx, .last = -1};
        SIM_CHECK(w, o->n_prompt == r->submit.n_prompt, "request %u opened with another prompt",
                  idx);
        SIM_CHECK(w, (o->n_history > 0) == ((r->submit.flags & HDL_SUBMIT_HISTORY) != 0),
                  "request %u: history of %u tokens", idx, o->n_history);
        SIM_CHECK(w, o->n_history <= p->n_tokens && o->history_at <= p->n_tokens - o->n_history,
                  "history outside tokens");
        for (uint32_t t = 0; t < o->n_history; t++)
            SIM_CHECK(w, p->tokens[o->history_at + t] == r->tokens[t],
                      "request %u: wrong history at %u", idx, t);
    }
}

/* A place in the memory of one cache group. */
typedef struct cell {
    uint64_t *kv, *stamp;
    uint32_t block;
} cell;

/* Of position pos; of states, of the sequence's own. */
static cell cell_of(sim_world *w, sim_group *g, const sim_slot *slot, uint32_t cache, uint32_t pos)
{
    bool is_state = hdl_cache_is_state(&w->env.config.caches[cache].rule);
    uint32_t bt = w->env.config.block_tokens, n = is_state ? 0 : pos / bt;
    SIM_CHECK(w, n >= slot->first[cache] && n < slot->end[cache],
              "request %u: position %u has no block in cache group %u", slot->req, pos, cache);
    uint32_t block = slot->table[cache][n];
    size_t at = is_state ? block : (size_t)block * bt + pos % bt;
    return (cell){&g->kv[cache][at], &g->stamp[cache][at], block};
}

static void take_grant(sim_world *w, sim_group *g, const hdl_plan *p, const hdl_plan_grant *grant)
{
    const hdl_sched_config *c = &w->env.config;
    sim_slot *slot = slot_of(w, g, grant->slot, true);
    uint32_t cache = grant->cache;
    SIM_CHECK(w, cache < c->n_caches, "cache group %u", cache);
    const hdl_cache_rule *rule = &c->caches[cache].rule;
    bool late = slot->end[cache] == 0 && (rule->window || rule->chunk);
    SIM_CHECK(w, grant->n_blocks > 0 && (late || grant->table_at == slot->end[cache]),
              "request %u: table of %u blocks of cache group %u goes on at %u with %u", slot->req,
              slot->end[cache], cache, grant->table_at, grant->n_blocks);
    SIM_CHECK(w, grant->n_blocks <= p->n_blocks && grant->block_at <= p->n_blocks - grant->n_blocks,
              "blocks outside the plan");
    SIM_CHECK(w, grant->table_at + grant->n_blocks <= SIM_LEN_MAX + 1, "table too long");
    SIM_CHECK(w, !hdl_cache_is_state(rule) || grant->n_blocks == 1, "more than one state");
    if (slot->end[cache] == 0)
        slot->first[cache] = slot->end[cache] = grant->table_at;
    for (uint32_t i = 0; i < grant->n_blocks; i++) {
        uint32_t block = p->blocks[grant->block_at + i];
        SIM_CHECK(w, block < g->n_blocks[cache], "block %u is out of range", block);
        slot->table[cache][slot->end[cache]++] = block;
    }
}

/* Copies run at once: none may touch what another one writes. */
static void copy_blocks(sim_world *w, sim_group *g, const hdl_plan *p)
{
    for (uint32_t i = 0; i < p->n_copies; i++) {
        const hdl_plan_copy *a = &p->copies[i];
        SIM_CHECK(w,
                  a->cache < w->env.config.n_caches && a->src < g->n_blocks[a->cache] &&
                      a->dst < g->n_blocks[a->cache] && a->src != a->dst,
                  "copy %u", i);
        for (uint32_t k = 0; k < p->n_copies; k++) {
            const hdl_plan_copy *b = &p->copies[k];
            SIM_CHECK(w, k == i || a->cache != b->cache || (a->dst != b->dst && a->dst != b->src),
                      "copies %u and %u meet in block %u of cache group %u", i, k, a->dst,
                      a->cache);
        }
        size_t n = block_cells(w, a->cache);
        memcpy(g->kv[a->cache] + a->dst * n, g->kv[a->cache] + a->src * n, n * sizeof(uint64_t));
    }
}

static void read_pages(sim_world *w, sim_group *g, const hdl_plan_row *row, uint32_t cache)
{
    sim_slot *slot = &g->slots[row->slot];
    sim_req *r = &w->reqs[slot->req];
    uint32_t first = hdl_cache_first_seen(&w->env.config.caches[cache].rule, row->pos);
    for (uint32_t pos = first; pos < row->pos; pos++) {
        cell c = cell_of(w, g, slot, cache, pos);
        SIM_CHECK(w, *c.kv == sim_oracle_hash(r, pos + 1),
                  "request %u reads a wrong KV entry at position %u of %u (block %u of cache group "
                  "%u)",
                  slot->req, pos, row->pos, c.block, cache);
        *c.stamp = 2 * w->global_step;
    }
}

static void read_row(sim_world *w, sim_group *g, const hdl_plan_row *row)
{
    sim_slot *slot = &g->slots[row->slot];
    for (uint32_t i = 0; i < w->env.config.n_caches; i++) {
        if (!hdl_cache_is_state(&w->env.config.caches[i].rule)) {
            read_pages(w, g, row, i);
            continue;
        }
        cell c = cell_of(w, g, slot, i, 0);
        SIM_CHECK(w, row->pos == 0 || *c.kv == sim_oracle_hash(&w->reqs[slot->req], row->pos),
                  "request %u goes on at position %u from a wrong state (%u)", slot->req, row->pos,
                  c.block);
        *c.stamp = 2 * w->global_step;
    }
}

static hdl_token row_token(const hdl_plan *p, const hdl_plan_row *row, const sim_slot *slot,
                           uint32_t i)
{
    bool fed_back = i == 0 && (row->flags & HDL_ROW_FEEDBACK);
    return fed_back ? slot->last : p->tokens[row->token_at + i];
}

static bool has_said(const sim_req *r, uint32_t n, hdl_token token)
{
    for (uint32_t i = 0; i < n; i++)
        if (r->tokens[i] == token)
            return true;
    return false;
}

static void check_tokens(sim_world *w, const hdl_plan *p, const hdl_plan_row *row, sim_slot *slot)
{
    sim_req *r = &w->reqs[slot->req];
    uint32_t entries = row->n_tokens + (row->flags & HDL_ROW_SCORE ? 1u : 0u);
    SIM_CHECK(w, entries <= p->n_tokens && row->token_at <= p->n_tokens - entries,
              "tokens outside the plan");
    SIM_CHECK(w, row->pos + row->n_tokens <= SIM_LEN_MAX, "row beyond the greatest length");
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        hdl_token t = row_token(p, row, slot, i);
        if (i > 0 && (row->flags & HDL_ROW_GUESS)) { /* it may be wrong, but not from elsewhere */
            SIM_CHECK(w, has_said(r, row->pos, t), "request %u guesses %d, which it never said",
                      slot->req, t);
            continue;
        }
        SIM_CHECK(w, t == sim_oracle_token(w, r, row->pos + i),
                  "request %u computes a wrong token at position %u", slot->req, row->pos + i);
    }
    if (row->flags & HDL_ROW_SCORE) {
        uint32_t next = row->pos + row->n_tokens;
        hdl_token want = next < r->submit.n_prompt ? r->tokens[next] : -1;
        SIM_CHECK(w, p->tokens[row->token_at + row->n_tokens] == want,
                  "request %u scores a wrong token", slot->req);
    }
}

static void write_cell(sim_world *w, const sim_slot *slot, cell c, uint64_t hash, uint64_t stamp)
{
    SIM_CHECK(w, *c.stamp >> 1 != w->global_step || *c.stamp == stamp,
              "request %u writes block %u, which this step uses otherwise", slot->req, c.block);
    *c.stamp = 2 * w->global_step + 1;
    *c.kv = hash;
}

/* What a row writes for its token i: the hash of the prefix, and of guesses as far as they go. */
static uint64_t row_hash(const hdl_plan *p, const hdl_plan_row *row, sim_req *r, uint32_t i)
{
    uint64_t hash = sim_oracle_hash(r, row->pos + 1);
    if (!(row->flags & HDL_ROW_GUESS))
        return sim_oracle_hash(r, row->pos + i + 1);
    for (uint32_t k = 1; k <= i; k++)
        hash = sim_hash_next(hash, p->tokens[row->token_at + k]);
    return hash;
}

static void write_row(sim_world *w, sim_group *g, const hdl_plan *p, const hdl_plan_row *row)
{
    sim_slot *slot = &g->slots[row->slot];
    sim_req *r = &w->reqs[slot->req];
    check_tokens(w, p, row, slot);
    for (uint32_t cache = 0; cache < w->env.config.n_caches; cache++) {
        if (hdl_cache_is_state(&w->env.config.caches[cache].rule)) {
            cell c = cell_of(w, g, slot, cache, 0); /* which it has read itself */
            write_cell(w, slot, c, sim_oracle_hash(r, row->pos + row->n_tokens), *c.stamp);
            continue;
        }
        for (uint32_t i = 0; i < row->n_tokens; i++)
            write_cell(w, slot, cell_of(w, g, slot, cache, row->pos + i), row_hash(p, row, r, i),
                       0);
    }
}

static void check_row(sim_world *w, const sim_group *g, const hdl_plan_row *row)
{
    const sim_req *r = &w->reqs[g->slots[row->slot].req];
    const hdl_sched_config *c = &w->env.config;
    SIM_CHECK(w, row->n_tokens >= 1 && row->n_tokens <= c->max_row_tokens, "row of %u tokens",
              row->n_tokens);
    SIM_CHECK(w, row->pos + row->n_tokens <= g->max_len, "row beyond the group's length");
    bool in_prompt = row->pos < r->submit.n_prompt;
    bool score = in_prompt && (r->submit.flags & HDL_SUBMIT_SCORE);
    bool logits = in_prompt && (r->submit.flags & HDL_SUBMIT_LOGITS);
    bool guesses = (row->flags & HDL_ROW_GUESS) != 0;
    SIM_CHECK(w, !guesses || (row->n_tokens > 1 && row->n_tokens <= 1 + c->guess_tokens),
              "row of %u guesses", row->n_tokens - 1);
    SIM_CHECK(w, !guesses || (row->flags & HDL_ROW_SAMPLE), "guesses and no sample");
    SIM_CHECK(w, score == ((row->flags & HDL_ROW_SCORE) != 0), "request scores or not");
    SIM_CHECK(w, logits == ((row->flags & HDL_ROW_LOGITS) != 0), "request dumps logits or not");
}

/* Tokens as long as the guesses are right, and the one after. */
static void answer_guesses(sim_world *w, const hdl_plan *p, const hdl_plan_row *row, sim_slot *slot,
                           uint32_t *n)
{
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        uint32_t next = row->pos + i + 1;
        slot->last = sim_oracle_token(w, &w->reqs[slot->req], next);
        w->rows[(*n)++] = (hdl_result_row){.slot = row->slot, .pos = next, .token = slot->last};
        if (i + 1 < row->n_tokens && p->tokens[row->token_at + i + 1] != slot->last)
            return;
    }
}

/* The sampled rows of the step in w->rows; for what scores, a scored row before them that the core
 * must pass by. */
static void answer_row(sim_world *w, sim_group *g, const hdl_plan *p, const hdl_plan_row *row,
                       uint32_t *n)
{
    sim_slot *slot = &g->slots[row->slot];
    uint32_t next = row->pos + row->n_tokens;
    hdl_result_row out = {.slot = row->slot, .pos = next};
    if (row->flags & HDL_ROW_SCORE) {
        out.scored = 1;
        out.token = 1;
        w->rows[(*n)++] = out;
    }
    if (row->flags & HDL_ROW_GUESS) {
        answer_guesses(w, p, row, slot, n);
    } else if (row->flags & HDL_ROW_SAMPLE) {
        slot->last = sim_oracle_token(w, &w->reqs[slot->req], next);
        out.scored = 0;
        out.token = slot->last;
        w->rows[(*n)++] = out;
    }
}

uint32_t sim_worker_run(sim_world *w, uint32_t group, const hdl_plan *p)
{
    sim_group *g = &w->groups[group];
    w->global_step++;
    SIM_CHECK(w, p->group == group && p->epoch == g->epoch && p->step == g->last_step + 1,
              "step %llu of epoch %llu after step %llu of epoch %llu", (unsigned long long)p->step,
              (unsigned long long)p->epoch, (unsigned long long)g->last_step,
              (unsigned long long)g->epoch);
    g->last_step = p->step;
    SIM_CHECK(w, p->n_rows >= 1, "empty plan");
    open_slots(w, g, p);
    for (uint32_t i = 0; i < p->n_grants; i++)
        take_grant(w, g, p, &p->grants[i]);
    copy_blocks(w, g, p);
    uint32_t n = 0, tokens = 0;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        check_row(w, g, &p->rows[i]);
        tokens += p->rows[i].n_tokens;
    }
    SIM_CHECK(w, tokens <= w->env.config.step_tokens, "step of %u tokens", tokens);
    for (uint32_t i = 0; i < p->n_rows; i++)
        read_row(w, g, &p->rows[i]);
    for (uint32_t i = 0; i < p->n_rows; i++)
        write_row(w, g, p, &p->rows[i]);
    for (uint32_t i = 0; i < p->n_rows; i++)
        answer_row(w, g, p, &p->rows[i], &n);
    if (w->canary && w->global_step == 20) {
        w->canary = false;
        for (size_t i = 0; i < sim_cells(w, 0); i++)
            g->kv[0][i] ^= g->kv[0][i] ? 1 : 0;
    }
    return n;
}
