/* SPDX-License-Identifier: Apache-2.0 */
#include "rig_talk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/worker_impl.h"

enum { CHUNK = 6 };

/* A failure in a rank's thread cannot unwind into cmocka. */
#define MUST(cond)                                                                                 \
    ((cond) ? (void)0                                                                              \
            : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort(), (void)0))

/* A slot's sequence, and how far it is. */
typedef struct seq {
    uint32_t tenant;          /* of its slot, from 0; n_tenants: no more come */
    uint32_t at_step;         /* it comes with */
    uint32_t n_prompt, n_new; /* tokens */
    uint32_t pos;             /* of its next row */
} seq;

static seq seq_of(const rig_talk_opts *o, uint32_t slot, uint32_t tenant, uint32_t at_step)
{
    uint32_t n_new = 4 + (slot * 3 + tenant * 5) % 7;
    return (seq){.tenant = tenant,
                 .at_step = at_step,
                 .n_prompt = 1 + (slot * 5 + tenant * 3) % 13,
                 .n_new = o->n_new ? hdl_min_u32(o->n_new, n_new) : n_new};
}

/* What a tenant asks for: of every kind one. */
static hdl_sampling sampling_of(uint32_t slot, uint32_t tenant)
{
    hdl_sampling p = rig_greedy();
    p.seed = 100 + slot * 10 + tenant;
    switch ((slot + tenant) % 4) {
    case 0: break;
    case 1:
        p.temperature = 0.9f;
        p.top_k = 20;
        p.n_logprobs = 2;
        break;
    case 2:
        p.temperature = 1.2f;
        p.top_p = 0.9f;
        p.min_p = 0.02f;
        break;
    default:
        p.repetition_penalty = 1.3f;
        p.frequency_penalty = 0.2f;
        p.presence_penalty = 0.1f;
        p.n_logprobs = 0;
    }
    return p;
}

static hdl_token token_of(const rig_talk *t, uint32_t slot, uint32_t pos)
{
    return (hdl_token)((slot * 31 + pos * 7 + 3) % t->opts.vocab);
}

static void open_seq(rig_rank *r, uint32_t slot, const seq *s)
{
    const rig_talk *t = r->arg;
    hdl_sampling params = sampling_of(slot, s->tenant);
    hdl_plan *plan = &r->plan.plan;
    rig_open(&r->plan, slot, &params);
    hdl_plan_open *o = &r->plan.opens[plan->n_opens - 1];
    o->n_prompt = s->n_prompt;
    o->history_at = plan->n_tokens;
    o->n_history = params.repetition_penalty != 1 ? s->n_prompt : 0;
    for (uint32_t i = 0; i < o->n_history; i++)
        r->plan.tokens[plan->n_tokens++] = token_of(t, slot, i);
}

/* The next row of a sequence that runs. */
static void add_row(rig_rank *r, uint32_t slot, seq *s)
{
    const rig_talk *t = r->arg;
    hdl_token ids[CHUNK];
    if (s->pos >= s->n_prompt) {
        rig_row(&r->plan, slot, s->pos++, NULL, 1, HDL_ROW_SAMPLE);
        return;
    }
    uint32_t n = hdl_min_u32(CHUNK, s->n_prompt - s->pos);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = token_of(t, slot, s->pos + i);
    rig_row(&r->plan, slot, s->pos, ids, n, s->pos + n == s->n_prompt ? HDL_ROW_SAMPLE : 0);
    s->pos += n;
}

/* False: all is over. */
static bool next_plan(rig_rank *r, seq seqs[RIG_TALK_SLOTS], uint32_t step)
{
    const rig_talk_opts *o = &((const rig_talk *)r->arg)->opts;
    bool any = false;
    rig_next(&r->plan);
    for (uint32_t slot = 0; slot < o->n_slots; slot++) {
        seq *s = &seqs[slot];
        if (s->tenant < o->n_tenants && s->pos == s->n_prompt + s->n_new) {
            rig_close(&r->plan, slot);
            *s = seq_of(o, slot, s->tenant + 1, step); /* in the same plan */
        }
        any = any || s->tenant < o->n_tenants;
        if (s->tenant == o->n_tenants || step < s->at_step)
            continue;
        if (s->pos == 0)
            open_seq(r, slot, s);
        add_row(r, slot, s);
    }
    return any || r->plan.plan.n_closes > 0;
}

static void keep(rig_talk *t, const hdl_result *result)
{
    MUST(result->err == HDL_OK);
    for (uint32_t i = 0; i < result->n_rows; i++) {
        hdl_result_row row = result->rows[i];
        MUST(t->n_rows < RIG_TALK_ROWS && t->n_probs + row.n_probs <= RIG_TALK_ROWS * 4);
        memcpy(t->probs + t->n_probs, result->probs + row.probs_at, row.n_probs * sizeof *t->probs);
        row.probs_at = t->n_probs & HDL_PROBS_AT_MAX;
        t->n_probs += row.n_probs;
        t->rows[t->n_rows++] = row;
    }
}

static void collect(rig_rank *r, uint32_t *under_way)
{
    rig_talk *t = r->arg;
    hdl_result result;
    MUST(hdl_worker_collect(r->worker, &result) == HDL_OK);
    --*under_way;
    if (r->rank == 0)
        keep(t, &result);
}

static void talk(rig_rank *r)
{
    rig_talk *t = r->arg;
    seq seqs[RIG_TALK_SLOTS];
    uint32_t under_way = 0, depth = t->opts.in_flight;
    MUST(depth <= hdl_worker_steps_max(r->worker));
    for (uint32_t slot = 0; slot < RIG_TALK_SLOTS; slot++)
        seqs[slot] = seq_of(&t->opts, slot, 0, slot * 2);
    for (uint32_t step = 0; next_plan(r, seqs, step); step++) {
        hdl_result refused;
        MUST(hdl_worker_submit(r->worker, &r->plan.plan, r->plan.sampling, &refused) == HDL_OK);
        if (r->rank == 0) {
            t->n_steps++;
            t->n_deep += under_way > 0;
        }
        under_way++;
        while (under_way == depth)
            collect(r, &under_way);
    }
    while (under_way > 0)
        collect(r, &under_way);
    if (r->rank == 0)
        t->n_graphs = r->worker->graphs.n_runs;
}

rig_talk *rig_talk_run(const rig_talk_opts *opts)
{
    rig_talk *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->opts = *opts;
    assert_in_range(opts->n_slots, 1, RIG_TALK_SLOTS);
    rig_group group = {.opts = opts->worker, .script = talk, .arg = t};
    rig_run(&group);
    return t;
}

void rig_talk_same(const rig_talk *a, const rig_talk *b)
{
    assert_int_equal(a->n_steps, b->n_steps);
    assert_int_equal(a->n_rows, b->n_rows);
    for (uint32_t i = 0; i < a->n_rows; i++) {
        const hdl_result_row *x = &a->rows[i], *y = &b->rows[i];
        if (x->slot != y->slot || x->pos != y->pos || x->token != y->token)
            fail_msg("row %u: slot %u pos %u token %d, and slot %u pos %u token %d", i, x->slot,
                     x->pos, x->token, y->slot, y->pos, y->token);
        assert_int_equal(x->n_probs, y->n_probs);
    }
    assert_int_equal(a->n_probs, b->n_probs);
    assert_memory_equal(a->probs, b->probs, a->n_probs * sizeof *a->probs);
}
