/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/check.h"
#include "scheduler/core/side.h"

static bool runs_here(const hdl_sched *s, const hdl_group *g, uint32_t idx)
{
    const hdl_seq *seq = &s->seqs[idx];
    return hdl_seq_runs(seq) && &s->groups[seq->group] == g;
}

/* What a sequence holds is within its budget, and that within what a window can ever need. */
static const char *check_hold(const hdl_sched *s, const hdl_group *g, uint32_t side,
                              const hdl_seq *seq)
{
    const hdl_side_hold *hold = &s->slots.side[side][seq->slot];
    const bool opened = hdl_seq_rest(s, seq)->opened;
    const bool is_state = hdl_cache_is_state(&s->caches.rules[side]);
    REQUIRE(hold->first <= hold->end && hold->end - hold->first <= hold->budget);
    REQUIRE(hold->budget <= (is_state ? 1 : g->side_cap[side]));
    REQUIRE(hold->copy_src == NONE || !opened);
    REQUIRE(hold->snapshot == NONE || (is_state && opened));
    REQUIRE(hold->snapshot == NONE ||
            hold->snapshot_at > s->slots.filing[seq->slot].n_pub); /* waits to be published */
    if (!opened)
        return NULL;
    if (is_state)
        REQUIRE(hold->first == 0 && hold->end == 1);
    else
        REQUIRE(hold->end == s->slots.hold[seq->slot].n_blocks);
    return NULL;
}

/* `plus` lets one pass add and one take away. */
static void count_holds(const hdl_sched *s, const hdl_group *g, uint32_t side, uint32_t plus)
{
    for (uint32_t i = 0; i < s->seq_touched; i++) {
        if (!runs_here(s, g, i))
            continue;
        const uint32_t slot = s->seqs[i].slot;
        const hdl_side_hold *hold = &s->slots.side[side][slot];
        for (uint32_t n = hold->first; n < hold->end; n++)
            g->sides[side].blocks[hdl_side_table(s, side, slot)[n]].ref += plus;
    }
}

static const char *check_counts(const hdl_sched *s, const hdl_group *g, uint32_t side)
{
    const hdl_kv *kv = &g->sides[side];
    uint32_t promised = 0, pinned = 0, pins = 0;
    for (uint32_t i = 0; i < s->seq_touched; i++) {
        if (!runs_here(s, g, i))
            continue;
        PASS(check_hold(s, g, side, &s->seqs[i]));
        const hdl_side_hold *hold = &s->slots.side[side][s->seqs[i].slot];
        promised += hold->budget;
        pinned += hold->copy_src != NONE;
        pinned += hold->snapshot != NONE;
    }
    REQUIRE(promised == kv->promised && kv->promised + kv->n_pins <= kv->total);
    count_holds(s, g, side, UINT32_MAX); /* adds -1 for each hold */
    bool exact = true;
    for (uint32_t b = 0; b < kv->total; b++) {
        exact = exact && kv->blocks[b].ref == kv->blocks[b].pins;
        pins += kv->blocks[b].pins;
    }
    count_holds(s, g, side, 1);
    REQUIRE(exact && pins == kv->n_pins && pins == pinned);
    return hdl_check_pool(kv);
}

/* What is attached belongs to a published block of the main cache, one to one. */
static const char *check_attached(const hdl_group *g, const hdl_kv *kv)
{
    uint32_t attached = 0, published = 0;
    for (uint32_t m = 0; m < g->kv.total; m++) {
        if (kv->of_main[m] == NONE)
            continue;
        attached++;
        REQUIRE(kv->of_main[m] < kv->total && g->kv.blocks[m].published);
        REQUIRE(kv->blocks[kv->of_main[m]].published && kv->blocks[kv->of_main[m]].parent == m);
    }
    for (uint32_t b = 0; b < kv->total; b++)
        published += kv->blocks[b].published;
    REQUIRE(attached == published);
    return NULL;
}

const char *hdl_check_sides(const hdl_sched *s, const hdl_group *g)
{
    REQUIRE(s->n_unpins == 0);
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        PASS(check_counts(s, g, i));
        PASS(check_attached(g, &g->sides[i]));
    }
    return NULL;
}
