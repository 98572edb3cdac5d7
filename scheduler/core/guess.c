/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/guess.h"

#include "scheduler/core/plant.h"

enum {
    MATCH_MIN = 3,   /* tokens that must agree for a lead */
    MATCH_MAX = 24,  /* more than these say nothing more */
    REACH = 1 << 16, /* tokens that a lookup goes back */
    LEVEL_START = 2, /* rows of four tokens */
    FAILS_MAX = 5,   /* ... in a row: from here on it rests for 2^5 tokens each time */
};

/* -- tokens of a sequence that decodes --------------------------------------------------------- */

typedef struct view {
    const hdl_sched *s;
    const uint32_t *table;
    const hdl_token *tokens; /* of blocks */
    uint32_t slot, len;
    uint32_t filed; /* positions before this one lie with the blocks: see flush in absorb.c */
} view;

static view view_of(const hdl_sched *s, const hdl_group *g, uint32_t slot)
{
    const uint32_t len = s->slots.len[slot];
    return (view){
        .s = s,
        .table = hdl_slot_table(s, slot),
        .tokens = g->kv.tokens,
        .slot = slot,
        .len = len,
        .filed = hdl_max_u32(s->slots.filing[slot].from, (len - 1) & ~s->flush_mask),
    };
}

static const hdl_token *block_at(const view *v, uint32_t n)
{
    return v->tokens + ((size_t)v->table[n] << v->s->bt_shift);
}

static hdl_token token_at(const view *v, uint32_t pos)
{
    const hdl_sched *s = v->s;
    if (pos < v->filed)
        return block_at(v, pos >> s->bt_shift)[pos & s->bt_mask];
    return hdl_recent(s, pos - 1 - s->slots.base[v->slot])[(size_t)v->slot * HDL_TILE];
}

/* -- lookup ------------------------------------------------------------------------------------ */

typedef struct lead {
    uint32_t src; /* position after the place found, NONE: none */
    uint32_t n;   /* tokens that agree there */
} lead;

/* How many tokens that end with position `at` are the last ones of the sequence. */
static void try_place(const view *v, uint32_t at, lead *best)
{
    uint32_t n = 0;
    while (n < MATCH_MAX && n <= at && token_at(v, at - n) == token_at(v, v->len - 1 - n))
        n++;
    if (n > best->n)
        *best = (lead){.src = at + 1, .n = n};
}

/* Vector code: most blocks have no such pair. */
static bool has_pair(const hdl_token *block, uint32_t n, hdl_token first, hdl_token second)
{
    uint32_t any = 0;
    for (uint32_t i = 1; i < n; i++)
        any |= (uint32_t)(block[i] == second) & (uint32_t)(block[i - 1] == first);
    return any != 0;
}

/* Block n as far as it is filed, without the last token of the sequence. */
static void search_block(const view *v, uint32_t n, lead *best)
{
    const hdl_token last = token_at(v, v->len - 1), before = token_at(v, v->len - 2);
    const uint32_t from = n << v->s->bt_shift;
    const uint32_t end = hdl_min_u32(v->filed, v->len - 1);
    const uint32_t count = hdl_min_u32(v->s->bt_mask + 1, end - from);
    const hdl_token *block = block_at(v, n);
    if (has_pair(block, count, before, last))
        for (uint32_t i = count - 1; i > 0; i--)
            if (block[i] == last && block[i - 1] == before)
                try_place(v, from + i, best);
    if (block[0] == last)
        try_place(v, from, best);
}

/* The place where most of the last tokens stand already; of equals, the latest. */
static lead search(const view *v)
{
    lead best = {.src = NONE, .n = MATCH_MIN - 1};
    if (v->len < MATCH_MIN + 1)
        return best;
    const hdl_token last = token_at(v, v->len - 1);
    for (uint32_t at = v->len - 1; at > v->filed; at--)
        if (token_at(v, at - 1) == last)
            try_place(v, at - 1, &best);
    const uint32_t end = hdl_min_u32(v->filed, v->len - 1);
    const uint32_t blocks = (end + v->s->bt_mask) >> v->s->bt_shift,
                   reach = REACH >> v->s->bt_shift;
    for (uint32_t n = blocks; n > 0 && blocks - n < reach && best.n < MATCH_MAX; n--)
        search_block(v, n - 1, &best);
    return best;
}

