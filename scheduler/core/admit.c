/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/admit.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"
#include "scheduler/core/side.h"

/* A running sequence weighs as much as so many prompt tokens when groups are compared: a step with
 * one row more takes longer by little, but there are many steps. */
enum { LIVE_COST_TOKENS = 32 };

/* What a group could do for a request. */
typedef struct offer {
    uint32_t group;
    uint32_t end;
    uint32_t n_shared;  /* full blocks it need not compute */
    uint32_t n_revived; /* of them, blocks that nobody holds and that count as spare until held */
    uint32_t n_need;    /* blocks of its own, promised on entry */
    uint32_t n_whole;   /* blocks of its context, shared ones included */
    uint32_t n_found;   /* in the prefix index; more than n_shared when the sides have less */
    uint32_t *blocks;   /* [n_found] in the prefix index */
    const hdl_seq
        *parent; /* shares the prompt of this running sequence; NULL: blocks of the prefix index */
} offer;

static bool may_share(const hdl_sched *s, const hdl_seq *seq)
{
    uint8_t never = HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS | HDL_SUBMIT_NO_CACHE;
    return s->config.prefix_cache && (seq->flags & never) == 0;
}

/* The last known token is always computed: its logits are what comes next. */
static uint32_t shared_max(const hdl_sched *s, const hdl_seq *seq)
{
    return (seq->len - 1) >> s->bt_shift;
}

static hdl_prefix_key key_of(const hdl_sched *s, uint32_t page, uint64_t parent)
{
    return (hdl_prefix_key){s->pages.list[page].hash, parent, hdl_page_tokens(s, page)};
}

static void match_prefix(const hdl_sched *s, const hdl_seq *seq, offer *o)
{
    const hdl_kv *kv = &s->groups[o->group].kv;
    uint32_t page = s->cold[hdl_seq_idx(s, seq)].head;
    uint64_t parent = 0;
    for (uint32_t n = shared_max(s, seq); n > 0; n--) {
        hdl_prefix_key key = key_of(s, page, parent);
        uint32_t block = hdl_prefix_find(s, kv, &key);
        if (block == NONE)
            return;
        o->blocks[o->n_found++] = block;
        o->n_revived += kv->blocks[block].ref == 0;
        parent = hdl_prefix_name(kv, block);
        page = s->pages.list[page].next;
    }
}

/* As far as the sides go along. */
static void match_sides(const hdl_sched *s, offer *o)
{
    const hdl_group *g = &s->groups[o->group];
    o->n_shared = s->caches.n_sides ? hdl_sides_match(s, g, o->blocks, o->n_found) : o->n_found;
    if (o->n_shared == o->n_found)
        return;
    o->n_revived = 0;
    for (uint32_t n = 0; n < o->n_shared; n++)
        o->n_revived += g->kv.blocks[o->blocks[n]].ref == 0;
}

/* What the offer takes of the sides. */
static hdl_side_ask ask_of(const hdl_seq *seq, const offer *o, uint32_t shift)
{
    return (hdl_side_ask){
        .blocks = o->blocks,
        .parent = o->parent,
        .n_shared = o->n_shared,
        .pos = o->parent ? seq->len - 1 : o->n_shared << shift,
        .n_blocks = o->n_whole,
    };
}

/* The sequence whose prompt's KV a fork can share, when it runs and has computed it all but the
 * last token. */
static const hdl_seq *ready_parent(const hdl_sched *s, const hdl_seq *seq)
{
    uint64_t req = s->cold[hdl_seq_idx(s, seq)].fork_of;
    if (req == 0 || seq->len != seq->n_prompt)
        return NULL;
    const hdl_seq *parent = hdl_seq_find(s, (hdl_req_id){req});
    bool ready = parent && hdl_seq_runs(parent) && parent->acked + 1 >= seq->n_prompt;
    return ready ? parent : NULL;
}

