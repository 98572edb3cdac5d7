/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel that takes items and walks their keys: tiles of a segment into a softmax; segments
 * into scratch (split) or, in order, into the result (whole). Owner: a block. Included by
 * attention.cu alone. */
#pragma once

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_tile.h"
#include "kernels/kv_fp8.h"

/* Keys or values of a tile; zeros where no row of the item sees them. */
template <class C>
GPU_DEVICE void load_half(const attn_job *job, const attn_item *item, uint32_t pos,
                          const uint16_t *from, uint16_t *to)
{
    enum { PARTS = C::dk / 8 };
    const hdl_kv_view *kv = &job->a.kv;
    GPU_UNROLL_2 /* or registers of the fragments go */
        for (uint32_t i = gpu_thread(); i < C::keys * PARTS; i += C::threads)
    {
        uint32_t key = pos + i / PARTS, at = i % PARTS * 8;
        uint16_t *place = to + i / PARTS * C::kv_stride + at;
        if (key < item->first || key >= item->end || at >= kv->head_dim) {
            *(gpu_u4 *)place = {};
            continue;
        }
        size_t block = item->row->table[key >> job->block_shift];
        size_t row = (block * kv->n_kv_heads + item->kv_head) << job->block_shift;
        row += key & (kv->block_tokens - 1);
        if (job->wide) {
            gpu_copy_async(place, from + row * kv->head_dim + at);
            continue;
        }
        for (uint32_t e = 0; e < 8; e++)
            place[e] = at + e < kv->head_dim ? from[row * kv->head_dim + at + e] : 0;
    }
}

/* The same of INT8 and FP8: codes become bf16, which hold them (of FP8 with their scale) exactly.
 * They pass through registers, so that nothing is under way meanwhile. */
GPU_DEVICE const unsigned char *tile8_at(const attn_job *job, const attn_item *item, uint32_t key,
                                         const unsigned char *from)
{
    const hdl_kv_view *kv = &job->a.kv;
    uint32_t block = item->row->table[key >> job->block_shift];
    uint32_t tile = ((block * kv->n_kv_heads + item->kv_head) << job->block_shift) / HDL_ATTN_TILE;
    tile += (key & (kv->block_tokens - 1)) / HDL_ATTN_TILE; /* of the cache: hdl_kv8_tile_at */
    return from + (size_t)tile * (HDL_ATTN_TILE * (kv->head_dim + (uint32_t)sizeof(float)));
}

GPU_DEVICE uint16_t code_at(const unsigned char *code)
{
    return hdl_bf16_from_f32((float)(int8_t)*code);
}

template <class C>
GPU_DEVICE void load_codes(const attn_job *job, const attn_item *item, uint32_t pos, uint16_t *k,
                           uint16_t *v)
{
    uint32_t dim = job->a.kv.head_dim;
    GPU_UNROLL_2
    for (uint32_t i = gpu_thread(); i < C::keys * C::dk; i += C::threads) {
        uint32_t j = i % C::keys, d = i / C::keys, key = pos + j;
        uint16_t *k_to = k + j * C::kv_stride + d, *v_to = v + j * C::kv_stride + d;
        *k_to = *v_to = 0;
        if (key < item->first || key >= item->end || d >= dim)
            continue;
        *k_to = code_at(tile8_at(job, item, key, job->a.kv.k8) + hdl_kv8_k_at(key, d));
        *v_to = code_at(tile8_at(job, item, key, job->a.kv.v8) + hdl_kv8_v_at(dim, key, d));
    }
}

GPU_DEVICE uint32_t fp8_pair(uint32_t codes, float scale)
{
    return hdl_fp8_to_bf16((uint8_t)codes, scale) |
           (uint32_t)hdl_fp8_to_bf16((uint8_t)(codes >> 8), scale) << 16;
}

