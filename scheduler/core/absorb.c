/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/absorb.h"

#include "scheduler/core/group.h"
#include "scheduler/core/guess.h"
#include "scheduler/core/pace.h"
#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"
#include "scheduler/core/queue.h"
#include "scheduler/core/run.h"
#include "scheduler/core/seq.h"
#include "scheduler/core/side.h"

/* -- what comes now and then ------------------------------------------------------------------- */

/* Publishes the first `full` blocks of a sequence, as far as that is not done. */
static void publish(hdl_sched *s, uint32_t slot, uint32_t full)
{
    hdl_filing *f = &s->slots.filing[slot];
    const uint32_t *table = hdl_slot_table(s, slot);
    hdl_group *g = &s->groups[f->group];
    for (; f->publishes && f->n_pub < full; f->n_pub++) {
        f->parent = hdl_prefix_publish(s, &g->kv, table[f->n_pub], f->parent);
        if (!s->caches.is_plain)
            hdl_sides_attach(s, g, slot, f->n_pub, (uint32_t)f->parent);
    }
}

static void publish_filled(hdl_sched *s, uint32_t slot)
{
    const hdl_seq *seq = hdl_slot_seq(s, slot);
    uint32_t full = seq->acked >> s->bt_shift;
    if (hdl_planted(s, HALF_PUBLISHED) && (seq->acked & s->bt_mask) + 1 == s->bt_mask &&
        seq->state == HDL_SEQ_PREFILL && hdl_page_count(s, seq->len) == full + 1)
        full++;
    publish(s, slot, full);
}

/* The newest token of a sequence is the first of a block, or of HDL_FLUSH: those before it go to
 * their block. */
static void flush(hdl_sched *s, uint32_t slot)
{
    const hdl_filing *f = &s->slots.filing[slot];
    const uint32_t at = s->slots.len[slot] - 1;
    const uint32_t from = hdl_max_u32(at - hdl_min_u32(at, s->flush_mask + 1), f->from);
    if (at <= from)
        return;
    const hdl_kv *kv = &s->groups[f->group].kv;
    const uint32_t block = hdl_slot_table(s, slot)[(at - 1) >> s->bt_shift];
    hdl_recent_copy(s, slot, from, at, hdl_block_tokens(s, kv, block) + (from & s->bt_mask));
}

/* The block behind which the newest token stands is full. */
static void seal(hdl_sched *s, uint32_t slot)
{
    hdl_filing *f = &s->slots.filing[slot];
    const uint32_t at = s->slots.len[slot] - 1;
    if (at <= f->from || (at & s->bt_mask) != 0)
        return;
    hdl_kv *kv = &s->groups[f->group].kv;
    const uint32_t block = hdl_slot_table(s, slot)[(at - 1) >> s->bt_shift];
    f->chain = hdl_hash_chain(f->chain, hdl_block_tokens(s, kv, block), s->bt_mask + 1u);
    kv->blocks[block].hash = f->chain;
    hdl_prefix_look_ahead(kv, f->chain);
}

static bool is_stop(const hdl_sched *s, const hdl_seq *seq, hdl_token token)
{
    const hdl_token *stops = hdl_seq_stops(s, hdl_seq_idx(s, seq));
    for (uint32_t i = 0; i < seq->n_stop; i++)
        if (token == stops[i])
            return true;
    return false;
}

static void settle_end(hdl_sched *s, uint32_t slot, const hdl_token *newest)
{
    const uint32_t len = s->slots.len[slot];
    hdl_seq *seq = hdl_slot_seq(s, slot);
    if (len > seq->n_prompt && is_stop(s, seq, newest[slot * HDL_TILE]))
        hdl_run_end(s, seq, HDL_FINISH_STOP);
    else if (len == seq->end)
        hdl_run_end(s, seq, HDL_FINISH_LENGTH);
}

/* What has been filled up to the last position before `at`. */
static void look_ahead_block(const hdl_sched *s, uint32_t slot, uint32_t at)
{
    const hdl_kv *kv = &s->groups[s->slots.filing[slot].group].kv;
    if (at == 0)
        return;
    const uint32_t block = hdl_slot_table(s, slot)[(at - 1) >> s->bt_shift];
    const hdl_token *tokens = hdl_block_tokens(s, kv, block);
    __builtin_prefetch(&kv->blocks[block], 1);
    __builtin_prefetch(tokens, 1);
    __builtin_prefetch(tokens + 16, 1);
}

