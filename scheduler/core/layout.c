/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/layout.h"

#include "scheduler/core/side.h"

#define LINE 64u /* a cache line: every array starts on one */

void hdl_sched_config_default(hdl_sched_config *config)
{
    *config = (hdl_sched_config){
        .n_groups = 1,
        .max_seqs = 256,
        .waiting_max = 1024,
        .step_tokens = 1024,
        .max_row_tokens = 512,
        .prefills_max = 4,
        .block_tokens = HDL_BLOCK_TOKENS,
        .n_caches = 1,
        .caches = {{.n_blocks = 4096}},
        .max_len = 4096,
        .watermark_permille = 20,
        .n_tenants = 1,
        .aging_us = 10000000,
        .guess_step_tokens = 16,
        .prefix_cache = true,
    };
}

/* Pages of a sheet: a few, as long as that does not waste hundreds of tokens on a short request. */
static uint32_t sheet_pages(const hdl_sched_config *c) { return c->block_tokens <= 64 ? 4 : 1; }

static uint32_t sheet_tokens(const hdl_sched_config *c) { return sheet_pages(c) * c->block_tokens; }

/* Every running sequence can reach the greatest length and each request of the queue a sixteenth of
 * it, up to a bound. Generous, because what is never needed is never touched, and a promise that
 * cannot be given would keep sequences from running whose KV would fit. */
static uint64_t log_tokens_auto(const hdl_sched_config *c)
{
    uint64_t each = ((uint64_t)c->max_len + sheet_tokens(c)) * c->max_seqs +
                    ((uint64_t)c->max_len / 16 + sheet_tokens(c)) * c->waiting_max;
    uint64_t least = 4 * ((uint64_t)c->max_len + sheet_tokens(c));
    uint64_t most = (uint64_t)1 << 28;
    each = each < most ? each : most;
    return each > least ? each : least;
}

static uint64_t log_tokens(const hdl_sched_config *c)
{
    uint64_t tokens = c->log_tokens ? c->log_tokens : log_tokens_auto(c);
    uint64_t most = (uint64_t)1 << 40;
    return tokens < most ? tokens : most;
}

static const char *cache_problem(const hdl_sched_config *c)
{
    if (c->n_caches < 1 || c->n_caches > HDL_CACHE_GROUPS_MAX)
        return "n_caches is out of range; choose 1 to 4";
    for (uint32_t i = 0; i < c->n_caches; i++) {
        if (c->caches[i].n_blocks < 1 || c->caches[i].n_blocks > 1u << 28)
            return "blocks of a cache group are out of range; choose 1 to 268435456";
        if (hdl_cache_rule_problem(&c->caches[i].rule))
            return hdl_cache_rule_problem(&c->caches[i].rule);
    }
    if (c->snapshot_tokens % c->block_tokens != 0)
        return "snapshot_tokens is not a multiple of block_tokens";
    return NULL;
}

const char *hdl_sched_config_problem(const hdl_sched_config *c)
{
    if (c->n_groups < 1 || c->n_groups > HDL_GROUPS_MAX)
        return "n_groups is out of range; choose 1 to 64";
    if (c->max_seqs < 1 || c->max_seqs > HDL_SEQS_MAX)
        return "max_seqs is out of range; choose 1 to 16384";
    if (c->waiting_max < 1 || c->waiting_max > 1u << 20)
        return "waiting_max is out of range; choose 1 to 1048576";
    if (c->step_tokens < 1 || c->step_tokens > HDL_STEP_TOKENS_MAX + HDL_SEQS_MAX)
        return "step_tokens is out of range; choose 1 to 24576";
    if (c->max_row_tokens < 1 || c->max_row_tokens > c->step_tokens)
        return "max_row_tokens is out of range; choose 1 to step_tokens";
    if (c->prefills_max < 1)
        return "prefills_max is 0; at least one prefill must be in progress";
    if (c->block_tokens < 1 || c->block_tokens > 1024 || (c->block_tokens & (c->block_tokens - 1)))
        return "block_tokens is not a power of two up to 1024";
    if (cache_problem(c))
        return cache_problem(c);
    if (c->max_len < 2 || c->max_len > 1u << 24)
        return "max_len is out of range; choose 2 to 16777216";
    if (log_tokens(c) < 2 * ((uint64_t)c->max_len + sheet_tokens(c)))
        return "log_tokens is too small; it must hold at least two sequences of max_len";
    if (c->watermark_permille > 500)
        return "watermark_permille is above 500; more than half of the cache would stay empty";
    if (c->guess_tokens > HDL_GUESSES_MAX)
        return "guess_tokens is out of range; choose 0 to 15";
    if (c->guess_step_tokens > 256)
        return "guess_step_tokens is out of range; choose 0 to 256";
    if (c->n_tenants < 1 || c->n_tenants > HDL_TENANTS_MAX)
        return "n_tenants is out of range; choose 1 to 256";
    for (uint32_t t = 0; t < c->n_tenants; t++)
        if (c->tenant_weight[t] > 1000)
            return "a tenant_weight is above 1000";
    return NULL;
}

