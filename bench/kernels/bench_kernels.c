/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/bench_kernels.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "base/thread.h"
#include "bench/kernels/bench_op.h"

enum { SAMPLES = 9, SAMPLES_MAX = 101 };
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

void *hdl_bench_alloc(hdl_bench *b, size_t bytes)
{
    static _Alignas(64) unsigned char nothing[4096];
    void *mem = hdl_device_alloc(b->device, bytes);
    b->failed = b->failed || !mem;
    return mem ? mem : nothing;
}

float *hdl_bench_floats(hdl_bench *b, size_t n)
{
    float *x = hdl_bench_alloc(b, n * sizeof *x);
    for (size_t i = 0; !b->failed && i < n; i++)
        x[i] = (float)hdl_rng_unit(&b->rng) - 0.5f;
    return x;
}

/* One row of a checkpoint in an encoding that the format takes as it is (bf16 is quantised to Q8
 * and Q4); all rows of a weight are the same. */
static hdl_source source_for(hdl_wformat format, const unsigned char *row, const float *scale)
{
    static const struct {
        hdl_wformat format;
        hdl_enc encoding;
    } taken[] = {{HDL_WFORMAT_FP8, HDL_ENC_E4M3},        {HDL_WFORMAT_FP8_64, HDL_ENC_E4M3},
                 {HDL_WFORMAT_FP8_32, HDL_ENC_E4M3},     {HDL_WFORMAT_Q8M, HDL_ENC_GPTQ8Z},
                 {HDL_WFORMAT_Q8_16, HDL_ENC_GGML_Q6_K}, {HDL_WFORMAT_Q4M, HDL_ENC_INT4Z},
                 {HDL_WFORMAT_Q4_16, HDL_ENC_NVFP4},     {HDL_WFORMAT_Q4M_16, HDL_ENC_GGML_Q2_K},
                 {HDL_WFORMAT_Q2, HDL_ENC_GGML_TQ2_0}};
    hdl_source s = {.encoding = HDL_ENC_BF16,
                    .n_rows = 1,
                    .whole_rows = 1,
                    .scale_mul = 1,
                    .scale_div = 1,
                    .scale_rows = 1u << 31,
                    .scale_cols = 1u << 31};
    for (size_t i = 0; i < HDL_ARRAY_LEN(taken); i++)
        if (taken[i].format == format)
            s.encoding = taken[i].encoding;
    s.codes = (hdl_plane){.data = row, .col_step = hdl_codec_of(s.encoding)->block_bytes};
    s.scales = (hdl_plane){.data = scale, .dtype = HDL_DTYPE_F32};
    s.zeros = (hdl_plane){.data = row};
    return s;
}

hdl_weight hdl_bench_weight(hdl_bench *b, hdl_wformat format, uint32_t n, uint32_t k,
                            uint32_t n_leaves)
{
    const float scale = 0.01f;
    hdl_weight w = {.format = format, .n = n, .k = k, .n_leaves = n_leaves};
    w.bytes = b->ops->weight_bytes(format, n, k, n_leaves);
    w.data = hdl_bench_alloc(b, w.bytes);
    uint16_t row[65536 / 2]; /* bf16: 0.5 .. 1 and -1 .. -0.5; no NaN in other encodings either */
    for (size_t i = 0; i < HDL_ARRAY_LEN(row); i++)
        row[i] = (uint16_t)(0x3f00 | (hdl_rng_u64(&b->rng) & 0x807f));
    hdl_source src = source_for(format, (const unsigned char *)row, &scale);
    src.n_cols = k;
    if (hdl_wformat_info_of(format)->bits <= 4) {
        const int8_t *codebook = hdl_codec_of(src.encoding)->codebook;
        w.codebook = codebook ? codebook : hdl_codebook_s4;
    }
    for (uint32_t r = 0; !b->failed && r < n; r++)
        b->ops->weight_pack(&(hdl_pack_args){.src = src, .dst = &w, .row_at = r});
    return w;
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

static double time_calls(const hdl_bench *b, const hdl_bench_row *row)
{
    uint64_t start = hdl_clock_now_ns(), now = start;
    uint32_t calls = 0;
    while (now - start < SAMPLE_NS) {
        row->call(row->args, b->ops, b->stream);
        calls++;
        now = hdl_clock_now_ns();
    }
    return (double)(now - start) / calls;
}

static figures measure(const hdl_bench *b, const hdl_bench_row *row, hdl_probe *probe,
                       uint32_t samples)
{
    double ns[SAMPLES_MAX], stream[SAMPLES_MAX], peak[SAMPLES_MAX];
    double of_stream[SAMPLES_MAX], of_peak[SAMPLES_MAX];
    time_calls(b, row); /* warm */
    for (uint32_t i = 0; i < samples; i++) {
        ns[i] = time_calls(b, row);
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

static void run_rows(const hdl_bench *b, hdl_probe *probe, const hdl_bench_kernels_opts *opts,
                     hdl_json_writer *w)
{
    FILE *out = opts->out ? opts->out : stdout;
    uint32_t samples = opts->samples ? opts->samples : SAMPLES;
    samples = hdl_min_u32(samples, SAMPLES_MAX);
    if (!opts->json)
        fprintf(out,
                "%s: stream %.1f GB/s, peaks f32 %.0f, bf16 %.0f, int8 %.0f G/s\n"
                "%-36s %13s %13s %18s %19s\n",
                b->ops->name, hdl_probe_stream(probe) / 1e9,
                hdl_probe_peak(probe, HDL_ARITH_F32) / 1e9,
                hdl_probe_peak(probe, HDL_ARITH_BF16) / 1e9,
                hdl_probe_peak(probe, HDL_ARITH_INT8) / 1e9, "op", "call, median", "best",
                "read, of stream", "done, of peak");
    for (uint32_t i = 0; i < b->n_rows; i++) {
        figures f = measure(b, &b->rows[i], probe, samples);
        if (opts->json)
            json_row(w, &b->rows[i], &f);
        else
            print_row(out, &b->rows[i], &f);
    }
}

static void print_json(const hdl_bench *b, hdl_probe *probe, const hdl_bench_kernels_opts *opts)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 1 << 20);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "backend", b->ops->name);
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    run_rows(b, probe, opts, &w);
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    fprintf(opts->out ? opts->out : stdout, "%s\n", hdl_buf_cstr(&buf));
    hdl_buf_deinit(&buf);
}

