/* SPDX-License-Identifier: Apache-2.0 */
/* A step's words -> tables, ids, rows and tasks: a thread for each of them and each granted block.
 *
 * The launch knows how large the arrays are, the words say how much of them the step fills; so one
 * recorded launch serves all steps that fit. Roof: the launch. Bits: moves. */
#include "kernels/cuda/cuda.h"

GPU_DEVICE void build_id(const hdl_batch_build_args *a, const hdl_step_head *head, uint32_t t)
{
    hdl_token id = t < head->n_tokens ? (hdl_token)a->step[head->ids_at + t] : 0;
    a->ids[t] = id < 0 ? a->last[~id] : id;
}

GPU_DEVICE void build_row(const hdl_batch_build_args *a, const hdl_step_head *head, uint32_t i)
{
    hdl_step_row r = {0, 0, head->n_tokens + (i - head->n_rows), 0};
    bool live = i < head->n_rows;
    if (live)
        r = ((const hdl_step_row *)(a->step + head->rows_at))[i];
    GPU_UNROLL
    for (uint32_t c = 0; c < HDL_CACHE_GROUPS_MAX; c++) {
        if (c >= a->n_caches)
            continue;
        const hdl_batch_cache *cache = &a->caches[c];
        hdl_attn_row *row = &cache->rows[i];
        row->token_at = r.token_at;
        row->n_tokens = r.n_tokens;
        row->pos = r.pos;
        row->table = cache->tables + (size_t)r.slot * cache->per_seq;
    }
}

GPU_DEVICE void build_task(const hdl_batch_build_args *a, const hdl_step_head *head, uint32_t i)
{
    bool live = i < head->n_tasks;
    hdl_sample_task task = {HDL_NONE_U32, 0, -1, -1};
    if (live)
        task = ((const hdl_sample_task *)(a->step + head->tasks_at))[i];
    a->tasks[i] = task;
    a->heads[i] = live ? (hdl_token)a->step[head->heads_at + i] : 0;
}

/* Block b of the step: into the table of the last grant that begins there or before. */
GPU_DEVICE void build_entry(const hdl_batch_build_args *a, const hdl_step_head *head, uint32_t b)
{
    const hdl_step_grant *grants = (const hdl_step_grant *)(a->step + head->grants_at);
    uint32_t lo = 0, hi = head->n_grants - 1;
    while (lo < hi) {
        uint32_t middle = (lo + hi + 1) / 2;
        if (grants[middle].block_at <= b)
            lo = middle;
        else
            hi = middle - 1;
    }
    const hdl_step_grant *g = &grants[lo];
    GPU_UNROLL
    for (uint32_t c = 0; c < HDL_CACHE_GROUPS_MAX; c++) { /* places that the compiler knows */
        const hdl_batch_cache *cache = &a->caches[c];
        if (c == g->cache)
            cache->tables[(size_t)g->slot * cache->per_seq + g->table_at + (b - g->block_at)] =
                a->step[head->blocks_at + b];
    }
}

GPU_KERNEL(256) batch_build(hdl_batch_build_args a)
{
    hdl_step_head head = *(const hdl_step_head *)a.step;
    uint32_t rows = a.n_tokens, tasks = rows + a.n_rows, blocks = tasks + a.n_tasks;
    for (size_t i = gpu_index(); i < (size_t)blocks + head.n_blocks; i += gpu_indices()) {
        if (i < rows)
            build_id(&a, &head, (uint32_t)i);
        else if (i < tasks)
            build_row(&a, &head, (uint32_t)i - rows);
        else if (i < blocks)
            build_task(&a, &head, (uint32_t)i - tasks);
        else
            build_entry(&a, &head, (uint32_t)i - blocks);
    }
    if (gpu_index() == 0)
        *a.n_live = head.n_tokens;
}

void hdl_cuda_batch_build(const hdl_batch_build_args *a, hdl_stream *stream)
{
    HDL_ASSERT_LE(a->n_caches, HDL_CACHE_GROUPS_MAX);
    GPU_LAUNCH(stream, gpu_grid_for((size_t)a->n_tokens + a->n_rows + a->n_tasks + 1), batch_build,
               *a);
}
