/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 9 of 14: is the plan possible? Touches nothing but marks. */
#include <inttypes.h>

#include "base/checked.h"
#include "worker/batch.h"

enum {
    ROW_FLAGS = HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK | HDL_ROW_SCORE | HDL_ROW_LOGITS | HDL_ROW_GUESS,
};

#define BAD(why, ...) return hdl_fail(HDL_BUG, why, "bad plan: " __VA_ARGS__)

static bool token_ok(const hdl_batch *b, hdl_token id)
{
    return id >= 0 && (uint32_t)id < b->opts.vocab;
}

static hdl_err check_closes(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < p->n_closes; i++) {
        uint32_t slot = p->closes[i];
        if (slot >= b->opts.max_seqs || !b->slots[slot].open || b->closed[slot] == b->mark)
            BAD(why, "close %u names slot %u, which is not open", i, slot);
        b->closed[slot] = b->mark;
    }
    return HDL_OK;
}

static hdl_err check_opens(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < p->n_opens; i++) {
        const hdl_plan_open *o = &p->opens[i];
        if (o->slot >= b->opts.max_seqs || b->opened[o->slot] == b->mark)
            BAD(why, "open %u names slot %u, which is out of range or opened twice", i, o->slot);
        if (b->slots[o->slot].open && b->closed[o->slot] != b->mark)
            BAD(why, "open %u names slot %u, which is still open", i, o->slot);
        if (!hdl_range_ok(o->history_at, o->n_history, p->n_tokens) ||
            o->n_history > b->opts.max_len + 1)
            BAD(why, "open %u has a history out of range", i);
        for (uint32_t j = 0; j < o->n_history; j++)
            if (!token_ok(b, p->tokens[o->history_at + j]))
                BAD(why, "open %u has a token outside the vocabulary", i);
        b->opened[o->slot] = b->mark;
    }
    return HDL_OK;
}

/* The slot as it will be when the rows run, but for what this step grants it. */
static hdl_slot slot_at_rows(const hdl_batch *b, uint32_t slot)
{
    if (b->opened[slot] == b->mark)
        return (hdl_slot){.open = true};
    if (b->closed[slot] == b->mark)
        return (hdl_slot){0};
    return b->slots[slot];
}

static hdl_err check_grant(hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_grant *a = &p->grants[i];
    if (a->slot >= b->opts.max_seqs || a->cache >= b->opts.n_caches)
        BAD(why, "grant %u names slot %u and cache group %u", i, a->slot, a->cache);
    hdl_batch_group *g = &b->groups[a->cache];
    const hdl_cache_capacity *cache = &b->opts.caches[a->cache];
    hdl_slot s = slot_at_rows(b, a->slot);
    if (!s.open || g->granted[a->slot] == b->mark)
        BAD(why, "grant %u names slot %u, which is not open or has another grant", i, a->slot);
    uint32_t end = s.end[a->cache];
    bool late_start = end == 0 && (cache->rule.window != 0 || cache->rule.chunk != 0);
    if (a->n_blocks == 0 || !hdl_range_ok(a->block_at, a->n_blocks, p->n_blocks) ||
        (a->table_at > end && !late_start) || (uint64_t)a->table_at + a->n_blocks > g->per_seq)
        BAD(why, "grant %u has blocks out of range", i);
    for (uint32_t j = 0; j < a->n_blocks; j++)
        if (p->blocks[a->block_at + j] >= cache->n_blocks)
            BAD(why, "grant %u names block %u of %u", i, p->blocks[a->block_at + j],
                cache->n_blocks);
    g->granted[a->slot] = b->mark;
    g->grant[a->slot] = i;
    return HDL_OK;
}

static hdl_err check_copies(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < p->n_copies; i++) {
        const hdl_plan_copy *c = &p->copies[i];
        uint32_t n_blocks = c->cache < b->opts.n_caches ? b->opts.caches[c->cache].n_blocks : 0;
        if (c->src >= n_blocks || c->dst >= n_blocks || c->src == c->dst)
            BAD(why, "copy %u of block %u to %u of cache group %u", i, c->src, c->dst, c->cache);
        uint64_t *written = b->groups[c->cache].written;
        if (written[c->dst] == b->mark)
            BAD(why, "two copies go to block %u", c->dst);
        written[c->dst] = b->mark;
    }
    /* Copies run at once, so none may read what another writes. */
    for (uint32_t i = 0; i < p->n_copies; i++)
        if (b->groups[p->copies[i].cache].written[p->copies[i].src] == b->mark)
            BAD(why, "copy %u reads block %u, which another copy writes", i, p->copies[i].src);
    return HDL_OK;
}

