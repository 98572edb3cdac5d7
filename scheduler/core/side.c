/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/side.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"

/* -- start ------------------------------------------------------------------------------------- */

void hdl_caches_sort(hdl_caches *caches, const hdl_sched_config *config)
{
    *caches = (hdl_caches){.main = NONE};
    for (uint32_t i = 0; i < config->n_caches; i++) {
        const hdl_cache_rule *rule = &config->caches[i].rule;
        if (hdl_cache_keeps_all(rule) && caches->main == NONE) {
            caches->main = i;
        } else if (hdl_cache_keeps_all(rule)) {
            caches->twins[caches->n_twins++] = i;
        } else {
            caches->has_states = caches->has_states || hdl_cache_is_state(rule);
            caches->rules[caches->n_sides] = *rule;
            caches->sides[caches->n_sides++] = i;
        }
    }
    caches->is_plain = config->n_caches == 1 && caches->main == 0;
}

/* Every running sequence at a usual length, and as much again for the prefix cache: a ghost's block
 * costs a few hundred bytes here and nothing on the workers. */
uint32_t hdl_ghost_blocks(const hdl_sched_config *config)
{
    const uint32_t usual = 4096, most = 1u << 20, bt = config->block_tokens;
    uint64_t whole = ((uint64_t)config->max_len + bt - 1) / bt;
    uint64_t each = (hdl_min_u32(config->max_len, usual) + bt - 1) / bt;
    uint64_t all = 2 * each * config->max_seqs;
    return (uint32_t)(2 * whole + (all < most ? all : most));
}

/* Blocks that a sequence holds when a row of n tokens is planned. Before its first position it
 * still has what that position sees, and what is not published yet: a row of `late` tokens in
 * flight. */
static uint32_t span_blocks(const hdl_sched *s, uint32_t side, uint32_t n, uint32_t late)
{
    const hdl_cache_rule *rule = &s->caches.rules[side];
    uint32_t before = hdl_max_u32(rule->window, rule->chunk) - 1;
    return hdl_page_count(s, n + hdl_max_u32(before, late)) + 1;
}

/* Cuts rows so short, or else sequences, that one fits into the pool. */
static void limit_pages(hdl_sched *s, hdl_group *g, uint32_t side)
{
    const uint32_t total = g->sides[side].total;
    if (hdl_page_count(s, g->max_len) <= total)
        return;
    if (span_blocks(s, side, 1, 1) > total) {
        g->max_len = hdl_min_u32(g->max_len, total << s->bt_shift);
        return;
    }
    while (span_blocks(s, side, g->row_tokens, g->row_tokens) > total)
        g->row_tokens -= hdl_min_u32(s->bt_mask + 1, g->row_tokens - 1);
}

void hdl_sides_reset(hdl_sched *s, hdl_group *g, const hdl_ev_rank *ev)
{
    g->row_tokens = s->config.max_row_tokens;
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        hdl_kv *kv = &g->sides[i];
        const uint32_t cache = s->caches.sides[i];
        hdl_kv_reset(kv, hdl_min_u32(ev->n_blocks[cache], s->config.caches[cache].n_blocks));
        memset(kv->of_main, 0xff, g->kv.total * sizeof *kv->of_main);
        if (!hdl_cache_is_state(&s->caches.rules[i]))
            limit_pages(s, g, i);
        else if (kv->total == 0)
            g->max_len = 0;
    }
    for (uint32_t i = 0; i < s->caches.n_sides; i++)
        if (!hdl_cache_is_state(&s->caches.rules[i]))
            g->side_cap[i] = hdl_min_u32(hdl_page_count(s, g->max_len),
                                         span_blocks(s, i, g->row_tokens, g->row_tokens));
}

/* -- attached to the main cache ---------------------------------------------------------------- */

void hdl_side_detach(hdl_kv *kv, uint32_t main)
{
    uint32_t block = kv->of_main[main];
    if (block == NONE)
        return;
    kv->of_main[main] = NONE;
    kv->blocks[block].published = false;
    if (kv->blocks[block].ref > 0)
        return;
    kv->n_cached--;
    kv->n_free++;
    kv->blocks[block].link = kv->free_head;
    kv->free_head = block;
}

static void attach(hdl_kv *kv, uint32_t block, uint32_t main)
{
    hdl_block *b = &kv->blocks[block];
    HDL_ASSERT(b->ref > 0);
    if (kv->of_main[main] != NONE)
        return;
    if (b->published) /* to a publication of the same tokens whose parent has gone since */
        kv->of_main[b->parent] = NONE;
    b->published = true;
    b->parent = main;
    kv->of_main[main] = block;
}

