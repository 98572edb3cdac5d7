/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/budget.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"

/* A block for a sequence: one that it was promised, else a spare one; NONE when there is neither.
 */
static uint32_t grow(hdl_sched *s, hdl_group *g, hdl_seq *seq)
{
    if (seq->resv > 0) {
        seq->resv--;
        g->kv.promised--;
    } else if (hdl_kv_spare(&g->kv) == 0) {
        return NONE;
    }
    return hdl_kv_take(s, &g->kv);
}

static bool may_be_preempted(const hdl_sched *s, const hdl_stay *stay)
{
    const hdl_seq *seq = &s->seqs[stay->seq];
    return seq->gen == stay->gen && seq->state == HDL_SEQ_DECODE &&
           seq->len > s->cold[stay->seq].admitted_len;
}

/* The least important sequence behind run[at] that has made progress since its admission, else
 * run[at] itself, which has: what it was promised covers its first new token. Those before run[at]
 * may have a row in this plan already. */
static hdl_seq *victim(const hdl_sched *s, const hdl_group *g, uint32_t at)
{
    if (hdl_planted(s, PREMATURE_REUSE)) {
        for (uint32_t i = 0; i < at; i++)
            if (may_be_preempted(s, &g->run[i].stay))
                return &s->seqs[g->run[i].stay.seq];
    }
    for (uint32_t i = g->n_run - 1; i > at; i--)
        if (may_be_preempted(s, &g->run[i].stay))
            return &s->seqs[g->run[i].stay.seq];
    HDL_ASSERT(may_be_preempted(s, &g->run[at].stay));
    return &s->seqs[g->run[at].stay.seq];
}

/* A block for run[at], preempting as need be; NONE when run[at] had to go itself. */
static uint32_t grow_or_preempt(hdl_sched *s, hdl_group *g, uint32_t at)
{
    hdl_seq *seq = &s->seqs[g->run[at].stay.seq];
    uint32_t block;
    while ((block = grow(s, g, seq)) == NONE) {
        hdl_seq *loser = victim(s, g, at);
        hdl_run_back(s, loser, HDL_TRACE_PREEMPT);
        if (loser == seq)
            return NONE;
    }
    return block;
}

/* The block of position pos, on a page's start. False when the sequence had to go instead. */
static bool decode_block(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t at)
{
    hdl_seq *seq = &s->seqs[g->run[at].stay.seq];
    uint32_t block = grow_or_preempt(s, g, at);
    if (block == NONE)
        return false;
    uint32_t page = seq->pos == seq->len ? hdl_log_next_page(s, seq, seq->len) : seq->tail;
    s->pages.list[page].block = block;
    buf->grants[buf->plan.n_grants++] = (hdl_plan_grant){
        .slot = seq->slot,
        .table_at = seq->pos >> s->bt_shift,
        .block_at = buf->plan.n_blocks,
        .n_blocks = 1,
    };
    buf->blocks[buf->plan.n_blocks++] = block;
    return true;
}

/* Takes out the stays that are over, once there are enough of them to be in the way. */
static void compact(hdl_sched *s, hdl_group *g, uint32_t n_over)
{
    if (n_over * 8 <= g->n_run)
        return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_run; i++)
        if (s->seqs[g->run[i].stay.seq].gen == g->run[i].stay.gen)
            g->run[kept++] = g->run[i];
    g->n_run = kept;
}

/* Gives a row to each sequence that decodes and lists the prefills in scratch. With absorb_decodes,
 * all that is done for every running sequence at every step; what does not change is held in
 * locals. */
static uint32_t decode_pass(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf)
{
    const uint32_t mask = s->bt_mask, n_run = g->n_run;
    hdl_seq *const seqs = s->seqs;
    const hdl_run *run = g->run;
    uint32_t n_over = 0, n_prefills = 0, r = 0;
    for (uint32_t i = 0; i < n_run; i++, run++) {
        const hdl_stay stay = run->stay;
        __builtin_prefetch(&seqs[run[HDL_LOOK_AHEAD].stay.seq], 1);
        hdl_seq *seq = &seqs[stay.seq];
        if (seq->gen != stay.gen) {
            n_over++;
            continue;
        }
        if (seq->state == HDL_SEQ_PREFILL) {
            s->prefills[n_prefills++] = stay;
            continue;
        }
        const uint32_t pos = seq->pos;
        if (pos + 1 >= seq->end)
            continue; /* its last token is in flight */
        if ((pos & mask) == 0 && !decode_block(s, g, buf, i)) {
            n_over++;
            continue;
        }
        const bool fed_back = pos == seq->len; /* its token is still being sampled */
        hdl_plan_row *row = &buf->rows[r];
        __builtin_prefetch(row + 16, 1);
        row->slot = seq->slot;
        row->pos = pos;
        row->n_tokens = 1;
        row->token_at = r;
        row->flags = HDL_ROW_SAMPLE | (fed_back ? (uint32_t)HDL_ROW_FEEDBACK : 0u);
        buf->who[r] = stay;
        buf->tokens[r] = -1;
        if (!fed_back)
            buf->tokens[r] = s->recent[stay.seq].at[pos % HDL_RECENT];
        seq->pos = pos + 1;
        r++;
    }
    compact(s, g, n_over);
    buf->plan.n_rows = buf->plan.n_tokens = buf->n_decodes = buf->n_computed = r;
    return n_prefills;
}

