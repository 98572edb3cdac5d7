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
        hdl_seq *seq = &s->seqs[g->run[i].seq];
        if (seq->gen == g->run[i].gen)
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
        s->pages.next[seq->tail] == NONE && hdl_page_count(s, seq->len) == full + 1)
        full++;
    while (cold->n_pub < full) {
        uint32_t page = cold->pub_page;
        hdl_prefix_key key = {s->pages.hash[page], cold->pub_serial, hdl_page_tokens(s, page)};
        cold->pub_serial = hdl_prefix_publish(s, &g->kv, s->pages.block[page], &key);
        cold->pub_page = s->pages.next[page];
        cold->n_pub++;
    }
}

static bool is_stop(const hdl_sched *s, const hdl_seq *seq, hdl_token token)
{
    if (token == seq->stop0)
        return true;
    if (seq->n_stop < 2)
        return false;
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    for (uint32_t i = 1; i < seq->n_stop; i++)
        if (token == cold->stop_ids[i])
            return true;
    return false;
}

static void emit(hdl_sched *s, hdl_seq *seq, hdl_token token, uint32_t result_row)
{
    hdl_log_append(s, seq, token);
    hdl_tenant *tenant = &s->tenants[seq->tenant];
    tenant->served += tenant->per_token;
    hdl_action *act = hdl_act(s, HDL_ACT_EMIT);
    act->emit = (hdl_act_emit){
        .req = {seq->req},
        .token = token,
        .index = seq->len - 1 - seq->n_prompt,
        .result_row = result_row,
    };
    s->stats.emitted_tokens++;
    if (is_stop(s, seq, token))
        hdl_run_end(s, seq, HDL_FINISH_STOP);
    else if (seq->len == seq->end)
        hdl_run_end(s, seq, HDL_FINISH_LENGTH);
}

/* The positions of a row are computed. */
static void acknowledge(hdl_sched *s, hdl_group *g, hdl_seq *seq, const hdl_plan_row *row)
{
    uint32_t acked = row->pos + row->n_tokens;
    bool filled = (row->pos ^ acked) >> s->bt_shift != 0;
    seq->acked = acked;
    if (filled || hdl_planted(s, HALF_PUBLISHED))
        publish(s, g, seq);
    if (row->pos < seq->n_prompt && acked + 1 >= seq->n_prompt)
        hdl_queue_release_forks(s, seq);
}

static void absorb_row(hdl_sched *s, hdl_group *g, const hdl_plan_row *row, const hdl_run *who)
{
    hdl_seq *seq = &s->seqs[who->seq];
    if (seq->gen != who->gen)
        return;
    acknowledge(s, g, seq, row);
    if (seq->acked ==
        seq->end) /* nothing is generated: only a prompt without max_new is acked to its end */
        hdl_run_end(s, seq, HDL_FINISH_LENGTH);
}

/* The answer to a row that samples: the next unscored row of the result, in the plan's order. */
static const hdl_result_row *next_sampled(const hdl_ev_result *ev, uint32_t *at)
{
    while (*at < ev->n_rows && ev->rows[*at].scored)
        ++*at;
    return *at < ev->n_rows ? &ev->rows[(*at)++] : NULL;
}

/* False when the result does not answer the plan. */
static bool absorb_plan(hdl_sched *s, hdl_group *g, const hdl_plan_buf *buf,
                        const hdl_ev_result *ev)
{
    uint32_t at = 0;
    for (uint32_t r = 0; r < buf->plan.n_rows; r++) {
        const hdl_plan_row *row = &buf->rows[r];
        const hdl_run *who = &buf->who[r];
        s->rate.tokens += row->n_tokens;
        if (!(row->flags & HDL_ROW_SAMPLE)) {
            absorb_row(s, g, row, who);
            continue;
        }
        const hdl_result_row *res = next_sampled(ev, &at);
        if (!res || res->slot != row->slot || res->pos != row->pos + row->n_tokens ||
            res->token < 0)
            return false;
        hdl_seq *seq = &s->seqs[who->seq];
        if (seq->gen != who->gen) { /* it ended or was preempted while this step ran */
            if (hdl_planted(s, DOUBLE_FINISH) && seq->state == HDL_SEQ_UNUSED)
                hdl_act(s, HDL_ACT_DONE)->done = (hdl_act_done){.req = {seq->req}};
            continue;
        }
        acknowledge(s, g, seq, row);
        seq->pend--;
        emit(s, seq, res->token, at - 1);
    }
    return next_sampled(ev, &at) == NULL;
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
    bool good = ev->step <= oldest && g->in_flight > 0 && absorb_plan(s, g, buf, ev);
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
    measure_rate(s);
}
