/* SPDX-License-Identifier: Apache-2.0 */
/* `heddle bench serve`: load on any server that speaks OpenAI's API, and what its clients would
 * have felt. One run, or a sweep over concurrency or rate. Main thread. */
#pragma once

#include "bench/serve/report.h"

enum { HDL_BENCH_SERVE_SWEEP_MAX = 32 };

typedef struct hdl_bench_serve_opts {
    hdl_load_spec spec;
    hdl_load_target target;
    hdl_load_slo slo;
    const hdl_plugin *plugin; /* whose GPU the server runs on, on this machine; NULL: not asked */
    uint32_t gpu;
    /* Values of target.max_concurrency or of spec.rate, one run each; n 0: one run as asked. */
    double sweep[HDL_BENCH_SERVE_SWEEP_MAX];
    size_t n_sweep;
    bool sweep_rate;
    uint32_t warmup;       /* requests sent, one after the other, before the first run */
    const char *save_path; /* JSON too, into this file; NULL: none */
    const char *plot_path; /* SVG; NULL: none */
    const char *title;     /* of the plot */
    bool json, detailed;
} hdl_bench_serve_opts;

/* Prints tables, or one JSON document: the run's object, or {"rows": [...]} for a sweep. 0, or 1
 * with a message on stderr; a run in which every request failed is 1. */
int hdl_bench_serve(const hdl_bench_serve_opts *opts);

/* `--self-check`: the generator against a server of known latency; 1 when the client's times are
 * more than 1 ms late at the 99th percentile. */
int hdl_bench_serve_selfcheck(bool json);
