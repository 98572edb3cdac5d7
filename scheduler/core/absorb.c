/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/absorb.h"

#include "scheduler/core/group.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"

/* Publishes the blocks that the answered positions have filled. */
static void publish(hdl_sched *s, hdl_group *g, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    if (!s->config.prefix_cache || (seq->flags & HDL_SUBMIT_NO_CACHE))
        return;
    uint32_t full = seq->acked >> s->bt_shift;
    if (hdl_planted(s, HALF_PUBLISHED) && (seq->acked & s->bt_mask) + 1 == s->bt_mask &&
        s->pages.list[seq->tail].next == NONE && hdl_page_count(s, seq->len) == full + 1)
        full++;
    while (cold->n_pub < full) {
        uint32_t page = cold->pub_page;
        hdl_prefix_key key = {s->pages.list[page].hash, cold->pub_serial, hdl_page_tokens(s, page)};
        cold->pub_serial = hdl_prefix_publish(s, &g->kv, s->pages.list[page].block, &key);
        cold->pub_page = s->pages.list[page].next;
        cold->n_pub++;
    }
}

/* Asks for what publish will touch; the sequence's record has been asked for before. */
static void publish_look_ahead(const hdl_sched *s, uint32_t idx)
{
    const hdl_kv *kv = &s->groups[s->seqs[idx].group].kv;
    uint32_t page = s->cold[idx].pub_page;
    if (page == NONE || s->pages.list[page].block == NONE)
        return;
    uint32_t block = s->pages.list[page].block;
    hdl_prefix_look_ahead(kv, s->pages.list[page].hash);
    __builtin_prefetch(&kv->blocks[block], 1);
    const hdl_token *copy = kv->tokens + ((size_t)block << s->bt_shift);
    __builtin_prefetch(copy, 1);
    __builtin_prefetch(copy + HDL_RECENT, 1);
}

static bool is_stop(const hdl_sched *s, const hdl_seq *seq, hdl_token token)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    for (uint32_t i = 0; i < seq->n_stop; i++)
        if (token == cold->stop_ids[i])
            return true;
    return false;
}

/* Logs and emits the token of a row whose sequence knows all tokens before it. What it brings with
 * it now and then - a full block, a new page, the end - is put off until all rows are through
 * (settle_due). */
static inline void take_token(hdl_sched *s, uint32_t idx, hdl_token token, uint32_t result_row)
{
    hdl_seq *seq = &s->seqs[idx];
    const uint32_t at = seq->len;
    s->recent[idx].at[at % HDL_RECENT] = token;
    seq->len = at + 1;
    hdl_action *act = &s->actions[s->n_actions++];
    act->kind = HDL_ACT_EMIT;
    act->emit.req.v = seq->req;
    act->emit.token = token;
    act->emit.index = at - seq->n_prompt;
    act->emit.result_row = result_row;
    if ((at & s->flush_mask) == 0 || ((at + 1) & s->flush_mask) == 0)
        s->due[s->n_due++] = idx;
    if (token == seq->stop[0] || token == seq->stop[1] || seq->n_stop > 2 || at + 1 == seq->end)
        s->ending[s->n_ending++] = idx;
}

/* The newest token of a sequence stands first or last in its page, or last among the recent ones.
 */
static void settle_page(hdl_sched *s, hdl_seq *seq)
{
    uint32_t at = seq->len - 1;
    if ((at & s->bt_mask) == 0 &&
        at >= seq->n_prompt) { /* the page before is computed to its end */
        seq->acked = at;
        publish(s, &s->groups[seq->group], seq);
        seq->tail = hdl_log_next_page(s, seq, at);
    }
    if ((seq->len & s->flush_mask) == 0)
        hdl_log_flush(s, seq);
}

static void settle_end(hdl_sched *s, hdl_seq *seq)
{
    hdl_token token = s->recent[hdl_seq_idx(s, seq)].at[(seq->len - 1) % HDL_RECENT];
    bool generated = seq->len > seq->n_prompt;
    if (generated && is_stop(s, seq, token))
        hdl_run_end(s, seq, HDL_FINISH_STOP);
    else if (seq->len == seq->end)
        hdl_run_end(s, seq, HDL_FINISH_LENGTH);
}