static uint32_t pow2_at_least(uint32_t n)
{
    uint32_t p = 16;
    while (p < n)
        p *= 2;
    return p;
}

typedef struct carve {
    unsigned char *base; /* NULL: only counting */
    size_t used;
} carve;

static void *carve_array(carve *c, size_t count, size_t item_bytes)
{
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (count * item_bytes + LINE - 1) / LINE * LINE;
    return at;
}

#define CARVE(c, ptr, count) ((ptr) = carve_array((c), (count), sizeof *(ptr)))

static void carve_pool(hdl_kv *kv, uint32_t blocks, carve *c)
{
    kv->lru_mask = pow2_at_least(2 * blocks) - 1;
    CARVE(c, kv->blocks, blocks);
    CARVE(c, kv->lru, kv->lru_mask + 1u);
}

static void carve_caches(hdl_sched *s, hdl_group *g, carve *c)
{
    const hdl_sched_config *cf = &s->config;
    const uint32_t main = s->caches.main;
    uint32_t blocks = main == NONE ? hdl_ghost_blocks(cf) : cf->caches[main].n_blocks;
    carve_pool(&g->kv, blocks, c);
    g->kv.n_lines = blocks / 4 + 1; /* four of seven entries in use when all are published */
    CARVE(c, g->kv.lines, g->kv.n_lines);
    CARVE(c, g->kv.tokens, (size_t)blocks * cf->block_tokens);
    g->kv.n_sides = s->caches.n_sides;
    g->kv.sides = g->sides;
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        carve_pool(&g->sides[i], cf->caches[s->caches.sides[i]].n_blocks, c);
        CARVE(c, g->sides[i].of_main, blocks);
    }
}

static void carve_plan(const hdl_sched *s, hdl_plan_buf *b, carve *c)
{
    const hdl_sched_config *cf = &s->config;
    CARVE(c, b->rows, cf->max_seqs);
    CARVE(c, b->opens, cf->max_seqs);
    CARVE(c, b->grants, (size_t)cf->max_seqs * cf->n_caches);
    CARVE(c, b->closes, cf->max_seqs);
    CARVE(c, b->copies, (size_t)cf->max_seqs * cf->n_caches);
    CARVE(c, b->tokens, (size_t)cf->step_tokens + cf->max_seqs + cf->max_len);
    CARVE(c, b->blocks, hdl_plan_blocks_max(s));
    CARVE(c, b->who, cf->max_seqs);
    CARVE(c, b->decodes, s->slots.n_words);
    CARVE(c, b->live, s->slots.n_words);
    b->plan.rows = b->rows;
    b->plan.opens = b->opens;
    b->plan.grants = b->grants;
    b->plan.closes = b->closes;
    b->plan.copies = b->copies;
    b->plan.tokens = b->tokens;
    b->plan.blocks = b->blocks;
}

static void carve_group(hdl_sched *s, uint32_t idx, carve *c)
{
    hdl_group counted = {0};
    hdl_group *g = c->base ? &s->groups[idx] : &counted;
    /* Those that run, and twice as many that did. */
    CARVE(c, g->run, hdl_run_max(&s->config));
    CARVE(c, g->prefills, hdl_run_max(&s->config));
    CARVE(c, g->decode, s->slots.n_words);
    CARVE(c, g->closes, s->config.max_seqs);
    carve_caches(s, g, c);
    for (uint32_t i = 0; i < HDL_PLANS_IN_FLIGHT; i++) {
        carve_plan(s, &g->buf[i], c);
        g->buf[i].plan.group = idx;
    }
}

