/* SPDX-License-Identifier: Apache-2.0 */
/* What a block does to sample from one row of logits: masses by bins, the shortest prefix that
 * reaches a count or a mass, the draw in order of id. Device code of sample.cu.
 *
 * All of it is called by all threads of a block of SAMPLE_THREADS, which get the same answer. Sums
 * are of integers, so their order is free. A cut is found from above: a bin of the first bins
 * (distance from the largest logit, in eighths), then ten bits of the key at a time among that
 * bin's tokens, which are gathered in shared memory where they fit and are looked for in the whole
 * row else. */
#pragma once

#include "kernels/cuda/gpu.h"

extern "C" {
#include "kernels/sample.h"
}

enum {
    SAMPLE_THREADS = 512, /* 128 registers each */
    SAMPLE_WARPS = SAMPLE_THREADS / GPU_WARP,
    SAMPLE_BINS = HDL_SAMPLE_BUCKETS,
    SAMPLE_DIGIT = 10, /* bits of a key at a time */
    SAMPLE_LIST = 2560,
    SAMPLE_CHUNK = SAMPLE_THREADS,                       /* ids of a sum of draw_all */
    SAMPLE_CHUNKS = HDL_SAMPLE_VOCAB_MAX / SAMPLE_CHUNK, /* exactly */
};
static_assert(SAMPLE_BINS == 1 << SAMPLE_DIGIT && SAMPLE_BINS == (int)GPU_WARP * GPU_WARP, "");
static_assert(HDL_SAMPLE_VOCAB_MAX % (int)SAMPLE_CHUNK == 0, "no chunk more");
static_assert(SAMPLE_CHUNKS * sizeof(uint64_t) <= SAMPLE_LIST * sizeof(float), "they share memory");

/* Logits: z / temperature. */
struct sample_view {
    const float *z;
    uint32_t vocab;
    float temperature, most; /* most: the largest of z / temperature */
};

/* The largest so far, ties by the lower id; key 0: none; HDL_NONE_U32: a number was not finite. */
struct sample_best {
    uint32_t key, id;
};

struct sample_bins {
    uint32_t count[SAMPLE_BINS], low[SAMPLE_BINS], high[SAMPLE_BINS]; /* high, low: the mass */
};

struct sample_weight {
    uint64_t count, mass;
};

/* The first `count` tokens of the order: those of a larger key, and `ties` of the lowest ids that
 * have it. */
struct sample_prefix {
    uint32_t key, id; /* id: of the last token, where known, or HDL_NONE_U32 */
    uint64_t ties;
    sample_weight weight;
};

struct sample_memory {
    sample_bins first, fine;
    sample_weight parts[GPU_WARP], before; /* before: what is above the found bin */
    uint64_t sums[SAMPLE_WARPS];
    sample_best bests[SAMPLE_WARPS];
    uint32_t found, n_list, token;
    union {
        struct {
            float z[SAMPLE_LIST];
            uint32_t id[SAMPLE_LIST];
        } list;
        uint64_t chunks[SAMPLE_CHUNKS];
    };
};
static_assert(sizeof(sample_memory) <= 48 * 1024, "what a block gets without asking");

GPU_DEVICE float sample_value(const sample_view *v, uint32_t i)
{
    float z = v->z[i];
    return v->temperature == 1.0f ? z : z / v->temperature;
}

GPU_DEVICE uint64_t sample_mass_of(const sample_view *v, float z)
{
    return hdl_sample_mass(hdl_sample_exp(z - v->most));
}

GPU_DEVICE uint64_t sample_warp_add(uint64_t x)
{
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2) {
        uint32_t low = gpu_shfl_xor((uint32_t)x, mask);
        uint32_t high = gpu_shfl_xor((uint32_t)(x >> 32), mask);
        x += (uint64_t)high << 32 | low;
    }
    return x;
}

