/* SPDX-License-Identifier: Apache-2.0 */
/* Events of any shape and order: every list of actions must be well formed, every plan must stay
 * inside its arrays and limits, and all invariants must hold after every step. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "scheduler/core/sched.h"

enum { GROUPS = 2, SEQS = 6, STEP = 16, MAX_LEN = 60, BLOCKS = 24, BLOCK_TOKENS = 4 };
enum { ROWS = SEQS + STEP }; /* of a result */

typedef struct input {
    const uint8_t *data;
    size_t size, at;
} input;

static uint32_t next(input *in) { return in->at < in->size ? in->data[in->at++] : 0; }

typedef struct drive {
    hdl_sched *sched;
    uint64_t now_us, req;
    const hdl_plan *flight[GROUPS][HDL_PLANS_IN_FLIGHT];
    uint32_t n_flight[GROUPS];
    uint64_t epoch[GROUPS];
    uint32_t n_caches;
} drive;

static void check_plan(drive *d, const hdl_plan *p)
{
    HDL_ASSERT_LT(p->group, GROUPS);
    HDL_ASSERT_LT(d->n_flight[p->group], HDL_PLANS_IN_FLIGHT);
    HDL_ASSERT(p->n_rows > 0 && p->n_rows <= SEQS);
    uint32_t tokens = 0, slots = 0;
    for (uint32_t i = 0; i < p->n_rows; i++) {
        const hdl_plan_row *row = &p->rows[i];
        uint32_t entries = row->n_tokens + (row->flags & HDL_ROW_SCORE ? 1u : 0u);
        HDL_ASSERT_LT(row->slot, SEQS);
        HDL_ASSERT((slots & 1u << row->slot) == 0);
        slots |= 1u << row->slot;
        HDL_ASSERT(row->n_tokens > 0 && row->pos + row->n_tokens <= MAX_LEN);
        HDL_ASSERT_LE(row->token_at + entries, p->n_tokens);
        tokens += row->n_tokens;
    }
    for (uint32_t i = 0; i < p->n_grants; i++) {
        const hdl_plan_grant *grant = &p->grants[i];
        HDL_ASSERT(grant->slot < SEQS && (slots & 1u << grant->slot) != 0);
        HDL_ASSERT_LT(0, grant->n_blocks);
        HDL_ASSERT_LE(grant->block_at + grant->n_blocks, p->n_blocks);
        HDL_ASSERT_LE(grant->table_at + grant->n_blocks, MAX_LEN / BLOCK_TOKENS);
        HDL_ASSERT_LT(grant->cache, d->n_caches);
    }
    for (uint32_t i = 0; i < p->n_copies; i++)
        HDL_ASSERT(p->copies[i].cache < d->n_caches && p->copies[i].src < BLOCKS &&
                   p->copies[i].dst < BLOCKS && p->copies[i].src != p->copies[i].dst);
    HDL_ASSERT_LE(tokens, STEP);
    for (uint32_t i = 0; i < p->n_blocks; i++)
        HDL_ASSERT_LT(p->blocks[i], BLOCKS);
    d->flight[p->group][d->n_flight[p->group]++] = p;
}

static void feed(drive *d, hdl_event *ev)
{
    ev->now_us = d->now_us;
    hdl_actions actions;
    hdl_sched_stats before, after;
    hdl_sched_read_stats(d->sched, &before);
    hdl_sched_step(d->sched, ev, &actions);
    hdl_sched_read_stats(d->sched, &after);
    if (after.results > before.results) { /* the oldest plan of that group is answered */
        uint32_t g = ev->result.group;
        d->flight[g][0] = d->flight[g][1];
        d->n_flight[g]--;
    }
    for (uint32_t i = 0; i < actions.count; i++) {
        const hdl_action *a = &actions.list[i];
        if (a->kind == HDL_ACT_TRACE && a->trace.what == HDL_TRACE_EPOCH_END)
            d->n_flight[a->trace.a] = 0;
        if (a->kind == HDL_ACT_PLAN)
            check_plan(d, a->plan.plan);
    }
    const char *broken = hdl_sched_check(d->sched);
    if (broken)
        HDL_UNREACHABLE("an invariant does not hold");
}

static void submit(drive *d, input *in)
{
    hdl_token prompt[64];
    hdl_event ev = {.kind = HDL_EV_SUBMIT};
    hdl_ev_submit *s = &ev.submit;
    s->req.v = ++d->req;
    s->tenant = next(in) % 4;
    s->priority = next(in) % 10;
    s->flags = next(in) & 31;
    s->max_new = next(in) % 40;
    s->salt = next(in) % 2;
    s->fork_of.v = next(in) % 2 ? d->req - 1 : 0;
    s->deadline_us = next(in) % 4 ? 0 : d->now_us + next(in);
    s->n_prompt = next(in) % 64;
    s->n_stop_ids = next(in) % (HDL_STOP_IDS_MAX + 2);
    uint32_t modulus = 1 + next(in) % 3;
    for (uint32_t i = 0; i < s->n_prompt; i++)
        prompt[i] = (hdl_token)(i % modulus);
    s->prompt = prompt;
    feed(d, &ev);
}

