/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between neighbours, as numpy.percentile. v is sorted. */
static double percentile(const double *v, size_t n, double p)
{
    double at = p / 100 * (double)(n - 1);
    size_t lo = (size_t)at, hi = lo + 1 < n ? lo + 1 : lo;
    return v[lo] + (v[hi] - v[lo]) * (at - (double)lo);
}

/* Sorts v. */
static hdl_load_stat stat_of(double *v, size_t n)
{
    hdl_load_stat s = {0};
    double square = 0;
    if (n == 0)
        return s;
    qsort(v, n, sizeof(*v), ascending);
    for (size_t i = 0; i < n; i++)
        s.mean += v[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (v[i] - s.mean) * (v[i] - s.mean) / (double)n;
    s.std = sqrt(square);
    s.median = percentile(v, n, 50);
    s.p90 = percentile(v, n, 90);
    s.p95 = percentile(v, n, 95);
    s.p99 = percentile(v, n, 99);
    return s;
}

static double ms(uint64_t us) { return (double)us / 1e3; }

/* Of one completed request. TPOT needs two tokens. */
typedef struct times {
    double ttft, tpot, e2el;
    bool has_tpot;
} times;

static times times_of(const hdl_load_result *r)
{
    times t = {.ttft = ms(r->first_us - r->due_us), .e2el = ms(r->last_us - r->due_us)};
    t.has_tpot = r->n_output > 1;
    if (t.has_tpot)
        t.tpot = ms(r->last_us - r->first_us) / (r->n_output - 1);
    return t;
}

static bool meets(const times *t, const hdl_load_slo *slo)
{
    return (slo->ttft_ms <= 0 || t->ttft <= slo->ttft_ms) &&
           (slo->tpot_ms <= 0 || !t->has_tpot || t->tpot <= slo->tpot_ms) &&
           (slo->e2el_ms <= 0 || t->e2el <= slo->e2el_ms);
}

static void count(hdl_load_figures *f, const hdl_load_run *run, const hdl_load_slo *slo)
{
    size_t good = 0;
    f->duration_s = (double)run->duration_us / 1e6;
    f->peak_concurrent = run->peak_concurrent;
    for (size_t i = 0; i < run->n; i++) {
        const hdl_load_result *r = &run->results[i];
        if (!r->ok) {
            f->failed++;
            continue;
        }
        times t = times_of(r);
        f->completed++;
        f->n_input += r->n_input;
        f->n_output += r->n_output;
        good += meets(&t, slo);
    }
    for (size_t i = 0; i < run->n_seconds; i++)
        f->peak_output_per_s = fmax(f->peak_output_per_s, run->per_second[i]);
    double s = fmax(f->duration_s, 1e-9);
    f->requests_per_s = (double)f->completed / s;
    f->goodput_per_s = (double)good / s;
    f->output_per_s = (double)f->n_output / s;
    f->total_per_s = (double)(f->n_input + f->n_output) / s;
}

hdl_err hdl_load_figure(hdl_load_figures *out, const hdl_load_run *run, const hdl_load_slo *slo,
                        hdl_errmsg *why)
{
    *out = (hdl_load_figures){0};
    size_t most = run->n_gaps > run->n ? run->n_gaps : run->n, n = 0, n_tpot = 0;
    double *v = malloc((3 * most + 3) * sizeof(*v)), *tpot = v + most + 1, *e2el = tpot + most + 1;
    if (!v)
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    count(out, run, slo);
    for (size_t i = 0; i < run->n; i++) {
        if (!run->results[i].ok)
            continue;
        times t = times_of(&run->results[i]);
        v[n] = t.ttft;
        e2el[n++] = t.e2el;
        if (t.has_tpot)
            tpot[n_tpot++] = t.tpot;
    }
    out->ttft = stat_of(v, n);
    out->tpot = stat_of(tpot, n_tpot);
    out->e2el = stat_of(e2el, n);
    n = 0;
    for (size_t i = 0; i < run->n; i++)
        for (uint32_t j = 0; run->results[i].ok && j < run->results[i].n_gaps; j++)
            v[n++] = ms(run->gaps_us[run->results[i].gap_at + j]);
    out->itl = stat_of(v, n);
    free(v);
    return HDL_OK;
}

/* ---- table --------------------------------------------------------------------------------- */

enum { WIDTH = 50 };

static void rule(const char *title, char fill)
{
    int n = (int)strlen(title), left = (WIDTH - n) / 2;
    for (int i = 0; i < left; i++)
        putchar(fill);
    fputs(title, stdout);
    for (int i = left + n; i < WIDTH; i++)
        putchar(fill);
    putchar('\n');
}

static void line_count(const char *label, uint64_t v)
{
    printf("%-40s %-10lu\n", label, (unsigned long)v);
}
static void line_real(const char *label, double v) { printf("%-40s %-10.2f\n", label, v); }

static void section(const char *title, const char *name, const hdl_load_stat *s)
{
    char label[40];
    rule(title, '-');
    const struct {
        const char *what;
        double v;
    } rows[] = {{"Mean", s->mean}, {"Median", s->median}, {"P90", s->p90}, {"P99", s->p99}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(label, sizeof(label), "%s %s (ms):", rows[i].what, name);
        line_real(label, rows[i].v);
    }
}

static void print_drawn(const hdl_load_figures *f, const hdl_load_drawn *d)
{
    rule("Device", '-');
    printf("%-40s %s\n", "GPU:", d->name);
    line_real("Read kernel before the run (GB/s):", d->read_before / 1e9);
    line_real("Read kernel after the run (GB/s):", d->read_after / 1e9);
    if (d->has_energy && f->n_output > 0)
        line_real("Energy per generated token (J):", d->joule / (double)f->n_output);
    else
        printf("%-40s unmeasured\n", "Energy per generated token (J):");
}

void hdl_load_print(const hdl_load_figures *f, const hdl_load_run *run, const hdl_load_asked *asked)
{
    const hdl_load_slo *slo = asked->slo;
    rule(" Serving Benchmark Result ", '=');
    line_count("Successful requests:", f->completed);
    line_count("Failed requests:", f->failed);
    if (asked->target->max_concurrency)
        line_count("Maximum request concurrency:", asked->target->max_concurrency);
    if (asked->spec->rate > 0)
        line_real("Request rate configured (RPS):", asked->spec->rate);
    line_real("Benchmark duration (s):", f->duration_s);
    line_count("Total input tokens:", f->n_input);
    line_count("Total generated tokens:", f->n_output);
    line_real("Request throughput (req/s):", f->requests_per_s);
    if (slo->ttft_ms > 0 || slo->tpot_ms > 0 || slo->e2el_ms > 0)
        line_real("Request goodput (req/s):", f->goodput_per_s);
    line_real("Output token throughput (tok/s):", f->output_per_s);
    line_real("Peak output token throughput (tok/s):", f->peak_output_per_s);
    line_real("Peak concurrent requests:", f->peak_concurrent);
    line_real("Total token throughput (tok/s):", f->total_per_s);
    section("Time to First Token", "TTFT", &f->ttft);
    section("Time per Output Token (excl. 1st token)", "TPOT", &f->tpot);
    section("Inter-token Latency", "ITL", &f->itl);
    section("End-to-end Latency", "E2EL", &f->e2el);
    if (asked->drawn)
        print_drawn(f, asked->drawn);
    rule("", '=');
    if (!run->counted && f->completed > 0)
        printf("The server tells no usage: tokens are pieces of text.\n");
    for (size_t i = 0, shown = 0; i < run->n && shown < 3; i++)
        if (!run->results[i].ok)
            printf("request %zu failed: %s\n", i, run->results[i].error), shown++;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void real(hdl_json_writer *w, const char *key, double v)
{
    hdl_jw_key(w, key);
    hdl_jw_double(w, v);
}

static void stat_json(hdl_json_writer *w, const char *name, const hdl_load_stat *s)
{
    char key[32];
    const struct {
        const char *what;
        double v;
    } rows[] = {{"mean", s->mean}, {"median", s->median}, {"std", s->std},
                {"p90", s->p90},   {"p95", s->p95},       {"p99", s->p99}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(key, sizeof(key), "%s_%s_ms", rows[i].what, name);
        real(w, key, rows[i].v);
    }
}

static void details(hdl_json_writer *w, const hdl_load_run *run)
{
    hdl_jw_key(w, "input_lens");
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < run->n; i++)
        hdl_jw_uint(w, run->results[i].n_input);
    hdl_jw_end_array(w);
    hdl_jw_key(w, "output_lens");
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < run->n; i++)
        hdl_jw_uint(w, run->results[i].ok ? run->results[i].n_output : 0);
    hdl_jw_end_array(w);
    hdl_jw_key(w, "ttfts"); /* seconds, as vLLM has them */
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < run->n; i++)
        hdl_jw_double(w, run->results[i].ok ? times_of(&run->results[i]).ttft / 1e3 : 0);
    hdl_jw_end_array(w);
    hdl_jw_key(w, "itls");
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < run->n; i++) {
        hdl_jw_begin_array(w);
        for (uint32_t j = 0; j < run->results[i].n_gaps; j++)
            hdl_jw_double(w, run->gaps_us[run->results[i].gap_at + j] / 1e6);
        hdl_jw_end_array(w);
    }
    hdl_jw_end_array(w);
    hdl_jw_key(w, "errors");
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < run->n; i++)
        hdl_jw_cstr(w, run->results[i].error);
    hdl_jw_end_array(w);
}

