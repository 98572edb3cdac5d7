/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/budget.h"

#include "scheduler/core/decode.h"
#include "scheduler/core/kv.h"
#include "scheduler/core/pace.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"
#include "scheduler/core/side.h"

/* Takes out those that decode by now or left. */
static void list_prefills(hdl_sched *s, hdl_group *g)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_prefills; i++) {
        const hdl_seq *seq = &s->seqs[g->prefills[i].stay.seq];
        if (seq->gen == g->prefills[i].stay.gen && seq->state == HDL_SEQ_PREFILL)
            g->prefills[kept++] = g->prefills[i];
    }
    g->n_prefills = kept;
}

static uint32_t remaining(const hdl_sched *s, const hdl_group *g, uint32_t i)
{
    const hdl_seq *seq = &s->seqs[g->prefills[i].stay.seq];
    return seq->len - seq->pos;
}

/* Shell sort of the prefills by what remains; equal ones stay in the order of importance. */
static void sort_by_remaining(hdl_sched *s, const hdl_group *g, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s->order[i] = i;
    for (uint32_t gap = n / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < n; i++) {
            uint32_t x = s->order[i], at = i;
            uint64_t key = (uint64_t)remaining(s, g, x) << 32 | x;
            while (at >= gap && ((uint64_t)remaining(s, g, s->order[at - gap]) << 32 |
                                 s->order[at - gap]) > key) {
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
static void share_budget(hdl_sched *s, const hdl_group *g, uint32_t n, uint32_t left)
{
    uint32_t row_max = g->row_tokens, all = 0;
    for (uint32_t i = 0; i < n && all <= left; i++)
        all += s->gives[i] = hdl_min_u32(remaining(s, g, i), row_max);
    if (all <= left) /* enough for everybody */
        return;
    memset(s->gives, 0, n * sizeof *s->gives);
    sort_by_remaining(s, g, n);
    s->gives[0] = hdl_min_u32(hdl_min_u32(remaining(s, g, 0), row_max), (left + 1) / 2);
    left -= s->gives[0];
    for (uint32_t k = 0; k < n && left > 0; k++) {
        uint32_t i = s->order[k];
        uint32_t want = hdl_min_u32(remaining(s, g, i), row_max) - s->gives[i];
        uint32_t more = hdl_min_u32(want, left);
        s->gives[i] += more;
        left -= more;
    }
}

static uint32_t plan_tokens_max(const hdl_sched *s)
{
    return s->config.step_tokens + s->config.max_seqs + s->config.max_len;
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
    if (!s->caches.is_plain)
        blocks += hdl_sides_blocks(s, seq->slot, seq->pos + n);
    return plan->n_tokens + tokens <= plan_tokens_max(s) &&
           plan->n_blocks + blocks <= hdl_plan_blocks_max(s);
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

/* The known tokens of a page go to its block, where they are looked for once it is published, or
 * once the log is gone. */
static void fill_block(hdl_sched *s, hdl_kv *kv, uint32_t block, uint32_t page, uint32_t n_known)
{
    n_known = hdl_min_u32(n_known, s->bt_mask + 1);
    memcpy(hdl_block_tokens(s, kv, block), hdl_page_tokens(s, page), n_known * sizeof(hdl_token));
    kv->blocks[block].hash = s->pages.list[page].hash;
}

/* Blocks of the row in the main cache: for a first row the shared ones, then new ones for the pages
 * that it enters. */
static void main_blocks(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, hdl_seq *seq, uint32_t n)
{
    const bool first = !hdl_seq_rest(s, seq)->opened;
    const hdl_hold *hold = &s->slots.hold[seq->slot];
    const uint32_t *table = hdl_slot_table(s, seq->slot);
    uint32_t from = first ? 0 : hold->n_blocks, page = seq->cur;
    uint32_t last = (seq->pos + n - 1) >> s->bt_shift;
    for (uint32_t i = seq->pos >> s->bt_shift; i <= last; i++, page = s->pages.list[page].next) {
        if (i == hold->n_blocks)
            hdl_run_grow(s, g, seq->slot);
        fill_block(s, &g->kv, table[i], page, seq->len - (i << s->bt_shift));
    }
    hdl_main_grant(s, buf, seq->slot, from);
}

/* A fork's partial block: its parent's content is copied to the block that the row brings for it.
 */
static void copy_partial(hdl_sched *s, hdl_plan_buf *buf, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    if (cold->copy_src == NONE)
        return;
    hdl_main_copy(s, buf, cold->copy_src, hdl_slot_table(s, seq->slot)[seq->pos >> s->bt_shift]);
    cold->copy_src = NONE;
    s->stats.block_copies++;
}

/* All that the row needs before it can run. */
static void prepare_row(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, hdl_seq *seq, uint32_t n)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    if (hdl_planted(s, FORK_NO_COPY) && cold->copy_src != NONE) {
        hdl_kv_hold(&g->kv, cold->copy_src);
        hdl_slot_table(s, seq->slot)[s->slots.hold[seq->slot].n_blocks++] = cold->copy_src;
        hdl_kv_unpin(&g->kv, cold->copy_src);
        cold->copy_src = NONE;
    }
    main_blocks(s, g, buf, seq, n);
    if (!s->caches.is_plain) {
        hdl_snapshot(s, g, buf, seq->slot, seq->pos);
        hdl_sides_cover(s, g, buf, seq->slot, seq->pos, seq->pos + n);
    }
    copy_partial(s, buf, seq);
    if (!cold->opened)
        open_slot(s, buf, seq);
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
    if (s->caches.has_states)
        n = hdl_min_u32(n, hdl_snapshot_next(s, seq->slot, seq->pos) - seq->pos);
    if (seq->pos + n == seq->len && cold->max_new > 0)
        flags |= HDL_ROW_SAMPLE;
    prepare_row(s, g, buf, seq, n);

    buf->who[plan->n_rows - buf->n_decodes] = *stay;
    buf->rows[plan->n_rows++] = (hdl_plan_row){
        .slot = seq->slot,
        .pos = seq->pos,
        .n_tokens = n & HDL_ROW_TOKENS_MAX,
        .token_at = plan->n_tokens,
        .flags = flags & HDL_ROW_FLAGS_ALL,
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
        hdl_decode_join(s, g, seq);
        hdl_log_release(s, seq);
        g->n_prefill--;
    }
}

/* Most prefills are short: asks for as many blocks as there are of them. */
static void look_ahead(const hdl_sched *s, const hdl_kv *kv, uint32_t n)
{
    hdl_kv_look_ahead(kv, 0, n);
    hdl_kv_look_ahead(kv, n, 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t block = hdl_kv_nth(kv, i);
        if (block == NONE)
            break;
        __builtin_prefetch(hdl_block_tokens(s, kv, block), 1);
        __builtin_prefetch(hdl_block_tokens(s, kv, block) + 16, 1);
    }
}

static void prefill_pass(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf)
{
    look_ahead(s, &g->kv, g->n_prefills);
    HDL_ASSERT_LT(buf->n_computed, s->config.step_tokens);
    share_budget(s, g, g->n_prefills, hdl_pace_step_tokens(s, g, buf) - buf->n_computed);
    for (uint32_t i = 0; i < g->n_prefills; i++) {
        const hdl_stay *stay = &g->prefills[i].stay;
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

    hdl_decode_rows(s, g, buf);
    const uint32_t n_decoding = plan->n_rows;
    s->stats.decode_tokens += n_decoding;
    list_prefills(s, g);
    if (g->n_prefills > 0)
        prefill_pass(s, g, buf);
    s->stats.prefill_tokens += buf->n_computed - buf->n_guesses - n_decoding;
    hdl_unpin_all(s, g);
    if (plan->n_rows == 0)
        return false;

    memcpy(buf->closes, g->closes, g->n_closes * sizeof *g->closes);
    plan->n_closes = g->n_closes;
    g->n_closes = 0;
    plan->step = g->next_step++;
    plan->epoch = g->epoch;
    hdl_pace_planned(s, g);
    g->in_flight++;
    s->stats.plans++;
    hdl_act(s, HDL_ACT_PLAN)->plan.plan = plan;
    return true;
}