/* Of a row, behind n others: one, and one for each guess that comes true. */
static uint32_t add_answers(const hdl_plan *p, const hdl_plan_row *row, input *in,
                            hdl_result_row *rows, uint32_t n)
{
    const uint32_t more = row->flags & HDL_ROW_GUESS ? row->n_tokens - 1u : 0;
    for (uint32_t k = 0; k <= more; k++) {
        const hdl_token token = (hdl_token)(next(in) % 3);
        rows[n++] = (hdl_result_row){
            .slot = row->slot, .pos = row->pos + row->n_tokens - more + k, .token = token};
        if (k < more && p->tokens[row->token_at + 1 + k] != token)
            break;
    }
    return n;
}

static void answer(drive *d, input *in, bool honest)
{
    uint32_t g = next(in) % GROUPS;
    hdl_event ev = {.kind = HDL_EV_RESULT};
    hdl_result_row rows[ROWS + 1] = {0};
    ev.result = (hdl_ev_result){.group = g, .epoch = d->epoch[g], .rows = rows};
    if (d->n_flight[g] > 0) {
        const hdl_plan *p = d->flight[g][0];
        ev.result.step = p->step;
        for (uint32_t i = 0; i < p->n_rows; i++)
            if (p->rows[i].flags & HDL_ROW_SAMPLE)
                ev.result.n_rows = add_answers(p, &p->rows[i], in, rows, ev.result.n_rows);
    }
    if (!honest) {
        hdl_result_row *row = &rows[next(in) % (ROWS + 1)];
        row->slot ^= next(in) & 1;
        row->pos += next(in) & 1;
        row->token -= (hdl_token)(next(in) & 3);
        row->scored = next(in) & 1;
        ev.result.n_rows = next(in) % (ROWS + 2);
        ev.result.step += next(in) % 3;
        ev.result.group = next(in) % (GROUPS + 1);
    }
    feed(d, &ev);
}

static void rank(drive *d, input *in, hdl_event_kind kind)
{
    uint32_t g = next(in) % (GROUPS + 1);
    uint64_t epoch = g < GROUPS ? d->epoch[g] + (kind == HDL_EV_RANK_UP) : 1;
    hdl_event ev = {.kind = kind, .rank = {.group = g, .epoch = epoch - (next(in) % 8 == 0)}};
    for (uint32_t i = 0; i < d->n_caches; i++)
        ev.rank.n_blocks[i] = next(in) % (2 * BLOCKS);
    ev.rank.max_len = next(in) % (2 * MAX_LEN);
    if (kind == HDL_EV_RANK_UP && g < GROUPS && ev.rank.epoch > d->epoch[g]) {
        d->epoch[g] = ev.rank.epoch;
        d->n_flight[g] = 0;
    }
    feed(d, &ev);
}

static void one_event(drive *d, input *in)
{
    d->now_us += next(in);
    switch (next(in) % 16) {
    case 0:
    case 1:
    case 2: submit(d, in); break;
    case 3: feed(d, &(hdl_event){.kind = HDL_EV_CANCEL, .cancel = {.req = {next(in)}}}); break;
    case 4: rank(d, in, HDL_EV_RANK_UP); break;
    case 5: rank(d, in, HDL_EV_RANK_LOST); break;
    case 6: answer(d, in, false); break;
    case 7:
        if (next(in) == 255)
            feed(d, &(hdl_event){.kind = HDL_EV_DRAIN});
        break;
    case 8: feed(d, &(hdl_event){.kind = HDL_EV_TICK}); break;
    default: answer(d, in, true); break;
    }
}

/* Up to three cache groups of any kind. */
static void draw_caches(hdl_sched_config *c, input *in)
{
    const uint32_t kinds = next(in);
    c->n_caches = 1 + kinds % 3;
    c->snapshot_tokens = (kinds >> 2 & 1) * 2 * BLOCK_TOKENS;
    c->guess_tokens = (kinds >> 6 & 1) * HDL_GUESSES_MAX;
    for (uint32_t i = 0; i < c->n_caches; i++) {
        hdl_cache_rule *rule = &c->caches[i].rule;
        c->caches[i].n_blocks = BLOCKS;
        switch (kinds >> (3 + i) & 1 ? next(in) % 4 : 0) {
        case 1: rule->window = 1 + next(in) % 30; break;
        case 2: rule->chunk = 1 + next(in) % 30; break;
        case 3: rule->kind = HDL_CACHE_STATE; break;
        default: break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hdl_sched_config c;
    hdl_sched_config_default(&c);
    c.n_groups = GROUPS;
    c.max_seqs = SEQS;
    c.waiting_max = 8;
    c.step_tokens = STEP;
    c.max_row_tokens = 12;
    c.block_tokens = BLOCK_TOKENS;
    input in = {.data = data, .size = size};
    draw_caches(&c, &in);
    c.max_len = MAX_LEN;
    c.log_tokens = 400;
    c.n_tenants = 3;
    size_t bytes = hdl_sched_bytes(&c);
    void *mem = aligned_alloc(64, bytes);
    HDL_ASSERT(mem != NULL);
    drive d = {.sched = hdl_sched_init(mem, bytes, &c), .n_caches = c.n_caches};
    while (in.at < in.size)
        one_event(&d, &in);
    free(mem);
    return 0;
}
