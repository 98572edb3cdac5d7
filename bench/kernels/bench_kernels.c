/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/bench_kernels.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "base/thread.h"
#include "bench/kernels/bench_op.h"

enum { SAMPLES = 9, SAMPLES_MAX = 101, CALLS_MAX = 2000 };
static const size_t STREAM_BYTES = 256u << 20;
static const uint64_t SAMPLE_NS = 20000000; /* calls are repeated for at least so long */

hdl_bench_row *hdl_bench_add(hdl_bench *b, const char *fmt, ...)
{
    hdl_bench_row *row = &b->rows[b->n_rows];
    if (b->n_rows == HDL_BENCH_ROWS_MAX || b->failed)
        return NULL;
    va_list args;
    va_start(args, fmt);
    vsnprintf(row->name, sizeof row->name, fmt, args);
    va_end(args);
    if (b->only && strncmp(row->name, b->only, strlen(b->only)) != 0)
        return NULL;
    b->n_rows++;
    return row;
}

struct hdl_bench_block {
    struct hdl_bench_block *next;
    _Alignas(64) unsigned char bytes[];
};

void *hdl_bench_host(hdl_bench *b, size_t bytes)
{
    static _Alignas(64) unsigned char nothing[65536];
    struct hdl_bench_block *block = NULL;
    size_t size = (sizeof *block + bytes + 63) / 64 * 64;
    if (posix_memalign((void **)&block, 64, size) != 0) {
        b->failed = true;
        return nothing;
    }
    memset(block, 0, size);
    block->next = b->blocks;
    b->blocks = block;
    return block->bytes;
}

static void free_host(hdl_bench *b)
{
    while (b->blocks) {
        struct hdl_bench_block *block = b->blocks;
        b->blocks = block->next;
        free(block);
    }
}

void *hdl_bench_alloc(hdl_bench *b, size_t bytes)
{
    void *mem = b->failed ? NULL : hdl_device_alloc(b->device, bytes);
    b->failed = b->failed || !mem;
    return mem;
}

void *hdl_bench_put(hdl_bench *b, const void *from, size_t bytes)
{
    void *mem = hdl_bench_alloc(b, bytes);
    b->failed = b->failed || hdl_device_write(b->device, mem, from, bytes) != HDL_OK;
    return mem;
}

void *hdl_bench_repeat(hdl_bench *b, size_t bytes, const void *pattern, size_t pattern_bytes)
{
    void *mem = hdl_bench_alloc(b, bytes);
    b->failed =
        b->failed || hdl_made_repeat(b->device, mem, bytes, pattern, pattern_bytes) != HDL_OK;
    return mem;
}

float *hdl_bench_floats(hdl_bench *b, size_t n)
{
    enum { PIECE = 16384 };
    float x[PIECE];
    float *mem = hdl_bench_alloc(b, n * sizeof *mem);
    for (size_t at = 0, m; !b->failed && at < n; at += m) {
        m = hdl_min_size(PIECE, n - at);
        for (size_t i = 0; i < m; i++)
            x[i] = (float)hdl_rng_unit(&b->rng) - 0.5f;
        b->failed = hdl_device_write(b->device, mem + at, x, m * sizeof *x) != HDL_OK;
    }
    return mem;
}

hdl_weight hdl_bench_weight(hdl_bench *b, hdl_wformat format, uint32_t n, uint32_t k,
                            uint32_t n_leaves)
{
    hdl_weight w = {.format = format, .n = n, .k = k, .n_leaves = n_leaves};
    w.bytes = b->ops->weight_bytes(format, n, k, n_leaves);
    HDL_ASSERT(w.bytes != 0); /* rows ask for shapes that the backend has */
    w.data = hdl_bench_alloc(b, w.bytes);
    b->failed = b->failed || hdl_made_weight(&b->made, &w) != HDL_OK;
    return w;
}

void hdl_bench_plan(hdl_bench *b, const hdl_weight *w, uint32_t n_tokens)
{
    const hdl_plugin *plugin = hdl_device_plugin(b->device);
    if (b->fast && !b->failed)
        b->failed = plugin->plan(hdl_device_remote(b->device), w, n_tokens) != HDL_OK;
}

