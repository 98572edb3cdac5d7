/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/bench_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"
#include "bench/kernels/energy.h"
#include "bench/model/cost.h"
#include "bench/model/idle.h"
#include "bench/model/report.h"
#include "bench/model/steps.h"

enum {
    SAMPLES = 7,      /* of a row as a rule */
    SAMPLES_MAX = 64, /* of slow steps, which are samples of their own */
    LENGTH_MIN = 2048
};
/* A sample is as short as this, so that its stream is of the same second, */
static const double SAMPLE_S = 0.3;
/* and a row that has enough of them ends then. */
static const double ROW_S = 8;
static const uint32_t SAMPLES_MIN = 3;
/* Energy is counted some ten times a second: steps without probes between them for so long, */
static const double ENERGY_S = 1.5;
/* but no more of them than this. */
enum { ENERGY_RUNS_MAX = 4096 };

/* What the samples of one row measured. Probe i stands before sample i, the last one after it. */
typedef struct samples {
    uint32_t n, n_steps;
    double step_s[SAMPLES_MAX], total_s;
    double stream[SAMPLES_MAX + 1], peak[SAMPLES_MAX + 1];
    hdl_idle_sum idle; /* of a GPU */
    double joule;
    uint64_t joule_tokens; /* 0: unmeasured */
} samples;

typedef struct bench {
    const hdl_bench_model_opts *opts;
    hdl_bench_steps steps;
    hdl_bench_model_row rows[2 * HDL_BENCH_MODEL_LIST_MAX * HDL_BENCH_MODEL_LIST_MAX];
    uint32_t n_rows;
    hdl_worker_screened screened; /* up to the last row */
    hdl_energy *energy;           /* owned; NULL: unmeasured */
    hdl_errmsg why;
} bench;

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

static hdl_arith arith_of(const bench *b)
{
    hdl_wformat format = b->steps.info.weights;
    if (hdl_wformat_is_int(format))
        return HDL_ARITH_INT8;
    if (b->opts->plugin) /* which multiplies FP8 as bf16 */
        return HDL_ARITH_BF16;
    return format == HDL_WFORMAT_BF16 ? HDL_ARITH_BF16 : HDL_ARITH_F32;
}

static void probe(bench *b, samples *s)
{
    s->stream[s->n] = hdl_probe_stream(b->steps.probe);
    s->peak[s->n] = hdl_probe_peak(b->steps.probe, arith_of(b));
}

static void end_sample(bench *b, samples *s, double spent, uint32_t n_steps)
{
    s->step_s[s->n++] = spent / n_steps;
    s->n_steps += n_steps;
    s->total_s += spent;
    probe(b, s);
}

static bool is_done(const samples *s)
{
    return s->n == SAMPLES_MAX || (s->n >= SAMPLES_MIN && s->total_s > ROW_S);
}

/* What the row's steps screened; the share of the head's bytes that they read. */
static double head_share(bench *b, hdl_bench_model_row *r)
{
    const hdl_worker_screened now = hdl_worker_get_screened(b->steps.worker), was = b->screened;
    b->screened = now;
    r->head_screened = now.tokens > was.tokens;
    if (!r->head_screened)
        return 1;
    r->head_computed = (double)(now.tiles - was.tiles) / (double)(now.all_tiles - was.all_tiles);
    double q8 = (double)hdl_wformat_bytes(HDL_WFORMAT_Q8, 32);
    double whole = (double)hdl_wformat_bytes(HDL_WFORMAT_BF16, 32);
    return q8 / whole + fmin(1, r->head_computed * r->batch);
}

