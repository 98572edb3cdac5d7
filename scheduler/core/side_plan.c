/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan says of the sides: blocks that leave a window, blocks that are given, copies. */
#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"
#include "scheduler/core/side.h"

/* -- windows ----------------------------------------------------------------------------------- */

/* Block n lies in the window before an edge at which somebody may want to take the prefix up. */
static bool is_wanted(const hdl_sched *s, uint32_t side, uint32_t slot, uint32_t n)
{
    const hdl_snaps *snaps = &s->slots.snaps[slot];
    const uint32_t every = s->config.snapshot_tokens, end = (n + 1) << s->bt_shift;
    const uint32_t edges[] = {snaps->last << s->bt_shift, snaps->branch << s->bt_shift,
                              every ? (end + every - 1) / every * every : 0};
    for (uint32_t i = 0; i < 3; i++)
        if (end <= edges[i] && n >= hdl_side_seen(s, side, edges[i]))
            return true;
    return false;
}

/* What no query from pos on sees is given back; but not what is still to be published, for then it
 * would be lost to the prefix cache. The steps that read it are all before the plan being built. */
static void release(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot, uint32_t pos)
{
    const hdl_filing *f = &s->slots.filing[slot];
    hdl_side_hold *hold = &s->slots.side[side][slot];
    const uint32_t *table = hdl_side_table(s, side, slot);
    uint32_t dead = hdl_side_seen(s, side, pos);
    if (f->publishes)
        dead = hdl_min_u32(dead, f->n_pub);
    for (; hold->first < hold->end && hold->first < dead; hold->first++) {
        const bool wanted = is_wanted(s, side, slot, hold->first);
        (wanted ? hdl_kv_give : hdl_kv_give_first)(&g->sides[side], table[hold->first]);
        s->stats.window_releases++;
    }
}

/* The most that a sequence which decodes needs of a side. */
static uint32_t decode_cap(const hdl_sched *s, const hdl_group *g, uint32_t side)
{
    const hdl_cache_rule *rule = &s->caches.rules[side];
    uint32_t before = hdl_max_u32(hdl_max_u32(rule->window, rule->chunk) - 1, 1);
    return hdl_min_u32(hdl_page_count(s, 1 + before) + 1, g->side_cap[side]);
}

bool hdl_side_is_short(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot, uint32_t pos)
{
    if (hdl_cache_is_state(&s->caches.rules[side]))
        return false;
    hdl_side_hold *hold = &s->slots.side[side][slot];
    release(s, g, side, slot, hdl_planted(s, WINDOW_EARLY) ? pos + 1 : pos);
    const uint32_t want = hold->end - hold->first + 1;
    const uint32_t keep = hdl_max_u32(want, decode_cap(s, g, side));
    if (hold->budget > keep) {
        g->sides[side].promised -= hold->budget - keep;
        hold->budget = keep;
    }
    return want > hold->budget;
}

/* -- blocks ------------------------------------------------------------------------------------ */

static void plan_copy(hdl_sched *s, hdl_plan_buf *buf, uint32_t side, uint32_t src, uint32_t dst)
{
    buf->copies[buf->plan.n_copies++] =
        (hdl_plan_copy){.cache = s->caches.sides[side], .src = src, .dst = dst};
}

/* A pin that lasts until the plan is built: no copy of it may write what another one reads. */
static void unpin_later(hdl_sched *s, uint32_t side, uint32_t block)
{
    s->unpins[s->n_unpins++] = (hdl_unpin){side, block};
}

void hdl_unpin_all(hdl_sched *s, hdl_group *g)
{
    for (uint32_t i = 0; i < s->n_unpins; i++) {
        const hdl_unpin *u = &s->unpins[i];
        hdl_kv_unpin(u->side == NONE ? &g->kv : &g->sides[u->side], u->block);
    }
    s->n_unpins = 0;
}

void hdl_main_copy(hdl_sched *s, hdl_plan_buf *buf, uint32_t src, uint32_t dst)
{
    const hdl_caches *c = &s->caches;
    hdl_plan_copy copy = {.cache = c->main, .src = src, .dst = dst};
    if (c->main != NONE)
        buf->copies[buf->plan.n_copies++] = copy;
    for (uint32_t i = 0; i < c->n_twins; i++) {
        copy.cache = c->twins[i];
        buf->copies[buf->plan.n_copies++] = copy;
    }
    unpin_later(s, NONE, src);
}

/* The sequence's table grows to `end` entries, within its budget or by a spare block. */
static void grow(hdl_sched *s, hdl_group *g, uint32_t side, uint32_t slot, uint32_t end)
{
    hdl_kv *kv = &g->sides[side];
    hdl_side_hold *hold = &s->slots.side[side][slot];
    uint32_t *table = hdl_side_table(s, side, slot);
    for (; hold->end < end; hold->end++) {
        if (hold->end - hold->first == hold->budget) {
            HDL_ASSERT_LT(0, hdl_side_spare(kv));
            hold->budget++;
            kv->promised++;
        }
        table[hold->end] = hdl_kv_take(s, kv);
    }
}