static void look_ahead_recent(const hdl_sched *s, uint32_t slot)
{
    const uint32_t at = s->slots.len[slot] - 1, step = at - 1 - s->slots.base[slot];
    for (uint32_t n = 0; n <= HDL_FLUSH; n += HDL_TILE)
        __builtin_prefetch(hdl_recent(s, step - n) + (size_t)slot * HDL_TILE);
}

static void look_ahead_filled(const hdl_sched *s, uint32_t slot)
{
    const hdl_seq *seq = hdl_slot_seq(s, slot);
    const hdl_kv *kv = &s->groups[seq->group].kv;
    const uint32_t *table = hdl_slot_table(s, slot);
    for (uint32_t n = s->slots.filing[slot].n_pub; n < seq->acked >> s->bt_shift; n++)
        hdl_prefix_look_ahead(kv, kv->blocks[table[n]].hash);
}

static void look_ahead_ending(const hdl_sched *s, uint32_t slot)
{
    const hdl_seq *seq = hdl_slot_seq(s, slot);
    const hdl_kv *kv = &s->groups[seq->group].kv;
    const hdl_hold *hold = &s->slots.hold[slot];
    const uint32_t *table = hdl_slot_table(s, slot);
    __builtin_prefetch(hdl_seq_bucket(s, seq), 1);
    for (uint32_t i = 0; i < hold->n_blocks; i++)
        __builtin_prefetch(&kv->blocks[table[i]], 1);
}

/* What was put off reaches for memory that no step has touched for long, each thing through the one
 * before. So it is done in rounds: each asks for all that the next one reads. */

/* Slots whose newest token is the first of a block, or of HDL_FLUSH. */
static void settle_due(hdl_sched *s, const uint32_t *due, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch(&s->slots.filing[due[i]], 1);
        __builtin_prefetch(hdl_slot_table(s, due[i]) + (s->slots.len[due[i]] >> s->bt_shift));
    }
    for (uint32_t i = 0; i < n; i++)
        look_ahead_block(s, due[i], s->slots.len[due[i]] - 1);
    for (uint32_t i = 0; i < n; i++) {
        if (i + HDL_LOOK_AHEAD < n)
            look_ahead_recent(s, due[i + HDL_LOOK_AHEAD]);
        flush(s, due[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        seal(s, due[i]);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = s->slots.len[due[i]] - 1;
        if (at > s->slots.filing[due[i]].from)
            publish(s, due[i], at >> s->bt_shift);
    }
}

/* Slots whose prefill has got on. */
static void settle_filled(hdl_sched *s, const uint32_t *filled, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        look_ahead_filled(s, filled[i]);
    for (uint32_t i = 0; i < n; i++)
        publish_filled(s, filled[i]);
}

/* Slots that may have come to their end. */
static void settle_ending(hdl_sched *s, const uint32_t *ending, uint32_t n, const hdl_token *newest)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t idx = s->slots.seq[ending[i]];
        __builtin_prefetch(&s->seqs[idx], 1);
        __builtin_prefetch(&s->cold[idx], 1);
        __builtin_prefetch((const char *)&s->cold[idx] + 64, 1);
        __builtin_prefetch(&s->map_next[idx]);
        __builtin_prefetch(&s->slots.filing[ending[i]]);
        __builtin_prefetch(hdl_slot_table(s, ending[i]));
    }
    for (uint32_t i = 0; i < n; i++)
        look_ahead_ending(s, ending[i]);
    for (uint32_t i = 0; i < n; i++)
        settle_end(s, ending[i], newest);
}

static void settle(hdl_sched *s, const hdl_token *newest)
{
    for (uint32_t i = 0; i < s->n_due; i += HDL_ROUND)
        settle_due(s, s->due + i, hdl_min_u32(HDL_ROUND, s->n_due - i));
    for (uint32_t i = 0; i < s->n_filled; i += HDL_ROUND)
        settle_filled(s, s->filled + i, hdl_min_u32(HDL_ROUND, s->n_filled - i));
    for (uint32_t i = 0; i < s->n_ending; i += HDL_ROUND)
        settle_ending(s, s->ending + i, hdl_min_u32(HDL_ROUND, s->n_ending - i), newest);
}

/* -- what comes with every token --------------------------------------------------------------- */

