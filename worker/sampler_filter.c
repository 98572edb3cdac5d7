/* SPDX-License-Identifier: Apache-2.0 */
/* From adjusted logits to one token: top_k, top_p, min_p and the draw.
 *
 * A full sort of the vocabulary would cost more than the head of a small model. One pass puts each
 * token into a bucket by its distance from the largest logit and adds up counts and masses; the
 * filters then need only the first buckets, and only those are sorted. The order (logit down, id
 * up) is total, so what is kept does not depend on the method. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/sampler_impl.h"

static bool before(hdl_candidate a, hdl_candidate b)
{
    return a.z > b.z || (a.z == b.z && a.token < b.token);
}

/* Heap sort: in place, no worst case, no allocation (qsort of glibc may call malloc). */
static void sift(hdl_candidate *c, size_t at, size_t n)
{
    hdl_candidate item = c[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(c[child], c[child + 1]))
            child++;
        if (!before(item, c[child]))
            break;
        c[at] = c[child];
        at = child;
    }
    c[at] = item;
}

static void sort(hdl_candidate *c, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(c, i, n);
    for (size_t end = n; end > 1; end--) {
        hdl_candidate first = c[0];
        c[0] = c[end - 1];
        c[end - 1] = first;
        sift(c, 0, end - 1);
    }
}

static uint32_t bucket_of(float most, float z)
{
    float distance = (most - z) * HDL_SAMPLE_BUCKETS_PER_UNIT;
    return distance < HDL_SAMPLE_BUCKETS - 1 ? (uint32_t)distance : HDL_SAMPLE_BUCKETS - 1;
}

/* Everything is kept: walk the vocabulary in order of id, first in strides, then inside one. */
enum { STRIDE = 512 };

static hdl_token draw_all(const float *p, uint32_t vocab, double total, float unit)
{
    double target = total * (double)unit, sum = 0;
    uint32_t at = 0;
    for (; at + STRIDE < vocab; at += STRIDE) {
        double next = sum + hdl_sample_sum(p + at, STRIDE);
        if (next > target)
            break;
        sum = next;
    }
    for (uint32_t i = at; i < vocab; i++) {
        sum += (double)p[i];
        if (sum > target)
            return (hdl_token)i;
    }
    return (hdl_token)vocab - 1; /* rounding left the target past the end */
}

static void fill_buckets(hdl_sample_scratch *s, uint32_t vocab, float most)
{
    memset(s->counts, 0, sizeof(s->counts));
    memset(s->masses, 0, sizeof(s->masses));
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t b = bucket_of(most, s->z[i]);
        s->counts[b]++;
        s->masses[b] += (double)s->p[i];
    }
}

/* The first buckets that surely hold whatever the filters keep. */
static uint32_t buckets_needed(const hdl_sample_scratch *s, const hdl_sampling *params,
                               uint32_t top_k, double total)
{
    uint64_t count = 0;
    double mass = 0;
    /* Masses were added in another order than the walk below adds them: the slack covers it. */
    double want = total * ((double)params->top_p + 1e-9);
    float deepest = params->min_p > 0 ? -logf(params->min_p) : INFINITY;
    uint32_t last_min_p = bucket_of(0, -deepest);
    for (uint32_t b = 0; b < HDL_SAMPLE_BUCKETS; b++) {
        count += s->counts[b];
        mass += s->masses[b];
        if (count >= top_k || (params->top_p < 1 && mass >= want) ||
            (params->min_p > 0 && b > last_min_p))
            return b + 1;
    }
    return HDL_SAMPLE_BUCKETS;
}

/* Tokens of the first n_buckets; the same comparison as in bucket_of. */
static uint32_t collect(hdl_sample_scratch *s, uint32_t vocab, float most, uint32_t n_buckets)
{
    uint32_t n = 0;
    float end = n_buckets < HDL_SAMPLE_BUCKETS ? (float)n_buckets : INFINITY;
    for (uint32_t i = 0; i < vocab; i++)
        if ((most - s->z[i]) * HDL_SAMPLE_BUCKETS_PER_UNIT < end)
            s->kept[n++] = (hdl_candidate){.z = s->z[i], .token = (hdl_token)i};
    return n;
}

/* Length of the run that top_p keeps, of n sorted candidates. */
static uint32_t cut_top_p(const hdl_sample_scratch *s, uint32_t n, double want)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)s->p[s->kept[i].token];
        if (sum >= want)
            return i + 1;
    }
    return n;
}

static double mass_of(const hdl_sample_scratch *s, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)s->p[s->kept[i].token];
    return sum;
}

static uint32_t filter(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                       double total)
{
    bool has_top_k = params->top_k > 0 && (uint32_t)params->top_k < vocab;
    uint32_t top_k = has_top_k ? (uint32_t)params->top_k : vocab;
    float most = s->kept[0].z; /* put there by the caller */
    fill_buckets(s, vocab, most);
    uint32_t n = collect(s, vocab, most, buckets_needed(s, params, top_k, total));
    sort(s->kept, n);
    n = hdl_min_u32(n, top_k);
    if (params->top_p < 1) {
        double of = has_top_k ? mass_of(s, n) : total;
        n = cut_top_p(s, n, of * (double)params->top_p);
    }
    if (params->min_p > 0) {
        float least = most + logf(params->min_p);
        while (n > 1 && s->kept[n - 1].z < least)
            n--;
    }
    return n;
}

hdl_token hdl_sample_draw(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                          float unit)
{
    float most = 0;
    hdl_token best = 0;
    for (uint32_t i = 0; i < vocab; i++)
        s->z[i] /= params->temperature;
    HDL_ASSERT(hdl_sample_largest(s->z, vocab, &most, &best));
    double total = hdl_sample_exps(s->z, vocab, most, s->p);
    if (params->top_k <= 0 && params->top_p >= 1 && params->min_p <= 0)
        return draw_all(s->p, vocab, total, unit);
    s->kept[0] = (hdl_candidate){.z = most, .token = best};
    uint32_t n = filter(s, params, vocab, total);
    HDL_ASSERT_LT(0u, n);
    double target = mass_of(s, n) * (double)unit, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)s->p[s->kept[i].token];
        if (sum > target)
            return s->kept[i].token;
    }
    return s->kept[n - 1].token;
}
