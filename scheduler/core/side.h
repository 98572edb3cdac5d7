/* SPDX-License-Identifier: Apache-2.0 */
/* Cache groups besides the main one: windows of pages, and states (README, rules C1 to C7).
 *
 * The main cache keeps every position of a sequence, holds its tokens and carries the prefix index.
 * It is the first of the model's groups that keeps every position; further ones are its twins, in
 * which the same block numbers are used. A model without any gets a ghost: blocks of tokens without
 * memory on the workers. All other groups are sides: pools without an index. What a side keeps for
 * the prefix cache is attached to a published block of the main cache: the pages of the same
 * tokens, or the state after them. It is found through that block and goes with it.
 *
 * Promises. A sequence pays for a side by its budget: blocks that it may hold at the same time,
 * whether others share them or not. Budgets and pins never exceed the pool, so that a block within
 * the budget is always there. Owner: the group. */
#pragma once

#include "scheduler/core/state.h"

/* What an offer of admission says of one side. */
typedef struct hdl_side_share {
    uint32_t first, end; /* blocks that are shared */
    uint32_t budget;
    uint32_t copy_src; /* NONE: none */
} hdl_side_share;

/* At start: which group is what; and the blocks of a ghost. */
void hdl_caches_sort(hdl_caches *caches, const hdl_sched_config *config);
uint32_t hdl_ghost_blocks(const hdl_sched_config *config);
/* RANK_UP: empty pools; lowers the group's max_len and row_tokens to what they can take. */
void hdl_sides_reset(hdl_sched *s, hdl_group *g, const hdl_ev_rank *ev);

static inline uint32_t *hdl_side_table(const hdl_sched *s, uint32_t side, uint32_t slot)
{
    bool state = hdl_cache_is_state(&s->caches.rules[side]);
    return s->slots.side_tables[side] + (size_t)slot * (state ? 1 : s->slots.table_len);
}

/* The first block that a query at pos sees. */
static inline uint32_t hdl_side_seen(const hdl_sched *s, uint32_t side, uint32_t pos)
{
    return hdl_cache_first_seen(&s->caches.rules[side], pos) >> s->bt_shift;
}

/* Blocks that no budget and no pin has claimed. */
static inline uint32_t hdl_side_spare(const hdl_kv *kv)
{
    return kv->total - kv->promised - kv->n_pins;
}

/* -- admission --------------------------------------------------------------------------------- */

/* Longest prefix, in blocks, that the sides can serve too, of `n` blocks found in the main cache.
 */
uint32_t hdl_sides_match(const hdl_sched *s, const hdl_group *g, const uint32_t *blocks,
                         uint32_t n);
/* A running parent still has all that a query at pos sees. */
bool hdl_sides_can_fork(const hdl_sched *s, const hdl_seq *parent, uint32_t pos);
/* What a sequence takes from a side: blocks [0, n_shared) come from the list, or from a parent
 * whose block of position pos is copied when it is not whole. n_blocks: pages of its known context.
 */
typedef struct hdl_side_ask {
    const uint32_t *blocks; /* of the main cache; NULL: of the parent */
    const hdl_seq *parent;
    uint32_t n_shared, pos, n_blocks;
} hdl_side_ask;
hdl_side_share hdl_side_offer(const hdl_sched *s, const hdl_group *g, uint32_t side,
                              const hdl_side_ask *ask);
void hdl_side_enter(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot,
                    const hdl_side_share *share, const hdl_side_ask *ask);
void hdl_sides_leave(hdl_sched *s, hdl_group *g, uint32_t slot);

/* -- plans ------------------------------------------------------------------------------------- */

/* Gives back what a query at pos and all later ones do not see, and what is left of the budget of a
 * prefill. Returns true when one more block would exceed the budget. */
bool hdl_side_is_short(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot, uint32_t pos);
/* The blocks that a running sequence has got in the main cache from entry `from` on. */
static inline void hdl_main_grant(const hdl_sched *s, hdl_plan_buf *buf, uint32_t slot,
                                  uint32_t from)
{
    const hdl_caches *c = &s->caches;
    const uint32_t n = s->slots.hold[slot].n_blocks - from;
    if (n == 0 || c->main == NONE)
        return;
    hdl_plan *plan = &buf->plan;
    hdl_plan_grant grant = {slot, c->main, from, plan->n_blocks, n};
    buf->grants[plan->n_grants++] = grant;
    for (uint32_t i = 0; i < c->n_twins; i++) {
        grant.cache = c->twins[i];
        buf->grants[plan->n_grants++] = grant;
    }
    memcpy(buf->blocks + plan->n_blocks, hdl_slot_table(s, slot) + from, n * sizeof(uint32_t));
    plan->n_blocks += n;
}
/* The plan copies a pinned block of the main cache. */
void hdl_main_copy(hdl_sched *s, hdl_plan_buf *buf, uint32_t src, uint32_t dst);
/* Blocks of all sides for positions [pos, end), and copies that a first row needs. */
void hdl_sides_cover(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t slot, uint32_t pos,
                     uint32_t end);
/* Blocks in the plan that hdl_sides_cover may add. */
uint32_t hdl_sides_blocks(const hdl_sched *s, uint32_t slot, uint32_t end);
/* A copy of the states at pos, when one is due there and there is room for it. */
void hdl_snapshot(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t slot, uint32_t pos);
/* The position after pos at which a row must end, so that a state can be copied; UINT32_MAX: none.
 */
uint32_t hdl_snapshot_next(const hdl_sched *s, uint32_t slot, uint32_t pos);
/* Ends the pins of the plan that was built. */
void hdl_unpin_all(hdl_sched *s, hdl_group *g);

/* -- the prefix cache -------------------------------------------------------------------------- */

/* Block n of a sequence is published, and `main` stands for it in the index: what its sides hold of
 * the same tokens is attached. */
void hdl_sides_attach(hdl_sched *s, hdl_group *g, uint32_t slot, uint32_t n, uint32_t main);
/* The main block goes out of the index: what is attached to it is of no more use. */
void hdl_side_detach(hdl_kv *side, uint32_t main);
