/* SPDX-License-Identifier: Apache-2.0 */
/* One tile of 32 keys for the query rows of a block: scores, softmax, values. All shapes of blocks
 * compute the same sums in the same order, so that a row's bits do not tell which one it met:
 *
 *   score     four chunks of head_dim, each a chain of mma over its k16 steps (of each the high,
 *             then the low part of q), added in order, then scale and cap;
 *   weight    p = exp(score - max), max over the keys of this tile and those before;
 *   values    keep * acc, then a chain of mma over the tile's k16 steps (high, low part of p), keys
 *             that the row does not see having p = 0; the sum of weights is one more column, of
 *             ones.
 *
 * A tile that a row does not see at all changes nothing of its state. wn warps share 16 rows: each
 * takes some chunks of head_dim, then 16 / wn rows of the softmax, then a part of the values; what
 * they exchange goes through shared memory. q stays in registers.
 *
 * q and p are split into two bf16 (x = high + low + at most 2^-16 x): one alone would be off by
 * 2^-9, which a greedy choice notices. Owner: a block; device code. */
#pragma once

#include "kernels/cuda/attention.h"

enum { ATTN_CHUNKS = 4, ATTN_ONES = 0x3f803f80 }; /* ONES: two bf16 */

/* fp8_: of shapes with no register to spare, whether the cache is FP8; others look. */
template <int dk_, int dv_, int wm_, int wn_, bool fp8_ = false> struct attn_shape {
    enum {
        dk = dk_,
        dv = dv_,
        keys = HDL_ATTN_TILE,
        wm = wm_,
        wn = wn_,
        rows = 16 * wm,
        threads = GPU_WARP * wm * wn,
        chunks = ATTN_CHUNKS / wn,     /* of a warp */
        steps = dk / ATTN_CHUNKS / 16, /* k16 steps of a chunk */
        nv = dv / 8 / wn,              /* n8 tiles of values of a warp */
        ns = keys / 8,                 /* n8 tiles of scores */
        lane_rows = 16 / wn,           /* rows of the softmax of a warp */
        row_lanes = GPU_WARP / lane_rows,
        lane_keys = keys / row_lanes,
        full = dk > 256, /* no register to spare */
        fp8 = fp8_,
        planes = dk > 256 ? 2 : 4, /* of p; those of latent shapes are bf16 alone */
        kv_stride = dk + 8,
        p_stride = keys + 8,
        s_stride = keys + 2,
    };
    static_assert(dk % (16 * ATTN_CHUNKS) == 0 && nv % 2 == 0 && dv <= dk, "whole fragments");
    static_assert(wn > 1 && ATTN_CHUNKS % wn == 0, "warps share rows, and have whole chunks");
};

/* The block's shared memory. */
template <class C> struct attn_shared {
    attn_item item; /* what is being walked; here, as registers are for fragments */
    uint32_t idx, bad;
    float keep[C::rows], max[C::rows];
    float scales[2][2][C::planes > 2 ? C::keys : 4]; /* INT8: of a stage's keys, of its values */
    alignas(16) float scores[ATTN_CHUNKS * C::rows * C::s_stride]; /* of chunks */
    /* Weights of values, high, low; of INT8 the plain ones for their sum, high, low. */
    alignas(16) uint16_t p[C::planes][C::rows * C::p_stride];
    alignas(16) uint16_t kv[8]; /* two stages of keys and, unless latent, values */
};

template <class C> static size_t attn_shared_bytes(bool latent)
{
    return offsetof(attn_shared<C>, kv) +
           (size_t)2 * (latent ? 1 : 2) * C::keys * C::kv_stride * sizeof(uint16_t);
}

/* A tile in shared memory: keys and values as bf16 (codes of INT8 are), scales of INT8 or NULL. */
struct attn_tile {
    uint32_t pos;
    uint16_t *k, *v;
    const float *k_scales, *v_scales;
};

/* What a thread holds: fragments of its warp's 16 rows, and the softmax of one row. */
template <class C> struct attn_thread {
    uint32_t q_high[C::chunks * C::steps][4], q_low[C::chunks * C::steps][4];
    float acc[C::nv][4], sum[4];
    float max;
    attn_span seen;
};

