/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/queue.h"

#include "scheduler/core/plant.h"

static hdl_list *list_of(hdl_sched *s, const hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    return cold->again ? &s->queue.again[seq->priority]
                       : &s->tenants[seq->tenant].fifo[seq->priority];
}

static void list_insert_after(hdl_sched *s, hdl_list *list, uint32_t after, uint32_t idx)
{
    uint32_t *link = after == NONE ? &list->head : &s->cold[after].next;
    s->cold[idx].prev = after;
    s->cold[idx].next = *link;
    *(*link == NONE ? &list->tail : &s->cold[*link].prev) = idx;
    *link = idx;
}

static void list_remove(hdl_sched *s, hdl_list *list, uint32_t idx)
{
    hdl_seq_cold *cold = &s->cold[idx];
    *(cold->prev == NONE ? &list->head : &s->cold[cold->prev].next) = cold->next;
    *(cold->next == NONE ? &list->tail : &s->cold[cold->next].prev) = cold->prev;
    cold->next = cold->prev = NONE;
}

static void count_in(hdl_sched *s, const hdl_seq *seq)
{
    s->queue.n_waiting++;
    s->queue.tokens += seq->len;
}

static void count_out(hdl_sched *s, const hdl_seq *seq)
{
    s->queue.n_waiting--;
    s->queue.tokens -= seq->len;
}

void hdl_queue_push(hdl_sched *s, hdl_seq *seq)
{
    hdl_tenant *tenant = &s->tenants[seq->tenant];
    if (tenant->n_waiting++ == 0 && tenant->served < s->queue.served_floor)
        tenant->served = s->queue.served_floor;
    s->queue.busy[seq->priority][seq->tenant / 64] |= 1ull << (seq->tenant % 64);
    hdl_list *fifo = &tenant->fifo[seq->priority];
    list_insert_after(s, fifo, fifo->tail, hdl_seq_idx(s, seq));
    seq->state = HDL_SEQ_WAITING;
    s->queue.n_listed[seq->priority]++;
    count_in(s, seq);
}

void hdl_queue_again(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    cold->again = true;
    hdl_list *list = &s->queue.again[seq->priority];
    uint32_t after = list->tail;
    while (after != NONE && s->cold[after].serial > cold->serial)
        after = s->cold[after].prev;
    list_insert_after(s, list, after, hdl_seq_idx(s, seq));
    seq->state = HDL_SEQ_WAITING;
    s->queue.n_listed[seq->priority]++;
    count_in(s, seq);
}

void hdl_queue_hold(hdl_sched *s, hdl_seq *seq, hdl_seq *parent)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq), *pc = hdl_seq_rest(s, parent);
    cold->parent = hdl_seq_idx(s, parent);
    cold->next = pc->forks;
    cold->prev = NONE;
    if (pc->forks != NONE)
        s->cold[pc->forks].prev = hdl_seq_idx(s, seq);
    pc->forks = hdl_seq_idx(s, seq);
    seq->state = HDL_SEQ_HELD;
    count_in(s, seq);
}

static void unhold(hdl_sched *s, hdl_seq *seq)
{
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    *(cold->prev == NONE ? &s->cold[cold->parent].forks : &s->cold[cold->prev].next) = cold->next;
    if (cold->next != NONE)
        s->cold[cold->next].prev = cold->prev;
    cold->parent = cold->next = cold->prev = NONE;
    count_out(s, seq);
}

void hdl_queue_release_forks(hdl_sched *s, hdl_seq *parent)
{
    hdl_seq_cold *pc = hdl_seq_rest(s, parent);
    while (pc->forks != NONE) {
        hdl_seq *fork = &s->seqs[pc->forks];
        unhold(s, fork);
        hdl_queue_again(s, fork);
    }
}

void hdl_queue_remove(hdl_sched *s, hdl_seq *seq)
{
    if (seq->state == HDL_SEQ_HELD) {
        unhold(s, seq);
        return;
    }
    HDL_ASSERT_EQ(seq->state, HDL_SEQ_WAITING);
    hdl_list *list = list_of(s, seq);
    list_remove(s, list, hdl_seq_idx(s, seq));
    s->queue.n_listed[seq->priority]--;
    count_out(s, seq);
    hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    if (cold->again) {
        cold->again = false;
        return;
    }
    s->tenants[seq->tenant].n_waiting--;
    if (list->head == NONE)
        s->queue.busy[seq->priority][seq->tenant / 64] &= ~(1ull << (seq->tenant % 64));
}

/* Of one priority: who goes next, and since when the one who waits longest has waited. */
typedef struct class_head {
    uint32_t idx;
    uint64_t oldest_us;
} class_head;

static class_head head_of_class(const hdl_sched *s, uint32_t priority)
{
    class_head h = {NONE, UINT64_MAX};
    uint64_t least = UINT64_MAX;
    for (uint32_t word = 0; word < HDL_TENANTS_MAX / 64; word++) {
        for (uint64_t bits = s->queue.busy[priority][word]; bits; bits &= bits - 1) {
            const hdl_tenant *t = &s->tenants[word * 64 + (uint32_t)__builtin_ctzll(bits)];
            uint32_t idx = t->fifo[priority].head;
            const hdl_seq_cold *cold = &s->cold[idx];
            if (cold->arrived_us < h.oldest_us)
                h.oldest_us = cold->arrived_us;
            if (hdl_planted(s, STARVED_TENANT) && h.idx != NONE)
                continue;
            if (t->served < least || (t->served == least && cold->serial < s->cold[h.idx].serial)) {
                least = t->served;
                h.idx = idx;
            }
        }
    }
    uint32_t again = s->queue.again[priority].head;
    if (again != NONE) {
        h.idx = again;
        if (s->cold[again].arrived_us < h.oldest_us)
            h.oldest_us = s->cold[again].arrived_us;
    }
    return h;
}

hdl_seq *hdl_queue_pick(const hdl_sched *s)
{
    uint32_t best = NONE;
    uint64_t best_us = UINT64_MAX;
    for (uint32_t p = 0; p < HDL_PRIORITIES; p++) {
        if (s->queue.n_listed[p] == 0)
            continue;
        class_head h = head_of_class(s, p);
        /* One level is worth aging_us of waiting: priority p counts as if it had come p * aging_us
         * later. */
        uint64_t as_if_us = h.oldest_us + (uint64_t)p * s->config.aging_us;
        if (best == NONE || (s->config.aging_us && as_if_us < best_us)) {
            best = h.idx;
            best_us = as_if_us;
        }
    }
    return best == NONE ? NULL : &s->seqs[best];
}

hdl_seq *hdl_queue_promised(const hdl_sched *s)
{
    for (uint32_t p = 0; p < HDL_PRIORITIES; p++)
        for (uint32_t i = s->queue.again[p].head; i != NONE; i = s->cold[i].next)
            if (s->cold[i].admitted)
                return &s->seqs[i];
    return NULL;
}

void hdl_queue_charge(hdl_sched *s, uint32_t tenant, uint32_t tokens)
{
    hdl_tenant *t = &s->tenants[tenant];
    t->served += t->per_token * tokens;
}

uint32_t hdl_queue_retry_after_ms(const hdl_sched *s)
{
    if (s->rate.per_s == 0)
        return 1000;
    uint64_t ms = s->queue.tokens * 1000 / s->rate.per_s;
    return ms < 100 ? 100 : ms > 60000 ? 60000 : (uint32_t)ms;
}
