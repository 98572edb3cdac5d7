/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the sampler: what a thread works with, and the steps between logits and a token. Private
 * to sampler.c, sampler_filter.c and sampler_math.c. */
#pragma once

#include "kernels/sample.h"
#include "worker/sampler.h"

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
    uint64_t masses[HDL_SAMPLE_BUCKETS];
} hdl_sample_scratch;

/* Draws from z (already adjusted by bias and penalties, the largest of them being `most`; divided
 * by temperature in here) with a word of Philox. False: a quotient is too large for a number. */
typedef struct hdl_sample_drawn {
    float most;
    uint32_t word;
    hdl_token token; /* out */
} hdl_sample_drawn;
bool hdl_sample_draw(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                     hdl_sample_drawn *out);

/* ---- sampler_math.c: loops over the vocabulary, written so that compilers make vectors of them --
 */

/* Largest of n > 0 values, and the lowest index that has it. False when one is no finite number. */
bool hdl_sample_largest(const float *z, uint32_t n, float *most, hdl_token *token);

/* p[i] = exp(z[i] - most), z[i] <= most; returns the sum of their masses. */
uint64_t hdl_sample_exps(const float *z, uint32_t n, float most, float *p);

/* Sum of masses. */
uint64_t hdl_sample_sum(const float *p, uint32_t n);
