/* SPDX-License-Identifier: Apache-2.0 */
/* Test rig of the worker: models made of a formula, groups of ranks as threads, plans made by hand.
 *
 * Weights are a function of tensor name and index (weight in rig_model.c; make.py of
 * tests/golden/models has the same one), so that no weights are committed and transformers computes
 * on the very same numbers.
 */
#pragma once

#include <heddle/model.h>
#include <heddle/plan.h>
#include <heddle/request.h>

#include "base/assert.h"
#include "worker/worker.h"

/* ---- models ------------------------------------------------------------------------------- */

/* The golden NAME.json with the first `from` in its text replaced by `to`; from NULL: as it is. */
typedef struct rig_edit {
    const char *name, *from, *to;
} rig_edit;
/* What is made of it. */
hdl_err rig_golden_desc(hdl_model_desc *out, rig_edit edit, hdl_errmsg *why);
/* The whole, or the test fails. */
void rig_golden_load(hdl_model_desc *out, const char *name);

/* A new folder with config.json and model.safetensors of the given type (F32, BF16, F16). Returns
 * its path in `dir`. */
void rig_make_model(char dir[256], const char *config_json, hdl_dtype dtype);
void rig_remove(const char *dir);

/* Value of element i of a tensor whose last dimension is cols, exactly representable in bf16;
 * vectors lie around 1 (norms), or around 0 where the name ends in "bias". Where norms are stored
 * as w - 1, those that rig_make_model writes lie around 0 too. */
float rig_weight(const char *name, uint64_t i, uint32_t cols, bool vector);

/* Whole file, or fails the test. */
char *rig_read(const char *path, size_t *len);

/* Notes for `heddle matrix` that a check passed: a line "kind TAB name TAB check" in
 * <build>/covered/<test program>.tsv, which tests/golden/matrix.py collects. kind is "arch" (name:
 * as in config.json; rig_covered_arch finds it there), "weights" (a format of files) or "gguf".
 * Call it after the assertions. */
void rig_covered(const char *kind, const char *name, const char *check);
void rig_covered_arch(const char *config_json, const char *check);

extern const char rig_config_moe[];   /* Qwen3-MoE: 8 heads, 2 KV heads, 8 experts, 2 layers */
extern const char rig_config_llama[]; /* Llama: dense, untied */

/* ---- plans -------------------------------------------------------------------------------- */

enum { RIG_ROWS = 64, RIG_TOKENS = 4096, RIG_SLOTS = 64, RIG_BLOCKS_PER_SEQ = 10 };

/* A tiny scheduler: slot s owns blocks [s * RIG_BLOCKS_PER_SEQ, ...) of each cache group of pages,
 * and state s of each of states. */
typedef struct rig_plan {
    hdl_plan plan;
    hdl_plan_row rows[RIG_ROWS];
    hdl_plan_open opens[RIG_ROWS];
    hdl_plan_grant grants[RIG_ROWS * HDL_CACHE_GROUPS_MAX];
    hdl_sampling sampling[RIG_ROWS];
    uint32_t closes[RIG_ROWS];
    hdl_plan_copy copies[RIG_ROWS];
    hdl_token tokens[RIG_TOKENS];
    uint32_t blocks[RIG_TOKENS];
    uint32_t given[RIG_SLOTS]; /* blocks that a slot has */
    uint32_t n_caches;         /* from the worker's info; 0: one group of pages */
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX];
    uint32_t ring[HDL_CACHE_GROUPS_MAX]; /* a slot uses so many blocks in turn; 0: all it has */
} rig_plan;

void rig_plan_init(rig_plan *p, uint64_t epoch);
/* Clears the arrays, next step. */
void rig_next(rig_plan *p);
/* Greedy, no logprobs. */
hdl_sampling rig_greedy(void);
void rig_open(rig_plan *p, uint32_t slot, const hdl_sampling *params);
void rig_close(rig_plan *p, uint32_t slot);
/* ids NULL: one token by feedback. With HDL_ROW_SCORE ids holds one more. */
void rig_row(rig_plan *p, uint32_t slot, uint32_t pos, const hdl_token *ids, uint32_t n,
             uint32_t flags);

/* The log-probability of a row's own token, which must have one. */
static inline float rig_prob(const hdl_result *result, uint32_t row)
{
    HDL_ASSERT_LT(0, result->rows[row].n_probs);
    return result->probs[result->rows[row].probs_at].logprob;
}

/* ---- groups ------------------------------------------------------------------------------- */

typedef struct rig_rank {
    hdl_worker *worker;
    uint32_t rank;
    rig_plan plan;
    void *arg;
} rig_rank;

typedef struct rig_group {
    hdl_worker_opts opts;        /* model_path, layout, ...; rank is filled in */
    const char *coll;            /* NULL: self or shm by the layout */
    void (*script)(rig_rank *r); /* on every rank's thread, after join of epoch 1 */
    void *arg;
} rig_group;
/* Runs the script on all ranks; asserts that nothing failed. */
void rig_run(const rig_group *group);

/* Runs the current plan on a rank, asserts success. */
hdl_result rig_step(rig_rank *r);

/* Logits [n, vocab] of a prompt, in chunks, on any layout; caller frees. */
typedef struct rig_logits_opts {
    hdl_worker_opts worker; /* model_path, layout, weights, isa, n_threads */
    const char *coll;
    const hdl_token *ids;
    uint32_t n;
    uint32_t chunk;  /* 0: all at once */
    uint32_t others; /* sequences that run beside it */
    bool frees;      /* blocks out of a window are used again as soon as may be */
    uint32_t early;  /* ... or so many blocks too early */
} rig_logits_opts;
float *rig_logits(const rig_logits_opts *opts, uint32_t vocab);