hdl_arith hdl_bench_arith(const hdl_bench *b, hdl_wformat format)
{
    if (hdl_wformat_is_int(format))
        return HDL_ARITH_INT8;
    bool as_bf16 =
        format == HDL_WFORMAT_BF16 || (format != HDL_WFORMAT_F32 && !hdl_device_is_host(b->device));
    return as_bf16 ? HDL_ARITH_BF16 : HDL_ARITH_F32;
}

/* Medians over the samples of one row; shares are medians of ratios taken side by side. */
typedef struct figures {
    double call_us, best_us, stream, peak, bytes_per_s, flop_per_s;
    double stream_share, peak_share;
} figures;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, uint32_t n)
{
    qsort(x, n, sizeof *x, by_value);
    return x[n / 2];
}

/* Calls that the device is asked for at once. */
typedef struct calls {
    const hdl_bench *b;
    const hdl_bench_row *row;
    uint32_t n;
} calls;

static hdl_err launch(void *arg)
{
    const calls *c = arg;
    for (uint32_t i = 0; i < c->n; i++)
        c->row->call(c->row->args, c->b->ops, c->b->stream);
    return HDL_OK;
}

/* By the device's events: as many calls as one says are needed. */
static double time_on_device(const hdl_bench *b, const hdl_bench_row *row, hdl_probe *probe)
{
    calls c = {b, row, 1};
    double us = hdl_probe_time_us(probe, launch, &c), want = (double)SAMPLE_NS / 1e3;
    if (us <= 0 || us >= want)
        return us * 1e3;
    c.n = (uint32_t)hdl_min_size((size_t)(want / us) + 1, CALLS_MAX);
    return hdl_probe_time_us(probe, launch, &c) * 1e3 / c.n;
}

/* Nanoseconds of a call; negative: the device is lost. */
static double time_calls(const hdl_bench *b, const hdl_bench_row *row, hdl_probe *probe)
{
    if (!hdl_device_is_host(b->device))
        return time_on_device(b, row, probe);
    uint64_t start = hdl_clock_now_ns(), now = start;
    uint32_t n = 0;
    while (now - start < SAMPLE_NS) {
        row->call(row->args, b->ops, b->stream);
        n++;
        now = hdl_clock_now_ns();
    }
    return (double)(now - start) / n;
}

static figures measure(hdl_bench *b, const hdl_bench_row *row, hdl_probe *probe, uint32_t samples)
{
    double ns[SAMPLES_MAX], stream[SAMPLES_MAX], peak[SAMPLES_MAX];
    double of_stream[SAMPLES_MAX], of_peak[SAMPLES_MAX];
    time_calls(b, row, probe); /* warm */
    for (uint32_t i = 0; i < samples; i++) {
        ns[i] = time_calls(b, row, probe);
        b->failed = b->failed || ns[i] < 0;
        stream[i] = hdl_probe_stream(probe);
        peak[i] = hdl_probe_peak(probe, row->arith);
        of_stream[i] = row->bytes * 1e9 / ns[i] / stream[i];
        of_peak[i] = peak[i] > 0 ? row->flop * 1e9 / ns[i] / peak[i] : 0;
    }
    figures f = {.stream_share = median(of_stream, samples),
                 .peak_share = median(of_peak, samples),
                 .stream = median(stream, samples),
                 .peak = median(peak, samples)};
    double call_ns = median(ns, samples);
    f.best_us = ns[0] / 1e3; /* sorted by median() */
    f.call_us = call_ns / 1e3;
    f.bytes_per_s = row->bytes * 1e9 / call_ns;
    f.flop_per_s = row->flop * 1e9 / call_ns;
    return f;
}

static void print_row(FILE *out, const hdl_bench_row *row, const figures *f)
{
    fprintf(out, "%-36s %10.1f us %10.1f us", row->name, f->call_us, f->best_us);
    if (row->bytes > 0)
        fprintf(out, " %7.1f GB/s %5.2f", f->bytes_per_s / 1e9, f->stream_share);
    else
        fprintf(out, " %18s", "");
    if (f->peak > 0)
        fprintf(out, " %8.1f GF/s %5.2f", f->flop_per_s / 1e9, f->peak_share);
    fputc('\n', out);
}

