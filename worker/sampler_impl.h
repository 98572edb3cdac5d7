/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the sampler: what a thread works with, and the steps between logits and a token. Private
 * to sampler.c, sampler_filter.c and sampler_math.c. */
#pragma once

#include "worker/sampler.h"

enum {
    HDL_SAMPLE_BUCKETS = 1024,       /* of logits, counted down from the largest */
    HDL_SAMPLE_BUCKETS_PER_UNIT = 8, /* a bucket is 1/8 logit wide; the last one holds the rest */
};

typedef struct hdl_candidate {
    float z; /* logit / temperature */
    hdl_token token;
} hdl_candidate;

/* One thread's memory. */
typedef struct hdl_sample_scratch {
    float *z;            /* [vocab] adjusted logits */
    float *p;            /* [vocab] exp(z - largest) */
    uint32_t *marks;     /* [vocab] all zero between jobs */
    hdl_candidate *kept; /* [vocab] */
    uint32_t counts[HDL_SAMPLE_BUCKETS];
    double masses[HDL_SAMPLE_BUCKETS];
} hdl_sample_scratch;

/* Draws from z (already adjusted by bias and penalties; divided by temperature in here). `unit` is
 * uniform in (0, 1). */
hdl_token hdl_sample_draw(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                          float unit);

/* ---- sampler_math.c: loops over the vocabulary, written so that compilers make vectors of them --
 */

/* Largest of n > 0 values, and the lowest index that has it. False when one is no finite number. */
bool hdl_sample_largest(const float *z, uint32_t n, float *most, hdl_token *token);

/* p[i] = exp(z[i] - most), z[i] <= most, within 2 ulp, never below exp(-87); returns the
 * sum. */
double hdl_sample_exps(const float *z, uint32_t n, float most, float *p);

/* Sum of p in the order that the sum above has. */
double hdl_sample_sum(const float *p, uint32_t n);