void hdl_load_json(hdl_json_writer *w, const hdl_load_figures *f, const hdl_load_run *run,
                   const hdl_load_asked *asked)
{
    char date[HDL_CLOCK_TEXT_BYTES];
    hdl_clock_format(hdl_clock_wall_us(), date);
    hdl_jw_begin_object(w);
    hdl_jw_kv_cstr(w, "date", date);
    hdl_jw_kv_cstr(w, "backend", asked->spec->api == HDL_LOAD_CHAT ? "openai-chat" : "openai");
    hdl_jw_kv_cstr(w, "model_id", asked->spec->model);
    hdl_jw_kv_uint(w, "num_prompts", run->n);
    hdl_jw_key(w, "request_rate");
    if (asked->spec->rate > 0)
        hdl_jw_double(w, asked->spec->rate);
    else
        hdl_jw_cstr(w, "inf");
    real(w, "burstiness", asked->spec->burstiness);
    hdl_jw_key(w, "max_concurrency");
    if (asked->target->max_concurrency)
        hdl_jw_uint(w, asked->target->max_concurrency);
    else
        hdl_jw_null(w);
    real(w, "duration", f->duration_s);
    hdl_jw_kv_uint(w, "completed", f->completed);
    hdl_jw_kv_uint(w, "failed", f->failed);
    hdl_jw_kv_uint(w, "total_input_tokens", f->n_input);
    hdl_jw_kv_uint(w, "total_output_tokens", f->n_output);
    real(w, "request_throughput", f->requests_per_s);
    real(w, "request_goodput", f->goodput_per_s);
    real(w, "output_throughput", f->output_per_s);
    real(w, "peak_output_throughput", f->peak_output_per_s);
    hdl_jw_kv_uint(w, "max_concurrent_requests", f->peak_concurrent);
    real(w, "total_token_throughput", f->total_per_s);
    stat_json(w, "ttft", &f->ttft);
    stat_json(w, "tpot", &f->tpot);
    stat_json(w, "itl", &f->itl);
    stat_json(w, "e2el", &f->e2el);
    if (asked->drawn) {
        hdl_jw_kv_cstr(w, "device", asked->drawn->name);
        real(w, "read_bytes_per_s_before", asked->drawn->read_before);
        real(w, "read_bytes_per_s_after", asked->drawn->read_after);
        if (asked->drawn->has_energy && f->n_output > 0)
            real(w, "joule_per_token", asked->drawn->joule / (double)f->n_output);
    }
    if (asked->detailed)
        details(w, run);
    hdl_jw_end_object(w);
}
