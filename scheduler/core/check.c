/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of the whole state, each counted anew from the sequences up. Scratch is taken from
 * the state's own scratch arrays, which hold nothing between steps. */
#include "scheduler/core/check.h"
#include "scheduler/core/prefix.h"

typedef struct tally {
    uint32_t used, waiting, live, deadlines;
    uint64_t sheets, promised, queued_tokens;
} tally;

/* Positions that are planned. */
static uint32_t planned(const hdl_sched *s, const hdl_seq *seq)
{
    if (seq->state == HDL_SEQ_PREFILL)
        return seq->pos;
    const hdl_group *g = &s->groups[seq->group];
    if (hdl_bit(g->decode, seq->slot))
        return s->slots.base[seq->slot] + (uint32_t)g->next_step;
    return hdl_max_u32(seq->end - 1, s->slots.filing[seq->slot].from); /* all that ever will be */
}

static const char *check_log(const hdl_sched *s, const hdl_seq *seq, tally *t)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    uint32_t n = 0, last = cold->tail;
    if (cold->n_pages > 0)
        for (uint32_t page = cold->head; page != NONE; page = s->pages.list[page].next, n++) {
            REQUIRE(page < s->pages.touched && n < cold->n_pages);
            last = page;
        }
    REQUIRE(n == cold->n_pages && last == cold->tail);
    REQUIRE(n == (seq->state == HDL_SEQ_DECODE ? 0 : hdl_page_count(s, seq->len)));
    t->sheets += (n + s->pages.sheet_mask) / (s->pages.sheet_mask + 1);
    t->promised += cold->log_resv;
    return NULL;
}

static const char *check_decoding(const hdl_sched *s, const hdl_seq *seq)
{
    const hdl_group *g = &s->groups[seq->group];
    const hdl_slots *slots = &s->slots;
    const uint32_t pos = planned(s, seq), len = slots->len[seq->slot];
    REQUIRE(len >= slots->filing[seq->slot].from);
    REQUIRE(slots->end[seq->slot] == seq->end && slots->n_prompt[seq->slot] == seq->n_prompt);
    REQUIRE(slots->req[seq->slot] == seq->req && slots->tenant[seq->slot] == seq->tenant);
    REQUIRE(!hdl_bit(g->decode, seq->slot) || pos + 1 < seq->end);
    REQUIRE(pos <= len + 1 && len <= pos + 1);
    return NULL;
}

static const char *check_running(const hdl_sched *s, const hdl_seq *seq)
{
    const hdl_seq_cold *cold = hdl_seq_rest(s, seq);
    REQUIRE(seq->group < s->config.n_groups && s->groups[seq->group].up);
    REQUIRE(seq->slot < s->config.max_seqs && hdl_slot_seq(s, seq->slot) == seq);
    const hdl_hold *hold = &s->slots.hold[seq->slot];
    const hdl_filing *filing = &s->slots.filing[seq->slot];
    uint32_t len = hdl_seq_len(s, seq);
    REQUIRE(len < seq->end || (cold->max_new == 0 && len == seq->end));
    REQUIRE(cold->admitted && seq->acked <= planned(s, seq));
    if (cold->opened)
        REQUIRE(hold->n_blocks == hdl_page_count(s, planned(s, seq)));
    REQUIRE(filing->n_pub <= (len - 1) >> s->bt_shift ||
            filing->n_pub <= seq->acked >> s->bt_shift);
    REQUIRE(seq->state == HDL_SEQ_DECODE || seq->pos < seq->len);
    return seq->state == HDL_SEQ_DECODE ? check_decoding(s, seq) : NULL;
}

static const char *check_seqs(const hdl_sched *s, tally *t)
{
    for (uint32_t i = 0; i < s->seq_touched; i++) {
        const hdl_seq *seq = &s->seqs[i];
        const hdl_seq_cold *cold = &s->cold[i];
        if (seq->state == HDL_SEQ_UNUSED)
            continue;
        t->used++;
        PASS(check_log(s, seq, t));
        REQUIRE((cold->deadline_us != 0) == (cold->heap_at != NONE));
        REQUIRE(cold->heap_at == NONE || s->deadlines[cold->heap_at] == i);
        t->deadlines += cold->heap_at != NONE;
        if (hdl_seq_runs(seq)) {
            t->live++;
            PASS(check_running(s, seq));
        } else {
            t->waiting++;
            t->queued_tokens += seq->len;
            REQUIRE(seq->slot == NONE && cold->copy_src == NONE);
        }
    }
    return NULL;
}