static offer make_offer(const hdl_sched *s, const hdl_seq *seq, uint32_t group, uint32_t *blocks)
{
    const hdl_seq_cold *cold = &s->cold[hdl_seq_idx(s, seq)];
    const hdl_group *g = &s->groups[group];
    offer o = {.group = group, .blocks = blocks};
    o.end = (uint32_t)hdl_min_size((size_t)seq->n_prompt + cold->max_new, g->max_len);
    const hdl_seq *parent = ready_parent(s, seq);
    if (parent && parent->group == group && hdl_sides_can_fork(s, parent, seq->len - 1)) {
        o.parent = parent;
        o.n_shared = shared_max(s, seq);
    } else if (may_share(s, seq)) {
        match_prefix(s, seq, &o);
        match_sides(s, &o);
    }
    /* The token sampled last is never computed, so its KV needs no place. */
    uint32_t kv_len = cold->max_new ? o.end - 1 : seq->n_prompt;
    uint32_t context = hdl_page_count(s, seq->len) + 1;
    if (hdl_planted(s, NEXT_CHUNK_ONLY))
        context = hdl_page_count(s, hdl_min_u32(seq->len, s->config.max_row_tokens));
    o.n_whole = hdl_min_u32(context, hdl_page_count(s, kv_len));
    o.n_need = o.n_whole > o.n_shared ? o.n_whole - o.n_shared : 0;
    return o;
}

/* A watermark stays free for those that grow, unless the group is empty. */
static bool leaves_enough(const hdl_sched *s, const hdl_group *g, const hdl_kv *kv, uint32_t left)
{
    return left >= (uint64_t)kv->total * s->config.watermark_permille / 1000 || g->n_live == 0;
}

static bool sides_fit(const hdl_sched *s, const hdl_seq *seq, const offer *o)
{
    const hdl_group *g = &s->groups[o->group];
    const hdl_side_ask ask = ask_of(seq, o, s->bt_shift);
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        const hdl_side_share share = hdl_side_offer(s, g, i, &ask);
        uint32_t need = share.budget + (share.copy_src != NONE);
        uint32_t spare = hdl_side_spare(&g->sides[i]);
        if (need > spare || !leaves_enough(s, g, &g->sides[i], spare - need))
            return false;
    }
    return true;
}

static bool offer_fits(const hdl_sched *s, const hdl_seq *seq, const offer *o)
{
    const hdl_group *g = &s->groups[o->group];
    if (seq->len >= o->end && s->cold[hdl_seq_idx(s, seq)].max_new > 0)
        return false;
    if (seq->len > g->max_len || g->n_live >= s->config.step_tokens)
        return false;
    if (g->n_prefill >= s->config.prefills_max && g->prefill_tokens >= s->config.step_tokens)
        return false;
    uint32_t spare = hdl_kv_spare(&g->kv);
    uint32_t need = o->n_need + o->n_revived;
    if (need > spare)
        return false;
    return leaves_enough(s, g, &g->kv, spare - need) &&
           (s->caches.is_plain || sides_fit(s, seq, o));
}

/* What the request has to wait for in the offer's group, in prompt tokens: its own that are not
 * shared, those of others that stand before it, and what the sequences that run there slow it down
 * over its life. */
static uint64_t cost_of(const hdl_sched *s, const hdl_seq *seq, const offer *o)
{
    const hdl_group *g = &s->groups[o->group];
    uint32_t own = seq->len - (o->n_shared << s->bt_shift);
    return (uint64_t)own + g->prefill_tokens + (uint64_t)g->n_live * LIVE_COST_TOKENS;
}

/* A fork goes where its parent runs. Else a long shared prefix draws a request to its group, a
 * queue there drives it away: many prompts that begin alike get to all groups. */
static bool better(const hdl_sched *s, const hdl_seq *seq, const offer *a, const offer *b)
{
    if ((a->parent != NULL) != (b->parent != NULL))
        return a->parent != NULL;
    return cost_of(s, seq, a) < cost_of(s, seq, b);
}

/* Holds the blocks that the offer shares and puts them in the slot's table. */
static void take_shared(hdl_sched *s, hdl_seq *seq, const offer *o, hdl_entry *entry)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_kv *kv = &s->groups[o->group].kv;
    uint32_t *table = hdl_slot_table(s, entry->slot);
    const uint32_t *from = o->parent ? hdl_slot_table(s, o->parent->slot) : o->blocks;
    entry->page = cold->head;
    entry->n_shared = o->n_shared;
    for (uint32_t n = 0; n < o->n_shared; n++) {
        hdl_kv_hold(kv, from[n]);
        table[n] = from[n];
        entry->page = s->pages.list[entry->page].next;
    }
    /* A fork's blocks may not be those of the index: publishing walks them from the start. */
    if (!o->parent && o->n_shared > 0)
        entry->parent = hdl_prefix_name(kv, from[o->n_shared - 1]);
    if (o->parent && ((seq->len - 1) & s->bt_mask) != 0) {
        cold->copy_src = from[o->n_shared];
        hdl_kv_pin(kv, cold->copy_src);
    }
}