/* Two floats as two bf16 each. */
struct attn_pair {
    uint32_t high, low;
};

GPU_DEVICE attn_pair attn_split(float x, float y)
{
    uint32_t high = gpu_pack_bf16(x, y);
    float left = x - hdl_f32_from_bits(high << 16), right = y - hdl_f32_from_bits(high & ~0xffffu);
    return {high, gpu_pack_bf16(left, right)};
}

template <class C> GPU_DEVICE bool attn_is_fp8(const attn_job *job)
{
    return C::full ? C::fp8 != 0 : job->is_fp8;
}

template <class C> GPU_DEVICE uint32_t attn_wm() { return gpu_warp() / C::wn; }
template <class C> GPU_DEVICE uint32_t attn_wn() { return gpu_warp() % C::wn; }

/* Row of the block that this thread's fragments hold: half 0 or 1. */
template <class C> GPU_DEVICE uint32_t attn_frag_row(uint32_t half)
{
    return attn_wm<C>() * 16 + gpu_lane() / 4 + 8 * half;
}

/* Row of the block whose softmax this thread owns. */
template <class C> GPU_DEVICE uint32_t attn_soft_row()
{
    return attn_wm<C>() * 16 + attn_wn<C>() * C::lane_rows + gpu_lane() / C::row_lanes;
}

/* First of the two neighbouring values that a thread's tile n holds. */
template <class C> GPU_DEVICE uint32_t attn_dim(uint32_t n)
{
    return (attn_wn<C>() * C::nv + n) * 8 + gpu_lane() % 4 * 2;
}

/* q of the warp's rows and chunks, zeros beyond rows and head_dim. */
template <class C>
GPU_DEVICE void attn_load_q(const attn_job *job, const attn_item *item, attn_thread<C> *t)
{
    uint32_t dim = job->a.kv.head_dim, base = attn_wn<C>() * C::chunks * C::steps * 16;
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t r = attn_frag_row<C>(half);
        const float *q = job->a.q + (r < item->n_rows ? attn_query(job, item, r) : 0) * dim;
        uint32_t end = r < item->n_rows ? dim : 0;
        GPU_UNROLL
        for (uint32_t i = 0; i < 2 * C::chunks * C::steps; i++) {
            uint32_t at = base + i * 8 + gpu_lane() % 4 * 2;
            float x = at < end ? q[at] : 0.0f, y = at + 1 < end ? q[at + 1] : 0.0f;
            attn_pair pair = attn_split(x, y);
            t->q_high[i / 2][i % 2 * 2 + half] = pair.high;
            t->q_low[i / 2][i % 2 * 2 + half] = pair.low;
        }
    }
}

/* Products of chunk c (of the warp's) for the warp's 16 rows and the tile's keys. */
template <class C>
GPU_DEVICE void attn_chunk(const attn_thread<C> *t, const uint16_t *k, uint32_t c,
                           float (&s)[C::ns][4])
{
    uint32_t lane = gpu_lane(), base = (attn_wn<C>() * C::chunks + c) * C::steps * 16;
    k += (lane / 16 * 8 + lane % 8) * C::kv_stride + base + lane / 8 % 2 * 8;
    GPU_UNROLL
    for (uint32_t i = 0; i < C::ns; i++)
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
    GPU_UNROLL
    for (uint32_t at = 0; at < C::steps * C::ns; at += 2) {
        uint32_t step = at / C::ns, i = at % C::ns, q = c * C::steps + step, b[4];
        gpu_ldmatrix_x4(b, k + i * 8 * C::kv_stride + step * 16);
        gpu_mma_bf16(s[i], t->q_high[q], b);
        gpu_mma_bf16(s[i + 1], t->q_high[q], b + 2);
        gpu_mma_bf16(s[i], t->q_low[q], b);
        gpu_mma_bf16(s[i + 1], t->q_low[q], b + 2);
    }
}

/* Keys [lo, hi) of the tile at pos that a row sees. */
struct attn_range {
    uint32_t lo, hi;
};

