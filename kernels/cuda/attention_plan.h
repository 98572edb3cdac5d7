/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel that cuts a step into items, and what an item is by its number. attn_plan is one block
 * that looks at all rows twice: at how much work there is, and at where each row's items and states
 * begin. Nothing here touches a result's bits. Included by attention.cu alone. */
#pragma once

#include "kernels/cuda/attention.h"

enum { PLAN_THREADS = 256 };

/* Sum of v over the threads before this one; *total: over all. */
GPU_DEVICE uint32_t scan(uint32_t v, uint32_t *part, uint32_t *total)
{
    uint32_t t = gpu_thread();
    part[t] = v;
    gpu_sync();
    for (uint32_t d = 1; d < PLAN_THREADS; d *= 2) {
        uint32_t x = t >= d ? part[t - d] : 0;
        gpu_sync();
        part[t] += x;
        gpu_sync();
    }
    uint32_t before = part[t] - v;
    *total = part[PLAN_THREADS - 1];
    gpu_sync();
    return before;
}

/* Tiles of the step, and segments of all tiles, of each tiling. */
struct step_work {
    uint32_t tiles[ATTN_TILINGS], segments[ATTN_TILINGS];
};

GPU_DEVICE step_work work_of(const attn_job *job, uint32_t *part)
{
    step_work mine = {}, all;
    for (uint32_t r = gpu_thread(); r < job->a.n_rows; r += PLAN_THREADS) {
        const hdl_attn_row *row = &job->a.rows[r];
        uint32_t tiles = attn_tiles_of(job, row), tiling = attn_tiling_of(job, row);
        mine.tiles[tiling] += tiles;
        mine.segments[tiling] += tiles * attn_segments_of(job, row).n;
    }
    for (uint32_t i = 0; i < ATTN_TILINGS; i++) {
        scan(mine.tiles[i], part, &all.tiles[i]);
        scan(mine.segments[i], part, &all.segments[i]);
    }
    return all;
}

/* Is a row worth splitting? Small tiles: where one is long against a block's share of the work;
 * large ones, whose states are large, too: where there are fewer tiles than blocks. */
GPU_DEVICE bool wants_split(const attn_job *job, const step_work *all, const hdl_attn_row *row)
{
    uint32_t n = attn_segments_of(job, row).n, tiling = attn_tiling_of(job, row);
    uint32_t blocks = job->tilings[tiling].n_blocks;
    if (tiling == ATTN_LARGE)
        return n > 1 && all->tiles[tiling] < blocks;
    return n > hdl_max_u32(1, all->segments[tiling] / blocks / 8);
}

/* One block. Rows get their states as long as there are any. */
GPU_KERNEL(PLAN_THREADS) attn_plan(attn_job job)
{
    uint32_t *part = gpu_shared<uint32_t>(), n_rows = job.a.n_rows;
    uint32_t items_before[ATTN_TILINGS] = {0, 0}, states_before = 0, total;
    step_work all = work_of(&job, part);
    for (uint32_t base = 0; base < n_rows; base += PLAN_THREADS) {
        uint32_t r = base + gpu_thread(), tiles = 0, segments = 1, tiling = 0, wanted = 0;
        if (r < n_rows) {
            const hdl_attn_row *row = &job.a.rows[r];
            tiles = attn_tiles_of(&job, row);
            tiling = attn_tiling_of(&job, row);
            segments = attn_segments_of(&job, row).n;
            if (wants_split(&job, &all, row))
                wanted = tiles * segments * job.tilings[tiling].rows;
        }
        uint32_t slot = states_before + scan(wanted, part, &total);
        states_before = hdl_min_u32(states_before + total, job.n_states);
        bool split = wanted > 0 && slot <= job.n_states && wanted <= job.n_states - slot;
        for (uint32_t i = 0; i < ATTN_TILINGS; i++) {
            uint32_t n = tiling == i ? tiles * (split ? segments : 1) : 0;
            uint32_t at = items_before[i] + scan(n, part, &total);
            if (r < n_rows)
                job.first_item[i * (n_rows + 1) + r] = at;
            items_before[i] += total;
        }
        if (r < n_rows)
            job.slot[r] = split ? slot : ATTN_WHOLE;
    }
    if (gpu_thread() < ATTN_TILINGS) {
        uint32_t i = gpu_thread();
        job.first_item[i * (n_rows + 1) + n_rows] = i ? items_before[1] : items_before[0];
        job.ticket[i] = 0;
    }
}

GPU_DEVICE attn_item item_at(const attn_job *job, uint32_t tiling, uint32_t idx)
{
    const uint32_t *first_item = job->first_item + tiling * (job->a.n_rows + 1);
    const attn_tiling *t = &job->tilings[tiling];
    uint32_t lo = 0, hi = job->a.n_rows - 1;
    while (lo < hi) { /* the last row that begins at idx or before */
        uint32_t middle = (lo + hi + 1) / 2;
        if (first_item[middle] <= idx)
            lo = middle;
        else
            hi = middle - 1;
    }
    attn_item item = {};
    item.row = &job->a.rows[lo];
    attn_segments s = attn_segments_of(job, item.row);
    uint32_t at = idx - first_item[lo], slot = job->slot[lo];
    if (slot != ATTN_WHOLE)
        item.states = job->states + (slot + (size_t)at * t->rows) * job->stride;
    uint32_t part = at % t->parts;
    at /= t->parts;
    item.segment = s.first;
    item.segment_end = s.first + s.n;
    if (item.states) {
        item.segment += at % s.n;
        item.segment_end = item.segment + 1;
        at /= s.n;
    }
    item.kv_head = at % job->a.kv.n_kv_heads;
    item.token = at / job->a.kv.n_kv_heads * t->tokens_each;
    item.n_tokens = hdl_min_u32(t->tokens_each, item.row->n_tokens - item.token);
    item.head = item.kv_head * job->group + part * t->heads_each;
    item.n_heads = hdl_min_u32(t->heads_each, job->group - part * t->heads_each);
    item.n_rows = item.n_tokens * item.n_heads;
    attn_span a = attn_span_of(&job->a, item.row->pos + item.token + 1);
    attn_span b = attn_span_of(&job->a, item.row->pos + item.token + item.n_tokens);
    item.first = a.first;
    item.end = b.end;
    item.all_first = b.first;
    item.all_end = a.end;
    item.segment = hdl_max_u32(item.segment, item.first / HDL_ATTN_SPLIT);
    item.segment_end = hdl_min_u32(item.segment_end, (item.end - 1) / HDL_ATTN_SPLIT + 1);
    return item;
}
