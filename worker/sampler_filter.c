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

hdl_token hdl_sample_argmax(const float *z, uint32_t n)
{
    hdl_token best = -1;
    float most = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        if (z[i] > most) {
            most = z[i];
            best = (hdl_token)i;
        }
    return best;
}

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

/* Everything is kept: walk the vocabulary in order of id. */
static hdl_token draw_all(const float *z, uint32_t vocab, float most, float unit)
{
    double total = 0, sum = 0;
    hdl_token last = 0;
    for (uint32_t i = 0; i < vocab; i++)
        total += expf(z[i] - most);
    double target = total * (double)unit;
    for (uint32_t i = 0; i < vocab; i++) {
        float p = expf(z[i] - most);
        sum += p;
        if (p > 0)
            last = (hdl_token)i;
        if (sum > target)
            return (hdl_token)i;
    }
    return last;
}

/* Counts and masses of the buckets; returns the mass of all. */
static double fill_buckets(hdl_sample_scratch *s, uint32_t vocab, float most)
{
    double total = 0;
    memset(s->counts, 0, sizeof(s->counts));
    memset(s->masses, 0, sizeof(s->masses));
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t b = bucket_of(most, s->z[i]);
        float p = expf(s->z[i] - most);
        s->counts[b]++;
        s->masses[b] += p;
        total += p;
    }
    return total;
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

static uint32_t collect(hdl_sample_scratch *s, uint32_t vocab, float most, uint32_t n_buckets)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < vocab; i++)
        if (bucket_of(most, s->z[i]) < n_buckets)
            s->kept[n++] = (hdl_candidate){.z = s->z[i], .token = (hdl_token)i};
    return n;
}

/* Length of the run that top_p keeps, of n sorted candidates with the given mass. */
static uint32_t cut_top_p(const hdl_candidate *kept, uint32_t n, double want)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += expf(kept[i].z - kept[0].z);
        if (sum >= want)
            return i + 1;
    }
    return n;
}

static double mass_of(const hdl_candidate *kept, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += expf(kept[i].z - kept[0].z);
    return sum;
}

static uint32_t filter(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                       float most)
{
    bool has_top_k = params->top_k > 0 && (uint32_t)params->top_k < vocab;
    uint32_t top_k = has_top_k ? (uint32_t)params->top_k : vocab;
    double total = fill_buckets(s, vocab, most);
    uint32_t n = collect(s, vocab, most, buckets_needed(s, params, top_k, total));
    sort(s->kept, n);
    n = hdl_min_u32(n, top_k);
    if (params->top_p < 1) {
        double of = has_top_k ? mass_of(s->kept, n) : total;
        n = cut_top_p(s->kept, n, of * (double)params->top_p);
    }
    if (params->min_p > 0) {
        float least = s->kept[0].z + logf(params->min_p);
        while (n > 1 && s->kept[n - 1].z < least)
            n--;
    }
    return n;
}

hdl_token hdl_sample_draw(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                          float unit)
{
    float most = s->z[hdl_sample_argmax(s->z, vocab)] / params->temperature;
    for (uint32_t i = 0; i < vocab; i++)
        s->z[i] /= params->temperature;
    if (params->top_k <= 0 && params->top_p >= 1 && params->min_p <= 0)
        return draw_all(s->z, vocab, most, unit);
    uint32_t n = filter(s, params, vocab, most);
    HDL_ASSERT_LT(0u, n);
    double target = mass_of(s->kept, n) * (double)unit, sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += expf(s->kept[i].z - s->kept[0].z);
        if (sum > target)
            return s->kept[i].token;
    }
    return s->kept[n - 1].token;
}