static hdl_err check_row_tokens(const hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_row *r = &p->rows[i];
    uint64_t n = (uint64_t)r->n_tokens + ((r->flags & HDL_ROW_SCORE) != 0);
    if (!hdl_range_ok(r->token_at, n, p->n_tokens))
        BAD(why, "row %u has tokens out of range", i);
    for (uint32_t j = (r->flags & HDL_ROW_FEEDBACK) != 0; j < n; j++) {
        hdl_token id = p->tokens[r->token_at + j];
        bool end = j == r->n_tokens && id == -1;
        if (!token_ok(b, id) && !end)
            BAD(why, "row %u has a token outside the vocabulary", i);
    }
    bool both = (r->flags & HDL_ROW_SCORE) && (r->flags & HDL_ROW_SAMPLE);
    if (both && p->tokens[r->token_at + r->n_tokens] != -1)
        BAD(why, "row %u samples a token that it also scores", i);
    return HDL_OK;
}

static hdl_err check_guesses(const hdl_batch *b, const hdl_plan_row *r, hdl_errmsg *why)
{
    if (!(r->flags & HDL_ROW_GUESS))
        return HDL_OK;
    if (!(r->flags & HDL_ROW_SAMPLE) || (r->flags & (HDL_ROW_SCORE | HDL_ROW_LOGITS)) ||
        r->n_tokens < 2 || r->n_tokens > 1 + HDL_GUESSES_MAX)
        BAD(why, "slot %u has %u guesses, with flags %#x", r->slot, r->n_tokens - 1u, r->flags);
    for (uint32_t cache = 0; cache < b->opts.n_caches; cache++)
        if (hdl_cache_is_state(&b->opts.caches[cache].rule))
            BAD(why, "slot %u has guesses, and a state that cannot be taken back", r->slot);
    return HDL_OK;
}

/* A slot's table of one cache group as the rows will find it. */
typedef struct table_view {
    const uint32_t *entries;
    const hdl_plan_grant *grant; /* of this step; NULL: none */
    const uint32_t *granted;     /* its blocks */
    uint32_t first, end;
} table_view;

static table_view view_table(const hdl_batch *b, const hdl_plan *p, uint32_t cache, uint32_t slot)
{
    const hdl_batch_group *g = &b->groups[cache];
    hdl_slot s = slot_at_rows(b, slot);
    table_view v = {.entries = g->tables + (size_t)slot * g->per_seq,
                    .first = s.first[cache],
                    .end = s.end[cache]};
    if (g->granted[slot] != b->mark)
        return v;
    v.grant = &p->grants[g->grant[slot]];
    v.granted = p->blocks + v.grant->block_at;
    v.first = v.end == 0 ? v.grant->table_at : hdl_min_u32(v.first, v.grant->table_at);
    v.end = hdl_max_u32(v.end, v.grant->table_at + v.grant->n_blocks);
    return v;
}

static uint32_t entry_of(const table_view *v, uint32_t k)
{
    bool fresh = v->grant && k >= v->grant->table_at && k - v->grant->table_at < v->grant->n_blocks;
    return fresh ? v->granted[k - v->grant->table_at] : v->entries[k];
}

static hdl_err check_write(hdl_batch *b, uint32_t cache, uint32_t block, hdl_errmsg *why)
{
    uint64_t *written = b->groups[cache].written;
    if (written[block] == b->mark + 1)
        BAD(why, "two rows write block %u of cache group %u", block, cache);
    written[block] = b->mark + 1;
    return HDL_OK;
}

static hdl_err check_row_pages(hdl_batch *b, const hdl_plan *p, uint32_t cache,
                               const hdl_plan_row *r, hdl_errmsg *why)
{
    uint32_t bt = b->opts.block_tokens;
    table_view v = view_table(b, p, cache, r->slot);
    uint32_t seen = hdl_cache_first_seen(&b->opts.caches[cache].rule, r->pos);
    if ((uint64_t)r->pos + r->n_tokens > (uint64_t)v.end * bt || seen / bt < v.first)
        BAD(why,
            "slot %u needs positions %u to %" PRIu64 " of cache group %u and has blocks %u to %u",
            r->slot, seen, (uint64_t)r->pos + r->n_tokens, cache, v.first, v.end);
    for (uint32_t k = r->pos / bt; k <= (r->pos + r->n_tokens - 1) / bt; k++)
        HDL_TRY(check_write(b, cache, entry_of(&v, k), why));
    return HDL_OK;
}