GPU_DEVICE uint64_t sample_add(sample_memory *m, uint64_t x)
{
    x = sample_warp_add(x);
    if (gpu_lane() == 0)
        m->sums[gpu_warp()] = x;
    gpu_sync();
    x = 0;
    for (uint32_t w = 0; w < SAMPLE_WARPS; w++)
        x += m->sums[w];
    gpu_sync();
    return x;
}

GPU_DEVICE sample_best sample_better(sample_best a, sample_best b)
{
    return b.key > a.key || (b.key == a.key && b.id < a.id) ? b : a;
}

GPU_DEVICE sample_best sample_best_at(float z, uint32_t id)
{
    sample_best b = {hdl_sample_is_finite(z) ? hdl_sample_key(z) : HDL_NONE_U32, id};
    return b;
}

/* Over a block of so many warps; bests: a place for each. */
GPU_DEVICE sample_best sample_best_of(sample_best *bests, sample_best b)
{
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2) {
        sample_best other;
        other.key = gpu_shfl_xor(b.key, mask);
        other.id = gpu_shfl_xor(b.id, mask);
        b = sample_better(b, other);
    }
    if (gpu_lane() == 0)
        bests[gpu_warp()] = b;
    gpu_sync();
    for (uint32_t w = 0; w < gpu_threads() / GPU_WARP; w++)
        b = sample_better(b, bests[w]);
    gpu_sync();
    return b;
}

/* ---- bins --------------------------------------------------------------------------------- */

GPU_DEVICE void sample_clear(sample_bins *bins)
{
    for (uint32_t i = gpu_thread(); i < SAMPLE_BINS; i += gpu_threads())
        bins->count[i] = bins->low[i] = bins->high[i] = 0;
    gpu_sync();
}

/* A carry goes to the high word by whoever made it. */
GPU_DEVICE void sample_put(sample_bins *bins, uint32_t bin, uint64_t mass)
{
    uint32_t low = (uint32_t)mass, high = (uint32_t)(mass >> 32);
    gpu_atomic_add(&bins->count[bin], 1);
    if (low != 0 && gpu_atomic_add(&bins->low[bin], low) + low < low)
        high++;
    if (high != 0)
        gpu_atomic_add(&bins->high[bin], high);
}

GPU_DEVICE sample_weight sample_bin(const sample_bins *bins, uint32_t bin)
{
    sample_weight w = {bins->count[bin], (uint64_t)bins->high[bin] << 32 | bins->low[bin]};
    return w;
}

GPU_DEVICE uint64_t sample_of(sample_weight w, bool by_mass) { return by_mass ? w.mass : w.count; }

/* The bin in which the sum from bin 0 on, after `before`, reaches `want`. m->before is what lies
 * above it then. */
GPU_DEVICE uint32_t sample_find(sample_memory *m, const sample_bins *bins, sample_weight before,
                                uint64_t want, bool by_mass)
{
    uint32_t lane = gpu_lane();
    if (gpu_warp() == 0) {
        sample_weight sum = {0, 0};
        for (uint32_t i = 0; i < GPU_WARP; i++) {
            sample_weight w = sample_bin(bins, lane * GPU_WARP + i);
            sum.count += w.count;
            sum.mass += w.mass;
        }
        m->parts[lane] = sum;
        gpu_warp_sync();
        if (lane == 0) {
            uint32_t at = 0;
            for (; at + 1 < GPU_WARP; at++) {
                sample_weight w = m->parts[at];
                if (sample_of(before, by_mass) + sample_of(w, by_mass) >= want)
                    break;
                before.count += w.count;
                before.mass += w.mass;
            }
            for (at *= GPU_WARP; at + 1 < SAMPLE_BINS; at++) {
                sample_weight w = sample_bin(bins, at);
                if (sample_of(before, by_mass) + sample_of(w, by_mass) >= want)
                    break;
                before.count += w.count;
                before.mass += w.mass;
            }
            m->found = at;
            m->before = before;
        }
    }
    gpu_sync();
    return m->found;
}

