/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/bench_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "base/thread.h"
#include "bench/kernels/probe.h"
#include "bench/model/cost.h"
#include "worker/worker.h"

enum {
    SAMPLES = 7,
    SEQS_MAX = 256,
    STEP_TOKENS = 1024,
    BATCH_MAX = 256,
    ROWS_MAX = 2 * HDL_BENCH_MODEL_LIST_MAX,
};
static const uint64_t SAMPLE_NS = 60000000; /* steps are repeated for at least so long */
static const size_t STREAM_BYTES = 128u << 20;

typedef struct row {
    bool prefill;
    uint32_t tokens, batch, context; /* tokens of a step */
    double tokens_per_s, bytes_per_s, stream_bytes_per_s, flop_per_s, peak_flop_per_s;
} row;

typedef struct bench {
    const hdl_bench_model_opts *opts;
    hdl_worker *worker;
    hdl_worker_info info;
    hdl_probe *probe;
    hdl_shard shard;
    uint64_t step;
    uint32_t blocks_per_seq[HDL_CACHE_GROUPS_MAX];
    row rows[ROWS_MAX];
    uint32_t n_rows;
    hdl_errmsg why;
    /* The plan of a step. */
    hdl_plan plan;
    hdl_plan_row plan_rows[SEQS_MAX];
    hdl_plan_open opens[SEQS_MAX];
    hdl_plan_grant grants[SEQS_MAX * HDL_CACHE_GROUPS_MAX];
    hdl_sampling sampling[SEQS_MAX];
    uint32_t closes[SEQS_MAX];
    hdl_token tokens[STEP_TOKENS];
    uint32_t blocks[STEP_TOKENS * HDL_CACHE_GROUPS_MAX];
    /* Blocks of each slot; slot s owns [s * blocks_per_seq, ...) and takes them in turn. */
    uint32_t given[SEQS_MAX];
} bench;

/* ---- plans -------------------------------------------------------------------------------- */

static void next_plan(bench *b)
{
    b->plan = (hdl_plan){.step = ++b->step,
                         .epoch = 1,
                         .rows = b->plan_rows,
                         .opens = b->opens,
                         .grants = b->grants,
                         .closes = b->closes,
                         .tokens = b->tokens,
                         .blocks = b->blocks};
}

