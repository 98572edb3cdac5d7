/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/decode.h"

#include "scheduler/core/guess.h"
#include "scheduler/core/kv.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/run.h"
#include "scheduler/core/side.h"

void hdl_decode_join(hdl_sched *s, hdl_group *g, hdl_seq *seq)
{
    const uint32_t slot = seq->slot;
    hdl_slots *slots = &s->slots;
    slots->base[slot] = seq->len - 1 - (uint32_t)g->next_step;
    slots->len[slot] = seq->len;
    slots->end[slot] = seq->end;
    slots->n_prompt[slot] = seq->n_prompt;
    slots->req[slot] = seq->req;
    slots->stop[0][slot] = seq->stop[0];
    slots->stop[1][slot] = seq->n_stop > 2 ? HDL_STOP_MANY : seq->stop[1];
    slots->tenant[slot] = seq->tenant;
    seq->state = HDL_SEQ_DECODE;
    hdl_guess_join(s, slot);
    if (seq->len + 1 < seq->end)
        g->decode[slot / 64] |= 1ull << (slot % 64);
}

void hdl_decode_leave(hdl_sched *s, hdl_group *g, const hdl_seq *seq)
{
    (void)s;
    hdl_bit_clear(g->decode, seq->slot);
    for (uint32_t i = 0; i < HDL_PLANS_IN_FLIGHT; i++)
        hdl_bit_clear(g->buf[i].live, seq->slot);
}

typedef uint32_t words4 __attribute__((vector_size(16)));

/* The words of a row of one token, but for its position. */
static inline words4 row_words(uint32_t slot, uint32_t r, uint32_t flags)
{
    const hdl_plan_row row = {
        .slot = slot, .n_tokens = 1, .flags = flags & HDL_ROW_FLAGS_ALL, .token_at = r};
    words4 words;
    _Static_assert(sizeof row == sizeof words && offsetof(hdl_plan_row, pos) == 4 &&
                       offsetof(hdl_plan_row, token_at) == 12,
                   "a row is written at once");
    memcpy(&words, &row, sizeof words);
    return words;
}

/* What write_rows needs of the state, held where no store can be expected to change it. */
typedef struct writing {
    const uint32_t *base, *end;
    uint32_t step, mask, flags;
    hdl_plan_row *rows;
    uint32_t *needy;
} writing;

/* Rows r and following of up to 64 neighbouring slots. Returns a bit for each that is its last one.
 */
static uint64_t write_run(writing *w, uint32_t slot, uint32_t n, uint32_t r)
{
    const uint32_t *restrict base = w->base + slot, *restrict end = w->end + slot;
    const uint32_t step = w->step, mask = w->mask, flags = w->flags;
    hdl_plan_row *restrict rows = w->rows + r;
    uint32_t pos[64], rare = 0;
    for (uint32_t i = 0; i < n; i++) {
        pos[i] = base[i] + step;
        rare |= (uint32_t) - ((pos[i] & mask) == 0);
        rare |= ~(pos[i] + 2 - end[i]) & 1u << 31; /* pos + 2 >= end */
    }
    words4 row = row_words(slot, r, flags);
    for (uint32_t i = 0; i < n; i++) {
        row[1] = pos[i];
        memcpy(&rows[i], &row, sizeof row);
        row += (words4){1, 0, 0, 1};
    }
    uint64_t last = 0;
    for (uint32_t i = 0; rare && i < n; i++) {
        if ((pos[i] & mask) == 0)
            *w->needy++ = slot + i;
        last |= (uint64_t)(pos[i] + 2 >= end[i]) << i;
    }
    return last;
}

/* Rows for all that decode; who stands on a block's start is listed in scratch, its block to come.
 * Who needs no other row after this one is taken out of the next plan. Returns how many are listed.
 */