static void json_number(hdl_json_writer *w, const char *key, double v)
{
    hdl_jw_key(w, key);
    hdl_jw_fixed(w, v, 3);
}

static void json_row(hdl_json_writer *w, const hdl_bench_row *row, const figures *f)
{
    hdl_jw_begin_object(w);
    hdl_jw_kv_cstr(w, "name", row->name);
    json_number(w, "call_us", f->call_us);
    json_number(w, "best_us", f->best_us);
    json_number(w, "bytes_per_s", f->bytes_per_s);
    json_number(w, "stream_bytes_per_s", f->stream);
    json_number(w, "stream_share", f->stream_share);
    json_number(w, "flop_per_s", f->flop_per_s);
    json_number(w, "peak_flop_per_s", f->peak);
    json_number(w, "peak_share", f->peak_share);
    hdl_jw_end_object(w);
}

static const char *device_name(const hdl_bench *b, char name[128])
{
    const hdl_plugin *plugin = hdl_device_plugin(b->device);
    hdl_plugin_info info;
    if (!plugin || plugin->info(hdl_device_remote(b->device), &info) != HDL_OK)
        return b->ops->name;
    snprintf(name, 128, "%s", info.name);
    return name;
}

static void print_head(const hdl_bench *b, hdl_probe *probe, FILE *out)
{
    double f32 = hdl_probe_peak(probe, HDL_ARITH_F32), bf16 = hdl_probe_peak(probe, HDL_ARITH_BF16);
    double int8 = hdl_probe_peak(probe, HDL_ARITH_INT8);
    fprintf(out, "%s: stream %.1f GB/s, peaks ", device_name(b, (char[128]){0}),
            hdl_probe_stream(probe) / 1e9);
    if (f32 > 0)
        fprintf(out, "f32 %.0f, ", f32 / 1e9);
    fprintf(out, "bf16 %.0f, int8 %.0f G/s by %s\n%-36s %13s %13s %18s %19s\n", bf16 / 1e9,
            int8 / 1e9, hdl_probe_peak_by(probe), "op", "call, median", "best", "read, of stream",
            "done, of peak");
}

static void run_rows(hdl_bench *b, hdl_probe *probe, const hdl_bench_kernels_opts *opts,
                     hdl_json_writer *w)
{
    FILE *out = opts->out ? opts->out : stdout;
    uint32_t samples = opts->samples ? opts->samples : opts->is_short ? 1 : SAMPLES;
    samples = hdl_min_u32(samples, SAMPLES_MAX);
    if (!opts->json)
        print_head(b, probe, out);
    for (uint32_t i = 0; i < b->n_rows && !b->failed; i++) {
        figures f = measure(b, &b->rows[i], probe, samples);
        if (opts->json)
            json_row(w, &b->rows[i], &f);
        else
            print_row(out, &b->rows[i], &f);
    }
}

static void print_json(hdl_bench *b, hdl_probe *probe, const hdl_bench_kernels_opts *opts)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 1 << 20);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "backend", b->ops->name);
    hdl_jw_kv_cstr(&w, "device", device_name(b, (char[128]){0}));
    hdl_jw_kv_cstr(&w, "numerics", b->fast ? "fast" : "exact");
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    run_rows(b, probe, opts, &w);
    hdl_jw_end_array(&w);
    hdl_jw_kv_cstr(&w, "peak_by", hdl_probe_peak_by(probe));
    hdl_jw_end_object(&w);
    if (!b->failed)
        fprintf(opts->out ? opts->out : stdout, "%s\n", hdl_buf_cstr(&buf));
    hdl_buf_deinit(&buf);
}

