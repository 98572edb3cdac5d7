/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/run.h"

#include "scheduler/core/deadline.h"
#include "scheduler/core/decode.h"
#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/seq.h"
#include "scheduler/core/side.h"

/* Takes out the stays that are over. */
static void compact(const hdl_sched *s, hdl_run *run, uint32_t *n_run)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n_run; i++)
        if (s->seqs[run[i].stay.seq].gen == run[i].stay.gen)
            run[kept++] = run[i];
    *n_run = kept;
}

/* Appends, then sinks the entry to its place: nearly always it stays where it is. */
static void insert(const hdl_sched *s, hdl_run *run, uint32_t *n_run, hdl_run entry)
{
    if (*n_run == hdl_run_max(&s->config))
        compact(s, run, n_run);
    HDL_ASSERT_LT(*n_run, hdl_run_max(&s->config));
    uint32_t at = (*n_run)++;
    for (; at > 0 && run[at - 1].key > entry.key; at--)
        run[at] = run[at - 1];
    run[at] = entry;
}

void hdl_run_enter(hdl_sched *s, hdl_seq *seq, const hdl_entry *entry)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_group *g = &s->groups[entry->group];
    HDL_ASSERT_LE(entry->n_blocks, hdl_kv_spare(&g->kv));
    HDL_ASSERT_LT(entry->pos, seq->len);

    seq->state = HDL_SEQ_PREFILL;
    seq->group = (uint8_t)entry->group;
    seq->slot = entry->slot;
    seq->end = entry->end;
    seq->pos = seq->acked = entry->pos;
    seq->cur = entry->page;
    g->kv.promised += entry->n_blocks;
    g->n_live++;
    g->n_prefill++;
    g->prefill_tokens += seq->len - seq->pos;
    cold->admitted = true;
    cold->opened = false;

    hdl_slots *slots = &s->slots;
    const uint64_t key = (uint64_t)seq->priority << 56 | cold->serial;
    slots->seq[seq->slot] = hdl_seq_idx(s, seq);
    slots->key[seq->slot] = key;
    slots->hold[seq->slot] = (hdl_hold){.n_blocks = entry->n_shared, .resv = entry->n_blocks};
    slots->filing[seq->slot] = (hdl_filing){
        .chain = cold->chain,
        .parent = entry->parent,
        .n_pub = entry->parent ? entry->n_shared : 0,
        .from = seq->len,
        .group = seq->group,
        .publishes = s->config.prefix_cache && (seq->flags & HDL_SUBMIT_NO_CACHE) == 0,
    };
    const hdl_run run = {.stay = {hdl_seq_idx(s, seq), seq->gen}, .key = key};
    insert(s, g->run, &g->n_run, run);
    insert(s, g->prefills, &g->n_prefills, run);
}

uint32_t hdl_run_grow(hdl_sched *s, hdl_group *g, uint32_t slot)
{
    hdl_hold *hold = &s->slots.hold[slot];
    if (hold->resv > 0) {
        hold->resv--;
        g->kv.promised--;
    } else {
        HDL_ASSERT_LT(0, hdl_kv_spare(&g->kv));
    }
    return hdl_slot_table(s, slot)[hold->n_blocks++] = hdl_kv_take(s, &g->kv);
}

static void give_blocks(hdl_sched *s, hdl_seq *seq, hdl_kv *kv)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_hold *hold = &s->slots.hold[seq->slot];
    const uint32_t *table = hdl_slot_table(s, seq->slot);
    for (uint32_t n = hold->n_blocks; n > 0; n--) {
        if (hdl_planted(s, REF_LEAK) && n - 1 == (seq->len - 1) >> s->bt_shift)
            continue;
        hdl_kv_give(kv, table[n - 1]);
    }
    if (cold->copy_src != NONE)
        hdl_kv_unpin(kv, cold->copy_src);
    cold->copy_src = NONE;
    kv->promised -= hold->resv;
    *hold = (hdl_hold){0};
}

static void leave(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    hdl_group *g = &s->groups[seq->group];
    give_blocks(s, seq, &g->kv);
    if (!s->caches.is_plain)
        hdl_sides_leave(s, g, seq->slot);
    if (cold->opened)
        g->closes[g->n_closes++] = seq->slot;
    s->slots_free[s->n_slots_free++] = seq->slot;
    g->n_live--;
    if (seq->state == HDL_SEQ_PREFILL) {
        g->n_prefill--;
        g->prefill_tokens -= seq->len - seq->pos;
    } else {
        hdl_decode_leave(s, g, seq);
    }
    seq->slot = NONE;
    seq->gen++;
}

void hdl_run_back(hdl_sched *s, hdl_seq *seq, hdl_trace why)
{
    seq->len = hdl_seq_len(s, seq);
    if (hdl_planted(s, EMIT_TWICE) && seq->len > seq->n_prompt && (seq->len & s->bt_mask) > 1)
        seq->len--;
    if (seq->state == HDL_SEQ_DECODE)
        hdl_log_restore(s, seq);
    leave(s, seq);
    hdl_seq_rest(s, seq)->n_preempted++;
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
        .n_new = hdl_seq_len(s, seq) - seq->n_prompt,
        .n_preempted = cold->n_preempted,
    };
    s->stats.finished[reason]++;
    if (hdl_planted(s, DOUBLE_FINISH) && hdl_seq_runs(seq) && s->groups[seq->group].in_flight > 1)
        hdl_act(s, HDL_ACT_DONE)->done = act->done;
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
