/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/run.h"

#include "scheduler/core/deadline.h"
#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/seq.h"

/* Appends, then sinks the entry to its place: nearly always it stays where it is. */
static void run_insert(hdl_sched *s, hdl_group *g, hdl_run run)
{
    HDL_ASSERT_LT(g->n_run, hdl_run_max(&s->config));
    uint32_t at = g->n_run++;
    while (at > 0 && g->run[at - 1].key > run.key) {
        g->run[at] = g->run[at - 1];
        at--;
    }
    g->run[at] = run;
}

void hdl_run_enter(hdl_sched *s, hdl_seq *seq, const hdl_entry *entry)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_group *g = &s->groups[entry->group];
    HDL_ASSERT_LE(entry->n_blocks, hdl_kv_spare(&g->kv));
    HDL_ASSERT_LT(entry->pos, seq->len);

    seq->state = HDL_SEQ_PREFILL;
    seq->group = (uint8_t)entry->group;
    seq->slot = s->slots_free[--s->n_slots_free];
    seq->end = entry->end;
    seq->pos = seq->acked = entry->pos;
    seq->cur = entry->page;
    seq->resv = entry->n_blocks;
    g->kv.promised += entry->n_blocks;
    g->n_live++;
    g->n_prefill++;
    g->prefill_tokens += seq->len - seq->pos;

    cold->admitted = true;
    cold->admitted_len = seq->len;
    cold->opened = false;
    uint64_t key = (uint64_t)seq->priority << 56 | cold->serial;
    run_insert(s, g, (hdl_run){.stay = {hdl_seq_idx(s, seq), seq->gen}, .key = key});
}

/* Collects the blocks first: one look-up waits for the last in a list of pages, but not in an
 * array. */
static uint32_t collect_blocks(hdl_sched *s, const hdl_seq *seq, const hdl_kv *kv)
{
    uint32_t n = 0;
    for (uint32_t page = hdl_seq_rest(s, seq)->head; page != NONE;
         page = s->pages.list[page].next) {
        uint32_t block = s->pages.list[page].block;
        if (block == NONE)
            continue;
        __builtin_prefetch(&kv->blocks[block], 1);
        s->pages.list[page].block = NONE;
        if (hdl_planted(s, REF_LEAK) && page == seq->tail)
            continue;
        s->table[0][n++] = block;
    }
    return n;
}

static void give_blocks(hdl_sched *s, hdl_seq *seq, hdl_kv *kv)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    for (uint32_t n = collect_blocks(s, seq, kv); n > 0; n--)
        hdl_kv_give(kv, s->table[0][n - 1]);
    if (cold->copy_src != NONE)
        hdl_kv_unpin(kv, cold->copy_src);
    cold->copy_src = NONE;
    kv->promised -= seq->resv;
    seq->resv = 0;
}

static void leave(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_group *g = &s->groups[seq->group];
    give_blocks(s, seq, &g->kv);
    if (cold->opened)
        g->closes[g->n_closes++] = seq->slot;
    s->slots_free[s->n_slots_free++] = seq->slot;
    seq->slot = NONE;
    g->n_live--;
    if (seq->state == HDL_SEQ_PREFILL) {
        g->n_prefill--;
        g->prefill_tokens -= seq->len - seq->pos;
    }
    seq->gen++;
}

void hdl_run_back(hdl_sched *s, hdl_seq *seq, hdl_trace why)
{
    leave(s, seq);
    if (seq->len > seq->n_prompt && (seq->len & s->bt_mask) != 0)
        hdl_log_flush(s, seq);
    hdl_seq_rest(s, seq)->n_preempted++;
    if (hdl_planted(s, EMIT_TWICE) && seq->len > seq->n_prompt && (seq->len & s->bt_mask) > 1)
        seq->len--;
    if (why == HDL_TRACE_PREEMPT)
        s->stats.preemptions++;
    else
        s->stats.requeues++;
    hdl_queue_again(s, seq);
    hdl_trace_act(s, why, seq->req, seq->len);
}

static void forget(hdl_sched *s, hdl_seq *seq)
{
    if (hdl_seq_runs(seq))
        leave(s, seq);
    else
        hdl_queue_remove(s, seq);
    hdl_deadline_remove(s, seq);
    if (!hdl_planted(s, LOST_FORK))
        hdl_queue_release_forks(s, seq);
    hdl_seq_free(s, seq);
    if (s->draining && s->n_used == 0)
        hdl_trace_act(s, HDL_TRACE_DRAINED, 0, 0);
}

void hdl_run_end(hdl_sched *s, hdl_seq *seq, hdl_finish reason)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_action *act = hdl_act(s, HDL_ACT_DONE);
    act->done = (hdl_act_done){
        .req = {seq->req},
        .reason = reason,
        .n_prompt = seq->n_prompt,
        .n_cached = cold->n_cached,
        .n_new = seq->len - seq->n_prompt,
        .n_preempted = cold->n_preempted,
    };
    s->stats.finished[reason]++;
    forget(s, seq);
}

void hdl_run_reject(hdl_sched *s, hdl_seq *seq, hdl_err err)
{
    hdl_action *act = hdl_act(s, HDL_ACT_REJECT);
    act->reject = (hdl_act_reject){
        .req = {seq->req},
        .err = err,
        .retry_after_ms = err == HDL_TIMEOUT ? hdl_queue_retry_after_ms(s) : 0,
        .need = seq->n_prompt,
        .have = s->stats.max_len,
    };
    s->stats.rejected++;
    forget(s, seq);
}
