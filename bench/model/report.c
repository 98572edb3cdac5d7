/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/model/report.h"

#include <heddle/types.h>

#include "base/buf.h"
#include "base/json_write.h"

static void json_row(hdl_json_writer *w, const hdl_bench_model_row *r)
{
    const struct {
        const char *key;
        double value;
        int digits;
    } fields[] = {{"tokens_per_s", r->tokens_per_s, 2},
                  {"bytes_per_s", r->bytes_per_s, 0},
                  {"stream_bytes_per_s", r->stream_bytes_per_s, 0},
                  {"stream_share", r->stream_share, 4},
                  {"flop_per_s", r->flop_per_s, 0},
                  {"peak_flop_per_s", r->peak_flop_per_s, 0},
                  {"peak_share", r->peak_share, 4}};
    hdl_jw_begin_object(w);
    hdl_jw_kv_cstr(w, "phase", r->prefill ? "prefill" : "decode");
    hdl_jw_kv_uint(w, "tokens", r->tokens);
    hdl_jw_kv_uint(w, "batch", r->batch);
    hdl_jw_kv_uint(w, "context", r->context);
    if (r->skipped) {
        hdl_jw_kv_cstr(w, "skipped", r->skipped);
    } else {
        hdl_jw_kv_uint(w, "steps", r->steps);
        hdl_jw_kv_uint(w, "samples", r->samples);
        for (size_t k = 0; k < HDL_ARRAY_LEN(fields); k++) {
            hdl_jw_key(w, fields[k].key);
            hdl_jw_fixed(w, fields[k].value, fields[k].digits);
        }
        if (r->head_screened) {
            hdl_jw_key(w, "head_computed");
            hdl_jw_fixed(w, r->head_computed, 5);
        }
        if (r->has_idle) {
            hdl_jw_key(w, "host_idle_share");
            hdl_jw_fixed(w, r->host_idle_share, 4);
        }
        if (r->has_energy) {
            hdl_jw_key(w, "joule_per_token");
            hdl_jw_fixed(w, r->joule_per_token, 6);
        }
    }
    hdl_jw_end_object(w);
}

void hdl_bench_model_print_json(const hdl_bench_model_report *report, FILE *out)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_buf_init(&buf, 1 << 20);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "device", report->device);
    hdl_jw_kv_cstr(&w, "weights", report->weights);
    hdl_jw_kv_uint(&w, "threads", report->n_threads);
    hdl_jw_kv_cstr(&w, "peak_by", report->peak_by);
    hdl_jw_kv_cstr(&w, "numerics", report->fast ? "fast" : "exact");
    hdl_jw_key(&w, "rows");
    hdl_jw_begin_array(&w);
    for (uint32_t i = 0; i < report->n_rows; i++)
        json_row(&w, &report->rows[i]);
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    fprintf(out, "%s\n", hdl_buf_cstr(&buf));
    hdl_buf_deinit(&buf);
}

static void print_gpu(const hdl_bench_model_row *r, FILE *out)
{
    if (r->has_idle)
        fprintf(out, " %8.1f %%", r->host_idle_share * 100);
    else
        fprintf(out, " %10s", "-");
    if (r->has_energy)
        fprintf(out, " %9.4f J", r->joule_per_token);
    else
        fprintf(out, "  unmeasured");
}

void hdl_bench_model_print_table(const hdl_bench_model_report *report, FILE *out)
{
    fprintf(out, "%s, %s%s, %u threads, peak by %s\n", report->device, report->weights,
            report->fast ? ", fast" : "", report->n_threads, report->peak_by);
    fprintf(out, "%-8s %6s %6s %8s %10s %8s %8s %10s %9s %9s %8s%s\n", "phase", "tokens", "batch",
            "context", "tokens/s", "GB/s", "stream", "of stream", "GFLOP/s", "peak", "of peak",
            report->is_gpu ? "  host idle   per token" : "");
    for (uint32_t i = 0; i < report->n_rows; i++) {
        const hdl_bench_model_row *r = &report->rows[i];
        fprintf(out, "%-8s %6u %6u %8u ", r->prefill ? "prefill" : "decode", r->tokens, r->batch,
                r->context);
        if (r->skipped)
            fprintf(out, "skipped: %s\n", r->skipped);
        else
            fprintf(out, "%10.1f %8.2f %8.2f %10.2f %9.1f %9.1f %8.2f", r->tokens_per_s,
                    r->bytes_per_s * 1e-9, r->stream_bytes_per_s * 1e-9, r->stream_share,
                    r->flop_per_s * 1e-9, r->peak_flop_per_s * 1e-9, r->peak_share);
        if (!r->skipped && r->head_screened)
            fprintf(out, "  head screened, %.2f %% computed", r->head_computed * 100);
        if (!r->skipped && report->is_gpu)
            print_gpu(r, out);
        if (!r->skipped)
            fputc('\n', out);
    }
}