static uint32_t write_rows(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf)
{
    writing wr = {
        .base = s->slots.base,
        .end = s->slots.end,
        .step = (uint32_t)g->next_step,
        .mask = s->bt_mask,
        .flags = HDL_ROW_SAMPLE | (g->in_flight > 0 ? (uint32_t)HDL_ROW_FEEDBACK : 0u),
        .rows = buf->rows,
        .needy = s->needy,
    };
    uint32_t r = 0;
    for (uint32_t w = 0; w < s->slots.n_words; w++) {
        const uint64_t bits = g->decode[w];
        buf->decodes[w] = buf->live[w] = bits;
        for (uint32_t bit = 0; bit < 64 && bits >> bit;) {
            bit += (uint32_t)__builtin_ctzll(bits >> bit);
            const uint32_t n = hdl_run_of(bits, bit);
            g->decode[w] &= ~(write_run(&wr, w * 64 + bit, n, r) << bit);
            r += n;
            bit += n;
        }
    }
    buf->n_decodes = r;
    return (uint32_t)(wr.needy - s->needy);
}

/* The step before samples the token of each row. It is in flight, or was answered just now. */
static void write_tokens(const hdl_sched *s, const hdl_group *g, hdl_plan_buf *buf)
{
    if (g->in_flight > 0) {
        memset(buf->tokens, 0xff, buf->n_decodes * sizeof *buf->tokens);
        return;
    }
    const hdl_token *known = hdl_recent(s, (uint32_t)g->next_step - 1);
    for (uint32_t r = 0; r < buf->n_decodes; r++)
        buf->tokens[r] = known[buf->rows[r].slot * HDL_TILE];
}

/* -- blocks ------------------------------------------------------------------------------------ */

/* True when each of the listed finds a block in the main cache: one that it was promised, or a
 * spare one. */
static bool main_suffices(const hdl_sched *s, const hdl_group *g, uint32_t n_needy)
{
    uint32_t spare = hdl_kv_spare(&g->kv);
    if (n_needy <= spare)
        return true;
    uint32_t want = 0;
    for (uint32_t i = 0; i < n_needy; i++)
        want += s->slots.hold[s->needy[i]].resv == 0;
    return want <= spare;
}

/* Of a sequence that decodes, in the plan being built. */
static uint32_t next_pos(const hdl_sched *s, const hdl_group *g, uint32_t slot)
{
    return s->slots.base[slot] + (uint32_t)g->next_step;
}

static bool sides_suffice(hdl_sched *s, hdl_group *g, uint32_t n_needy)
{
    for (uint32_t side = 0; side < s->caches.n_sides; side++) {
        uint32_t want = 0;
        for (uint32_t i = 0; i < n_needy; i++)
            want += hdl_side_is_short(s, g, side, s->needy[i], next_pos(s, g, s->needy[i]));
        if (want > hdl_side_spare(&g->sides[side]))
            return false;
    }
    return true;
}

static bool may_be_preempted(const hdl_sched *s, const hdl_stay *stay)
{
    const hdl_seq *seq = &s->seqs[stay->seq];
    return seq->gen == stay->gen && seq->state == HDL_SEQ_DECODE &&
           s->slots.len[seq->slot] > s->slots.filing[seq->slot].from;
}

/* The least important sequence behind the needy one that has made progress since its admission,
 * else the needy one itself, which has: what it was promised covers its first new token. Those
 * before it may have been given a block in this plan already. */
static hdl_seq *victim(const hdl_sched *s, const hdl_group *g, uint32_t slot)
{
    const uint64_t key = s->slots.key[slot];
    if (hdl_planted(s, PREMATURE_REUSE)) {
        for (uint32_t i = 0; i < g->n_run && g->run[i].key < key; i++)
            if (may_be_preempted(s, &g->run[i].stay))
                return &s->seqs[g->run[i].stay.seq];
    }
    for (uint32_t i = g->n_run; i > 0 && g->run[i - 1].key > key; i--)
        if (may_be_preempted(s, &g->run[i - 1].stay))
            return &s->seqs[g->run[i - 1].stay.seq];
    HDL_ASSERT_LT(s->slots.filing[slot].from, s->slots.len[slot]);
    return hdl_slot_seq(s, slot);
}

