/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/bench_serve.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "bench/serve/plot.h"
#include "bench/serve/selfcheck.h"

enum { OUT_BYTES_MAX = 1 << 30, SELFCHECK_REQUESTS = 400 };
#define SELFCHECK_RATE   50.0
#define SELFCHECK_MAX_MS 1.0

static int failed(const hdl_errmsg *why)
{
    fprintf(stderr, "heddle bench serve: %s\n", why->text);
    return 1;
}

static void progress(size_t done, size_t total)
{
    fprintf(stderr, "\r%zu of %zu requests", done, total);
    if (done == total)
        fputs("\r\033[K", stderr);
}

/* The first items, one after the other. */
static hdl_err warm_up(const hdl_bench_serve_opts *o, const hdl_load_set *set, hdl_errmsg *why)
{
    hdl_load_run run;
    hdl_load_set some = {.items = set->items, .n = set->n < o->warmup ? set->n : o->warmup};
    hdl_load_target target = o->target;
    if (some.n == 0)
        return HDL_OK;
    target.max_concurrency = 1;
    HDL_TRY(hdl_load_go(&run, &some, &target, why));
    hdl_load_run_free(&run);
    return HDL_OK;
}

typedef struct bench {
    const hdl_bench_serve_opts *opts;
    hdl_load_set *set;
    hdl_load_device *device; /* owned; NULL: not asked */
} bench;

/* One run at a value of the sweep; its JSON goes to w. */
static hdl_err one_run(const bench *b, hdl_json_writer *w, hdl_load_row *row, hdl_errmsg *why)
{
    const hdl_bench_serve_opts *o = b->opts;
    hdl_load_set *set = b->set;
    hdl_load_run run;
    hdl_load_spec spec = o->spec;
    hdl_load_target target = o->target;
    if (o->n_sweep > 0 && o->sweep_rate)
        spec.rate = row->at;
    else if (o->n_sweep > 0)
        target.max_concurrency = (uint32_t)row->at;
    if (isatty(STDERR_FILENO))
        target.progress = progress;
    hdl_load_arrive(set, &spec);
    hdl_load_device_begin(b->device);
    HDL_TRY(hdl_load_go(&run, set, &target, why));
    const hdl_load_drawn *drawn = hdl_load_device_end(b->device);
    hdl_err err = hdl_load_figure(&row->figures, &run, &o->slo, why);
    hdl_load_asked asked = {
        .spec = &spec, .target = &target, .slo = &o->slo, .drawn = drawn, .detailed = o->detailed};
    if (err == HDL_OK) {
        if (!o->json)
            hdl_load_print(&row->figures, &run, &asked);
        hdl_load_json(w, &row->figures, &run, &asked);
    }
    if (err == HDL_OK && row->figures.completed == 0)
        err = hdl_fail(HDL_PEER, why, "no request was answered: %s; is the server up?",
                       run.n ? run.results[0].error : "there was none");
    hdl_load_run_free(&run);
    return err;
}