/* What came since the last lookup is what the lead had said: it goes on. */
static bool goes_on(const view *v, hdl_guessing *gu)
{
    if (gu->src == NONE)
        return false;
    for (; gu->at < v->len; gu->at++, gu->src++)
        if (token_at(v, gu->at) != token_at(v, gu->src))
            return false;
    return true;
}

static bool is_stop(const hdl_sched *s, uint32_t slot, hdl_token token)
{
    const hdl_seq *seq = hdl_slot_seq(s, slot);
    const hdl_token *stops = hdl_seq_stops(s, s->slots.seq[slot]);
    for (uint32_t i = 0; i < seq->n_stop; i++)
        if (token == stops[i])
            return true;
    return false;
}

/* Up to n guesses for the positions after pos. That is the newest known one or the one after it,
 * whose token is being sampled. A lead may come to the sequence's end, and goes on with its own
 * guesses: that is how a loop goes on. */
static uint32_t look_up(hdl_sched *s, const hdl_group *g, const hdl_plan_row *row, uint32_t n,
                        hdl_token *out)
{
    const view v = view_of(s, g, row->slot);
    hdl_guessing *gu = &s->slots.guessing[row->slot];
    hdl_token said[HDL_GUESSES_MAX + 1];
    if (!goes_on(&v, gu))
        *gu = (hdl_guessing){search(&v).src, v.len, gu->rest, gu->level, gu->fails};
    if (gu->src == NONE)
        return 0;
    HDL_ASSERT_LT(gu->src, v.len);
    const uint32_t skip = row->pos + 1 - v.len;
    uint32_t made = 0;
    for (uint32_t i = 0; made < n && i <= HDL_GUESSES_MAX; i++) {
        const uint32_t at = gu->src + i;
        said[i] = at < v.len ? token_at(&v, at) : said[at - v.len];
        if (is_stop(s, row->slot, said[i]))
            break;
        if (i >= skip)
            out[made++] = said[i];
    }
    return made;
}

/* A replay makes the guesses that were made, not those of its pseudonyms. */
static uint32_t recall(const hdl_sched *s, const hdl_plan_row *row, uint32_t n, hdl_token *out)
{
    const uint32_t *words = s->told.words;
    for (uint32_t at = 0; s->told.n_words - at >= 3;) {
        const uint32_t slot = words[at], pos = words[at + 1], count = words[at + 2];
        at += 3;
        if (count > s->told.n_words - at)
            return 0;
        if (slot == row->slot && pos == row->pos) {
            n = hdl_min_u32(n, count);
            memcpy(out, words + at, n * sizeof *out);
            return n;
        }
        at += count;
    }
    return 0;
}

/* -- rows -------------------------------------------------------------------------------------- */

/* The most guesses that a row may have. None of them enters a block that the row itself does not
 * need: so guesses hold nothing, and what turns out void is never more than the rest of a block. */
static uint32_t most_guesses(const hdl_sched *s, const hdl_group *g, const hdl_plan_row *row)
{
    const hdl_guessing *gu = &s->slots.guessing[row->slot];
    const uint32_t end = s->slots.end[row->slot];
    if (row->pos + 2 >= end || row->pos + 1 < gu->rest)
        return 0;
    uint32_t n = hdl_min_u32((1u << gu->level) - 1, s->config.guess_tokens);
    n = hdl_min_u32(n, end - 2 - row->pos);
    n = hdl_min_u32(n, g->row_tokens - 1);
    return hdl_planted(s, GUESS_OVER_EDGE) ? n
                                           : hdl_min_u32(n, s->bt_mask - (row->pos & s->bt_mask));
}

/* Rows with guesses, while they are gathered. */
typedef struct gathering {
    uint32_t n_rows, n_tokens, left;
} gathering;