/* Shell sort of the listed slots, the most important first. */
static void sort_by_key(const hdl_sched *s, uint32_t *slots, uint32_t n)
{
    const uint64_t *key = s->slots.key;
    for (uint32_t gap = n / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < n; i++) {
            uint32_t slot = slots[i], at = i;
            for (; at >= gap && key[slots[at - gap]] > key[slot]; at -= gap)
                slots[at] = slots[at - gap];
            slots[at] = slot;
        }
    }
}

/* Blocks that were found for needy sequences and are not taken yet. */
typedef struct found {
    uint32_t main, side[HDL_CACHE_GROUPS_MAX];
} found;

/* Looks for what a needy sequence lacks of every cache; false when one has nothing left for it. */
static bool find(hdl_sched *s, hdl_group *g, uint32_t slot, found *f)
{
    const uint32_t pos = next_pos(s, g, slot);
    found more = *f;
    if (s->slots.hold[slot].resv == 0 && hdl_kv_spare(&g->kv) < ++more.main)
        return false;
    for (uint32_t i = 0; i < s->caches.n_sides; i++)
        if (hdl_side_is_short(s, g, i, slot, pos) && hdl_side_spare(&g->sides[i]) < ++more.side[i])
            return false;
    *f = more;
    return true;
}

/* Goes through the needy in the order of importance and preempts whom it must, until a block is
 * there for each that is left. */
static void preempt(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t n_needy)
{
    found f = {0};
    sort_by_key(s, s->needy, n_needy);
    for (uint32_t i = 0; i < n_needy; i++) {
        const uint32_t slot = s->needy[i];
        while (hdl_bit(buf->live, slot) && !find(s, g, slot, &f)) {
            hdl_seq *loser = victim(s, g, slot);
            const uint32_t lost = loser->slot;
            hdl_run_back(s, loser, HDL_TRACE_PREEMPT);
            if (hdl_planted(s, PREMATURE_REUSE) && lost != slot)
                buf->live[lost / 64] |= 1ull << (lost % 64);
        }
    }
}

static void give_block(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, uint32_t slot)
{
    const uint32_t block = hdl_run_grow(s, g, slot), n = s->slots.hold[slot].n_blocks;
    if (s->caches.is_plain) {
        buf->grants[buf->plan.n_grants++] = (hdl_plan_grant){slot, 0, n - 1, buf->plan.n_blocks, 1};
        buf->blocks[buf->plan.n_blocks++] = block;
        return;
    }
    hdl_main_grant(s, buf, slot, n - 1);
    const uint32_t pos = next_pos(s, g, slot);
    hdl_snapshot(s, g, buf, slot, pos);
    hdl_sides_cover(s, g, buf, slot, pos, pos + 1);
}

/* Up to HDL_ROUND of them: see absorb.c. */
static void give_blocks(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf, const uint32_t *needy,
                        uint32_t n)
{
    hdl_kv_look_ahead(&g->kv, n, HDL_ROUND);
    for (uint32_t i = 0; i < n; i++)
        __builtin_prefetch(hdl_slot_table(s, needy[i]) + s->slots.hold[needy[i]].n_blocks, 1);
    for (uint32_t i = 0; i < n; i++)
        give_block(s, g, buf, needy[i]);
}

void hdl_decode_rows(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf)
{
    uint32_t n_needy = write_rows(s, g, buf);
    if (!main_suffices(s, g, n_needy) || !sides_suffice(s, g, n_needy)) {
        preempt(s, g, buf, n_needy);
        memcpy(g->decode, buf->live, s->slots.n_words * sizeof *g->decode);
        n_needy = write_rows(s, g, buf);
    }
    write_tokens(s, g, buf);
    hdl_kv_look_ahead(&g->kv, 0, hdl_min_u32(HDL_ROUND, n_needy));
    for (uint32_t i = 0; i < n_needy; i += HDL_ROUND)
        give_blocks(s, g, buf, s->needy + i, hdl_min_u32(HDL_ROUND, n_needy - i));
    buf->plan.n_rows = buf->plan.n_tokens = buf->n_computed = buf->n_decodes;
    buf->n_guesses = 0;
    hdl_guess_rows(s, g, buf);
}
