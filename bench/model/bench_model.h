/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a model runs on this machine: `heddle bench model`.
 *
 * One rank in this process, plans made by hand, no scheduler and no network. Each row stands beside
 * what the machine can do, measured between its samples: the read stream for what must be read
 * (weights, cache), the peak of the format's arithmetic for what must be computed. Main thread. */
#pragma once

#include <heddle/config.h>
#include <heddle/plugin.h>
#include <stdio.h>

enum { HDL_BENCH_MODEL_LIST_MAX = 16 };

typedef struct hdl_bench_model_list {
    uint32_t n, v[HDL_BENCH_MODEL_LIST_MAX];
} hdl_bench_model_list;

typedef struct hdl_bench_model_opts {
    const char *model_path;
    const char *shape;        /* instead of a model: shapes.h; NULL: none */
    hdl_wformat weights;      /* HDL_WFORMAT_COUNT: auto */
    const hdl_plugin *plugin; /* a GPU through its plugin; NULL: the CPU */
    uint32_t gpu;
    bool fast;          /* numerics: fast */
    uint32_t n_threads; /* 0: one per core */
    const int *cpus;    /* [n_cpus] to pin to; NULL: not pinned */
    uint32_t n_cpus;
    hdl_isa isa;
    uint64_t kv_bytes; /* of the cache; 0: a quarter of the machine's memory, 4 GiB on a GPU */
    hdl_kv_type kv_type;
    hdl_head_screen head_screen;
    /* A row for each prompt and context, and for each batch and context. Empty: prompts 64 and 512,
     * batches 1, 8, 32, context 256. */
    hdl_bench_model_list prefill;  /* tokens */
    hdl_bench_model_list batches;  /* sequences that decode together */
    hdl_bench_model_list contexts; /* tokens before */
    uint32_t decode;               /* tokens of each sequence of a decode row; 0: 64 */
    bool json;
    FILE *out; /* NULL: stdout */
} hdl_bench_model_opts;

/* Prints a table or one JSON document. Rows that the cache or the model's length does not hold are
 * named as skipped. 0, or 1 with a message on stderr. */
int hdl_bench_model(const hdl_bench_model_opts *opts);