template <class C>
GPU_DEVICE void load_fp8(const attn_job *job, const attn_item *item, uint32_t pos,
                         const unsigned char *from, uint16_t *to)
{
    enum { PARTS = C::dk / 8 };
    uint32_t dim = job->a.kv.head_dim;
    GPU_UNROLL_1 /* or registers of the fragments go */
        for (uint32_t i = gpu_thread(); i < C::keys * PARTS; i += C::threads)
    {
        uint32_t key = pos + i / PARTS, at = i % PARTS * 8;
        uint16_t *place = to + i / PARTS * C::kv_stride + at;
        if (key < item->first || key >= item->end || at >= dim) {
            *(gpu_u4 *)place = {};
            continue;
        }
        const unsigned char *tile = tile8_at(job, item, key, from);
        const unsigned char *row = tile + hdl_kv8_row_at(dim, key) + at;
        float scale = *(const float *)(tile + hdl_kv8_scale_at(dim, key));
        if (job->wide) {
            gpu_u2 c = *(const gpu_u2 *)row;
            *(gpu_u4 *)place = {fp8_pair(c.v[0], scale), fp8_pair(c.v[0] >> 16, scale),
                                fp8_pair(c.v[1], scale), fp8_pair(c.v[1] >> 16, scale)};
            continue;
        }
        for (uint32_t e = 0; e < 8; e++)
            place[e] = at + e < dim ? hdl_fp8_to_bf16(row[e], scale) : 0;
    }
}

template <class C>
GPU_DEVICE void load_scales(const attn_job *job, const attn_item *item, uint32_t pos,
                            float (*scales)[C::planes > 2 ? C::keys : 4])
{
    uint32_t j = gpu_thread(), key = pos + j;
    if (j >= C::keys)
        return;
    bool is_there = key >= item->first && key < item->end;
    size_t at = hdl_kv8_scale_at(job->a.kv.head_dim, key);
    scales[0][j] = is_there ? *(const float *)(tile8_at(job, item, key, job->a.kv.k8) + at) : 0;
    scales[1][j] = is_there ? *(const float *)(tile8_at(job, item, key, job->a.kv.v8) + at) : 0;
}

/* The tile at pos in its stage. */
template <class C> GPU_DEVICE attn_tile tile_in(const attn_job *job, uint32_t pos, uint32_t stage)
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    enum { HALF = C::keys * C::kv_stride };
    if (job->a.latent)
        return {pos, m->kv + stage * HALF, m->kv + stage * HALF, NULL, NULL};
    uint16_t *k = m->kv + stage * 2 * HALF;
    bool scaled = C::planes > 2 && job->is_int8;
    return {pos, k, k + HALF, scaled ? m->scales[stage][0] : NULL,
            scaled ? m->scales[stage][1] : NULL};
}

/* Fills it, or sees to it that it will be filled. */
template <class C>
GPU_DEVICE void load_tile(const attn_job *job, const attn_item *item, uint32_t pos, uint32_t stage)
{
    attn_tile tile = tile_in<C>(job, pos, stage);
    if constexpr (C::planes > 2) {
        if (job->is_int8) {
            load_codes<C>(job, item, pos, tile.k, tile.v);
            load_scales<C>(job, item, pos, gpu_shared<attn_shared<C>>()->scales[stage]);
            return;
        }
    }
    if (attn_is_fp8<C>(job)) {
        load_fp8<C>(job, item, pos, job->a.kv.k8, tile.k);
        if (!job->a.latent)
            load_fp8<C>(job, item, pos, job->a.kv.v8, tile.v);
        return;
    }
    load_half<C>(job, item, pos, job->a.kv.k, tile.k);
    if (!job->a.latent)
        load_half<C>(job, item, pos, job->a.kv.v, tile.v);
    gpu_copy_commit();
}

GPU_DEVICE bool is_finite(uint32_t bf16) { return (bf16 & 0x7f80u) != 0x7f80u; }

/* Weight 0 times a value that is not finite would be NaN in rows that do not see the key: such
 * values become zeros, and m->bad tells of them. */
template <class C> GPU_DEVICE void clean_values(attn_shared<C> *m, uint16_t *v)
{
    enum { PAIRS = C::dv / 2 };
    GPU_UNROLL_2
    for (uint32_t i = gpu_thread(); i < C::keys * PAIRS; i += C::threads) {
        uint32_t *pair = (uint32_t *)(v + i / PAIRS * C::kv_stride + i % PAIRS * 2), was = *pair;
        uint32_t keep = (is_finite(was) ? 0xffffu : 0) | (is_finite(was >> 16) ? 0xffff0000u : 0);
        if (keep == 0xffffffffu)
            continue;
        *pair = was & keep;
        m->bad = 1;
    }
}

