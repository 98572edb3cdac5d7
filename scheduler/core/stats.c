/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/state.h"

/* A side is as full as it is claimed: budgets are what admission goes by. */
static uint64_t tokens_used(const hdl_sched *s, const hdl_group *g)
{
    const hdl_kv *kv = &g->kv;
    uint64_t used = kv->total - kv->n_free - kv->n_cached;
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        const hdl_kv *side = &g->sides[i];
        if (side->total == 0)
            continue;
        uint64_t share = (uint64_t)kv->total * (side->promised + side->n_pins) / side->total;
        used = share > used ? share : used;
    }
    return used << s->bt_shift;
}

static void add_pool(hdl_cache_stats *out, const hdl_kv *kv)
{
    out->total += kv->total;
    out->cached += kv->n_cached;
    out->used += kv->total - kv->n_free - kv->n_cached;
}

void hdl_sched_read_stats(const hdl_sched *s, hdl_sched_stats *out)
{
    *out = s->stats;
    out->waiting = s->queue.n_waiting;
    out->queued_tokens = s->queue.tokens;
    out->tokens_per_s = s->rate.per_s;
    out->draining = s->draining;
    uint64_t sheet_tokens = (uint64_t)(s->pages.sheet_mask + 1) << s->bt_shift;
    out->log_tokens_total = (uint64_t)s->pages.total << s->bt_shift;
    uint32_t spare = s->pages.n_free - s->pages.promised;
    out->log_tokens_used = out->log_tokens_total - spare * sheet_tokens;
    for (uint32_t i = 0; i < s->config.n_groups; i++) {
        const hdl_group *g = &s->groups[i];
        if (!g->up)
            continue;
        out->running += g->n_live;
        out->plans_in_flight += g->in_flight;
        if (s->caches.main != NONE)
            add_pool(&out->caches[s->caches.main], &g->kv);
        for (uint32_t k = 0; k < s->caches.n_twins; k++)
            add_pool(&out->caches[s->caches.twins[k]], &g->kv);
        for (uint32_t k = 0; k < s->caches.n_sides; k++)
            add_pool(&out->caches[s->caches.sides[k]], &g->sides[k]);
        out->kv_tokens_total += (uint64_t)g->kv.total << s->bt_shift;
        out->kv_tokens_used += tokens_used(s, g);
    }
}

static uint64_t mix_plan(uint64_t h, const hdl_plan *p)
{
    const uint64_t head[] = {p->step,     p->epoch,    p->group,    p->n_rows,   p->n_opens,
                             p->n_grants, p->n_closes, p->n_copies, p->n_tokens, p->n_blocks};
    h = hdl_hash_bytes(head, sizeof head, h);
    h = hdl_hash_bytes(p->rows, p->n_rows * sizeof *p->rows, h);
    h = hdl_hash_bytes(p->opens, p->n_opens * sizeof *p->opens, h);
    h = hdl_hash_bytes(p->grants, p->n_grants * sizeof *p->grants, h);
    h = hdl_hash_bytes(p->closes, p->n_closes * sizeof *p->closes, h);
    h = hdl_hash_bytes(p->copies, p->n_copies * sizeof *p->copies, h);
    return hdl_hash_bytes(p->blocks, p->n_blocks * sizeof *p->blocks, h);
}

static uint64_t mix_words(uint64_t h, const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = hdl_hash_combine(h, words[i]);
    return h;
}

#define MIX(h, ...)                                                                                \
    mix_words((h), (const uint64_t[]){__VA_ARGS__},                                                \
              sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static uint64_t mix_action(uint64_t h, const hdl_action *a)
{
    h = hdl_hash_combine(h, (uint64_t)a->kind);
    switch (a->kind) {
    case HDL_ACT_PLAN: return mix_plan(h, a->plan.plan);
    case HDL_ACT_EMIT:
        for (uint32_t i = 0; i < a->emit.n; i++)
            h = MIX(h, a->emit.list[i].req.v, a->emit.list[i].index, a->emit.result_row + i);
        return h;
    case HDL_ACT_DONE:
        return MIX(h, a->done.req.v, (uint64_t)a->done.reason, a->done.n_prompt, a->done.n_cached,
                   a->done.n_new, a->done.n_preempted);
    case HDL_ACT_REJECT:
        return MIX(h, a->reject.req.v, (uint64_t)a->reject.err, a->reject.retry_after_ms,
                   a->reject.need, a->reject.have);
    case HDL_ACT_TIMER: return MIX(h, a->timer.at_us);
    case HDL_ACT_TRACE: return MIX(h, (uint64_t)a->trace.what, a->trace.a, a->trace.b);
    case HDL_ACT_COUNT: break;
    }
    return h;
}

uint64_t hdl_sched_digest(uint64_t seed, const hdl_actions *actions)
{
    for (uint32_t i = 0; i < actions->count; i++)
        seed = mix_action(seed, &actions->list[i]);
    return seed;
}
