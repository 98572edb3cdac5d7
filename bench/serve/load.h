/* SPDX-License-Identifier: Apache-2.0 */
/* What `heddle bench serve` sends, and what came back: the data between workload.c (makes items),
 * client.c and run.c (send them), report.c and plot.c (tell).
 *
 * Times are microseconds after the run's start. Owner: the main thread; a set of items is made once
 * and may be run several times. */
#pragma once

#include <heddle/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum hdl_load_api { HDL_LOAD_COMPLETIONS, HDL_LOAD_CHAT } hdl_load_api;

/* RANDOM: prompts of random token ids (words with CHAT). PREFIX: the same behind one of a few
 * shared prefixes. SHAREGPT: conversations of a file. The others are traces with lengths and times:
 * MOONCAKE (JSONL with hash_ids, of which equal ones mean equal blocks of 512 tokens), BURSTGPT and
 * AZURE (CSV). */
#define HDL_LOAD_DATASETS(X)                                                                       \
    X(RANDOM, "random")                                                                            \
    X(PREFIX, "prefix")                                                                            \
    X(SHAREGPT, "sharegpt")                                                                        \
    X(MOONCAKE, "mooncake")                                                                        \
    X(BURSTGPT, "burstgpt")                                                                        \
    X(AZURE, "azure")
#define HDL_LOAD_DATASET_ENUM(name, text) HDL_LOAD_##name,
typedef enum hdl_load_dataset {
    HDL_LOAD_DATASETS(HDL_LOAD_DATASET_ENUM) HDL_LOAD_DATASET_COUNT
} hdl_load_dataset;
#undef HDL_LOAD_DATASET_ENUM

/* POISSON: gaps are gamma-distributed, exponential with burstiness 1. CONSTANT: equal gaps. TRACE:
 * the file's own times. */
typedef enum hdl_load_arrivals {
    HDL_LOAD_POISSON,
    HDL_LOAD_CONSTANT,
    HDL_LOAD_TRACE
} hdl_load_arrivals;

typedef struct hdl_load_spec {
    const char *model; /* name that requests ask for */
    hdl_load_api api;
    hdl_load_dataset dataset;
    const char *path; /* of the file; NULL: none */
    uint32_t n;       /* requests; of a trace: at most */
    uint32_t input_len, output_len;
    double range_ratio;            /* lengths are uniform in [len (1 - r), len (1 + r)] */
    uint32_t prefix_len, prefixes; /* PREFIX */
    uint32_t vocab;                /* ids are drawn from [1, vocab) */
    bool ignore_eos;
    double temperature;
    hdl_load_arrivals arrivals;
    double rate;       /* requests a second; 0: all at once */
    double burstiness; /* shape of the gamma distribution: below 1 more bursty */
    double speedup;    /* of a trace's clock */
    uint64_t seed;
} hdl_load_spec;

typedef struct hdl_load_item {
    uint64_t at_us;   /* intended start */
    uint32_t n_input; /* prompt tokens as made; 0: text, the server tells */
    char *body;       /* owned: JSON of the request */
    size_t body_len;
} hdl_load_item;

typedef struct hdl_load_set {
    hdl_load_item *items; /* owned */
    size_t n;
} hdl_load_set;

hdl_err hdl_load_make(hdl_load_set *out, const hdl_load_spec *spec, hdl_errmsg *why) HDL_MUST_CHECK;
/* Intended starts of items that are not of a trace: in order, from 0. */
void hdl_load_arrive(hdl_load_set *set, const hdl_load_spec *spec);
void hdl_load_free(hdl_load_set *set);

typedef struct hdl_load_result {
    uint64_t due_us;   /* what latencies count from: the intended start, or, where --max-concurrency
                          held the request back, the moment it was let go */
    uint64_t sent_us;  /* its first byte left */
    uint64_t first_us; /* first piece of text; 0: none came */
    uint64_t last_us;  /* last piece of text */
    uint32_t n_input, n_output; /* as the server counts; pieces when it does not tell */
    uint32_t n_gaps;            /* between pieces; of hdl_load_run.gaps_us, from gap_at */
    size_t gap_at;
    bool ok;
    char error[120]; /* when not ok */
} hdl_load_result;

typedef struct hdl_load_run {
    hdl_load_result *results; /* owned [n] */
    size_t n;
    uint32_t *gaps_us; /* owned */
    size_t n_gaps, gaps_size;
    uint64_t start_us; /* on the clock */
    uint64_t duration_us;
    uint32_t peak_concurrent;
    uint32_t *per_second; /* owned [n_seconds] pieces of text received in each second */
    size_t n_seconds;
    bool counted; /* the server told usage */
} hdl_load_run;

typedef struct hdl_load_target {
    const char *host; /* name or address */
    uint16_t port;
    const char *path;                            /* "/v1/completions" */
    const char *api_key;                         /* NULL: none */
    uint32_t max_concurrency;                    /* 0: no limit */
    uint64_t timeout_us;                         /* of a request, from its start */
    void (*progress)(size_t done, size_t total); /* may be NULL; about ten times a second */
} hdl_load_target;

/* Sends every item at its time and waits for all ends. Failed requests are results, not errors. */
hdl_err hdl_load_go(hdl_load_run *out, const hdl_load_set *set, const hdl_load_target *target,
                    hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_load_run_free(hdl_load_run *run);
