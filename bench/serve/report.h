/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of a run, in the table and the JSON that `vllm bench serve` prints, so that results can
 * be laid side by side. Pure, but for stdio. */
#pragma once

#include "base/json_write.h"
#include "bench/serve/load.h"
#include "bench/serve/on_device.h"

/* Milliseconds. */
typedef struct hdl_load_stat {
    double mean, median, std, p90, p95, p99;
} hdl_load_stat;

/* Limits of goodput in milliseconds; 0: not asked. */
typedef struct hdl_load_slo {
    double ttft_ms, tpot_ms, e2el_ms;
} hdl_load_slo;

typedef struct hdl_load_figures {
    size_t completed, failed;
    double duration_s;
    uint64_t n_input, n_output;
    double requests_per_s, goodput_per_s, output_per_s, peak_output_per_s, total_per_s;
    uint32_t peak_concurrent;
    /* Of completed requests: first text after the due time; (last - first) / (tokens - 1); between
     * pieces of text; last text after the due time. */
    hdl_load_stat ttft, tpot, itl, e2el;
} hdl_load_figures;

/* NOMEM alone. */
hdl_err hdl_load_figure(hdl_load_figures *out, const hdl_load_run *run, const hdl_load_slo *slo,
                        hdl_errmsg *why) HDL_MUST_CHECK;

/* What was asked for, beside the figures. */
typedef struct hdl_load_asked {
    const hdl_load_spec *spec;
    const hdl_load_target *target;
    const hdl_load_slo *slo;
    const hdl_load_drawn *drawn; /* by the GPU meanwhile; NULL: none was named */
    bool detailed;               /* each request's lengths and times too */
} hdl_load_asked;

void hdl_load_print(const hdl_load_figures *f, const hdl_load_run *run,
                    const hdl_load_asked *asked);
/* One object. */
void hdl_load_json(hdl_json_writer *w, const hdl_load_figures *f, const hdl_load_run *run,
                   const hdl_load_asked *asked);