static hdl_err open_device(hdl_device **out, const hdl_bench_kernels_opts *opts, hdl_errmsg *why)
{
    int cpus[HDL_CPUS_MAX];
    uint32_t n_cpus = (uint32_t)hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
    const hdl_ops *ops = hdl_ops_cpu(opts->isa, why);
    if (!ops)
        return HDL_UNSUPPORTED;
    /* Covers every row of this folder. */
    hdl_ops_extent extent = {.n_tokens = 512,
                             .n_rows = 64,
                             .hidden = 2048,
                             .inter = 5632,
                             .moe_inter = 768,
                             .n_heads = 32,
                             .n_kv_heads = 4,
                             .head_dim = 576,
                             .latent_rank = 512,
                             .nope_dim = 128,
                             .n_experts = 64,
                             .topk = 8,
                             .n_max = 11264,
                             .k_max = 5632,
                             .max_len = 32768};
    return hdl_device_open_cpu(
        out,
        &(hdl_cpu_device_opts){.n_threads = opts->n_threads ? opts->n_threads : n_cpus,
                               .cpus = cpus,
                               .n_cpus = n_cpus,
                               .isa = opts->isa,
                               .scratch_bytes = ops->scratch_bytes(&extent)},
        why);
}

int hdl_bench_kernels(const hdl_bench_kernels_opts *opts)
{
    hdl_errmsg why = {0};
    hdl_device *device = NULL;
    hdl_probe *probe = NULL;
    hdl_bench *b = calloc(1, sizeof *b);
    hdl_err err = b ? HDL_OK : HDL_NOMEM;
    if (err == HDL_OK)
        err = open_device(&device, opts, &why);
    if (err == HDL_OK)
        err = hdl_probe_open(&probe, device, opts->isa, STREAM_BYTES, &why);
    if (err == HDL_OK) {
        b->device = device;
        b->ops = hdl_device_ops(device);
        b->stream = hdl_device_stream(device);
        b->only = opts->only;
        hdl_rng_init(&b->rng, 1);
        hdl_bench_linear(b);
        hdl_bench_moe_experts(b);
        hdl_bench_attention(b);
        hdl_bench_recurrent(b);
        hdl_bench_elementwise(b);
        if (b->failed)
            err = hdl_fail(HDL_NOMEM, &why, "not enough memory; name fewer rows with --only");
        else if (opts->json)
            print_json(b, probe, opts);
        else
            run_rows(b, probe, opts, NULL);
    }
    if (err != HDL_OK)
        fprintf(stderr, "heddle bench kernels: %s\n", why.text[0] ? why.text : hdl_err_text(err));
    hdl_probe_close(probe);
    hdl_device_close(device);
    free(b);
    return err == HDL_OK ? 0 : 1;
}