/* Every waiting sequence is in exactly one list. */
static const char *check_queue(const hdl_sched *s, const tally *t)
{
    uint32_t n = 0;
    for (uint32_t p = 0; p < HDL_PRIORITIES; p++) {
        uint64_t serial = 0;
        const uint32_t before = n;
        for (uint32_t i = s->queue.again[p].head; i != NONE; i = s->cold[i].next, n++) {
            REQUIRE(s->seqs[i].state == HDL_SEQ_WAITING && s->cold[i].again);
            REQUIRE(s->cold[i].serial > serial);
            serial = s->cold[i].serial;
        }
        for (uint32_t k = 0; k < s->config.n_tenants; k++) {
            const hdl_list *fifo = &s->tenants[k].fifo[p];
            bool busy = s->queue.busy[p][k / 64] >> (k % 64) & 1;
            REQUIRE(busy == (fifo->head != NONE));
            for (uint32_t i = fifo->head; i != NONE; i = s->cold[i].next, n++)
                REQUIRE(s->seqs[i].state == HDL_SEQ_WAITING && !s->cold[i].again);
        }
        REQUIRE(s->queue.n_listed[p] == n - before);
    }
    for (uint32_t i = 0; i < s->seq_touched; i++) {
        if (s->seqs[i].state == HDL_SEQ_UNUSED)
            continue;
        for (uint32_t f = s->cold[i].forks; f != NONE; f = s->cold[f].next, n++)
            REQUIRE(s->seqs[f].state == HDL_SEQ_HELD && s->cold[f].parent == i);
    }
    REQUIRE(n == t->waiting && s->queue.n_waiting == t->waiting);
    REQUIRE(s->queue.tokens == t->queued_tokens);
    return NULL;
}

/* Holds of all sequences, pins and copies add up to the blocks' counts. `plus` lets one pass add
 * and one take away. */
static void count_holds(const hdl_sched *s, hdl_group *g, uint32_t plus)
{
    for (uint32_t i = 0; i < s->seq_touched; i++) {
        const hdl_seq *seq = &s->seqs[i];
        if (!hdl_seq_runs(seq) || &s->groups[seq->group] != g)
            continue;
        const uint32_t *table = hdl_slot_table(s, seq->slot);
        for (uint32_t n = 0; n < s->slots.hold[seq->slot].n_blocks; n++)
            g->kv.blocks[table[n]].ref += plus;
    }
}

const char *hdl_check_pool(const hdl_kv *kv)
{
    uint32_t n_free = 0, n_cached = 0, unheld = 0;
    for (uint32_t b = kv->free_head; b != NONE; b = kv->blocks[b].link, n_free++)
        REQUIRE(n_free < kv->total && !kv->blocks[b].published && kv->blocks[b].ref == 0);
    for (uint64_t at = kv->lru_head; at != kv->lru_tail; at++) {
        const hdl_block *b = &kv->blocks[kv->lru[at & kv->lru_mask]];
        n_cached += b->published && b->ref == 0 && b->link == (uint32_t)at;
    }
    for (uint32_t b = 0; b < kv->total; b++)
        unheld += kv->blocks[b].ref == 0;
    REQUIRE(n_free == kv->n_free && n_cached == kv->n_cached && unheld == n_free + n_cached);
    return NULL;
}

static const char *check_blocks(const hdl_sched *s, const hdl_group *g)
{
    const hdl_kv *kv = &g->kv;
    REQUIRE(kv->promised <= kv->n_free + kv->n_cached);
    count_holds(s, (hdl_group *)g, UINT32_MAX); /* adds -1 for each hold */
    bool exact = true;
    for (uint32_t b = 0; b < kv->total; b++)
        exact = exact && kv->blocks[b].ref == kv->blocks[b].pins;
    count_holds(s, (hdl_group *)g, 1);
    REQUIRE(exact);
    return hdl_check_pool(kv);
}

/* Lines that an entry went past on its way from its home to `line`. */
static uint32_t lines_past(const hdl_kv *kv, uint64_t hash, uint32_t line)
{
    uint32_t home = (uint32_t)(hdl_prefix_home(kv, hash) - kv->lines);
    return line >= home ? line - home : line + kv->n_lines - home;
}

/* What is published can be found, and is found once. */
static const char *check_index(const hdl_kv *kv)
{
    uint32_t published = 0, found = 0;
    uint64_t past = 0, counted = 0;
    for (uint32_t b = 0; b < kv->total; b++)
        published += kv->blocks[b].published;
    for (uint32_t i = 0; i < kv->n_lines; i++) {
        const hdl_index_line *line = &kv->lines[i];
        counted += line->n_past;
        for (uint32_t k = 0; k < HDL_LINE_ENTRIES; k++) {
            if (line->block[k] == NONE)
                continue;
            const hdl_block *b = &kv->blocks[line->block[k]];
            REQUIRE(b->published && line->tag[k] == (uint32_t)b->hash);
            uint32_t n = lines_past(kv, b->hash, i);
            for (uint32_t m = 1; m <= n; m++)
                REQUIRE(kv->lines[(i + kv->n_lines - m) % kv->n_lines].n_past > 0);
            past += n;
            found++;
        }
    }
    REQUIRE(published == found && past == counted);
    return NULL;
}