static uint32_t remaining(const hdl_sched *s, uint32_t i)
{
    const hdl_seq *seq = &s->seqs[s->prefills[i].seq];
    return seq->len - seq->pos;
}

/* Shell sort of the prefills by what remains; equal ones stay in the order of importance. */
static void sort_by_remaining(hdl_sched *s, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->order[i] = i;
    for (uint32_t gap = n / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < n; i++) {
            uint32_t x = s->order[i], at = i;
            uint64_t key = (uint64_t)remaining(s, x) << 32 | x;
            while (at >= gap &&
                   ((uint64_t)remaining(s, s->order[at - gap]) << 32 | s->order[at - gap]) > key) {
                s->order[at] = s->order[at - gap];
                at -= gap;
            }
            s->order[at] = x;
        }
    }
}

/* Shares `left` tokens among n prefills: half to the first in importance, so that a long prompt
 * always moves; the other half, and what is left of the first, to those that need the least, so
 * that short ones are soon done. */
static void share_budget(hdl_sched *s, uint32_t n, uint32_t left)
{
    uint32_t row_max = s->config.max_row_tokens;
    memset(s->gives, 0, n * sizeof *s->gives);
    sort_by_remaining(s, n);
    s->gives[0] = hdl_min_u32(hdl_min_u32(remaining(s, 0), row_max), (left + 1) / 2);
    left -= s->gives[0];
    for (uint32_t k = 0; k < n && left > 0; k++) {
        uint32_t i = s->order[k];
        uint32_t want = hdl_min_u32(remaining(s, i), row_max) - s->gives[i];
        uint32_t more = hdl_min_u32(want, left);
        s->gives[i] += more;
        left -= more;
    }
}

static uint32_t plan_tokens_max(const hdl_sched *s)
{
    return s->config.step_tokens + s->config.max_seqs + s->config.max_len;
}

static uint32_t plan_blocks_max(const hdl_sched *s)
{
    return s->config.step_tokens + 2 * s->config.max_seqs + hdl_page_count(s, s->config.max_len);
}

/* A first row brings the whole table and perhaps the history: it may have to wait for an emptier
 * plan. */
static bool row_fits(const hdl_sched *s, const hdl_plan *plan, const hdl_seq *seq, uint32_t n)
{
    const hdl_seq_cold *cold = &s->cold[hdl_seq_idx(s, seq)];
    uint32_t tokens = n + 1, blocks = hdl_page_count(s, seq->pos + n);
    if (cold->opened)
        blocks -= hdl_page_count(s, seq->pos);
    else if (seq->flags & HDL_SUBMIT_HISTORY)
        tokens += seq->len;
    return plan->n_tokens + tokens <= plan_tokens_max(s) &&
           plan->n_blocks + blocks <= plan_blocks_max(s);
}

static void open_slot(hdl_sched *s, hdl_plan_buf *buf, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_plan *plan = &buf->plan;
    bool history = (seq->flags & HDL_SUBMIT_HISTORY) != 0;
    buf->opens[plan->n_opens++] = (hdl_plan_open){
        .slot = seq->slot,
        .req_lo = (uint32_t)seq->req,
        .req_hi = (uint32_t)(seq->req >> 32),
        .n_prompt = seq->n_prompt,
        .history_at = plan->n_tokens,
        .n_history = history ? seq->len : 0,
    };
    if (history) {
        hdl_log_copy(s, cold->head, 0, seq->len, buf->tokens + plan->n_tokens);
        plan->n_tokens += seq->len;
    }
    cold->opened = true;
}

/* Blocks of the row: for a first row the shared ones, then new ones for the pages that it enters.
 */
static void prefill_blocks(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, hdl_seq *seq, uint32_t n)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_plan *plan = &buf->plan;
    if (!cold->opened)
        for (uint32_t page = cold->head; page != seq->cur; page = s->pages.list[page].next)
            buf->blocks[plan->n_blocks++] = s->pages.list[page].block;
    uint32_t page = seq->cur;
    uint32_t last = (seq->pos + n - 1) >> s->bt_shift;
    for (uint32_t i = seq->pos >> s->bt_shift; i <= last; i++, page = s->pages.list[page].next) {
        bool fresh = s->pages.list[page].block == NONE;
        if (fresh) {
            s->pages.list[page].block = grow(s, g, seq);
            HDL_ASSERT(s->pages.list[page].block != NONE);
        }
        if (fresh || !cold->opened)
            buf->blocks[plan->n_blocks++] = s->pages.list[page].block;
    }
}

/* A fork's partial block: its parent's content is copied to the block that the row brings for it.
 */