/* Values that clean_values took, to the rows that see them. */
template <class C>
GPU_DEVICE void add_bad(const attn_job *job, const attn_item *item, uint32_t pos, attn_thread<C> *t)
{
    const hdl_kv_view *kv = &job->a.kv;
    const uint16_t *v = job->a.latent ? kv->k : kv->v;
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        attn_span s = attn_row_span(job, item, attn_frag_row<C>(half));
        for (uint32_t key = hdl_max_u32(pos, s.first); key < hdl_min_u32(pos + C::keys, s.end);
             key++) {
            if (attn_is_fp8<C>(job)) { /* all of a row, or nothing */
                const unsigned char *tile =
                    tile8_at(job, item, key, job->a.latent ? kv->k8 : kv->v8);
                float scale = *(const float *)(tile + hdl_kv8_scale_at(kv->head_dim, key));
                GPU_UNROLL
                for (uint32_t i = 0; scale != scale && i < 2 * C::nv; i++)
                    t->acc[i / 2][half * 2 + i % 2] = scale;
                continue;
            }
            const uint16_t *from = v + kv_place(kv, item->row, key, item->kv_head);
            GPU_UNROLL
            for (uint32_t i = 0; i < 2 * C::nv; i++) {
                uint32_t dim = attn_dim<C>(i / 2) + i % 2;
                if (dim < job->value_dim && !is_finite(from[dim]))
                    t->acc[i / 2][half * 2 + i % 2] += hdl_bf16_to_f32(from[dim]);
            }
        }
    }
}

template <class C>
GPU_DEVICE void add_tile(const attn_job *job, const attn_item *item, const attn_tile &tile,
                         attn_thread<C> *t)
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    float keep[2];
    attn_scores<C>(job, t, tile, keep);
    attn_keep<C>(t, keep);
    bool bad = false, all_see = tile.pos >= item->all_first;
    all_see = all_see && hdl_min_u32(tile.pos + C::keys, item->end) <= item->all_end;
    if (!all_see && !job->is_int8) {
        gpu_sync(); /* latent: scores are done with the keys */
        clean_values<C>(m, tile.v);
        gpu_sync();
        bad = m->bad != 0;
    }
    attn_add_values<C>(tile, t);
    if (bad)
        add_bad<C>(job, item, tile.pos, t);
}

/* The softmax over one segment, from nothing. */
template <class C>
GPU_DEVICE void walk_segment(const attn_job *job, const attn_item *item, uint32_t segment,
                             attn_thread<C> *t)
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    uint32_t pos = hdl_max_u32(segment * HDL_ATTN_SPLIT, item->first / C::keys * C::keys);
    uint32_t end = hdl_min_u32((segment + 1) * HDL_ATTN_SPLIT, item->end);
    t->max = -INFINITY;
    GPU_UNROLL
    for (uint32_t e = 0; e < 4; e++) {
        t->sum[e] = 0;
        GPU_UNROLL
        for (uint32_t n = 0; n < C::nv; n++)
            t->acc[n][e] = 0;
    }
    gpu_sync(); /* whoever used the stages before is done */
    load_tile<C>(job, item, pos, 0);
    for (uint32_t stage = 0; pos < end; pos += C::keys, stage ^= 1) {
        gpu_copy_wait<0>();
        gpu_sync(); /* and the other stage is free */
        if (gpu_thread() == 0)
            m->bad = 0;
        if (pos + C::keys < end)
            load_tile<C>(job, item, pos + C::keys, stage ^ 1);
        add_tile<C>(job, item, tile_in<C>(job, pos, stage), t);
    }
}

/* Maxima of the rows that this thread's fragments hold. */
template <class C> GPU_DEVICE void share_max(const attn_thread<C> *t, float max[2])
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    if (gpu_lane() % C::row_lanes == 0)
        m->max[attn_soft_row<C>()] = t->max;
    gpu_sync();
    max[0] = m->max[attn_frag_row<C>(0)];
    max[1] = m->max[attn_frag_row<C>(1)];
}

GPU_DEVICE gpu_u2 *pair_at(float *p) { return (gpu_u2 *)p; }
GPU_DEVICE gpu_u2 pair_of(float x, float y) { return {hdl_f32_bits(x), hdl_f32_bits(y)}; }