/* m->first over the row; returns the mass of all. */
GPU_DEVICE uint64_t sample_first(sample_memory *m, const sample_view *v)
{
    uint64_t total = 0;
    sample_clear(&m->first);
    for (uint32_t i = gpu_thread(); i < v->vocab; i += gpu_threads()) {
        float z = sample_value(v, i);
        uint64_t mass = sample_mass_of(v, z);
        sample_put(&m->first, hdl_sample_bucket(v->most, z), mass);
        total += mass;
    }
    return sample_add(m, total);
}

/* Tokens of the buckets [from, to], in m->list; in any order. */
GPU_DEVICE void sample_gather(sample_memory *m, const sample_view *v, uint32_t from, uint32_t to)
{
    if (gpu_thread() == 0)
        m->n_list = 0;
    gpu_sync();
    for (uint32_t i = gpu_thread(); i < v->vocab; i += gpu_threads()) {
        float z = sample_value(v, i);
        uint32_t bucket = hdl_sample_bucket(v->most, z);
        if (bucket < from || bucket > to)
            continue;
        uint32_t at = gpu_atomic_add(&m->n_list, 1);
        m->list.z[at] = z;
        m->list.id[at] = i;
    }
    gpu_sync();
}

/* ---- prefixes ----------------------------------------------------------------------------- */

/* m->fine over a bucket's tokens whose keys begin with `known`, by the `bits` below it, descending.
 */
GPU_DEVICE void sample_refine(sample_memory *m, const sample_view *v, uint32_t bucket, bool listed,
                              uint32_t known, uint32_t shift, uint32_t bits)
{
    uint32_t n = listed ? m->n_list : v->vocab;
    sample_clear(&m->fine);
    for (uint32_t i = gpu_thread(); i < n; i += gpu_threads()) {
        float z = listed ? m->list.z[i] : sample_value(v, i);
        uint32_t key = hdl_sample_key(z), last = (1u << bits) - 1;
        if (!listed && hdl_sample_bucket(v->most, z) != bucket)
            continue;
        if ((uint64_t)key >> (shift + bits) == known)
            sample_put(&m->fine, last - (key >> shift & last), sample_mass_of(v, z));
    }
    gpu_sync();
}

/* The shortest prefix whose count, or mass, reaches `want`, at least 1 and at most that of all;
 * after sample_first. */
GPU_DEVICE sample_prefix sample_shortest(sample_memory *m, const sample_view *v, uint64_t want,
                                         bool by_mass)
{
    sample_weight before = {0, 0};
    uint32_t bucket = sample_find(m, &m->first, before, want, by_mass);
    bool listed = m->first.count[bucket] <= SAMPLE_LIST;
    uint32_t known = 0, bin = 0;
    before = m->before;
    if (listed)
        sample_gather(m, v, bucket, bucket);
    for (uint32_t shift = 32; shift > 0;) {
        uint32_t bits = hdl_min_u32(shift, SAMPLE_DIGIT);
        shift -= bits;
        sample_refine(m, v, bucket, listed, known, shift, bits);
        bin = sample_find(m, &m->fine, before, want, by_mass);
        before = m->before;
        known = known << bits | ((1u << bits) - 1 - bin);
    }
    uint64_t each = sample_mass_of(v, hdl_sample_of_key(known)), need = want;
    need -= sample_of(before, by_mass);
    sample_prefix p;
    p.key = known;
    p.ties = by_mass ? (need + each - 1) / each : need;
    p.weight.count = before.count + p.ties;
    p.weight.mass = before.mass + p.ties * each;
    bool alone = listed && m->fine.count[bin] == 1;
    for (uint32_t i = gpu_thread(); alone && i < m->n_list; i += gpu_threads())
        if (hdl_sample_key(m->list.z[i]) == known)
            m->token = m->list.id[i];
    gpu_sync();
    p.id = alone ? m->token : HDL_NONE_U32;
    return p;
}

GPU_DEVICE uint32_t sample_bits_of(uint32_t mask)
{
    uint32_t n = 0;
    for (; mask != 0; mask &= mask - 1)
        n++;
    return n;
}