static void cover(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t side, uint32_t slot,
                  uint32_t at, uint32_t end)
{
    hdl_side_hold *hold = &s->slots.side[side][slot];
    const hdl_seq_cold *cold = hdl_seq_rest(s, hdl_slot_seq(s, slot));
    const uint32_t *table = hdl_side_table(s, side, slot);
    uint32_t from = cold->opened ? hold->end : hold->first;
    grow(s, g, side, slot, end);
    if (hold->copy_src != NONE) {
        plan_copy(s, buf, side, hold->copy_src, table[at]);
        unpin_later(s, side, hold->copy_src);
        s->stats.restores += hdl_cache_is_state(&s->caches.rules[side]);
        hold->copy_src = NONE;
    }
    if (hold->end == from)
        return;
    buf->grants[buf->plan.n_grants++] = (hdl_plan_grant){
        .slot = slot,
        .cache = s->caches.sides[side],
        .table_at = from,
        .block_at = buf->plan.n_blocks,
        .n_blocks = hold->end - from,
    };
    memcpy(buf->blocks + buf->plan.n_blocks, table + from, (hold->end - from) * sizeof *table);
    buf->plan.n_blocks += hold->end - from;
}

void hdl_sides_cover(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t slot, uint32_t pos,
                     uint32_t end)
{
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        if (hdl_cache_is_state(&s->caches.rules[i])) {
            cover(s, g, buf, i, slot, 0, 1);
            continue;
        }
        release(s, g, i, slot, hdl_planted(s, WINDOW_EARLY) ? end : pos);
        cover(s, g, buf, i, slot, pos >> s->bt_shift, hdl_page_count(s, end));
    }
}

uint32_t hdl_sides_blocks(const hdl_sched *s, uint32_t slot, uint32_t end)
{
    const bool opened = hdl_seq_rest(s, hdl_slot_seq(s, slot))->opened;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        const hdl_side_hold *hold = &s->slots.side[i][slot];
        bool is_state = hdl_cache_is_state(&s->caches.rules[i]);
        uint32_t last = is_state ? 1 : hdl_page_count(s, end);
        n += last - hdl_min_u32(opened ? hold->end : hold->first, last);
    }
    return n;
}

/* -- snapshots --------------------------------------------------------------------------------- */

static uint32_t after(uint32_t edge, uint32_t pos) { return edge > pos ? edge : UINT32_MAX; }

uint32_t hdl_snapshot_next(const hdl_sched *s, uint32_t slot, uint32_t pos)
{
    if (!s->caches.has_states || !s->slots.filing[slot].publishes)
        return UINT32_MAX;
    const hdl_snaps *snaps = &s->slots.snaps[slot];
    const uint32_t every = s->config.snapshot_tokens;
    uint32_t next = every ? pos - pos % every + every : UINT32_MAX;
    const uint32_t late = hdl_planted(s, SNAPSHOT_SHIFTED) ? 1 : 0;
    next = hdl_min_u32(next, after((snaps->last << s->bt_shift) + late, pos));
    return hdl_min_u32(next, after(snaps->branch << s->bt_shift, pos));
}

/* Of one side. It stays pinned until the plan is built and the block that it belongs to is
 * published; that block may be published already. */
static void take_snapshot(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t side,
                          uint32_t slot, uint32_t n)
{
    hdl_kv *kv = &g->sides[side];
    hdl_side_hold *hold = &s->slots.side[side][slot];
    const hdl_filing *f = &s->slots.filing[slot];
    const uint32_t main = (uint32_t)f->parent;
    const bool published = f->n_pub >= n;
    bool stands = published && g->kv.blocks[main].published &&
                  hdl_prefix_name(&g->kv, main) == f->parent && kv->of_main[main] == NONE;
    if (hold->snapshot != NONE || hdl_side_spare(kv) == 0 || (published && !stands))
        return;
    uint32_t block = hdl_kv_take(s, kv);
    kv->blocks[block].pins++;
    kv->n_pins++;
    plan_copy(s, buf, side, hdl_side_table(s, side, slot)[0], block);
    s->stats.snapshots++;
    hold->snapshot = block;
    hold->snapshot_at = n;
    if (!published)
        return;
    hdl_kv_pin(kv, block);
    unpin_later(s, side, block);
    hdl_sides_attach(s, g, slot, n - 1, main);
}

void hdl_snapshot(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t slot, uint32_t pos)
{
    if (!s->caches.has_states || pos == 0)
        return;
    if (hdl_snapshot_next(s, slot, pos - 1) != pos)
        return;
    for (uint32_t i = 0; i < s->caches.n_sides; i++)
        if (hdl_cache_is_state(&s->caches.rules[i]))
            take_snapshot(s, g, buf, i, slot, pos >> s->bt_shift);
}