/* A state stands at one position: where the last row ended, or where what is copied to it did. */
static hdl_err check_row_state(hdl_batch *b, const hdl_plan *p, uint32_t cache,
                               const hdl_plan_row *r, hdl_errmsg *why)
{
    table_view v = view_table(b, p, cache, r->slot);
    if (v.end == 0)
        BAD(why, "slot %u has no state in cache group %u", r->slot, cache);
    uint32_t entry = entry_of(&v, 0);
    hdl_slot s = slot_at_rows(b, r->slot);
    bool goes_on = s.started && r->pos == s.next_pos;
    bool restored = b->groups[cache].written[entry] == b->mark;
    if (r->pos != 0 && !goes_on && !restored)
        BAD(why, "slot %u starts at position %u, where its state of cache group %u does not stand",
            r->slot, r->pos, cache);
    return check_write(b, cache, entry, why);
}

static hdl_err check_row_blocks(hdl_batch *b, const hdl_plan *p, const hdl_plan_row *r,
                                hdl_errmsg *why)
{
    for (uint32_t cache = 0; cache < b->opts.n_caches; cache++) {
        if (hdl_cache_is_state(&b->opts.caches[cache].rule))
            HDL_TRY(check_row_state(b, p, cache, r, why));
        else
            HDL_TRY(check_row_pages(b, p, cache, r, why));
    }
    return HDL_OK;
}

static hdl_err check_row(hdl_batch *b, const hdl_plan *p, uint32_t i, hdl_errmsg *why)
{
    const hdl_plan_row *r = &p->rows[i];
    if (r->slot >= b->opts.max_seqs || b->rowed[r->slot] == b->mark)
        BAD(why, "row %u names slot %u, which is out of range or has a row", i, r->slot);
    b->rowed[r->slot] = b->mark;
    hdl_slot s = slot_at_rows(b, r->slot);
    if (!s.open)
        BAD(why, "row %u names slot %u, which is not open", i, r->slot);
    if (r->flags & ~(uint32_t)ROW_FLAGS)
        BAD(why, "row %u has unknown flags %#x", i, r->flags);
    if ((r->flags & HDL_ROW_FEEDBACK) && !s.has_last)
        BAD(why, "row %u feeds back a token that slot %u never sampled", i, r->slot);
    if ((r->flags & HDL_ROW_LOGITS) && !b->opts.can_dump)
        BAD(why, "row %u wants its logits dumped, and no file was given for them", i);
    if (r->n_tokens == 0 || (uint64_t)r->pos + r->n_tokens > b->opts.max_len)
        BAD(why, "row %u holds %u tokens at position %u of %u", i, r->n_tokens, r->pos,
            b->opts.max_len);
    if (s.started && r->pos > s.next_pos)
        BAD(why, "row %u starts at position %u; slot %u ends at %u", i, r->pos, r->slot,
            s.next_pos);
    HDL_TRY(check_row_tokens(b, p, i, why));
    HDL_TRY(check_guesses(b, r, why));
    return check_row_blocks(b, p, r, why);
}

hdl_err hdl_batch_check(hdl_batch *b, const hdl_plan *p, hdl_errmsg *why)
{
    b->mark += 2;
    if (p->n_rows > b->opts.max_seqs || p->n_opens > b->opts.max_seqs ||
        p->n_closes > b->opts.max_seqs)
        BAD(why, "%u rows, %u opens, %u closes for %u slots", p->n_rows, p->n_opens, p->n_closes,
            b->opts.max_seqs);
    HDL_TRY(check_closes(b, p, why));
    HDL_TRY(check_opens(b, p, why));
    for (uint32_t i = 0; i < p->n_grants; i++)
        HDL_TRY(check_grant(b, p, i, why));
    HDL_TRY(check_copies(b, p, why));
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        HDL_TRY(check_row(b, p, i, why));
        n_tokens += p->rows[i].n_tokens;
    }
    if (n_tokens > b->opts.step_tokens)
        BAD(why, "%" PRIu64 " tokens; a step holds %u", n_tokens, b->opts.step_tokens);
    return HDL_OK;
}