/* Covers every row of this folder. */
static hdl_ops_extent extent_of(hdl_bench_scale scale)
{
    bool gpu = scale == HDL_BENCH_GPU;
    return (hdl_ops_extent){.n_tokens = gpu ? 4096 : 512,
                            .n_rows = 64,
                            .hidden = gpu ? 4096 : 2048,
                            .inter = gpu ? 14336 : 5632,
                            .moe_inter = 768,
                            .n_heads = 32,
                            .n_kv_heads = 8,
                            .head_dim = 576,
                            .latent_rank = 512,
                            .nope_dim = 128,
                            .n_experts = 128,
                            .topk = 8,
                            .n_max = gpu ? 28672 : 11264,
                            .k_max = gpu ? 14336 : 5632,
                            .max_len = gpu ? 131072 : 32768};
}

static hdl_err open_device(hdl_device **out, const hdl_bench_kernels_opts *opts,
                           hdl_bench_scale scale, hdl_errmsg *why)
{
    int cpus[HDL_CPUS_MAX];
    uint32_t n_cpus = (uint32_t)hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
    const hdl_ops *ops = opts->plugin ? opts->plugin->ops : hdl_ops_cpu(opts->isa, why);
    if (!ops)
        return HDL_UNSUPPORTED;
    hdl_ops_extent extent = extent_of(scale);
    extent.fast = opts->plugin && opts->fast;
    hdl_cpu_device_opts host = {.n_threads = opts->n_threads ? opts->n_threads : n_cpus,
                                .cpus = cpus,
                                .n_cpus = n_cpus,
                                .isa = opts->isa,
                                .scratch_bytes = ops->scratch_bytes(&extent)};
    if (!opts->plugin)
        return hdl_device_open_cpu(out, &host, why);
    hdl_plugin_device_opts remote = {
        .plugin = opts->plugin,
        .host = host,
        .device = {.index = opts->gpu, .scratch_bytes = host.scratch_bytes, .fast = opts->fast}};
    return hdl_device_open_plugin(out, &remote, why);
}

static hdl_bench_scale scale_of(const hdl_bench_kernels_opts *opts)
{
    if (opts->is_short)
        return HDL_BENCH_SHORT;
    return opts->plugin ? HDL_BENCH_GPU : HDL_BENCH_CPU;
}

static hdl_err bench(hdl_bench *b, const hdl_bench_kernels_opts *opts, hdl_probe *probe,
                     hdl_errmsg *why)
{
    hdl_rng_init(&b->rng, 1);
    hdl_bench_linear(b);
    hdl_bench_head(b);
    hdl_bench_moe_experts(b);
    hdl_bench_attention(b);
    hdl_bench_recurrent(b);
    hdl_bench_elementwise(b);
    if (b->failed)
        return hdl_fail(HDL_NOMEM, why, "not enough memory; name fewer rows with --only");
    if (opts->json)
        print_json(b, probe, opts);
    else
        run_rows(b, probe, opts, NULL);
    if (b->failed)
        return hdl_fail(HDL_DEVICE, why, "the device failed in an op; look at its driver's log");
    return HDL_OK;
}

int hdl_bench_kernels(const hdl_bench_kernels_opts *opts)
{
    hdl_errmsg why = {0};
    hdl_device *device = NULL;
    hdl_probe *probe = NULL;
    hdl_bench *b = calloc(1, sizeof *b);
    hdl_err err = b ? HDL_OK : HDL_NOMEM;
    if (err == HDL_OK)
        err = open_device(&device, opts, scale_of(opts), &why);
    if (err == HDL_OK)
        err = hdl_probe_open(&probe, device, opts->isa, STREAM_BYTES, &why);
    if (err == HDL_OK) {
        b->device = b->made.device = device;
        b->ops = hdl_device_ops(device);
        b->stream = hdl_device_stream(device);
        b->only = opts->only;
        b->scale = scale_of(opts);
        b->fast = opts->plugin && opts->fast && opts->plugin->plan;
        err = bench(b, opts, probe, &why);
    }
    if (err != HDL_OK)
        fprintf(stderr, "heddle bench kernels: %s\n", why.text[0] ? why.text : hdl_err_text(err));
    hdl_probe_close(probe);
    hdl_device_close(device);
    if (b)
        free_host(b);
    free(b);
    return err == HDL_OK ? 0 : 1;
}
