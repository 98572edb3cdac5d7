/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a model runs on this machine: `heddle bench model`.
 *
 * One rank in this process, plans made by hand, no scheduler and no network. Each row stands beside
 * what the machine can do, measured between its samples: the read stream for what must be read
 * (weights, cache), the peak of the format's arithmetic for what must be computed. Main thread. */
#pragma once

#include <heddle/ops.h>
#include <stdio.h>

enum { HDL_BENCH_MODEL_LIST_MAX = 16 };

typedef struct hdl_bench_model_opts {
    const char *model_path;
    hdl_wformat weights; /* HDL_WFORMAT_COUNT: auto */
    uint32_t n_threads;  /* 0: one per core */
    const int *cpus;     /* [n_cpus] to pin to; NULL: not pinned */
    uint32_t n_cpus;
    hdl_isa isa;
    /* 0 ends each list; empty: prefill 64 and 512, decode batches 1, 8, 32. */
    uint32_t prefill[HDL_BENCH_MODEL_LIST_MAX]; /* tokens */
    uint32_t batches[HDL_BENCH_MODEL_LIST_MAX]; /* sequences that decode together */
    uint32_t context;                           /* tokens before them; 0: 256 */
    bool json;
    FILE *out; /* NULL: stdout */
} hdl_bench_model_opts;

/* Prints a table or one JSON document. 0, or 1 with a message on stderr. */
int hdl_bench_model(const hdl_bench_model_opts *opts);