static void add_open(bench *b, uint32_t slot)
{
    b->sampling[b->plan.n_opens] =
        (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
    b->opens[b->plan.n_opens++] = (hdl_plan_open){.slot = slot};
    b->given[slot] = 0;
}

typedef struct piece {
    uint32_t slot, pos, n, flags;
} piece;

/* Blocks for positions up to `end`; a state with the first row. */
static void add_grants(bench *b, uint32_t slot, uint32_t end)
{
    uint32_t from = b->given[slot], need = hdl_div_ceil_u32(end, b->info.block_tokens);
    for (uint32_t i = 0; from < need && i < b->info.n_caches; i++) {
        bool is_state = hdl_cache_is_state(&b->info.caches[i].rule);
        if (is_state && from != 0)
            continue;
        uint32_t n = is_state ? 1 : need - from, each = b->blocks_per_seq[i];
        b->grants[b->plan.n_grants++] = (hdl_plan_grant){.slot = slot,
                                                         .cache = i,
                                                         .table_at = from,
                                                         .block_at = b->plan.n_blocks,
                                                         .n_blocks = n};
        for (uint32_t k = from; k < from + n; k++)
            b->blocks[b->plan.n_blocks++] = slot * each + k % each;
    }
    b->given[slot] = hdl_max_u32(from, need);
}

static void add_row(bench *b, piece a)
{
    uint32_t vocab = hdl_worker_desc(b->worker)->vocab;
    add_grants(b, a.slot, a.pos + a.n);
    b->plan_rows[b->plan.n_rows++] = (hdl_plan_row){.slot = a.slot,
                                                    .pos = a.pos,
                                                    .n_tokens = a.n & HDL_ROW_TOKENS_MAX,
                                                    .token_at = b->plan.n_tokens,
                                                    .flags = a.flags & HDL_ROW_FLAGS_ALL};
    for (uint32_t i = 0; i < a.n; i++)
        b->tokens[b->plan.n_tokens++] =
            (hdl_token)(((a.pos + i) * 2654435761u + a.slot * 40503u) % vocab);
}

static hdl_err run_step(bench *b)
{
    hdl_result result;
    hdl_err err = hdl_worker_step(b->worker, &b->plan, b->sampling, &result);
    if (err != HDL_OK)
        return hdl_fail(err, &b->why, "a step failed; %s; look at the log", hdl_err_text(err));
    return HDL_OK;
}

/* Sequences [0, n) get n_tokens of context each and one sampled token. */
static hdl_err fill_context(bench *b, uint32_t n, uint32_t n_tokens)
{
    uint32_t chunk = b->info.step_tokens;
    for (uint32_t slot = 0; slot < n; slot++) {
        for (uint32_t pos = 0; pos < n_tokens; pos += chunk) {
            uint32_t len = hdl_min_u32(chunk, n_tokens - pos);
            next_plan(b);
            if (pos == 0)
                add_open(b, slot);
            add_row(b, (piece){slot, pos, len, pos + len == n_tokens ? HDL_ROW_SAMPLE : 0});
            HDL_TRY(run_step(b));
        }
    }
    return HDL_OK;
}

static hdl_err drop_all(bench *b, uint32_t n)
{
    next_plan(b);
    for (uint32_t slot = 0; slot < n; slot++)
        b->closes[b->plan.n_closes++] = slot;
    return run_step(b);
}

/* ---- measuring ---------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), ascending);
    return v[n / 2];
}

static hdl_arith arith_of(hdl_wformat format)
{
    if (hdl_wformat_is_int(format))
        return HDL_ARITH_INT8;
    return format == HDL_WFORMAT_F32 ? HDL_ARITH_F32 : HDL_ARITH_BF16;
}

/* What the samples of one row measured. */
typedef struct samples {
    double step_s[SAMPLES], stream[SAMPLES], peak[SAMPLES];
} samples;

static void probe(bench *b, samples *s, uint32_t i)
{
    s->stream[i] = hdl_probe_stream(b->probe);
    s->peak[i] = hdl_probe_peak(b->probe, arith_of(b->info.weights));
}

static void finish(bench *b, row r, samples *s)
{
    hdl_bench_cost cost =
        hdl_bench_model_cost(hdl_worker_desc(b->worker), &b->shard,
                             (hdl_bench_step){.format = b->info.weights,
                                              .n_tokens = r.tokens,
                                              .n_sampled = r.prefill ? 1 : r.batch,
                                              .n_seqs = r.batch,
                                              /* Prefill sees half of its own tokens on average. */
                                              .context = r.prefill ? r.tokens / 2 : r.context});
    double step_s = median(s->step_s, SAMPLES);
    r.tokens_per_s = r.tokens / step_s;
    r.bytes_per_s = cost.bytes / step_s;
    r.flop_per_s = cost.flop / step_s;
    r.stream_bytes_per_s = median(s->stream, SAMPLES);
    r.peak_flop_per_s = median(s->peak, SAMPLES);
    b->rows[b->n_rows++] = r;
}

static hdl_err bench_prefill(bench *b, uint32_t tokens)
{
    samples s;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint64_t spent = 0, steps = 0;
        probe(b, &s, i);
        while (spent < SAMPLE_NS) {
            next_plan(b);
            add_open(b, 0);
            add_row(b, (piece){0, 0, tokens, HDL_ROW_SAMPLE});
            uint64_t start = hdl_clock_now_ns();
            HDL_TRY(run_step(b));
            spent += hdl_clock_now_ns() - start;
            steps++;
            HDL_TRY(drop_all(b, 1));
        }
        s.step_s[i] = (double)spent * 1e-9 / (double)steps;
    }
    finish(b, (row){.prefill = true, .tokens = tokens, .batch = 1}, &s);
    return HDL_OK;
}

