/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of one rank made by hand, for `heddle bench model`: opens a worker, gives sequences a
 * context and runs rows. No scheduler. Main thread, which is the worker's step thread.
 *
 * A context is computed once, for one sequence and at most 512 tokens; its cache blocks are then
 * copied to all blocks of all sequences. So the cache of a long context is real memory with real
 * numbers, without the hours that its prefill would take. Models with recurrent states compute
 * every context. */
#pragma once

#include "bench/kernels/probe.h"
#include "bench/model/bench_model.h"
#include "bench/model/shapes.h"
#include "worker/worker.h"

enum {
    HDL_BENCH_STEP_TOKENS = 1024, /* a GPU's are more */
    HDL_BENCH_STEP_TOKENS_GPU = 4096,
    HDL_BENCH_SEQS_MAX = 256,
    HDL_BENCH_COPIES_MAX = 4096 /* of one plan */
};

typedef struct hdl_bench_steps {
    hdl_worker *worker;  /* owned */
    hdl_probe *probe;    /* owned */
    hdl_bench_made made; /* the model, where it has no files */
    hdl_worker_info info;
    hdl_shard shard;
    bool has_states;
    uint64_t step;
    uint32_t each[HDL_CACHE_GROUPS_MAX]; /* blocks of a sequence of this row */
    /* The plan of a step. */
    hdl_plan plan;
    hdl_plan_row rows[HDL_BENCH_SEQS_MAX];
    hdl_plan_open opens[HDL_BENCH_SEQS_MAX];
    hdl_plan_grant grants[HDL_BENCH_SEQS_MAX * HDL_CACHE_GROUPS_MAX];
    hdl_plan_copy copies[HDL_BENCH_COPIES_MAX];
    hdl_sampling sampling[HDL_BENCH_SEQS_MAX];
    uint32_t closes[HDL_BENCH_SEQS_MAX];
    hdl_token tokens[HDL_BENCH_STEP_TOKENS_GPU];
    uint32_t *blocks; /* owned */
    size_t blocks_max;
    uint32_t given[HDL_BENCH_SEQS_MAX]; /* blocks that a slot has; s owns [s * each, ...) */
} hdl_bench_steps;

/* A row of sequences [0, n_seqs) of at most max_len tokens. */
typedef struct hdl_bench_shape {
    uint32_t n_seqs, context, max_len;
} hdl_bench_shape;

/* max_len: of the longest sequence to come. */
hdl_err hdl_bench_steps_open(hdl_bench_steps *s, const hdl_bench_model_opts *opts, uint32_t max_len,
                             hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_bench_steps_close(hdl_bench_steps *s);

/* NULL, or why such sequences do not fit. */
const char *hdl_bench_steps_misfit(const hdl_bench_steps *s, hdl_bench_shape shape);
/* Opens the sequences with their context in the cache. The shape fits. */
hdl_err hdl_bench_steps_begin(hdl_bench_steps *s, hdl_bench_shape shape,
                              hdl_errmsg *why) HDL_MUST_CHECK;
/* Closes them. */
hdl_err hdl_bench_steps_end(hdl_bench_steps *s, uint32_t n_seqs) HDL_MUST_CHECK;

/* n_tokens of the first n_seqs sequences at pos, one sampled token each, in as many steps as they
 * need: step_s is their time. n_seqs tokens fit into a step; n_tokens is 1 unless n_seqs is. */
hdl_err hdl_bench_steps_run(hdl_bench_steps *s, uint32_t n_seqs, uint32_t pos, uint32_t n_tokens,
                            double *step_s) HDL_MUST_CHECK;
/* n_steps of one token of each sequence from pos on, as many under way as the worker takes; tokens
 * after the first feed themselves. spent_s is the time of all. */
hdl_err hdl_bench_steps_decode(hdl_bench_steps *s, uint32_t n_seqs, uint32_t pos, uint32_t n_steps,
                               double *spent_s) HDL_MUST_CHECK;