/* One result being absorbed. What the loops count is kept here and not in the state, which the
 * compiler must expect to change with every store. Emits of neighbouring rows are one action; rows
 * and tokens of one tenant in a row are charged together. */
typedef struct taking {
    hdl_token *newest; /* the newest token of a slot, at slot * HDL_TILE */
    const hdl_slots *slots;
    uint32_t flush_mask;
    hdl_new_token *emit; /* the next one */
    hdl_new_token *run;  /* first of those that are not in an action yet */
    uint32_t run_row;    /* result row of that one */
    uint32_t *due, *ending;
    uint32_t tenant, n_tokens;
    uint32_t n_void; /* guesses that did not come true */
} taking;

static void end_run(hdl_sched *s, taking *t, uint32_t next_row)
{
    if (t->emit > t->run)
        hdl_act(s, HDL_ACT_EMIT)->emit = (hdl_act_emit){
            .list = t->run, .n = (uint32_t)(t->emit - t->run), .result_row = t->run_row};
    t->run = t->emit;
    t->run_row = next_row;
}

static void settle_bill(hdl_sched *s, const taking *t)
{
    hdl_queue_charge(s, t->tenant, t->n_tokens);
    s->stats.emitted_tokens += t->n_tokens;
}

static inline void charge(hdl_sched *s, taking *t, uint32_t tenant)
{
    if (tenant != t->tenant) {
        settle_bill(s, t);
        t->tenant = tenant;
        t->n_tokens = 0;
    }
    t->n_tokens++;
}

/* 0 when the row brings the token of a slot's position. */
static inline uint32_t unlike(const hdl_result_row *res, uint32_t slot, uint32_t pos)
{
    const uint32_t *words = (const uint32_t *)res; /* as words, a loop over it is vector code */
    _Static_assert(sizeof *res == 16 && offsetof(hdl_result_row, token) == 8, "words of a row");
    return (words[0] ^ slot) | (words[1] ^ pos) | (words[2] & 1u << 31) | (words[3] & 1);
}

/* What a token brings with it now and then - a full block, the end - is put off until all rows are
 * through (settle). `at` is its position. */
static inline void note_token(taking *t, uint32_t slot, uint32_t at, hdl_token token)
{
    const hdl_slots *slots = t->slots;
    if ((at & t->flush_mask) == 0)
        *t->due++ = slot;
    if (token == slots->stop[0][slot] || token == slots->stop[1][slot] ||
        slots->stop[1][slot] == HDL_STOP_MANY || at + 1 == slots->end[slot])
        *t->ending++ = slot;
}

/* Logs and emits the token of a row whose sequence knows all tokens before it. */
static void take_token(hdl_sched *s, taking *t, uint32_t slot, hdl_token token)
{
    const hdl_slots *slots = t->slots;
    const uint32_t at = slots->len[slot]++;
    charge(s, t, slots->tenant[slot]);
    t->newest[slot * HDL_TILE] = token;
    *t->emit++ = (hdl_new_token){{slots->req[slot]}, token, at - slots->n_prompt[slot]};
    note_token(t, slot, at, token);
}

/* In two words: of four stores, gcc would make a shuffle of vectors. */
static inline void write_emit(hdl_new_token *emit, uint64_t req, hdl_token token, uint32_t index)
{
    _Static_assert(offsetof(hdl_new_token, index) == offsetof(hdl_new_token, token) + 4,
                   "written together");
    const uint64_t both = (uint32_t)token | (uint64_t)index << 32;
    emit->req.v = req;
    memcpy(&emit->token, &both, sizeof both);
}

static uint32_t answered(const hdl_sched *s, const hdl_result_row *res, uint32_t slot, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && unlike(&res[i], slot + i, s->slots.len[slot + i]) == 0)
        i++;
    return i;
}

/* The same for up to 64 neighbouring slots, none of them void, in loops that do little each, so
 * that they are vector code or at least find room in the registers. Returns how many rows are
 * taken: all but the first that is unlike and those behind it. */