static hdl_err bench_decode(bench *b, uint32_t batch, uint32_t context)
{
    samples s;
    uint32_t pos = context, most = b->info.max_len - 1, first = context;
    HDL_TRY(fill_context(b, batch, context));
    for (uint32_t i = 0; i < SAMPLES; i++) {
        uint64_t spent = 0, steps = 0;
        probe(b, &s, i);
        while (spent < SAMPLE_NS) {
            if (pos == most) /* over and over on the same positions: the cost is the same */
                pos = first;
            next_plan(b);
            for (uint32_t slot = 0; slot < batch; slot++)
                add_row(b, (piece){slot, pos, 1, HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK});
            pos++;
            uint64_t start = hdl_clock_now_ns();
            HDL_TRY(run_step(b));
            spent += hdl_clock_now_ns() - start;
            steps++;
        }
        s.step_s[i] = (double)spent * 1e-9 / (double)steps;
        pos = first; /* the context of the row is that of its name */
    }
    HDL_TRY(drop_all(b, batch));
    finish(b, (row){.tokens = batch, .batch = batch, .context = context}, &s);
    return HDL_OK;
}

/* ---- printing ----------------------------------------------------------------------------- */

static void print_json(const bench *b, FILE *out)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 1 << 20);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "device", b->info.device);
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const row *r = &b->rows[i];
        hdl_jw_begin_object(&w);
        hdl_jw_kv_cstr(&w, "phase", r->prefill ? "prefill" : "decode");
        hdl_jw_kv_uint(&w, "tokens", r->tokens);
        hdl_jw_kv_uint(&w, "batch", r->batch);
        hdl_jw_kv_uint(&w, "context", r->context);
        const struct {
            const char *key;
            double value;
        } fields[] = {{"tokens_per_s", r->tokens_per_s},
                      {"bytes_per_s", r->bytes_per_s},
                      {"stream_bytes_per_s", r->stream_bytes_per_s},
                      {"flop_per_s", r->flop_per_s},
                      {"peak_flop_per_s", r->peak_flop_per_s}};
        for (size_t k = 0; k < HDL_ARRAY_LEN(fields); k++) {
            hdl_jw_key(&w, fields[k].key);
            hdl_jw_fixed(&w, fields[k].value, 1);
        }
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    fprintf(out, "%s\n", hdl_buf_cstr(&buf));
    hdl_buf_deinit(&buf);
}

static void print_table(const bench *b, FILE *out)
{
    fprintf(out, "%s, %u threads\n", b->info.device, b->opts->n_threads);
    fprintf(out, "%-8s %6s %6s %8s %10s %8s %10s %9s %10s\n", "phase", "tokens", "batch", "context",
            "tokens/s", "GB/s", "of stream", "GFLOP/s", "of peak");
    for (uint32_t i = 0; i < b->n_rows; i++) {
        const row *r = &b->rows[i];
        fprintf(out, "%-8s %6u %6u %8u %10.0f %8.2f %9.0f%% %9.1f %9.0f%%\n",
                r->prefill ? "prefill" : "decode", r->tokens, r->batch, r->context, r->tokens_per_s,
                r->bytes_per_s * 1e-9, 100 * r->bytes_per_s / r->stream_bytes_per_s,
                r->flop_per_s * 1e-9, 100 * r->flop_per_s / r->peak_flop_per_s);
    }
}

/* ---- life --------------------------------------------------------------------------------- */