static void finish(bench *b, hdl_bench_model_row r, samples *s)
{
    double of_stream[SAMPLES_MAX], of_peak[SAMPLES_MAX];
    uint32_t seen = r.prefill ? r.tokens : s->n_steps;
    hdl_bench_cost cost =
        hdl_bench_model_cost(hdl_worker_desc(b->steps.worker), &b->steps.shard,
                             (hdl_bench_step){.format = b->steps.info.weights,
                                              .n_tokens = r.tokens,
                                              .n_sampled = r.prefill ? 1 : r.batch,
                                              .n_seqs = r.batch,
                                              .head_share = head_share(b, &r),
                                              /* A row sees half of its own tokens on average. */
                                              .context = r.context + seen / 2});
    for (uint32_t i = 0; i < s->n; i++) {
        of_stream[i] = cost.bytes / s->step_s[i] * 2 / (s->stream[i] + s->stream[i + 1]);
        double peak = (s->peak[i] + s->peak[i + 1]) / 2;
        of_peak[i] = peak > 0 ? cost.flop / s->step_s[i] / peak : 0;
    }
    double step_s = median(s->step_s, s->n);
    r.steps = s->n_steps;
    r.samples = s->n;
    r.tokens_per_s = r.tokens / step_s;
    r.bytes_per_s = cost.bytes / step_s;
    r.flop_per_s = cost.flop / step_s;
    r.stream_bytes_per_s = median(s->stream, s->n + 1);
    r.peak_flop_per_s = median(s->peak, s->n + 1);
    r.stream_share = median(of_stream, s->n);
    r.peak_share = median(of_peak, s->n);
    r.has_idle = s->idle.n_gaps > 0;
    if (r.has_idle)
        r.host_idle_share = s->idle.idle_us / s->idle.all_us;
    r.has_energy = s->joule_tokens > 0;
    if (r.has_energy)
        r.joule_per_token = s->joule / (double)s->joule_tokens;
    b->rows[b->n_rows++] = r;
}

/* The row again (a prompt, or n_steps from the context on), without probes between, until the
 * energy counter says something. States of recurrent layers cannot go back: unmeasured. */
static hdl_err measure_energy(bench *b, const hdl_bench_model_row *r, uint32_t n_steps, samples *s)
{
    double before = 0, after = 0, spent = 0, step_s = 0;
    uint64_t n = 0;
    if (b->steps.has_states || !hdl_energy_read(b->energy, &before))
        return HDL_OK;
    for (; spent < ENERGY_S && n < ENERGY_RUNS_MAX; n++, spent += step_s)
        HDL_TRY(r->prefill
                    ? hdl_bench_steps_run(&b->steps, 1, r->context, r->tokens, &step_s)
                    : hdl_bench_steps_decode(&b->steps, r->batch, r->context, n_steps, &step_s));
    if (!hdl_energy_read(b->energy, &after) || after <= before)
        return HDL_OK;
    s->joule = after - before;
    s->joule_tokens = n * (r->prefill ? r->tokens : (uint64_t)r->batch * n_steps);
    return HDL_OK;
}

/* A prompt again and again at the same positions. */
static hdl_err prefill_samples(bench *b, const hdl_bench_model_row *r, hdl_bench_shape shape,
                               samples *s)
{
    hdl_bench_steps *steps = &b->steps;
    bool again = true;
    while (s->n < SAMPLES && !is_done(s)) {
        double spent = 0, step_s = 0;
        uint32_t n = 0;
        for (; spent < SAMPLE_S / 4; n++, spent += step_s) {
            if (again)
                HDL_TRY(hdl_bench_steps_begin(steps, shape, &b->why));
            if (s->n == 0 && n == 0)
                probe(b, s);
            HDL_TRY(hdl_bench_steps_run(steps, 1, r->context, r->tokens, &step_s));
            again = steps->has_states; /* which cannot go back */
            if (again)
                HDL_TRY(hdl_bench_steps_end(steps, 1));
        }
        end_sample(b, s, spent, n);
    }
    if (again)
        return HDL_OK;
    HDL_TRY(measure_energy(b, r, 0, s));
    return hdl_bench_steps_end(steps, 1);
}

static uint32_t fitting_steps(double step_s, uint32_t most)
{
    double n = step_s > 0 ? SAMPLE_S / step_s : 1;
    return n < 1 ? 1 : n < most ? (uint32_t)n : most;
}

static hdl_err decode_samples(bench *b, const hdl_bench_model_row *r, hdl_bench_shape shape,
                              samples *s)
{
    uint32_t total = b->opts->decode, piece = hdl_div_ceil_u32(total, SAMPLES), at = 0;
    HDL_TRY(hdl_bench_steps_begin(&b->steps, shape, &b->why));
    probe(b, s);
    for (uint32_t n = 1; at < total && !is_done(s); at += n) {
        double spent = 0;
        if (s->n > 0) /* the first one says how many fit */
            n = fitting_steps(s->step_s[s->n - 1], hdl_min_u32(piece, total - at));
        if (b->opts->plugin)
            hdl_idle_begin();
        HDL_TRY(hdl_bench_steps_decode(&b->steps, r->batch, r->context + at, n, &spent));
        if (b->opts->plugin)
            HDL_TRY(hdl_idle_end(&s->idle));
        end_sample(b, s, spent, n);
    }
    HDL_TRY(measure_energy(b, r, at, s));
    return hdl_bench_steps_end(&b->steps, r->batch);
}

