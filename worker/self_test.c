/* SPDX-License-Identifier: Apache-2.0 */
/* Before a rank says READY: a fixed prompt alone, and again cut in chunks inside a batch, must give
 * the same tokens and the same bits of log-probability (in `fast` only near ones: nobody promises
 * bits there). Finds broken kernels, ranks that disagree
 * and weights that are no numbers. Uses the step itself; leaves the epoch at step 0. */
#include <math.h>
#include <string.h>

#include "worker/worker_impl.h"

enum {
    /* Small: a start waits for it, some thirty tokens of the whole model. */
    PROMPT = 12,
    NEW = 2,   /* tokens generated after it */
    CHUNK = 5, /* of the batched run */
    OTHERS = 2,
    TOPS = 4,
    BLOCKS = 8, /* of one sequence, at most */
};

/* One run: how, and what it gives on rank 0. */
typedef struct outcome {
    uint32_t chunk, others; /* not compared */
    hdl_token tokens[NEW];
    float logprobs[NEW][1 + TOPS];
} outcome;

typedef struct test {
    hdl_worker *w;
    uint32_t n_prompt, n_others;
    hdl_plan plan;
    hdl_plan_row rows[1 + OTHERS];
    hdl_plan_open opens[1 + OTHERS];
    hdl_plan_grant grants[(1 + OTHERS) * HDL_CACHE_GROUPS_MAX];
    hdl_sampling sampling[1 + OTHERS];
    hdl_token tokens[(1 + OTHERS) * PROMPT];
    uint32_t blocks[(1 + OTHERS) * BLOCKS]; /* the same in every cache group */
    uint32_t given[1 + OTHERS];
} test;

static hdl_token prompt_token(const test *t, uint32_t slot, uint32_t pos)
{
    return (hdl_token)((pos * 7919u + slot * 104729u + 1u) % t->w->desc.vocab);
}

static void add_open(test *t, uint32_t slot)
{
    t->sampling[t->plan.n_opens] =
        (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = slot == 0 ? TOPS : -1};
    t->opens[t->plan.n_opens++] = (hdl_plan_open){.slot = slot};
    t->given[slot] = 0;
}

typedef struct piece {
    uint32_t slot, pos, n, flags;
} piece;

/* Blocks for positions up to `end`, the same numbers in each group of pages; a state with the first
 * row. */
static void add_grants(test *t, uint32_t slot, uint32_t end)
{
    uint32_t bt = t->w->kv.block_tokens, per_seq = hdl_div_ceil_u32(t->n_prompt + NEW, bt);
    uint32_t need = hdl_div_ceil_u32(end, bt), from = t->given[slot], at = t->plan.n_blocks;
    if (from >= need)
        return;
    for (; t->given[slot] < need; t->given[slot]++)
        t->blocks[t->plan.n_blocks++] = slot * per_seq + t->given[slot];
    for (uint32_t i = 0; i < t->w->kv.n_pools; i++) {
        bool is_state = hdl_cache_is_state(&t->w->kv.pools[i].group.rule);
        if (is_state && from != 0)
            continue;
        t->grants[t->plan.n_grants++] =
            (hdl_plan_grant){.slot = slot,
                             .cache = i,
                             .table_at = from,
                             .block_at = at,
                             .n_blocks = is_state ? 1 : t->plan.n_blocks - at};
    }
}

static void add_row(test *t, piece a)
{
    add_grants(t, a.slot, a.pos + a.n);
    t->rows[t->plan.n_rows++] = (hdl_plan_row){.slot = a.slot,
                                               .pos = a.pos,
                                               .n_tokens = a.n & HDL_ROW_TOKENS_MAX,
                                               .token_at = t->plan.n_tokens,
                                               .flags = a.flags & HDL_ROW_FLAGS_ALL};
    for (uint32_t i = 0; i < a.n; i++)
        t->tokens[t->plan.n_tokens++] = prompt_token(t, a.slot, a.pos + i);
}

static void next_plan(test *t)
{
    t->plan = (hdl_plan){.step = t->w->step + 1,
                         .epoch = t->w->epoch,
                         .rows = t->rows,
                         .opens = t->opens,
                         .grants = t->grants,
                         .tokens = t->tokens,
                         .blocks = t->blocks};
}

static hdl_err step(test *t, hdl_result *result, hdl_errmsg *why)
{
    hdl_err err = hdl_worker_step(t->w, &t->plan, t->sampling, result);
    if (err != HDL_OK)
        return hdl_fail(err, why, "the self-test could not run; %s %s; look at this worker's log",
                        hdl_err_text(err), t->w->why.text);
    return HDL_OK;
}