static void copy_partial(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    uint32_t dst = s->pages.list[seq->cur].block;
    buf->copies[buf->plan.n_copies++] = (hdl_plan_copy){.src = cold->copy_src, .dst = dst};
    hdl_kv_unpin(&g->kv, cold->copy_src);
    cold->copy_src = NONE;
    s->stats.block_copies++;
}

static void prefill_row(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, const hdl_stay *stay,
                        uint32_t n)
{
    hdl_seq *seq = &s->seqs[stay->seq];
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_plan *plan = &buf->plan;
    bool in_prompt = seq->pos < seq->n_prompt;
    uint32_t flags = 0;
    if (in_prompt && (seq->flags & (HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS))) {
        /* What is asked of the prompt is not asked of generated tokens: a row holds one kind. */
        n = hdl_min_u32(n, seq->n_prompt - seq->pos);
        flags |= seq->flags & HDL_SUBMIT_SCORE ? HDL_ROW_SCORE : 0u;
        flags |= seq->flags & HDL_SUBMIT_LOGITS ? HDL_ROW_LOGITS : 0u;
    }
    if (seq->pos + n == seq->len && cold->max_new > 0)
        flags |= HDL_ROW_SAMPLE;

    uint32_t table_at = cold->opened ? hdl_page_count(s, seq->pos) : 0;
    uint32_t block_at = plan->n_blocks;
    if (hdl_planted(s, FORK_NO_COPY) && cold->copy_src != NONE) {
        hdl_kv_hold(&g->kv, cold->copy_src);
        s->pages.list[seq->cur].block = cold->copy_src;
        hdl_kv_unpin(&g->kv, cold->copy_src);
        cold->copy_src = NONE;
    }
    prefill_blocks(s, g, buf, seq, n);
    if (!cold->opened)
        open_slot(s, buf, seq);
    if (cold->copy_src != NONE)
        copy_partial(s, g, buf, seq);

    buf->who[plan->n_rows] = *stay;
    buf->rows[plan->n_rows++] = (hdl_plan_row){
        .slot = seq->slot,
        .pos = seq->pos,
        .n_tokens = n,
        .token_at = plan->n_tokens,
        .flags = flags,
    };
    if (plan->n_blocks > block_at)
        buf->grants[plan->n_grants++] = (hdl_plan_grant){
            .slot = seq->slot,
            .table_at = table_at,
            .block_at = block_at,
            .n_blocks = plan->n_blocks - block_at,
        };
    hdl_token *tokens = buf->tokens + plan->n_tokens;
    seq->cur = hdl_log_copy(s, seq->cur, seq->pos, n, tokens);
    plan->n_tokens += n;
    if (flags & HDL_ROW_SCORE) {
        tokens[n] = -1;
        if (seq->pos + n < seq->n_prompt)
            hdl_log_copy(s, seq->cur, seq->pos + n, 1, tokens + n);
        plan->n_tokens++;
    }
    seq->pos += n;
    g->prefill_tokens -= n;
    buf->n_computed += n;
    if (hdl_planted(s, CHUNK_OFF_BY_ONE) && seq->pos + 1 < seq->len && (seq->pos & s->bt_mask)) {
        seq->pos++;
        g->prefill_tokens--;
        if ((seq->pos & s->bt_mask) == 0)
            seq->cur = s->pages.list[seq->cur].next;
    }
    if (seq->pos == seq->len) {
        seq->state = HDL_SEQ_DECODE;
        g->n_prefill--;
    }
}

static void prefill_pass(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t n_prefills)
{
    HDL_ASSERT_LT(buf->plan.n_rows, s->config.step_tokens);
    share_budget(s, n_prefills, s->config.step_tokens - buf->plan.n_rows);
    for (uint32_t i = 0; i < n_prefills; i++) {
        const hdl_stay *stay = &s->prefills[i];
        if (s->gives[i] > 0 && row_fits(s, &buf->plan, &s->seqs[stay->seq], s->gives[i]))
            prefill_row(s, g, buf, stay, s->gives[i]);
    }
}

bool hdl_budget_plan(hdl_sched *s, hdl_group *g)
{
    hdl_plan_buf *buf = &g->buf[g->next_step % HDL_PLANS_IN_FLIGHT];
    hdl_plan *plan = &buf->plan;
    plan->n_rows = plan->n_opens = plan->n_grants = plan->n_closes = plan->n_copies = 0;
    plan->n_tokens = plan->n_blocks = 0;

    uint32_t n_prefills = decode_pass(s, g, buf);
    uint32_t decoded = plan->n_rows;
    s->stats.decode_tokens += decoded;
    if (n_prefills > 0)
        prefill_pass(s, g, buf, n_prefills);
    s->stats.prefill_tokens += buf->n_computed - decoded;
    if (plan->n_rows == 0)
        return false;

    memcpy(buf->closes, g->closes, g->n_closes * sizeof *g->closes);
    plan->n_closes = g->n_closes;
    g->n_closes = 0;
    plan->step = g->next_step++;
    plan->epoch = g->epoch;
    g->in_flight++;
    s->stats.plans++;
    hdl_act(s, HDL_ACT_PLAN)->plan.plan = plan;
    return true;
}