/* Of the slots, what nobody has used yet is not touched, except what stands in bitmaps. */
static void carve_slots(hdl_sched *s, carve *c)
{
    const size_t n = s->config.max_seqs;
    hdl_slots *slots = &s->slots;
    slots->table_len = hdl_page_count(s, s->config.max_len);
    slots->n_words = (s->config.max_seqs + 63) / 64;
    CARVE(c, slots->base, n);
    CARVE(c, slots->len, n);
    CARVE(c, slots->end, n);
    CARVE(c, slots->n_prompt, n);
    CARVE(c, slots->stop[0], n);
    CARVE(c, slots->stop[1], n);
    CARVE(c, slots->req, n);
    CARVE(c, slots->hold, n);
    CARVE(c, slots->filing, n);
    CARVE(c, slots->seq, n);
    CARVE(c, slots->key, n);
    CARVE(c, slots->tenant, n);
    CARVE(c, slots->recent, n * HDL_RECENT);
    CARVE(c, slots->tables, n * slots->table_len);
    for (uint32_t i = 0; i < s->caches.n_sides; i++) {
        bool is_state = hdl_cache_is_state(&s->caches.rules[i]);
        CARVE(c, slots->side[i], n);
        CARVE(c, slots->side_tables[i], n * (is_state ? 1 : slots->table_len));
    }
    if (s->caches.n_sides > 0)
        CARVE(c, slots->snaps, n);
    if (hdl_may_guess(s))
        CARVE(c, slots->guessing, n);
}

size_t hdl_layout(hdl_sched *s, unsigned char *base)
{
    const hdl_sched_config *cf = &s->config;
    hdl_caches_sort(&s->caches, cf);
    s->bt_mask = cf->block_tokens - 1;
    s->bt_shift = (uint32_t)__builtin_ctz(cf->block_tokens);
    s->flush_mask = hdl_min_u32(cf->block_tokens, HDL_FLUSH) - 1;
    s->n_seqs = cf->max_seqs + cf->waiting_max;
    s->map_mask = pow2_at_least(s->n_seqs) - 1;
    s->pages.sheet_mask = sheet_pages(cf) - 1;
    s->pages.total = (uint32_t)(log_tokens(cf) >> s->bt_shift) & ~s->pages.sheet_mask;
    /* One event ends each live request at most once (or refuses one), emits, admits, preempts and
     * requeues each running one at most twice, and makes two plans a group. */
    s->actions_max = s->n_seqs + 6 * cf->max_seqs + 4 * cf->n_groups + 16;

    carve c = {.base = base};
    carve_array(&c, 1, sizeof *s);
    CARVE(&c, s->seqs, s->n_seqs);
    CARVE(&c, s->cold, s->n_seqs);
    CARVE(&c, s->map, s->map_mask + 1u);
    CARVE(&c, s->map_next, s->n_seqs);
    CARVE(&c, s->stop_ids, (size_t)s->n_seqs * HDL_STOP_IDS_MAX);
    CARVE(&c, s->slots_free, cf->max_seqs);
    carve_slots(s, &c);
    CARVE(&c, s->deadlines, s->n_seqs);
    CARVE(&c, s->pages.list, s->pages.total);
    CARVE(&c, s->pages.tokens, (size_t)s->pages.total << s->bt_shift);
    CARVE(&c, s->tenants, cf->n_tenants);
    CARVE(&c, s->groups, cf->n_groups);
    CARVE(&c, s->gives, cf->max_seqs);
    CARVE(&c, s->order, cf->max_seqs);
    CARVE(&c, s->needy, cf->max_seqs);
    CARVE(&c, s->unpins, 2 * (size_t)cf->max_seqs * cf->n_caches);
    CARVE(&c, s->guess_rows, cf->guess_step_tokens);
    CARVE(&c, s->guess_tokens, 2 * (size_t)cf->guess_step_tokens);
    CARVE(&c, s->filled, cf->max_seqs);
    CARVE(&c, s->due, cf->max_seqs);
    CARVE(&c, s->ending, cf->max_seqs);
    CARVE(&c, s->table[0], hdl_page_count(s, cf->max_len) + 1u);
    CARVE(&c, s->table[1], hdl_page_count(s, cf->max_len) + 1u);
    CARVE(&c, s->actions, s->actions_max);
    CARVE(&c, s->emits, (size_t)cf->max_seqs + cf->guess_step_tokens);
    for (uint32_t i = 0; i < cf->n_groups; i++)
        carve_group(s, i, &c);
    return c.used;
}