static void keep(const hdl_result *result, outcome *out, uint32_t i)
{
    for (uint32_t r = 0; r < result->n_rows; r++) {
        const hdl_result_row *row = &result->rows[r];
        if (row->slot != 0)
            continue;
        out->tokens[i] = row->token;
        for (uint32_t k = 0; k < row->n_probs; k++)
            out->logprobs[i][k] = result->probs[row->probs_at + k].logprob;
    }
}

/* The prompt of slot 0 in chunks, then its generation; `others` decode beside it. */
static hdl_err generate(test *t, outcome *out, hdl_errmsg *why)
{
    hdl_result result = {0};
    uint32_t chunk = out->chunk, others = out->others;
    for (uint32_t pos = 0; pos < t->n_prompt; pos += chunk) {
        uint32_t n = hdl_min_u32(chunk, t->n_prompt - pos);
        next_plan(t);
        for (uint32_t slot = 1; pos == 0 && slot <= others; slot++) {
            add_open(t, slot);
            add_row(t, (piece){slot, 0, slot, HDL_ROW_SAMPLE});
        }
        if (pos == 0)
            add_open(t, 0);
        add_row(t, (piece){0, pos, n, pos + n == t->n_prompt ? HDL_ROW_SAMPLE : 0});
        HDL_TRY(step(t, &result, why));
    }
    for (uint32_t i = 0; i < NEW; i++) {
        keep(&result, out, i);
        if (i + 1 == NEW)
            break;
        next_plan(t);
        add_row(t, (piece){0, t->n_prompt + i, 1, HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK});
        for (uint32_t slot = 1; slot <= others; slot++)
            add_row(t, (piece){slot, slot + i, 1, HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK});
        HDL_TRY(step(t, &result, why));
    }
    return HDL_OK;
}

/* Of the first token, which both runs choose behind the same text: a plain NaN is far from all. */
static bool near(const outcome *a, const outcome *b)
{
    const float most = 0.25f; /* sums in another order move a log-probability by some thousandths */
    for (uint32_t k = 0; k < 1 + TOPS; k++)
        if (!(fabsf(a->logprobs[0][k] - b->logprobs[0][k]) <= most))
            return false;
    return true;
}

static bool same(const outcome *a, const outcome *b)
{
    return memcmp(a->tokens, b->tokens, sizeof(a->tokens)) == 0 &&
           memcmp(a->logprobs, b->logprobs, sizeof(a->logprobs)) == 0;
}

static void forget(hdl_worker *w)
{
    hdl_batch_reset(&w->batch);
    w->step = 0;
}

hdl_err hdl_worker_self_test(hdl_worker *w, hdl_errmsg *why)
{
    test t = {.w = w, .n_prompt = PROMPT};
    uint32_t most = hdl_min_u32(w->opts.max_len, w->opts.step_tokens);
    if (t.n_prompt + NEW > most)
        t.n_prompt = most > NEW + OTHERS ? most - NEW - OTHERS : 1;
    uint32_t per_seq = hdl_div_ceil_u32(t.n_prompt + NEW, w->kv.block_tokens);
    uint32_t room = w->opts.max_seqs;
    for (uint32_t i = 0; i < w->kv.n_pools; i++)
        room = hdl_min_u32(room, w->kv.pools[i].n_blocks / per_seq);
    if (room == 0 || per_seq > BLOCKS || most < NEW + 1)
        return HDL_OK; /* too small a cache for any test; admission will say so */
    t.n_others = hdl_min_u32(OTHERS, room - 1);
    if (CHUNK + OTHERS * OTHERS > most)
        t.n_others = 0;
    outcome alone = {.chunk = t.n_prompt};
    outcome batched = {.chunk = hdl_min_u32(CHUNK, most), .others = t.n_others};
    HDL_TRY(generate(&t, &alone, why));
    forget(w);
    HDL_TRY(generate(&t, &batched, why));
    forget(w);
    bool agree = w->opts.plugin && w->opts.fast ? near(&alone, &batched) : same(&alone, &batched);
    if (w->shard.rank == 0 && !agree)
        return hdl_fail(HDL_DEVICE, why,
                        "the self-test failed; a prompt gave other numbers inside a batch than "
                        "alone on %s; choose another instruction set and report this",
                        w->model.ops->name);
    return HDL_OK;
}