static hdl_err bench_row(bench *b, hdl_bench_model_row r)
{
    uint32_t own = r.prefill ? r.tokens : b->opts->decode;
    hdl_bench_shape shape = {
        .n_seqs = r.batch, .context = r.context, .max_len = r.context + own + 1};
    samples s = {.n = 0};
    r.skipped = hdl_bench_steps_misfit(&b->steps, shape);
    if (r.skipped) {
        b->rows[b->n_rows++] = r;
        return HDL_OK;
    }
    hdl_err err = r.prefill ? prefill_samples(b, &r, shape, &s) : decode_samples(b, &r, shape, &s);
    if (err == HDL_OK)
        finish(b, r, &s);
    else if (b->why.text[0] == '\0')
        return hdl_fail(err, &b->why, "a step failed; %s; look at the log", hdl_err_text(err));
    return err;
}

static void open_energy(bench *b)
{
    hdl_plugin_info info;
    hdl_device *device = hdl_worker_device(b->steps.worker);
    if (b->opts->plugin && b->opts->plugin->info(hdl_device_remote(device), &info) == HDL_OK)
        b->energy = hdl_energy_open(NULL, info.bus_id);
}

static hdl_err run_all(bench *b)
{
    const hdl_bench_model_opts *o = b->opts;
    uint32_t longest = o->decode, context = 0;
    for (uint32_t i = 0; i < o->prefill.n; i++)
        longest = hdl_max_u32(longest, o->prefill.v[i]);
    for (uint32_t i = 0; i < o->contexts.n; i++)
        context = hdl_max_u32(context, o->contexts.v[i]);
    uint32_t max_len = hdl_max_u32(context + longest + 1, LENGTH_MIN);
    HDL_TRY(hdl_bench_steps_open(&b->steps, o, max_len, &b->why));
    open_energy(b);
    for (uint32_t c = 0; c < o->contexts.n; c++)
        for (uint32_t i = 0; i < o->prefill.n; i++)
            HDL_TRY(bench_row(b, (hdl_bench_model_row){.prefill = true,
                                                       .tokens = o->prefill.v[i],
                                                       .batch = 1,
                                                       .context = o->contexts.v[c]}));
    for (uint32_t c = 0; c < o->contexts.n; c++)
        for (uint32_t i = 0; i < o->batches.n; i++)
            HDL_TRY(bench_row(b, (hdl_bench_model_row){.tokens = o->batches.v[i],
                                                       .batch = o->batches.v[i],
                                                       .context = o->contexts.v[c]}));
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
    if (o.prefill.n == 0)
        o.prefill = (hdl_bench_model_list){2, {64, 512}};
    if (o.batches.n == 0)
        o.batches = (hdl_bench_model_list){3, {1, 8, 32}};
    if (o.contexts.n == 0)
        o.contexts = (hdl_bench_model_list){1, {256}};
    if (o.decode == 0)
        o.decode = 64;
    if (o.n_threads == 0)
        o.n_threads = (uint32_t)hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
    if (o.plugin)
        o.plugin = hdl_idle_wrap(o.plugin);
    b->opts = &o;
    hdl_thread_set_role(HDL_ROLE_STEP);
    hdl_err err = run_all(b);
    hdl_bench_model_report report = {.device = b->steps.info.device,
                                     .is_gpu = o.plugin != NULL,
                                     .fast = o.plugin && o.fast,
                                     .n_threads = o.n_threads,
                                     .n_rows = b->n_rows,
                                     .rows = b->rows};
    if (err == HDL_OK) {
        report.weights = hdl_wformat_info_of(b->steps.info.weights)->name;
        report.peak_by = hdl_probe_peak_by(b->steps.probe);
    }
    if (err != HDL_OK)
        fprintf(stderr, "heddle bench model: %s\n", b->why.text);
    else if (o.json)
        hdl_bench_model_print_json(&report, out);
    else
        hdl_bench_model_print_table(&report, out);
    hdl_energy_close(b->energy);
    if (o.plugin)
        hdl_idle_close();
    hdl_bench_steps_close(&b->steps);
    free(b);
    return err != HDL_OK;
}