static uint32_t take_run(hdl_sched *s, taking *t, const hdl_result_row *res, uint32_t slot,
                         uint32_t n)
{
    const hdl_slots *slots = t->slots;
    uint32_t *restrict len = slots->len + slot;
    const uint32_t *restrict end = slots->end + slot, *restrict n_prompt = slots->n_prompt + slot;
    const hdl_token *restrict stop = slots->stop[0] + slot, *restrict more = slots->stop[1] + slot;
    const uint64_t *restrict req = slots->req + slot;
    hdl_token *restrict newest = t->newest + (size_t)slot * HDL_TILE;
    hdl_new_token *restrict emit = t->emit;
    const uint32_t flush_mask = t->flush_mask;
    hdl_token token[64];
    uint32_t differences = 0, rare = 0;
    for (uint32_t i = 0; i < n; i++) {
        differences |= unlike(&res[i], slot + i, len[i]);
        token[i] = res[i].token;
    }
    for (uint32_t i = 0; i < n; i++)
        newest[i * HDL_TILE] = token[i];
    if (differences)
        n = answered(s, res, slot, n);
    for (uint32_t i = 0; i < n; i++)
        write_emit(&emit[i], req[i], token[i], len[i] - n_prompt[i]);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = len[i];
        rare |= (uint32_t) - ((at & flush_mask) == 0) | (uint32_t) - (at + 1 == end[i]);
        rare |= (uint32_t) - (token[i] == stop[i]) | (uint32_t) - (token[i] == more[i]);
        rare |= (uint32_t) - (more[i] == HDL_STOP_MANY);
        len[i] = at + 1;
    }
    for (uint32_t i = 0; rare && i < n; i++)
        note_token(t, slot + i, len[i] - 1, token[i]);
    for (uint32_t i = 0; s->config.n_tenants > 1 && i < n; i++)
        charge(s, t, slots->tenant[slot + i]);
    t->n_tokens += s->config.n_tenants > 1 ? 0 : n;
    t->emit += n;
    return n;
}

/* A row whose sequence has ended or was preempted while the step ran. */
static bool pass_void(hdl_sched *s, taking *t, const hdl_result_row *res, const hdl_plan_row *row)
{
    end_run(s, t, row->token_at + 1); /* of a row that decodes: its number */
    return unlike(res, row->slot, row->pos + 1) == 0;
}

/* The rows that decode stand first in the plan, and so in the result: answer r belongs to row r.
 * With decode.c's write_rows, all that is done for every running sequence at every step. */
static bool absorb_decodes(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev,
                           taking *t)
{
    if (ev->n_rows < buf->n_decodes)
        return false;
    uint32_t r = 0;
    for (uint32_t w = 0; w < s->slots.n_words; w++) {
        const uint64_t live = buf->live[w];
        for (uint64_t left = buf->decodes[w]; left;) {
            const uint32_t bit = (uint32_t)__builtin_ctzll(left), n = hdl_run_of(live, bit);
            if (n == 0 ? !pass_void(s, t, &ev->rows[r], &buf->rows[r])
                       : take_run(s, t, &ev->rows[r], w * 64 + bit, n) < n)
                return false;
            const uint32_t done = n + (n == 0);
            r += done;
            left = bit + done == 64 ? 0 : left >> (bit + done) << (bit + done);
        }
    }
    return true;
}

/* The positions of a prefill row are computed: full blocks are published, and forks that waited for
 * the prompt go on. */
static void acknowledge(hdl_sched *s, hdl_seq *seq, const hdl_plan_row *row)
{
    seq->acked = row->pos + row->n_tokens;
    s->filled[s->n_filled++] = seq->slot;
    if (seq->acked + 1 >= seq->n_prompt)
        hdl_queue_release_forks(s, seq);
}

/* -- the rows behind them ---------------------------------------------------------------------- */

/* How many answers a row with guesses has: one, and another for each guess that came true. 0: they
 * do not answer it. */
static uint32_t count_answers(const hdl_plan_buf *buf, const hdl_plan_row *row,
                              const hdl_ev_result *ev, uint32_t at)
{
    const hdl_token *guess = buf->tokens + row->token_at + 1;
    for (uint32_t i = 0; i < row->n_tokens; i++) {
        if (at + i == ev->n_rows || unlike(&ev->rows[at + i], row->slot, row->pos + 1 + i))
            return 0;
        if (i + 1 == row->n_tokens || ev->rows[at + i].token != guess[i])
            return i + 1;
    }
    return 0;
}

/* Several tokens of one sequence. None but the last one ends it: a guess is never a stop id, nor
 * the token of the greatest length. */