/* The id of a prefix's last token: each warp looks at a part of the row. */
GPU_DEVICE uint32_t sample_last(sample_memory *m, const sample_view *v, const sample_prefix *p)
{
    if (p->id != HDL_NONE_U32)
        return p->id;
    uint32_t part = (v->vocab / SAMPLE_THREADS + 1) * GPU_WARP, from = gpu_warp() * part;
    uint32_t lane = gpu_lane(), n = 0;
    for (uint32_t i = from + lane; i < from + part; i += GPU_WARP)
        n += sample_bits_of(
            gpu_ballot(i < v->vocab && hdl_sample_key(sample_value(v, i)) == p->key));
    if (lane == 0)
        m->sums[gpu_warp()] = n;
    gpu_sync();
    uint64_t before = 0;
    for (uint32_t w = 0; w < gpu_warp(); w++)
        before += m->sums[w];
    bool here = before < p->ties && p->ties <= before + n;
    for (uint32_t i = from + lane; here && i < from + part; i += GPU_WARP) {
        bool equal = i < v->vocab && hdl_sample_key(sample_value(v, i)) == p->key;
        uint32_t mask = gpu_ballot(equal);
        if (equal && before + sample_bits_of(mask & ((2u << lane) - 1)) == p->ties)
            m->token = i;
        before += sample_bits_of(mask);
    }
    gpu_sync();
    return m->token;
}

/* ---- order of id -------------------------------------------------------------------------- */

/* m->chunks: the mass of each SAMPLE_CHUNK ids; returns the mass of all. */
GPU_DEVICE uint64_t sample_chunks(sample_memory *m, const sample_view *v)
{
    uint32_t n = (v->vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK;
    uint64_t total = 0;
    for (uint32_t c = gpu_warp(); c < n; c += SAMPLE_WARPS) {
        uint32_t to = hdl_min_u32((c + 1) * SAMPLE_CHUNK, v->vocab);
        uint64_t sum = 0;
        for (uint32_t i = c * SAMPLE_CHUNK + gpu_lane(); i < to; i += GPU_WARP)
            sum += sample_mass_of(v, sample_value(v, i));
        sum = sample_warp_add(sum);
        if (gpu_lane() == 0) {
            m->chunks[c] = sum;
            total += sum;
        }
    }
    return sample_add(m, total);
}

/* The first of n sums with which *sum is larger than target; *sum becomes what is before it. One
 * thread. */
GPU_DEVICE uint32_t sample_walk(const uint64_t *sums, uint32_t n, uint64_t target, uint64_t *sum)
{
    uint32_t at = 0;
    while (at + 1 < n && *sum + sums[at] <= target)
        *sum += sums[at++];
    return at;
}

/* The first token with which the mass in order of id is larger than target; after sample_chunks.
 */
GPU_DEVICE uint32_t sample_draw_all(sample_memory *m, const sample_view *v, uint64_t target)
{
    uint32_t n = (v->vocab + SAMPLE_CHUNK - 1) / SAMPLE_CHUNK, thread = gpu_thread();
    if (thread == 0) {
        m->before.mass = 0;
        m->found = sample_walk(m->chunks, n, target, &m->before.mass);
    }
    gpu_sync();
    uint32_t i = m->found * SAMPLE_CHUNK + thread;
    uint64_t mass = i < v->vocab ? sample_mass_of(v, sample_value(v, i)) : 0;
    uint64_t sum = sample_warp_add(mass);
    if (gpu_lane() == 0)
        m->sums[gpu_warp()] = sum;
    gpu_sync();
    if (thread == 0)
        m->token = sample_walk(m->sums, SAMPLE_WARPS, target, &m->before.mass);
    gpu_sync();
    if (gpu_warp() == m->token) {
        m->chunks[gpu_lane()] = mass;
        gpu_warp_sync();
        if (gpu_lane() == 0)
            m->found = i + sample_walk(m->chunks, GPU_WARP, target, &m->before.mass);
    }
    gpu_sync();
    return m->found;
}
