/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the kernel benchmark: one row is an op with its arguments, ready to be called. */
#pragma once

#include <heddle/device.h>

#include "base/rng.h"
#include "bench/kernels/made.h"
#include "bench/kernels/probe.h"

typedef struct hdl_bench_row {
    char name[64]; /* "linear bf16 1x2048x5632" */
    double bytes;  /* of weights or KV that a call must read; 0: does not matter */
    double flop;   /* of a call; 0: does not matter */
    hdl_arith arith;
    void (*call)(void *args, const hdl_ops *ops, hdl_stream *stream);
    void *args;
} hdl_bench_row;

enum { HDL_BENCH_ROWS_MAX = 160 };

/* Whose shapes: those that a CPU does in milliseconds, those of models that fill a GPU, or so small
 * that fibers do them. */
typedef enum hdl_bench_scale { HDL_BENCH_CPU, HDL_BENCH_GPU, HDL_BENCH_SHORT } hdl_bench_scale;

/* What the files of rows build with. Numbers lie in memory of the device, which the host may not
 * touch; arguments lie in the host's. All of it goes at the end. */
typedef struct hdl_bench {
    hdl_device *device;
    const hdl_ops *ops;
    hdl_stream *stream;
    const char *only;
    hdl_bench_scale scale;
    bool fast; /* matrices are planned (plugin.h) */
    hdl_made made;
    struct hdl_bench_block *blocks; /* owned: of hdl_bench_host */
    hdl_rng rng;
    hdl_bench_row rows[HDL_BENCH_ROWS_MAX];
    uint32_t n_rows;
    bool failed; /* out of memory, or the device is lost */
} hdl_bench;

/* Adds a row if its name is asked for; NULL if not. */
hdl_bench_row *hdl_bench_add(hdl_bench *b, const char *fmt, ...) HDL_PRINTF(2, 3);
/* Zeroed host memory; a small static block and `failed` when there is none. */
void *hdl_bench_host(hdl_bench *b, size_t bytes);
/* Device memory, zeroed; with these bytes; with random floats; with copies of a pattern. NULL and
 * `failed` when there is none. */
void *hdl_bench_alloc(hdl_bench *b, size_t bytes);
void *hdl_bench_put(hdl_bench *b, const void *from, size_t bytes);
float *hdl_bench_floats(hdl_bench *b, size_t n);
void *hdl_bench_repeat(hdl_bench *b, size_t bytes, const void *pattern, size_t pattern_bytes);
hdl_weight hdl_bench_weight(hdl_bench *b, hdl_wformat format, uint32_t n, uint32_t k,
                            uint32_t n_leaves);
/* Before a matrix meets so many tokens. */
void hdl_bench_plan(hdl_bench *b, const hdl_weight *w, uint32_t n_tokens);

/* The arithmetic in which the device multiplies matrices of a format. */
hdl_arith hdl_bench_arith(const hdl_bench *b, hdl_wformat format);

void hdl_bench_linear(hdl_bench *b);
void hdl_bench_head(hdl_bench *b);
void hdl_bench_moe_experts(hdl_bench *b);
void hdl_bench_attention(hdl_bench *b);
void hdl_bench_recurrent(hdl_bench *b);
void hdl_bench_elementwise(hdl_bench *b);