/* What was put off. These reach for memory that no step has touched for long, each thing through
 * the one before: so each round asks for all there is to ask for, and the next finds it there. */
static void settle_due(hdl_sched *s)
{
    for (uint32_t i = 0; i < s->n_due; i++) {
        uint32_t tail = s->seqs[s->due[i]].tail;
        __builtin_prefetch(&s->cold[s->due[i]], 1);
        __builtin_prefetch(&s->pages.list[tail], 1);
        __builtin_prefetch(hdl_page_tokens(s, tail), 1);
    }
    for (uint32_t i = 0; i < s->n_ending; i++)
        __builtin_prefetch(&s->cold[s->ending[i]], 1);
    for (uint32_t i = 0; i < s->n_filled; i++)
        publish_look_ahead(s, s->filled[i]);
    for (uint32_t i = 0; i < s->n_due; i++)
        if (((s->seqs[s->due[i]].len - 1) & s->bt_mask) == 0)
            publish_look_ahead(s, s->due[i]);
    for (uint32_t i = 0; i < s->n_ending; i++)
        __builtin_prefetch(&s->pages.list[s->cold[s->ending[i]].head], 1);

    for (uint32_t i = 0; i < s->n_filled; i++)
        publish(s, &s->groups[s->seqs[s->filled[i]].group], &s->seqs[s->filled[i]]);
    for (uint32_t i = 0; i < s->n_due; i++)
        settle_page(s, &s->seqs[s->due[i]]);
    for (uint32_t i = 0; i < s->n_ending; i++)
        settle_end(s, &s->seqs[s->ending[i]]);
    s->n_filled = s->n_due = s->n_ending = 0;
}

static inline bool answers(const hdl_result_row *res, const hdl_plan_row *row)
{
    return res->slot == row->slot && res->pos == row->pos + row->n_tokens && res->token >= 0;
}

/* A sequence has ended or was preempted while the step ran: its row is void. */
static inline bool is_void(hdl_sched *s, const hdl_seq *seq, const hdl_stay *who)
{
    if (seq->gen == who->gen)
        return false;
    if (hdl_planted(s, DOUBLE_FINISH) && seq->state == HDL_SEQ_UNUSED)
        hdl_act(s, HDL_ACT_DONE)->done = (hdl_act_done){.req = {seq->req}};
    return true;
}

/* Sequences lie all over memory: what the rows to come touch is asked for ahead. */
static inline void look_ahead(const hdl_sched *s, const hdl_stay *who)
{
    __builtin_prefetch(&s->seqs[who->seq], 1);
    __builtin_prefetch(&s->recent[who->seq], 1);
}

/* Rows and tokens of one tenant in a row are charged together. */
typedef struct bill {
    uint32_t tenant, n_tokens;
} bill;

static inline void settle(hdl_sched *s, const bill *b)
{
    s->tenants[b->tenant].served += s->tenants[b->tenant].per_token * b->n_tokens;
    s->stats.emitted_tokens += b->n_tokens;
}

static inline void charge(hdl_sched *s, bill *b, uint32_t tenant)
{
    if (tenant != b->tenant) {
        settle(s, b);
        *b = (bill){.tenant = tenant};
    }
    b->n_tokens++;
}

/* The rows that decode stand first in the plan, and so in the result: answer r belongs to row r.
 * With the loop in budget.c's decode_pass, all that is done for every running sequence at every
 * step. */
static bool absorb_decodes(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev, bill *b)
{
    const hdl_plan_row *row = buf->rows;
    const hdl_result_row *res = ev->rows;
    const hdl_stay *who = buf->who;
    const uint32_t n = buf->n_decodes;
    if (ev->n_rows < n)
        return false;
    for (uint32_t r = 0; r < n; r++, row++, res++, who++) {
        look_ahead(s, who + HDL_LOOK_AHEAD);
        if (res->scored || !answers(res, row))
            return false;
        hdl_seq *seq = &s->seqs[who->seq];
        if (is_void(s, seq, who))
            continue;
        charge(s, b, seq->tenant);
        take_token(s, who->seq, res->token, r);
    }
    return true;
}