/* True when the row got guesses. */
static bool gather(hdl_sched *s, const hdl_group *g, const hdl_plan_row *row, hdl_token first,
                   gathering *ga)
{
    hdl_token *tokens = s->guess_tokens + ga->n_tokens;
    uint32_t n = hdl_min_u32(most_guesses(s, g, row), ga->left);
    if (n > 0)
        n = s->is_told ? recall(s, row, n, tokens + 1) : look_up(s, g, row, n, tokens + 1);
    if (n == 0)
        return false;
    tokens[0] = first;
    hdl_plan_row *to = &s->guess_rows[ga->n_rows++];
    *to = *row;
    to->n_tokens = (1 + n) & HDL_ROW_TOKENS_MAX;
    to->flags = (row->flags | HDL_ROW_GUESS) & HDL_ROW_FLAGS_ALL;
    to->token_at = ga->n_tokens;
    ga->n_tokens += 1 + n;
    ga->left -= n;
    return true;
}

static void append(const hdl_sched *s, hdl_plan_buf *buf, const gathering *ga)
{
    const uint32_t kept = buf->n_decodes;
    memcpy(buf->tokens + kept, s->guess_tokens, ga->n_tokens * sizeof *buf->tokens);
    for (uint32_t i = 0; i < ga->n_rows; i++) {
        hdl_plan_row *row = &buf->rows[kept + i];
        const uint32_t idx = s->slots.seq[s->guess_rows[i].slot];
        *row = s->guess_rows[i];
        row->token_at += kept;
        hdl_bit_clear(buf->decodes, row->slot);
        hdl_bit_clear(buf->live, row->slot);
        buf->who[i] = (hdl_stay){idx, s->seqs[idx].gen};
    }
    buf->plan.n_rows = kept + ga->n_rows;
    buf->plan.n_tokens = buf->n_computed = kept + ga->n_tokens;
    buf->n_guesses = ga->n_tokens - ga->n_rows;
}

void hdl_guess_rows(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf)
{
    if (!s->slots.guessing || buf->n_decodes == 0)
        return;
    /* What the others of the group may need comes first. */
    const uint32_t others = g->n_live - buf->n_decodes;
    const uint32_t most = hdl_min_u32(s->config.guess_step_tokens, s->config.step_tokens - others);
    if (buf->n_decodes >= most)
        return;
    gathering ga = {.left = most - buf->n_decodes};
    uint32_t kept = 0;
    for (uint32_t r = 0; r < buf->n_decodes; r++) {
        const hdl_plan_row row = buf->rows[r];
        const hdl_token first = buf->tokens[r];
        if (ga.left > 0 && gather(s, g, &row, first, &ga))
            continue;
        buf->rows[kept] = row;
        buf->rows[kept].token_at = kept;
        buf->tokens[kept++] = first;
    }
    if (ga.n_rows == 0)
        return;
    buf->n_decodes = kept;
    append(s, buf, &ga);
    g->guesses = !hdl_planted(s, GUESS_AND_GO_ON);
    s->stats.guess_rows += ga.n_rows;
    s->stats.guesses += buf->n_guesses;
}

/* -- what comes of them ------------------------------------------------------------------------ */

void hdl_guess_join(hdl_sched *s, uint32_t slot)
{
    if (s->slots.guessing)
        s->slots.guessing[slot] = (hdl_guessing){.src = NONE, .level = LEVEL_START};
}

/* All true: twice as many tokens. Some: as many as would have held. None: half, and a rest that
 * doubles each time. */
void hdl_guess_learn(hdl_sched *s, uint32_t slot, uint32_t n, uint32_t held)
{
    hdl_guessing *gu = &s->slots.guessing[slot];
    s->stats.guesses_held += held;
    if (held > 0)
        gu->fails = 0;
    if (held == n) {
        if (n + 1 >= 1u << gu->level && n < s->config.guess_tokens)
            gu->level++;
    } else if (held > 0) {
        const uint32_t fits = 32 - (uint32_t)__builtin_clz(held);
        gu->level = (uint8_t)fits;
    } else {
        gu->level = gu->level > 1 ? gu->level - 1 : 1;
        gu->fails = gu->fails < FAILS_MAX ? gu->fails + 1 : FAILS_MAX;
        gu->rest = s->slots.len[slot] + (1u << gu->fails);
    }
}
