/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/steps.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"

enum { FILL_TOKENS = 512 };
static const size_t STREAM_BYTES = 128u << 20;
static const uint64_t KV_LEAST = (uint64_t)2 << 30, KV_GPU = (uint64_t)4 << 30;

/* ---- plans -------------------------------------------------------------------------------- */

static void next_plan(hdl_bench_steps *s)
{
    s->plan = (hdl_plan){.step = ++s->step,
                         .epoch = 1,
                         .rows = s->rows,
                         .opens = s->opens,
                         .grants = s->grants,
                         .closes = s->closes,
                         .copies = s->copies,
                         .tokens = s->tokens,
                         .blocks = s->blocks};
}

static void add_open(hdl_bench_steps *s, uint32_t slot)
{
    s->sampling[s->plan.n_opens] =
        (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
    s->opens[s->plan.n_opens++] = (hdl_plan_open){.slot = slot};
    s->given[slot] = 0;
}

static bool is_state(const hdl_bench_steps *s, uint32_t cache)
{
    return hdl_cache_is_state(&s->info.caches[cache].rule);
}

/* Blocks for positions up to `end`; a state with the first. */
static void add_grants(hdl_bench_steps *s, uint32_t slot, uint32_t end)
{
    uint32_t from = s->given[slot], need = hdl_div_ceil_u32(end, s->info.block_tokens);
    for (uint32_t i = 0; from < need && i < s->info.n_caches; i++) {
        if (is_state(s, i) && from != 0)
            continue;
        uint32_t n = is_state(s, i) ? 1 : need - from, each = s->each[i];
        s->grants[s->plan.n_grants++] = (hdl_plan_grant){.slot = slot,
                                                         .cache = i,
                                                         .table_at = from,
                                                         .block_at = s->plan.n_blocks,
                                                         .n_blocks = n};
        HDL_ASSERT_LE(s->plan.n_blocks + n, s->blocks_max);
        for (uint32_t k = from; k < from + n; k++)
            s->blocks[s->plan.n_blocks++] = slot * each + k % each;
    }
    s->given[slot] = hdl_max_u32(from, need);
}

typedef struct piece {
    uint32_t slot, pos, n, flags;
} piece;

static void add_row(hdl_bench_steps *s, piece a)
{
    uint32_t vocab = hdl_worker_desc(s->worker)->vocab;
    add_grants(s, a.slot, a.pos + a.n);
    s->rows[s->plan.n_rows++] = (hdl_plan_row){.slot = a.slot,
                                               .pos = a.pos,
                                               .n_tokens = a.n & HDL_ROW_TOKENS_MAX,
                                               .token_at = s->plan.n_tokens,
                                               .flags = a.flags & HDL_ROW_FLAGS_ALL};
    for (uint32_t i = 0; i < a.n; i++)
        s->tokens[s->plan.n_tokens++] =
            (hdl_token)(((a.pos + i) * 2654435761u + a.slot * 40503u) % vocab);
}

static hdl_err run_plan(hdl_bench_steps *s)
{
    hdl_result result;
    return hdl_worker_step(s->worker, &s->plan, s->sampling, &result);
}

hdl_err hdl_bench_steps_run(hdl_bench_steps *s, uint32_t n_seqs, uint32_t pos, uint32_t n_tokens,
                            double *step_s)
{
    uint64_t spent = 0;
    for (uint32_t at = 0, n; at < n_tokens; at += n) {
        n = hdl_min_u32(s->info.step_tokens, n_tokens - at);
        next_plan(s);
        for (uint32_t slot = 0; slot < n_seqs; slot++)
            add_row(s, (piece){slot, pos + at, n, at + n == n_tokens ? HDL_ROW_SAMPLE : 0});
        uint64_t start = hdl_clock_now_ns();
        HDL_TRY(run_plan(s));
        spent += hdl_clock_now_ns() - start;
    }
    *step_s = (double)spent * 1e-9;
    return HDL_OK;
}

hdl_err hdl_bench_steps_decode(hdl_bench_steps *s, uint32_t n_seqs, uint32_t pos, uint32_t n_steps,
                               double *spent_s)
{
    uint32_t most = hdl_worker_steps_max(s->worker), under_way = 0;
    uint64_t start = hdl_clock_now_ns();
    hdl_result result;
    for (uint32_t i = 0; i < n_steps; i++, under_way++) {
        if (under_way == most) {
            HDL_TRY(hdl_worker_collect(s->worker, &result));
            under_way--;
        }
        next_plan(s);
        for (uint32_t slot = 0; slot < n_seqs; slot++)
            add_row(s, (piece){slot, pos + i, 1, HDL_ROW_SAMPLE | (i > 0 ? HDL_ROW_FEEDBACK : 0)});
        HDL_TRY(hdl_worker_submit(s->worker, &s->plan, s->sampling, &result));
    }
    for (; under_way > 0; under_way--)
        HDL_TRY(hdl_worker_collect(s->worker, &result));
    *spent_s = (double)(hdl_clock_now_ns() - start) * 1e-9;
    return HDL_OK;
}

/* ---- contexts ----------------------------------------------------------------------------- */

/* The blocks that sequence 0's first tokens filled go to all others of the row, in turn. */
static hdl_err copy_blocks(hdl_bench_steps *s, uint32_t n_seqs, uint32_t n_filled)
{
    next_plan(s);
    for (uint32_t i = 0; i < s->info.n_caches; i++) {
        uint32_t filled = hdl_min_u32(n_filled, s->each[i]);
        for (uint32_t dst = filled; dst < n_seqs * s->each[i]; dst++) {
            if (s->plan.n_copies == HDL_BENCH_COPIES_MAX) {
                HDL_TRY(run_plan(s));
                next_plan(s);
            }
            s->copies[s->plan.n_copies++] =
                (hdl_plan_copy){.cache = i, .src = dst % filled, .dst = dst};
        }
    }
    return run_plan(s);
}

/* Computes the first n tokens of sequences [0, n_seqs). */
static hdl_err fill(hdl_bench_steps *s, uint32_t n_seqs, uint32_t n_tokens)
{
    for (uint32_t slot = 0; slot < n_seqs; slot++)
        for (uint32_t pos = 0, n; pos < n_tokens; pos += n) {
            n = hdl_min_u32(s->info.step_tokens, n_tokens - pos);
            next_plan(s);
            if (pos == 0)
                add_open(s, slot);
            add_row(s, (piece){slot, pos, n, 0});
            HDL_TRY(run_plan(s));
        }
    return HDL_OK;
}

static hdl_err begin(hdl_bench_steps *s, hdl_bench_shape shape)
{
    uint32_t filled = hdl_min_u32(shape.context, FILL_TOKENS);
    if (s->has_states && shape.context > 0)
        return fill(s, shape.n_seqs, shape.context);
    HDL_TRY(fill(s, 1, filled));
    if (filled > 0)
        HDL_TRY(copy_blocks(s, shape.n_seqs, hdl_div_ceil_u32(filled, s->info.block_tokens)));
    next_plan(s);
    if (filled > 0) /* a sequence that has begun may not leave out positions: 0 begins again */
        s->closes[s->plan.n_closes++] = 0;
    for (uint32_t slot = 0; slot < shape.n_seqs; slot++)
        add_open(s, slot);
    return run_plan(s);
}

/* Of a window, what a step of one row reads and writes at most. */
static uint32_t blocks_of_seq(const hdl_bench_steps *s, uint32_t cache, uint32_t max_len)
{
    const hdl_cache_rule *rule = &s->info.caches[cache].rule;
    uint32_t bt = s->info.block_tokens, whole = hdl_div_ceil_u32(max_len, bt);
    uint32_t span = hdl_max_u32(rule->window, rule->chunk);
    if (hdl_cache_is_state(rule))
        return 1;
    if (span == 0 || span >= max_len)
        return whole;
    return hdl_min_u32(whole, hdl_div_ceil_u32(span + s->info.step_tokens, bt) + 1);
}

const char *hdl_bench_steps_misfit(const hdl_bench_steps *s, hdl_bench_shape shape)
{
    if (shape.max_len > s->info.max_len)
        return "longer than the model's longest sequence";
    if (shape.n_seqs > HDL_BENCH_SEQS_MAX)
        return "more sequences than slots";
    for (uint32_t i = 0; i < s->info.n_caches; i++)
        if (shape.n_seqs > s->info.caches[i].n_blocks / blocks_of_seq(s, i, shape.max_len))
            return "more than the cache holds; give it more with --kv-bytes";
    return NULL;
}

hdl_err hdl_bench_steps_begin(hdl_bench_steps *s, hdl_bench_shape shape, hdl_errmsg *why)
{
    for (uint32_t i = 0; i < s->info.n_caches; i++)
        s->each[i] = blocks_of_seq(s, i, shape.max_len);
    hdl_err err = begin(s, shape);
    if (err != HDL_OK)
        return hdl_fail(err, why, "a context failed; %s; look at the log", hdl_err_text(err));
    return HDL_OK;
}

hdl_err hdl_bench_steps_end(hdl_bench_steps *s, uint32_t n_seqs)
{
    next_plan(s);
    for (uint32_t slot = 0; slot < n_seqs; slot++)
        s->closes[s->plan.n_closes++] = slot;
    return run_plan(s);
}

/* ---- life --------------------------------------------------------------------------------- */

static uint64_t kv_bytes(const hdl_bench_model_opts *o)
{
    uint64_t quarter = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 4;
    if (o->kv_bytes || o->plugin)
        return o->kv_bytes ? o->kv_bytes : KV_GPU;
    return quarter > KV_LEAST ? quarter : KV_LEAST;
}

static hdl_err open_worker(hdl_bench_steps *s, const hdl_bench_model_opts *o, uint32_t max_len,
                           hdl_errmsg *why)
{
    hdl_worker_opts opts = {.model_path = o->model_path,
                            .weights = o->weights,
                            .max_seqs = HDL_BENCH_SEQS_MAX,
                            .step_tokens =
                                o->plugin ? HDL_BENCH_STEP_TOKENS_GPU : HDL_BENCH_STEP_TOKENS,
                            .max_len = max_len,
                            .kv_bytes = kv_bytes(o),
                            .kv_type = o->kv_type,
                            .head_screen = o->head_screen,
                            .plugin = o->plugin,
                            .gpu = o->gpu,
                            .fast = o->fast,
                            .n_threads = o->n_threads,
                            .cpus = o->cpus,
                            .n_cpus = o->n_cpus,
                            .isa = o->isa};
    if (o->shape) {
        HDL_TRY(hdl_bench_made_open(&s->made, o->shape, why));
        opts.model_path = s->made.path;
        opts.made = &s->made.hook;
    }
    HDL_TRY(hdl_worker_open(&s->worker, &opts, why));
    return hdl_worker_join(s->worker, &(hdl_coll_opts){.backend = "self"}, 1, why);
}

hdl_err hdl_bench_steps_open(hdl_bench_steps *s, const hdl_bench_model_opts *o, uint32_t max_len,
                             hdl_errmsg *why)
{
    memset(s, 0, sizeof *s);
    HDL_TRY(open_worker(s, o, max_len, why));
    s->info = hdl_worker_get_info(s->worker);
    s->shard = hdl_shard_of(hdl_worker_desc(s->worker), &(hdl_layout){1, 1, 1, 1}, 0);
    for (uint32_t i = 0; i < s->info.n_caches; i++)
        s->has_states = s->has_states || is_state(s, i);
    s->blocks_max = (size_t)HDL_BENCH_SEQS_MAX * s->info.n_caches *
                    hdl_div_ceil_u32(s->info.max_len, s->info.block_tokens);
    s->blocks = malloc(s->blocks_max * sizeof *s->blocks);
    if (!s->blocks)
        return hdl_fail(HDL_NOMEM, why, "cannot measure; out of memory; ask for shorter contexts");
    return hdl_probe_open(&s->probe, hdl_worker_device(s->worker), o->isa, STREAM_BYTES, why);
}

void hdl_bench_steps_close(hdl_bench_steps *s)
{
    hdl_probe_close(s->probe);
    hdl_worker_close(s->worker);
    hdl_bench_made_close(&s->made);
    free(s->blocks);
}