/* The positions of a prefill row are computed: full blocks are published, and forks that waited for
 * the prompt go on. */
static void acknowledge(hdl_sched *s, hdl_seq *seq, const hdl_plan_row *row)
{
    seq->acked = row->pos + row->n_tokens;
    s->filled[s->n_filled++] = hdl_seq_idx(s, seq);
    if (seq->acked + 1 >= seq->n_prompt)
        hdl_queue_release_forks(s, seq);
}

/* The rows behind them. Those that sample have an answer each, in the plan's order; scored ones
 * between are passed by. */
static bool absorb_prefills(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev, bill *b)
{
    uint32_t at = buf->n_decodes;
    for (uint32_t r = buf->n_decodes; r < buf->plan.n_rows; r++) {
        const hdl_plan_row *row = &buf->rows[r];
        bool samples = (row->flags & HDL_ROW_SAMPLE) != 0;
        if (samples) {
            while (at < ev->n_rows && ev->rows[at].scored)
                at++;
            if (at == ev->n_rows || !answers(&ev->rows[at++], row))
                return false;
        }
        hdl_seq *seq = &s->seqs[buf->who[r].seq];
        if (is_void(s, seq, &buf->who[r]))
            continue;
        acknowledge(s, seq, row);
        if (samples) {
            charge(s, b, seq->tenant);
            take_token(s, buf->who[r].seq, ev->rows[at - 1].token, at - 1);
        } else if (seq->acked == seq->end) { /* a prompt that wants no token ends computed */
            s->ending[s->n_ending++] = hdl_seq_idx(s, seq);
        }
    }
    while (at < ev->n_rows && ev->rows[at].scored)
        at++;
    return at == ev->n_rows;
}

/* False when the result does not answer the plan; what did so up to there is absorbed. */
static bool absorb_plan(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev)
{
    HDL_ASSERT_LE(s->n_actions + 2 * buf->plan.n_rows, s->actions_max);
    bill b = {0};
    bool good = absorb_decodes(s, buf, ev, &b) && absorb_prefills(s, buf, ev, &b);
    settle(s, &b);
    settle_due(s);
    return good;
}

/* Over windows of a quarter second; a window with a pause in it says nothing about speed. */
static void measure_rate(hdl_sched *s)
{
    hdl_rate *r = &s->rate;
    uint64_t us = s->now_us - r->since_us;
    if (us < 250000)
        return;
    if (us < 2000000) {
        uint64_t per_s = r->tokens * 1000000 / us;
        r->per_s = r->per_s ? (3 * r->per_s + per_s) / 4 : per_s;
    }
    r->since_us = s->now_us;
    r->tokens = 0;
}

void hdl_absorb(hdl_sched *s, const hdl_ev_result *ev)
{
    hdl_group *g = ev->group < s->config.n_groups ? &s->groups[ev->group] : NULL;
    uint64_t oldest = g ? g->next_step - g->in_flight : 0;
    bool answered = ev->step < oldest && !hdl_planted(s, DUP_RESULT);
    if (!g || !g->up || ev->epoch != g->epoch || answered) {
        s->stats.stale_results++;
        hdl_trace_act(s, HDL_TRACE_STALE_RESULT, ev->epoch, ev->step);
        return;
    }
    const hdl_plan_buf *buf = &g->buf[ev->step % HDL_PLANS_IN_FLIGHT];
    bool good = ev->step <= oldest && g->in_flight > 0 && absorb_plan(s, buf, ev);
    if (!good) {
        /* A rank that answers what it was not asked cannot be trusted with the rest of the epoch
         * either. */
        s->stats.bad_results++;
        hdl_trace_act(s, HDL_TRACE_BAD_RESULT, ev->epoch, ev->step);
        hdl_group_end_epoch(s, g);
        return;
    }
    g->in_flight--;
    s->stats.results++;
    s->rate.tokens += buf->n_computed;
    measure_rate(s);
}