/* Who gets a row decodes here; and so does whoever is live in a plan in flight. */
static const char *check_bits(const hdl_sched *s, const hdl_group *g, const uint64_t *bits)
{
    for (uint32_t slot = 0; slot < s->config.max_seqs; slot++) {
        if (!hdl_bit(bits, slot))
            continue;
        const hdl_seq *seq = hdl_slot_seq(s, slot);
        REQUIRE(seq->slot == slot && seq->state == HDL_SEQ_DECODE && &s->groups[seq->group] == g);
    }
    return NULL;
}

static const char *check_group(const hdl_sched *s, const hdl_group *g)
{
    uint32_t live = 0, prefill = 0, resv = 0, listed = 0;
    uint64_t prefill_tokens = 0, key = 0;
    for (uint32_t i = 0; i < g->n_run; i++) {
        const hdl_seq *seq = &s->seqs[g->run[i].stay.seq];
        REQUIRE(g->run[i].key >= key);
        key = g->run[i].key;
        if (seq->gen != g->run[i].stay.gen)
            continue;
        live++;
        REQUIRE(hdl_seq_runs(seq) && &s->groups[seq->group] == g);
        REQUIRE(s->slots.key[seq->slot] == key);
        resv += s->slots.hold[seq->slot].resv;
        prefill += seq->state == HDL_SEQ_PREFILL;
        prefill_tokens += seq->state == HDL_SEQ_PREFILL ? seq->len - seq->pos : 0;
    }
    for (uint32_t i = 0; i < g->n_prefills; i++) {
        const hdl_stay *stay = &g->prefills[i].stay;
        REQUIRE(i == 0 || g->prefills[i - 1].key <= g->prefills[i].key);
        listed +=
            s->seqs[stay->seq].gen == stay->gen && s->seqs[stay->seq].state == HDL_SEQ_PREFILL;
    }
    REQUIRE(live == g->n_live && prefill == g->n_prefill && listed == prefill);
    REQUIRE(prefill_tokens == g->prefill_tokens);
    REQUIRE(resv == g->kv.promised);
    REQUIRE(g->in_flight <= HDL_PLANS_IN_FLIGHT && g->n_closes <= s->config.max_seqs);
    PASS(check_bits(s, g, g->decode));
    for (uint64_t n = g->next_step - g->in_flight; n < g->next_step; n++)
        PASS(check_bits(s, g, g->buf[n % HDL_PLANS_IN_FLIGHT].live));
    PASS(check_blocks(s, g));
    PASS(hdl_check_sides(s, g));
    return check_index(&g->kv);
}

/* Each slot is free once or belongs to one running sequence. */
static const char *check_slots(const hdl_sched *s, const tally *t)
{
    REQUIRE(s->n_slots_free + t->live == s->config.max_seqs);
    memset(s->gives, 0, s->config.max_seqs * sizeof *s->gives);
    for (uint32_t i = 0; i < s->n_slots_free; i++)
        s->gives[s->slots_free[i]]++;
    for (uint32_t i = 0; i < s->seq_touched; i++)
        if (hdl_seq_runs(&s->seqs[i]))
            s->gives[s->seqs[i].slot]++;
    for (uint32_t i = 0; i < s->config.max_seqs; i++)
        REQUIRE(s->gives[i] == 1);
    return NULL;
}

const char *hdl_sched_check(const hdl_sched *s)
{
    tally t = {0};
    PASS(check_seqs(s, &t));
    REQUIRE(t.used == s->n_used && t.deadlines == s->n_deadlines);
    REQUIRE(t.sheets == s->pages.total / (s->pages.sheet_mask + 1) - s->pages.n_free);
    REQUIRE(t.promised == s->pages.promised && s->pages.promised <= s->pages.n_free);
    PASS(check_queue(s, &t));
    PASS(check_slots(s, &t));
    uint32_t live = 0;
    for (uint32_t i = 0; i < s->config.n_groups; i++) {
        live += s->groups[i].n_live;
        if (s->groups[i].up)
            PASS(check_group(s, &s->groups[i]));
    }
    REQUIRE(live == t.live);
    return NULL;
}