static void take_tokens(hdl_sched *s, taking *t, const hdl_plan_buf *buf, uint32_t slot,
                        const hdl_result_row *res, uint32_t n)
{
    const uint32_t step = (uint32_t)buf->plan.step;
    if (n > 1)
        hdl_recent_shift(s, slot, n - 1);
    hdl_token *newest = t->newest;
    uint32_t *due = t->due, *ending = t->ending;
    for (uint32_t i = 0; i + 1 < n; i++) {
        t->newest = hdl_recent(s, step - (n - 1 - i));
        take_token(s, t, slot, res[i].token);
        if (t->due > due) /* before the next one comes: it looks at the newest token */
            settle_due(s, due, 1);
        t->due = due;
        t->ending = ending;
    }
    t->newest = newest;
    take_token(s, t, slot, res[n - 1].token);
}

/* A row with guesses; `at`: its first answer. Returns how many it has, 0 when they are none. */
static uint32_t absorb_guesses(hdl_sched *s, const hdl_plan_buf *buf, uint32_t r,
                               const hdl_ev_result *ev, taking *t, uint32_t at)
{
    const hdl_plan_row *row = &buf->rows[r];
    const uint32_t n = count_answers(buf, row, ev, at);
    const hdl_seq *seq = hdl_row_seq(s, buf, r);
    t->n_void += row->n_tokens - n;
    if (n == 0 || !seq)
        return n;
    if (t->run_row + (uint32_t)(t->emit - t->run) != at)
        end_run(s, t, at);
    take_tokens(s, t, buf, seq->slot, &ev->rows[at], n);
    hdl_guess_learn(s, seq->slot, row->n_tokens - 1u, n - 1);
    if (hdl_planted(s, GUESS_KEPT) && n < row->n_tokens)
        s->slots.base[seq->slot]++;
    return n;
}

/* Rows with guesses, then prefills. Those that sample have an answer each, or several, in the
 * plan's order; scored ones between are passed by. */
static bool absorb_others(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev, taking *t)
{
    uint32_t at = buf->n_decodes;
    for (uint32_t r = buf->n_decodes; r < buf->plan.n_rows; r++) {
        const hdl_plan_row *row = &buf->rows[r];
        bool samples = (row->flags & HDL_ROW_SAMPLE) != 0;
        if (row->flags & HDL_ROW_GUESS) {
            const uint32_t n = absorb_guesses(s, buf, r, ev, t, at);
            if (n == 0)
                return false;
            at += n;
            continue;
        }
        if (samples) {
            while (at < ev->n_rows && ev->rows[at].scored)
                at++;
            if (at == ev->n_rows || unlike(&ev->rows[at++], row->slot, row->pos + row->n_tokens))
                return false;
        }
        hdl_seq *seq = hdl_row_seq(s, buf, r);
        if (!seq)
            continue;
        acknowledge(s, seq, row);
        if (samples) {
            if (t->run_row + (uint32_t)(t->emit - t->run) != at - 1)
                end_run(s, t, at - 1);
            take_token(s, t, seq->slot, ev->rows[at - 1].token);
        } else if (seq->acked == seq->end) { /* a prompt that wants no token ends computed */
            *t->ending++ = seq->slot;
        }
    }
    while (at < ev->n_rows && ev->rows[at].scored)
        at++;
    return at == ev->n_rows;
}

/* False when the result does not answer the plan; what did so up to there is absorbed. */
static bool absorb_plan(hdl_sched *s, const hdl_plan_buf *buf, const hdl_ev_result *ev)
{
    taking t = {
        .newest = hdl_recent(s, (uint32_t)buf->plan.step),
        .slots = &s->slots,
        .flush_mask = s->flush_mask,
        .emit = s->emits,
        .run = s->emits,
        .due = s->due,
        .ending = s->ending,
    };
    s->n_filled = 0;
    bool good = absorb_decodes(s, buf, ev, &t) && absorb_others(s, buf, ev, &t);
    end_run(s, &t, 0);
    settle_bill(s, &t);
    s->rate.tokens += buf->n_computed - t.n_void;
    s->n_due = (uint32_t)(t.due - s->due);
    s->n_ending = (uint32_t)(t.ending - s->ending);
    settle(s, t.newest);
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
    hdl_pace_answered(s, g, buf);
    if (--g->in_flight == 0)
        g->guesses = false;
    s->stats.results++;
    measure_rate(s);
}