void hdl_sides_attach(hdl_sched *s, hdl_group *g, uint32_t slot, uint32_t n, uint32_t main)
{
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        hdl_side_hold *hold = &s->slots.side[i][slot];
        if (!hdl_cache_is_state(&s->caches.rules[i])) {
            if (hold->first <= n && n < hold->end)
                attach(&g->sides[i], hdl_side_table(s, i, slot)[n], main);
        } else if (hold->snapshot != NONE && hold->snapshot_at == n + 1) {
            attach(&g->sides[i], hold->snapshot, main);
            hdl_kv_unpin(&g->sides[i], hold->snapshot);
            hold->snapshot = NONE;
        }
    }
}

/* -- admission --------------------------------------------------------------------------------- */

uint32_t hdl_sides_match(const hdl_sched *s, const hdl_group *g, const uint32_t *blocks, uint32_t n)
{
    uint32_t best = 0, unbroken[HDL_CACHE_GROUPS_MAX] = {0};
    for (uint32_t k = 1; k <= n; k++) {
        bool all = true;
        for (uint32_t i = 0; i < s->caches.n_sides; i++) {
            bool has = g->sides[i].of_main[blocks[k - 1]] != NONE;
            unbroken[i] = has ? unbroken[i] + 1 : 0;
            uint32_t need = 1;
            if (!hdl_cache_is_state(&s->caches.rules[i]))
                need = k - hdl_side_seen(s, i, k << s->bt_shift);
            else if (g->sides[i].total < 2) /* its own and the one to copy */
                return 0;
            all = all && unbroken[i] >= need;
        }
        best = all ? k : best;
    }
    return best;
}

bool hdl_sides_can_fork(const hdl_sched *s, const hdl_seq *parent, uint32_t pos)
{
    if (s->caches.has_states)
        return false; /* its state has gone on */
    for (uint32_t i = 0; i < s->caches.n_sides; i++)
        if (s->slots.side[i][parent->slot].first > hdl_side_seen(s, i, pos))
            return false;
    return true;
}

/* The block that is shared as number n. */
static uint32_t shared_block(const hdl_sched *s, const hdl_group *g, uint32_t side,
                             const hdl_side_ask *ask, uint32_t n)
{
    return ask->parent ? hdl_side_table(s, side, ask->parent->slot)[n]
                       : g->sides[side].of_main[ask->blocks[n]];
}

hdl_side_share hdl_side_offer(const hdl_sched *s, const hdl_group *g, uint32_t side,
                              const hdl_side_ask *ask)
{
    hdl_side_share share = {.copy_src = NONE, .budget = 1};
    if (hdl_cache_is_state(&s->caches.rules[side])) {
        if (ask->n_shared > 0)
            share.copy_src = shared_block(s, g, side, ask, ask->n_shared - 1);
        return share;
    }
    share.first = hdl_min_u32(hdl_side_seen(s, side, ask->pos), ask->n_shared);
    share.end = ask->n_shared;
    share.budget = hdl_min_u32(ask->n_blocks, g->side_cap[side]);
    if (ask->parent && (ask->pos & s->bt_mask) != 0)
        share.copy_src = shared_block(s, g, side, ask, ask->n_shared);
    return share;
}

void hdl_side_enter(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot,
                    const hdl_side_share *share, const hdl_side_ask *ask)
{
    hdl_kv *kv = &g->sides[side];
    uint32_t *table = hdl_side_table(s, side, slot);
    s->slots.side[side][slot] = (hdl_side_hold){
        .first = share->first,
        .end = share->end,
        .budget = share->budget,
        .copy_src = share->copy_src,
        .snapshot = NONE,
    };
    kv->promised += share->budget;
    for (uint32_t n = share->first; n < share->end; n++) {
        table[n] = shared_block(s, g, side, ask, n);
        hdl_kv_hold(kv, table[n]);
    }
    if (share->copy_src != NONE)
        hdl_kv_pin(kv, share->copy_src);
    HDL_ASSERT_LE(kv->promised + kv->n_pins, kv->total);
}

void hdl_sides_leave(hdl_sched *s, hdl_group *g, uint32_t slot)
{
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        hdl_kv *kv = &g->sides[i];
        hdl_side_hold *hold = &s->slots.side[i][slot];
        const uint32_t *table = hdl_side_table(s, i, slot);
        for (uint32_t n = hold->end; n > hold->first; n--)
            hdl_kv_give(kv, table[n - 1]);
        if (hold->copy_src != NONE)
            hdl_kv_unpin(kv, hold->copy_src);
        if (hold->snapshot != NONE)
            hdl_kv_unpin(kv, hold->snapshot);
        kv->promised -= hold->budget;
        *hold = (hdl_side_hold){.copy_src = NONE, .snapshot = NONE};
    }
}
