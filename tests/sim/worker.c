/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that compute nothing: a KV entry is the hash of the prefix that it stands for. A row may
 * read only what an earlier step wrote and what is exactly its own prefix; so a stale, foreign or
 * prematurely reused block shows at the first read. */
#include "tests/sim/sim.h"

void sim_worker_reset(sim_world *w, uint32_t group)
{
    sim_group *g = &w->groups[group];
    const hdl_sched_config *c = &w->env.config;
    size_t cells = (size_t)c->blocks_max * c->block_tokens;
    memset(g->slots, 0, c->max_seqs * sizeof *g->slots);
    memset(g->kv, 0, cells * sizeof *g->kv);
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

static uint64_t *cell(sim_world *w, sim_group *g, const sim_slot *slot, uint32_t pos,
                      uint64_t **stamp)
{
    uint32_t bt = w->env.config.block_tokens;
    SIM_CHECK(w, pos / bt < slot->n_table, "request %u: position %u has no block", slot->req, pos);
    size_t at = (size_t)slot->table[pos / bt] * bt + pos % bt;
    *stamp = &g->stamp[at];
    return &g->kv[at];
}

static void take_grant(sim_world *w, sim_group *g, const hdl_plan *p, const hdl_plan_grant *grant)
{
    sim_slot *slot = slot_of(w, g, grant->slot, true);
    SIM_CHECK(w, grant->n_blocks > 0 && grant->table_at == slot->n_table,
              "request %u: table of %u blocks goes on at %u with %u", slot->req, slot->n_table,
              grant->table_at, grant->n_blocks);
    SIM_CHECK(w, grant->n_blocks <= p->n_blocks && grant->block_at <= p->n_blocks - grant->n_blocks,
              "blocks outside the plan");
    for (uint32_t i = 0; i < grant->n_blocks; i++) {
        uint32_t block = p->blocks[grant->block_at + i];
        SIM_CHECK(w, block < g->n_blocks, "block %u is out of range", block);
        SIM_CHECK(w, slot->n_table < SIM_LEN_MAX, "table too long");
        slot->table[slot->n_table++] = block;
    }
}

static void copy_blocks(sim_world *w, sim_group *g, const hdl_plan *p)
{
    uint32_t bt = w->env.config.block_tokens;
    for (uint32_t i = 0; i < p->n_copies; i++) {
        SIM_CHECK(w, p->copies[i].src < g->n_blocks && p->copies[i].dst < g->n_blocks, "copy");
        memcpy(g->kv + (size_t)p->copies[i].dst * bt, g->kv + (size_t)p->copies[i].src * bt,
               bt * sizeof *g->kv);
    }
}

static void read_row(sim_world *w, sim_group *g, const hdl_plan_row *row)
{
    sim_slot *slot = &g->slots[row->slot];
    sim_req *r = &w->reqs[slot->req];
    for (uint32_t pos = 0; pos < row->pos; pos++) {
        uint64_t *stamp, *kv = cell(w, g, slot, pos, &stamp);
        SIM_CHECK(w, *kv == sim_oracle_hash(r, pos + 1),
                  "request %u reads a wrong KV entry at position %u of %u (block %u)", slot->req,
                  pos, row->pos, slot->table[pos / w->env.config.block_tokens]);
        *stamp = 2 * w->global_step;
    }
}

static void check_tokens(sim_world *w, const hdl_plan *p, const hdl_plan_row *row, sim_slot *slot)
{
    sim_req *r = &w->reqs[slot->req];
    uint32_t entries = row->n_tokens + ((row->flags & HDL_ROW_SCORE) != 0);
    SIM_CHECK(w, entries <= p->n_tokens && row->token_at <= p->n_tokens - entries,
              "tokens outside the plan");
    SIM_CHECK(w, row->pos + row->n_tokens <= SIM_LEN_MAX, "row beyond the greatest length");
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        bool fed_back = i == 0 && (row->flags & HDL_ROW_FEEDBACK);
        hdl_token t = fed_back ? slot->last : p->tokens[row->token_at + i];
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

static void write_row(sim_world *w, sim_group *g, const hdl_plan *p, const hdl_plan_row *row)
{
    sim_slot *slot = &g->slots[row->slot];
    sim_req *r = &w->reqs[slot->req];
    check_tokens(w, p, row, slot);
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        uint64_t *stamp, *kv = cell(w, g, slot, row->pos + i, &stamp);
        SIM_CHECK(w, *stamp >> 1 != w->global_step,
                  "request %u writes position %u in a block that this step uses otherwise",
                  slot->req, row->pos + i);
        *stamp = 2 * w->global_step + 1;
        *kv = sim_oracle_hash(r, row->pos + i + 1);
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
    SIM_CHECK(w, score == ((row->flags & HDL_ROW_SCORE) != 0), "request scores or not");
    SIM_CHECK(w, logits == ((row->flags & HDL_ROW_LOGITS) != 0), "request dumps logits or not");
}

/* The sampled rows of the step in w->rows; for what scores, a scored row before them that the core
 * must pass by. */
static void answer_row(sim_world *w, sim_group *g, const hdl_plan_row *row, uint32_t *n)
{
    sim_slot *slot = &g->slots[row->slot];
    uint32_t next = row->pos + row->n_tokens;
    hdl_result_row out = {.slot = row->slot, .pos = next};
    if (row->flags & HDL_ROW_SCORE) {
        out.scored = 1;
        out.token = 1;
        w->rows[(*n)++] = out;
    }
    if (row->flags & HDL_ROW_SAMPLE) {
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
        answer_row(w, g, &p->rows[i], &n);
    if (w->canary && w->global_step == 20) {
        w->canary = false;
        for (uint32_t i = 0; i < g->n_blocks * w->env.config.block_tokens; i++)
            g->kv[i] ^= g->kv[i] ? 1 : 0;
    }
    return n;
}