template <class C> GPU_DEVICE attn_range attn_range_of(attn_span s, uint32_t pos)
{
    return {s.first > pos ? hdl_min_u32(s.first - pos, C::keys) : 0,
            s.end > pos ? hdl_min_u32(s.end - pos, C::keys) : 0};
}

/* Products of q and keys from `first` on become scores, in loops of their own: what most models
 * lack costs a branch and no registers. scales: of the keys of INT8, or NULL. */
template <int n>
GPU_DEVICE void attn_score(const attn_job *job, const float *scales, uint32_t first, float (&s)[n])
{
    GPU_UNROLL
    for (uint32_t i = 0; i < n; i++)
        s[i] *= job->a.scale;
    if (scales) {
        GPU_UNROLL
        for (uint32_t i = 0; i < n; i++)
            s[i] *= scales[first + i];
    }
    if (job->a.softcap != 0.0f) {
        GPU_UNROLL
        for (uint32_t i = 0; i < n; i++)
            s[i] = hdl_softcap(s[i], job->a.softcap);
    }
}

/* Scores become weights; the row lies in neighbouring lanes, a power of two. Raises *max; the
 * result is what to keep of the sums before. */
template <int n>
GPU_DEVICE float attn_soften(attn_range r, uint32_t lanes, uint32_t first, float *max,
                             float (&s)[n])
{
    float larger = -INFINITY;
    GPU_UNROLL
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = first + i;
        if (key >= r.lo && key < r.hi && s[i] > larger)
            larger = s[i];
    }
    for (uint32_t mask = 1; mask < lanes; mask *= 2) {
        float other = gpu_shfl_xor(larger, mask);
        larger = other > larger ? other : larger;
    }
    larger = larger > *max ? larger : *max;
    float keep = r.lo < r.hi ? hdl_exp(*max - larger) : 1.0f;
    *max = larger;
    GPU_UNROLL
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = first + i;
        s[i] = key >= r.lo && key < r.hi ? hdl_exp(s[i] - larger) : 0.0f;
    }
    return keep;
}

/* A weight times its value's scale. A key that the row does not see may have any scale. */
GPU_DEVICE float attn_scaled(float p, float scale) { return p == 0.0f ? 0.0f : p * scale; }

/* A warp's chunks of scores into shared memory. */
template <class C>
GPU_DEVICE void attn_share_chunk(attn_shared<C> *m, uint32_t c, const float (&s)[C::ns][4])
{
    float *to = m->scores + (attn_wn<C>() * C::chunks + c) * (C::rows * C::s_stride);
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        gpu_u2 *at = (gpu_u2 *)(to + attn_frag_row<C>(half) * C::s_stride + gpu_lane() % 4 * 2);
        GPU_UNROLL
        for (uint32_t n = 0; n < C::ns; n++)
            at[n * 4] = {hdl_f32_bits(s[n][half * 2]), hdl_f32_bits(s[n][half * 2 + 1])};
    }
}

GPU_DEVICE void attn_put_pair(uint16_t *high, uint16_t *low, float x, float y)
{
    attn_pair pair = attn_split(x, y);
    *(uint32_t *)high = pair.high;
    *(uint32_t *)low = pair.low;
}

