/* SPDX-License-Identifier: Apache-2.0 */
/* Runner of the kernel tests: suites (one per op), each a table of cases, each case run for some
 * seeds. A case computes with `ref` on one thread and with every instruction-set level of this
 * machine on 1, 2 and 3 threads, and compares; with --plugin, what a plugin computes instead, in
 * three orders of its threads. A failure prints the command that repeats it.
 *
 * One thread (the stream's thread 0). Memory of a case lives until its end. */
#pragma once

#include <heddle/device.h>
#include <heddle/ops.h>

#include "base/rng.h"

enum { KT_LEVELS_MAX = 4, KT_STREAMS = 3 };

typedef struct kt {
    const hdl_ops *ref;
    const hdl_ops *levels[KT_LEVELS_MAX]; /* ref too, so that its threads are tested */
    int n_levels;
    bool is_device; /* the only level is a plugin's: other orders of sums than ref's */
    hdl_stream *streams[KT_STREAMS]; /* 1, 2, 3 threads, or orders of a device */
    int n_streams;                   /* that run */
    hdl_rng rng;
    const char *plugin; /* its file, or NULL */
    /* of the case that runs */
    const char *suite;
    int case_idx;
    uint64_t seed;
    bool is_long;
    int failures, checks;
    struct kt_mem *mem; /* owned */
    const float *first; /* kt_agree: what stream 0 got */
} kt;

typedef struct kt_suite {
    const char *name;
    int n_cases;
    void (*run)(kt *t, int case_idx);
} kt_suite;

// clang-format off
/* One a line: each is a file test_<name>.c. */
#define KT_SUITE_LIST(X) \
    X(numeric) \
    X(source) \
    X(ggml) \
    X(linear) \
    X(linear_heads) \
    X(linear_screened) \
    X(tree) \
    X(embed) \
    X(rms_norm) \
    X(sumsq) \
    X(absmax) \
    X(int8_rows) \
    X(qkv_rope) \
    X(latent_rope) \
    X(latent_prefill) \
    X(attention) \
    X(gdn_conv) \
    X(gated_delta) \
    X(extremes) \
    X(formats) \
    X(compact) \
    X(gate) \
    X(softcap) \
    X(glu) \
    X(scale_rows) \
    X(add) \
    X(add_row) \
    X(router) \
    X(moe_experts) \
    X(moe_combine) \
    X(kv_copy) \
    X(kv_move) \
    X(lora_shrink) \
    X(lora_expand) \
    X(batch_build) \
    X(sample)
// clang-format on
#define KT_SUITE_DECLARE(name) extern const kt_suite kt_##name;
KT_SUITE_LIST(KT_SUITE_DECLARE)
#undef KT_SUITE_DECLARE

/* Zeroed, 64-byte aligned, freed after the case. */
void *kt_alloc(kt *t, size_t bytes);
#define KT_NEW(t, type, n) ((type *)kt_alloc((t), (size_t)(n) * sizeof(type)))

float kt_normal(kt *t);                         /* mean 0, deviation 1 */
float *kt_floats(kt *t, size_t n, float scale); /* normal */
uint32_t kt_range(kt *t, uint32_t lo, uint32_t hi);
bool kt_chance(kt *t, uint32_t percent);

/* A packed weight over F32 rows [n, k]. */
hdl_weight kt_pack(kt *t, const hdl_ops *ops, hdl_wformat format, hdl_tensor rows,
                   uint32_t n_leaves);

/* Compares; `what` and the index of the first difference go into the report. */
void kt_same(kt *t, const char *what, const float *want, const float *got, size_t n);
void kt_same_bytes(kt *t, const char *what, const void *want, const void *got, size_t bytes);
/* What a level computed, against ref's: the same bits of the CPU's levels and where bound is 0;
 * else |want - got| <= bound * the largest |want|, for sums that a device takes in another order,
 * and the same bits as on stream 0 of the loop. One such call in a KT_EACH loop. */
typedef struct kt_pair {
    const float *want, *got; /* [n]; got: of the case, not changed until its end */
    size_t n;
    float bound;
    int stream;
} kt_pair;
void kt_agree(kt *t, const char *what, kt_pair pair);
/* Bound of a product over k: sums of integers keep ref's order, others are k roundings apart. */
static inline float kt_sum_bound(hdl_wformat format, uint32_t k)
{
    return hdl_wformat_is_int(format) ? 0 : (float)(k + 4) * 0x1p-24f;
}
/* |want[i] - got[i]| <= bound[i] for all i. */
typedef struct kt_exact {
    const double *want, *bound; /* [n] */
    size_t n;
} kt_exact;
void kt_near(kt *t, const char *what, kt_exact exact, const float *got);
void kt_check(kt *t, bool ok, const char *what);

/* for (level) for (stream): the name for reports. */
const char *kt_name(kt *t, const char *what, int level, int stream);
#define KT_EACH(t, level, stream)                                                                  \
    for (int level = 0; level < (t)->n_levels; level++)                                            \
        for (int stream = 0; stream < (t)->n_streams; stream++)
