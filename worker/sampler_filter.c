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

/* Everything is kept: walk the vocabulary in order of id, first in strides, then inside one. */
enum { STRIDE = 512 };

static hdl_token draw_all(const float *p, uint32_t vocab, uint64_t target)
{
    uint64_t sum = 0;
    uint32_t i = 0;
    for (; i + STRIDE < vocab; i += STRIDE) {
        uint64_t next = sum + hdl_sample_sum(p + i, STRIDE);
        if (next > target)
            break;
        sum = next;
    }
    while ((sum += hdl_sample_mass(p[i])) <= target)
        i++;
    return (hdl_token)i;
}

static void fill_buckets(hdl_sample_scratch *s, uint32_t vocab, float most)
{
    memset(s->counts, 0, sizeof(s->counts));
    memset(s->masses, 0, sizeof(s->masses));
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t b = hdl_sample_bucket(most, s->z[i]);
        s->counts[b]++;
        s->masses[b] += hdl_sample_mass(s->p[i]);
    }
}

/* vocab: all. */
static uint32_t top_k_of(const hdl_sampling *params, uint32_t vocab)
{
    return params->top_k > 0 ? hdl_min_u32((uint32_t)params->top_k, vocab) : vocab;
}

/* The first buckets that hold whatever the filters keep, and all of top_k where top_p is a share of
 * that. */
static uint32_t buckets_needed(const hdl_sample_scratch *s, const hdl_sampling *params,
                               uint32_t vocab, uint64_t total)
{
    const uint32_t top_k = top_k_of(params, vocab);
    uint64_t count = 0, mass = 0, want = hdl_sample_share(total, params->top_p);
    float deepest = params->min_p > 0 ? -logf(params->min_p) : INFINITY;
    uint32_t last_min_p = hdl_sample_bucket(0, -deepest);
    for (uint32_t b = 0; b < HDL_SAMPLE_BUCKETS; b++) {
        count += s->counts[b];
        mass += s->masses[b];
        if (count >= top_k)
            return b + 1;
        if (top_k < vocab && params->top_p < 1)
            continue;
        if ((params->top_p < 1 && mass >= want) || (params->min_p > 0 && b > last_min_p))
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

/* The first of n sorted candidates with which the mass reaches `want`, or the last; the mass is
 * left in *sum. */
static uint32_t walk(const hdl_sample_scratch *s, uint32_t n, uint64_t want, uint64_t *sum)
{
    *sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        *sum += hdl_sample_mass(s->p[s->kept[i].token]);
        if (*sum >= want)
            return i;
    }
    return n - 1;
}

/* Candidates that are kept, sorted; their mass. */
static uint32_t filter(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                       uint64_t *mass)
{
    const uint32_t top_k = top_k_of(params, vocab);
    float most = s->kept[0].z; /* put there by the caller */
    uint64_t of = *mass;
    fill_buckets(s, vocab, most);
    uint32_t n = collect(s, vocab, most, buckets_needed(s, params, vocab, of));
    sort(s->kept, n);
    n = hdl_min_u32(n, top_k);
    HDL_ASSERT_LT(0u, n);
    if (params->top_p < 1) {
        if (top_k < vocab)
            walk(s, n, UINT64_MAX, &of);
        n = walk(s, n, hdl_sample_share(of, params->top_p), mass) + 1;
    }
    if (params->min_p > 0) {
        float least = most + logf(params->min_p);
        while (n > 1 && s->kept[n - 1].z < least)
            n--;
    }
    walk(s, n, UINT64_MAX, mass);
    return n;
}

bool hdl_sample_draw(hdl_sample_scratch *s, const hdl_sampling *params, uint32_t vocab,
                     hdl_sample_drawn *out)
{
    const float most = out->most / params->temperature;
    if (!hdl_sample_is_finite(most))
        return false;
    for (uint32_t i = 0; i < vocab; i++)
        s->z[i] /= params->temperature;
    uint64_t mass = hdl_sample_exps(s->z, vocab, most, s->p);
    if (params->top_k <= 0 && params->top_p >= 1 && params->min_p <= 0) {
        out->token = draw_all(s->p, vocab, hdl_sample_target(mass, out->word));
        return true;
    }
    s->kept[0].z = most;
    uint32_t n = filter(s, params, vocab, &mass);
    out->token = s->kept[walk(s, n, hdl_sample_target(mass, out->word) + 1, &mass)].token;
    return true;
}