/* Softmax of rows that warps share: chunks of scores from shared memory, weights back into it. */
template <class C>
GPU_DEVICE void attn_soften_shared(const attn_job *job, attn_thread<C> *t, const attn_tile &tile,
                                   attn_shared<C> *m)
{
    uint32_t row = attn_soft_row<C>(), key0 = gpu_lane() % C::row_lanes * C::lane_keys;
    const float *from = m->scores + row * C::s_stride + key0;
    float s[C::lane_keys];
    GPU_UNROLL
    for (uint32_t j = 0; j < C::lane_keys; j++) {
        s[j] = from[j];
        GPU_UNROLL
        for (uint32_t c = 1; c < ATTN_CHUNKS; c++)
            s[j] += from[c * (C::rows * C::s_stride) + j];
    }
    attn_score(job, tile.k_scales, key0, s);
    attn_range r = attn_range_of<C>(t->seen, tile.pos);
    float keep = attn_soften(r, C::row_lanes, key0, &t->max, s);
    GPU_UNROLL
    for (uint32_t j = 0; j < C::lane_keys; j += 2) {
        uint32_t at = row * C::p_stride + key0 + j;
        if (C::planes > 2 && tile.v_scales) {
            attn_put_pair(m->p[C::planes - 2] + at, m->p[C::planes - 1] + at, s[j], s[j + 1]);
            s[j] = attn_scaled(s[j], tile.v_scales[key0 + j]);
            s[j + 1] = attn_scaled(s[j + 1], tile.v_scales[key0 + j + 1]);
        }
        attn_put_pair(m->p[0] + at, m->p[1] + at, s[j], s[j + 1]);
    }
    if (gpu_lane() % C::row_lanes == 0)
        m->keep[row] = keep;
}

/* Weights of the tile's keys, into shared memory, and what to keep of the sums before. */
template <class C>
GPU_DEVICE void attn_scores(const attn_job *job, attn_thread<C> *t, const attn_tile &tile,
                            float keep[2])
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    float s[C::ns][4];
    GPU_UNROLL
    for (uint32_t c = 0; c < C::chunks; c++) {
        attn_chunk<C>(t, tile.k, c, s);
        attn_share_chunk<C>(m, c, s);
    }
    gpu_sync();
    attn_soften_shared<C>(job, t, tile, m);
    gpu_sync();
    keep[0] = m->keep[attn_frag_row<C>(0)];
    keep[1] = m->keep[attn_frag_row<C>(1)];
}

/* Weights of step ks of the tile as fragments, from planes `plane` and the next. */
template <class C>
GPU_DEVICE void attn_weights(uint32_t plane, uint32_t ks, uint32_t high[4], uint32_t low[4])
{
    const attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    uint32_t lane = gpu_lane();
    uint32_t at = (attn_wm<C>() * 16 + lane % 16) * C::p_stride + ks * 16 + lane / 16 * 8;
    gpu_ldmatrix_x4(high, m->p[plane] + at);
    gpu_ldmatrix_x4(low, m->p[plane + 1] + at);
}

/* Adds the tile's values, weighted. */
template <class C> GPU_DEVICE void attn_add_values(const attn_tile &tile, attn_thread<C> *t)
{
    const uint32_t ones[2] = {ATTN_ONES, ATTN_ONES};
    uint32_t lane = gpu_lane(), sums = tile.v_scales ? C::planes - 2 : 0;
    const uint16_t *v = tile.v + (lane / 8 % 2 * 8 + lane % 8) * C::kv_stride;
    v += attn_wn<C>() * C::nv * 8 + lane / 16 * 8;
    GPU_UNROLL
    for (uint32_t ks = 0; ks < C::keys / 16; ks++) {
        uint32_t high[4], low[4], b[4];
        attn_weights<C>(sums, ks, high, low);
        gpu_mma_bf16(t->sum, high, ones);
        gpu_mma_bf16(t->sum, low, ones);
        if (sums != 0)
            attn_weights<C>(0, ks, high, low);
        GPU_UNROLL
        for (uint32_t n = 0; n < C::nv; n += 2) {
            gpu_ldmatrix_x4_trans(b, v + ks * 16 * C::kv_stride + n * 8);
            gpu_mma_bf16(t->acc[n], high, b);
            gpu_mma_bf16(t->acc[n + 1], high, b + 2);
            gpu_mma_bf16(t->acc[n], low, b);
            gpu_mma_bf16(t->acc[n + 1], low, b + 2);
        }
    }
}

template <class C> GPU_DEVICE void attn_keep(attn_thread<C> *t, const float keep[2])
{
    GPU_UNROLL
    for (uint32_t e = 0; e < 4; e++) {
        t->sum[e] *= keep[e / 2];
        GPU_UNROLL
        for (uint32_t n = 0; n < C::nv; n++)
            t->acc[n][e] *= keep[e / 2];
    }
}