template <class C>
GPU_DEVICE void split_item(const attn_job *job, const attn_item *item, attn_thread<C> *t)
{
    float max[2];
    walk_segment<C>(job, item, item->segment, t);
    share_max<C>(t, max);
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t r = attn_frag_row<C>(half);
        if (r >= item->n_rows)
            continue;
        float *state = item->states + (size_t)r * job->stride;
        GPU_UNROLL
        for (uint32_t n = 0; n < C::nv; n++)
            *pair_at(state + attn_dim<C>(n)) =
                pair_of(t->acc[n][half * 2], t->acc[n][half * 2 + 1]);
        if (attn_wn<C>() == 0 && gpu_lane() % 4 == 0)
            *pair_at(state + C::dv) = pair_of(t->sum[half * 2], max[half]);
    }
}

/* What a whole item has summed: of the rows of this thread's fragments. */
struct running_rows {
    float max[2], sum[2];
    bool any[2];
};

/* Merges the segment into what was before; values wait in global memory, each where the one thread
 * that uses it finds it. After the last segment they are in t. */
template <class C>
GPU_DEVICE void merge_segment(const attn_job *job, const attn_item *item, uint32_t segment,
                              attn_thread<C> *t, running_rows *run)
{
    float *values = job->running + (size_t)gpu_block_x() * C::rows * job->stride, max[2];
    bool last = segment + 1 == item->segment_end;
    share_max<C>(t, max);
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t r = attn_frag_row<C>(half);
        bool sees = attn_sees(attn_row_span(job, item, r), segment);
        bool merges = run->any[half] && sees, keeps = run->any[half] && !sees;
        attn_factors f = {0, 1, max[half]};
        if (merges)
            f = attn_merge(run->max[half], max[half]);
        float *mine = values + (size_t)r * job->stride;
        GPU_UNROLL
        for (uint32_t i = 0; i < 2 * C::nv; i++) {
            float *acc = &t->acc[i / 2][half * 2 + i % 2];
            float *at = mine + attn_dim<C>(i / 2) + i % 2;
            if (merges)
                *acc = fmaf(*acc, f.add, *at * f.keep);
            else if (keeps)
                *acc = *at;
            if (!last)
                *at = *acc;
        }
        if (keeps)
            continue;
        float sum = t->sum[half * 2];
        run->sum[half] = merges ? fmaf(sum, f.add, run->sum[half] * f.keep) : sum;
        run->max[half] = f.max;
        run->any[half] = run->any[half] || sees;
    }
}

template <class C>
GPU_DEVICE void whole_item(const attn_job *job, const attn_item *item, attn_thread<C> *t)
{
    running_rows run = {};
    for (uint32_t segment = item->segment; segment < item->segment_end; segment++) {
        walk_segment<C>(job, item, segment, t);
        merge_segment<C>(job, item, segment, t, &run);
    }
    GPU_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t r = attn_frag_row<C>(half);
        if (r >= item->n_rows)
            continue;
        attn_end end =
            attn_finish(job, item->head + r % item->n_heads, run.max[half], run.sum[half]);
        float *out = job->a.out + attn_query(job, item, r) * job->value_dim;
        GPU_UNROLL
        for (uint32_t i = 0; i < 2 * C::nv; i++) {
            uint32_t dim = attn_dim<C>(i / 2) + i % 2;
            if (dim < job->value_dim)
                out[dim] = attn_value(t->acc[i / 2][half * 2 + i % 2], end);
        }
    }
}

template <class C, int tiling> GPU_KERNEL(C::threads) attn_walk(attn_job job)
{
    attn_shared<C> *m = gpu_shared<attn_shared<C>>();
    uint32_t n_items = job.first_item[tiling * (job.a.n_rows + 1) + job.a.n_rows];
    for (;;) {
        attn_thread<C> t;
        const attn_item *item = &m->item;
        gpu_sync(); /* the item before is done */
        if (gpu_thread() == 0) {
            m->idx = gpu_atomic_add(&job.ticket[tiling], 1);
            if (m->idx < n_items)
                m->item = item_at(&job, tiling, m->idx);
        }
        gpu_sync();
        if (m->idx >= n_items)
            return;
        if (item->segment >= item->segment_end)
            continue; /* a segment that others of the row see */
        t.seen = attn_row_span(&job, item, attn_soft_row<C>());
        attn_load_q<C>(&job, item, &t);
        if (item->states)
            split_item<C>(&job, item, &t);
        else
            whole_item<C>(&job, item, &t);
    }
}
