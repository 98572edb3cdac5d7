/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/group.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"

/* How many groups are up and how long a sequence may be: the most that any of them takes. While
 * none is up the last answer stands. */
static void count_groups(hdl_sched *s)
{
    uint32_t up = 0, max_len = 0;
    for (uint32_t i = 0; i < s->config.n_groups; i++) {
        if (!s->groups[i].up)
            continue;
        up++;
        max_len = hdl_max_u32(max_len, s->groups[i].max_len);
    }
    s->stats.groups_up = up;
    if (up > 0)
        s->stats.max_len = max_len;
}

static void end_epoch(hdl_sched *s, hdl_group *g)
{
    g->up = false;
    for (uint32_t i = 0; i < g->n_run; i++) {
        hdl_seq *seq = &s->seqs[g->run[i].stay.seq];
        if (seq->gen == g->run[i].stay.gen)
            hdl_run_back(s, seq, HDL_TRACE_REQUEUE);
    }
    g->n_run = g->in_flight = g->n_closes = 0;
    HDL_ASSERT_EQ(g->n_live, 0);
    count_groups(s);
    hdl_trace_act(s, HDL_TRACE_EPOCH_END, (uint64_t)(g - s->groups), g->epoch);
}

void hdl_group_up(hdl_sched *s, const hdl_ev_rank *ev)
{
    if (ev->group >= s->config.n_groups || ev->epoch <= s->groups[ev->group].epoch)
        return;
    hdl_group *g = &s->groups[ev->group];
    if (g->up)
        end_epoch(s, g);
    g->up = true;
    g->epoch = ev->epoch;
    g->next_step = 1;
    uint32_t n_blocks = hdl_min_u32(ev->n_blocks, s->config.blocks_max);
    uint32_t max_len = ev->max_len ? ev->max_len : s->config.max_len;
    uint64_t kv_len = (uint64_t)n_blocks << s->bt_shift;
    g->max_len = (uint32_t)hdl_min_size(hdl_min_u32(max_len, s->config.max_len), kv_len);
    hdl_kv_reset(&g->kv, n_blocks);
    count_groups(s);
    hdl_trace_act(s, HDL_TRACE_EPOCH_UP, ev->group, ev->epoch);
}

void hdl_group_lost(hdl_sched *s, const hdl_ev_rank *ev)
{
    if (ev->group >= s->config.n_groups)
        return;
    hdl_group *g = &s->groups[ev->group];
    if (g->up && g->epoch == ev->epoch)
        end_epoch(s, g);
}

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

static bool is_stop(const hdl_sched *s, const hdl_seq *seq, hdl_token token)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    for (uint32_t i = 0; i < seq->n_stop; i++)
        if (token == cold->stop_ids[i])
            return true;
    return false;
}

/* What follows from a sampled token, beyond its being logged and emitted. */
static inline void maybe_end(hdl_sched *s, hdl_seq *seq, hdl_token token)
{
    uint64_t bits = hdl_stop_bits(token);
    if ((seq->stop_bits & bits) == bits && is_stop(s, seq, token))
        hdl_run_end(s, seq, HDL_FINISH_STOP);
    else if (seq->len == seq->end)
        hdl_run_end(s, seq, HDL_FINISH_LENGTH);
}

static inline void emit(hdl_sched *s, hdl_seq *seq, hdl_token token, uint32_t result_row)
{
    hdl_tenant *tenant = &s->tenants[seq->tenant];
    tenant->served += tenant->per_token;
    s->stats.emitted_tokens++;
    hdl_act(s, HDL_ACT_EMIT)->emit = (hdl_act_emit){
        .req = {seq->req},
        .token = token,
        .index = seq->len - seq->n_prompt,
        .result_row = result_row,
    };
    hdl_log_append(s, seq, token);
}

/* Positions up to `acked` are computed. Full blocks are published, and forks that waited for the
 * prompt go on. */
static inline void acknowledge(hdl_sched *s, hdl_seq *seq, uint32_t pos, uint32_t acked)
{
    seq->acked = acked;
    if ((pos ^ acked) > s->bt_mask || hdl_planted(s, HALF_PUBLISHED))
        publish(s, &s->groups[seq->group], seq);
    if (pos < seq->n_prompt && acked + 1 >= seq->n_prompt)
        hdl_queue_release_forks(s, seq);
}

/* Sequences lie all over memory: what the rows to come touch is asked for ahead. */
static inline void look_ahead(const hdl_sched *s, const hdl_stay *who)
{
    __builtin_prefetch(&s->seqs[who->seq], 1);
    __builtin_prefetch(&s->recent[who->seq], 1);
}

/* The sampled row of a result that comes next, or the end: scored ones are passed by. */
static inline const hdl_result_row *pass_scored(const hdl_result_row *res,
                                                const hdl_result_row *end)
{
    while (res != end && res->scored)
        res++;
    return res;
}

/* Goes through the rows of plan and result side by side; sampled rows come in the plan's order. A
 * row whose sequence has ended or was preempted while the step ran is void. False when the result
 * does not answer the plan. */
static bool absorb_plan(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev)
{
    const hdl_result_row *res = ev->rows, *const end = ev->rows + ev->n_rows;
    const uint32_t n_rows = buf->plan.n_rows;
    const hdl_plan_row *row = buf->rows;
    const hdl_stay *who = buf->who;
    hdl_seq *const seqs = s->seqs;
    for (uint32_t r = 0; r < n_rows; r++, row++, who++) {
        const uint32_t pos = row->pos, next = pos + row->n_tokens;
        const hdl_result_row *answer = NULL;
        if (r + 24 < n_rows)
            look_ahead(s, who + 24);
        if (row->flags & HDL_ROW_SAMPLE) {
            answer = pass_scored(res, end);
            if (answer == end || answer->slot != row->slot || answer->pos != next ||
                answer->token < 0)
                return false;
            res = answer + 1;
        }
        hdl_seq *seq = &seqs[who->seq];
        if (seq->gen != who->gen) {
            if (hdl_planted(s, DOUBLE_FINISH) && answer && seq->state == HDL_SEQ_UNUSED)
                hdl_act(s, HDL_ACT_DONE)->done = (hdl_act_done){.req = {seq->req}};
            continue;
        }
        acknowledge(s, seq, pos, next);
        if (answer) {
            seq->pend--;
            emit(s, seq, answer->token, (uint32_t)(answer - ev->rows));
            maybe_end(s, seq, answer->token);
        } else if (next ==
                   seq->end) { /* a prompt that wants no token is done when it is computed */
            hdl_run_end(s, seq, HDL_FINISH_LENGTH);
        }
    }
    return pass_scored(res, end) == end;
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

void hdl_group_absorb(hdl_sched *s, const hdl_ev_result *ev)
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
        end_epoch(s, g);
        return;
    }
    g->in_flight--;
    s->stats.results++;
    s->rate.tokens += buf->n_computed;
    measure_rate(s);
}