static hdl_err all_runs(const bench *b, hdl_buf *out, hdl_load_row *rows, hdl_errmsg *why)
{
    const hdl_bench_serve_opts *o = b->opts;
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    if (o->n_sweep == 0)
        return one_run(b, &w, rows, why);
    hdl_jw_begin_object(&w);
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    for (size_t i = 0; i < o->n_sweep; i++) {
        rows[i].at = o->sweep[i];
        if (!o->json)
            printf("\n%s %g\n", o->sweep_rate ? "Request rate" : "Concurrent requests", rows[i].at);
        HDL_TRY(one_run(b, &w, &rows[i], why));
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    return HDL_OK;
}

static hdl_err write_plot(const hdl_bench_serve_opts *o, const hdl_load_row *rows, hdl_errmsg *why)
{
    hdl_buf svg;
    hdl_buf_init(&svg, 1 << 24);
    hdl_load_plot plot = {.title = o->title ? o->title : o->spec.model,
                          .axis = o->sweep_rate ? "requests/s" : "concurrent requests",
                          .rows = rows,
                          .n = o->n_sweep ? o->n_sweep : 1};
    hdl_err err = hdl_load_svg(&svg, &plot);
    if (err == HDL_OK)
        err = hdl_fs_write_atomic(o->plot_path, (hdl_fs_bytes){hdl_buf_data(&svg), svg.len}, why);
    hdl_buf_deinit(&svg);
    return err;
}

static hdl_err run(bench *b, hdl_buf *out, hdl_errmsg *why)
{
    const hdl_bench_serve_opts *o = b->opts;
    hdl_load_row rows[HDL_BENCH_SERVE_SWEEP_MAX] = {0};
    HDL_TRY(hdl_load_make(b->set, &o->spec, why));
    if (o->plugin)
        HDL_TRY(hdl_load_device_open(&b->device, o->plugin, o->gpu, why));
    HDL_TRY(warm_up(o, b->set, why));
    HDL_TRY(all_runs(b, out, rows, why));
    hdl_buf_puts(out, "\n");
    if (!hdl_buf_ok(out))
        return hdl_fail(HDL_NOMEM, why, "the result is too long; leave out --save-detailed");
    if (o->save_path)
        HDL_TRY(
            hdl_fs_write_atomic(o->save_path, (hdl_fs_bytes){hdl_buf_data(out), out->len}, why));
    return o->plot_path ? write_plot(o, rows, why) : HDL_OK;
}

int hdl_bench_serve(const hdl_bench_serve_opts *opts)
{
    hdl_errmsg why = {0};
    hdl_load_set set = {0};
    hdl_buf out;
    hdl_buf_init(&out, OUT_BYTES_MAX);
    bench b = {.opts = opts, .set = &set};
    int rc = run(&b, &out, &why) == HDL_OK ? 0 : failed(&why);
    if (rc == 0 && opts->json)
        rc = fwrite(hdl_buf_data(&out), 1, out.len, stdout) == out.len ? 0 : 1;
    hdl_buf_deinit(&out);
    hdl_load_device_close(b.device);
    hdl_load_free(&set);
    return rc;
}

int hdl_bench_serve_selfcheck(bool json)
{
    hdl_errmsg why = {0};
    hdl_selfcheck c = {0};
    if (hdl_selfcheck_run(&c, SELFCHECK_REQUESTS, SELFCHECK_RATE, &why) != HDL_OK)
        return failed(&why);
    bool ok = c.p99_ms <= SELFCHECK_MAX_MS;
    if (json) {
        printf("{\"pieces\":%zu,\"error_p50_ms\":%.4f,\"error_p99_ms\":%.4f,\"error_max_ms\":%.4f,"
               "\"ttft_asked_ms\":%.3f,\"ttft_ms\":%.3f,\"itl_asked_ms\":%.3f,\"itl_ms\":%.3f}\n",
               c.n, c.p50_ms, c.p99_ms, c.max_ms, c.ttft_asked_ms, c.ttft_got_ms, c.itl_asked_ms,
               c.itl_got_ms);
        return ok ? 0 : 1;
    }
    printf("%zu pieces of text from a server of known latency\n", c.n);
    printf("  read after they were written   p50 %.3f ms, p99 %.3f ms, most %.3f ms\n", c.p50_ms,
           c.p99_ms, c.max_ms);
    printf("  time to first token            %.2f ms measured, %.2f ms set\n", c.ttft_got_ms,
           c.ttft_asked_ms);
    printf("  inter-token latency            %.2f ms measured, %.2f ms set\n", c.itl_got_ms,
           c.itl_asked_ms);
    if (!ok)
        printf("The machine is too busy to be measured from: p99 is over %.0f ms.\n",
               SELFCHECK_MAX_MS);
    return ok ? 0 : 1;
}