static void enter_sides(hdl_sched *s, const hdl_seq *seq, const offer *o, uint32_t slot)
{
    hdl_group *g = &s->groups[o->group];
    const hdl_side_ask ask = ask_of(seq, o, s->bt_shift);
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        const hdl_side_share share = hdl_side_offer(s, g, i, &ask);
        hdl_side_enter(s, g, i, slot, &share, &ask);
    }
    if (s->caches.n_sides > 0)
        s->slots.snaps[slot] = (hdl_snaps){.last = shared_max(s, seq),
                                           .branch = o->n_found > o->n_shared ? o->n_found : 0};
}

static void accept(hdl_sched *s, hdl_seq *seq, const offer *o)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    bool first = !cold->admitted;
    hdl_queue_remove(s, seq);
    hdl_entry entry = {.group = o->group,
                       .slot = s->slots_free[--s->n_slots_free],
                       .end = o->end,
                       .n_blocks = o->n_need};
    take_shared(s, seq, o, &entry);
    entry.pos = o->parent ? seq->len - 1 : o->n_shared << s->bt_shift;
    if (!s->caches.is_plain)
        enter_sides(s, seq, o, entry.slot);
    if (first) {
        cold->n_cached = entry.pos;
        if (s->tenants[seq->tenant].served > s->queue.served_floor)
            s->queue.served_floor = s->tenants[seq->tenant].served;
        hdl_queue_charge(s, seq->tenant, seq->len - entry.pos);
    }
    s->stats.forks_shared += o->parent != NULL;
    s->stats.prefix_query_tokens += seq->len;
    s->stats.prefix_hit_tokens += entry.pos;
    hdl_run_enter(s, seq, &entry);
    hdl_trace_act(s, HDL_TRACE_ADMIT, seq->req, entry.pos);
}

/* No group that is up could hold it even alone. */
static bool never_fits(const hdl_sched *s, const hdl_seq *seq)
{
    uint32_t need = seq->len + (s->cold[hdl_seq_idx(s, seq)].max_new > 0);
    return s->stats.groups_up > 0 && need > s->stats.max_len;
}

static uint32_t greatest_len(const hdl_sched *s, const hdl_seq *seq)
{
    uint64_t end = (uint64_t)seq->n_prompt + hdl_seq_rest(s, seq)->max_new;
    return (uint32_t)hdl_min_size(end, s->config.max_len);
}

/* The request that is next. When the logs have no room for its growth, one that was promised its
 * own and lost its place since (by a preemption or a loss): it is not behind for less important
 * reasons, but only its end gives room to anybody. */
static hdl_seq *next_in_line(hdl_sched *s)
{
    hdl_seq *seq = hdl_queue_pick(s);
    if (!seq || never_fits(s, seq))
        return seq;
    if (hdl_log_room(s, seq, greatest_len(s, seq)))
        return seq;
    return hdl_planted(s, PROMISE_DEADLOCK) ? NULL : hdl_queue_promised(s);
}

bool hdl_admit_next(hdl_sched *s)
{
    if (s->n_slots_free == 0 || s->stats.groups_up == 0)
        return false;
    hdl_seq *seq = next_in_line(s);
    if (!seq)
        return false;
    if (never_fits(s, seq)) {
        if (hdl_seq_rest(s, seq)->admitted)
            hdl_run_end(s, seq, HDL_FINISH_FAILED);
        else
            hdl_run_reject(s, seq, HDL_INVALID);
        return true;
    }
    offer best = {.group = NONE};
    uint32_t *blocks = s->table[0], *spare = s->table[1];
    for (uint32_t group = 0; group < s->config.n_groups; group++) {
        if (!s->groups[group].up)
            continue;
        offer o = make_offer(s, seq, group, blocks);
        if (!offer_fits(s, seq, &o) || (best.group != NONE && !better(s, seq, &o, &best)))
            continue;
        best = o;
        uint32_t *t = blocks;
        blocks = spare;
        spare = t;
    }
    /* Its prefix lives in a group that is busy for this moment: it waits for that group's next
     * plan. */
    if (best.group == NONE || !hdl_group_open(&s->groups[best.group]))
        return false;
    hdl_log_promise(s, seq, greatest_len(s, seq));
    accept(s, seq, &best);
    return true;
}