/* Of a window, what a step of one row reads and writes at most. */
static uint32_t blocks_of_seq(const bench *b, const hdl_cache_rule *rule)
{
    uint32_t bt = b->info.block_tokens, whole = hdl_div_ceil_u32(b->info.max_len, bt);
    uint32_t span = hdl_max_u32(rule->window, rule->chunk);
    if (hdl_cache_is_state(rule))
        return 1;
    if (span == 0 || span >= b->info.max_len)
        return whole;
    return hdl_min_u32(whole, hdl_div_ceil_u32(span + b->info.step_tokens, bt) + 1);
}

static hdl_err open_worker(bench *b)
{
    const hdl_bench_model_opts *o = b->opts;
    hdl_worker_opts opts = {.model_path = o->model_path,
                            .weights = o->weights,
                            .max_seqs = SEQS_MAX,
                            .step_tokens = STEP_TOKENS,
                            .max_len = 2048,
                            .kv_bytes = (uint64_t)2 << 30,
                            .n_threads = o->n_threads,
                            .cpus = o->cpus,
                            .n_cpus = o->n_cpus,
                            .isa = o->isa};
    HDL_TRY(hdl_worker_open(&b->worker, &opts, &b->why));
    hdl_coll_opts coll = {.backend = "self"};
    HDL_TRY(hdl_worker_join(b->worker, &coll, 1, &b->why));
    b->info = hdl_worker_get_info(b->worker);
    hdl_layout one = {1, 1, 1, 1};
    b->shard = hdl_shard_of(hdl_worker_desc(b->worker), &one, 0);
    for (uint32_t i = 0; i < b->info.n_caches; i++)
        b->blocks_per_seq[i] = blocks_of_seq(b, &b->info.caches[i].rule);
    return hdl_probe_open(&b->probe, hdl_worker_device(b->worker), o->isa, STREAM_BYTES, &b->why);
}

static hdl_err run_all(bench *b)
{
    const hdl_bench_model_opts *o = b->opts;
    HDL_TRY(open_worker(b));
    uint32_t longest = hdl_min_u32(b->info.step_tokens, b->info.max_len);
    uint32_t seqs = BATCH_MAX;
    for (uint32_t i = 0; i < b->info.n_caches; i++)
        seqs = hdl_min_u32(seqs, b->info.caches[i].n_blocks / b->blocks_per_seq[i]);
    uint32_t context = o->context ? o->context : 256;
    context = hdl_min_u32(context, b->info.max_len / 2);
    for (uint32_t i = 0; i < HDL_BENCH_MODEL_LIST_MAX && o->prefill[i] != 0; i++)
        if (o->prefill[i] <= longest)
            HDL_TRY(bench_prefill(b, o->prefill[i]));
    for (uint32_t i = 0; i < HDL_BENCH_MODEL_LIST_MAX && o->batches[i] != 0; i++)
        if (o->batches[i] <= seqs)
            HDL_TRY(bench_decode(b, o->batches[i], context));
    return HDL_OK;
}

int hdl_bench_model(const hdl_bench_model_opts *opts)
{
    hdl_bench_model_opts o = *opts;
    FILE *out = o.out ? o.out : stdout;
    int cpus[HDL_CPUS_MAX];
    bench *b = calloc(1, sizeof(*b));
    if (!b) {
        fprintf(stderr, "heddle bench model: out of memory\n");
        return 1;
    }
    if (o.prefill[0] == 0)
        o.prefill[0] = 64, o.prefill[1] = 512;
    if (o.batches[0] == 0)
        o.batches[0] = 1, o.batches[1] = 8, o.batches[2] = 32;
    if (o.n_threads == 0)
        o.n_threads = (uint32_t)hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
    b->opts = &o;
    hdl_thread_set_role(HDL_ROLE_STEP);
    hdl_err err = run_all(b);
    if (err != HDL_OK)
        fprintf(stderr, "heddle bench model: %s\n", b->why.text);
    else if (o.json)
        print_json(b, out);
    else
        print_table(b, out);
    hdl_probe_close(b->probe);
    hdl_worker_close(b->worker);
    free(b);
    return err != HDL_OK;
}
