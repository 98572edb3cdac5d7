/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void write_tables(const hdl_batch_build_args *a, const hdl_step_head *head)
{
    const hdl_step_grant *grants = (const void *)(a->step + head->grants_at);
    const uint32_t *blocks = a->step + head->blocks_at;
    for (uint32_t i = 0; i < head->n_grants; i++) {
        const hdl_step_grant *g = &grants[i];
        uint32_t end = i + 1 < head->n_grants ? grants[i + 1].block_at : head->n_blocks;
        HDL_ASSERT(g->cache < a->n_caches && end <= head->n_blocks);
        const hdl_batch_cache *cache = &a->caches[g->cache];
        uint32_t *table = cache->tables + (size_t)g->slot * cache->per_seq + g->table_at;
        HDL_ASSERT_LE(g->table_at + (end - g->block_at), cache->per_seq);
        memcpy(table, blocks + g->block_at, (end - g->block_at) * sizeof *table);
    }
}

static void write_rows(const hdl_batch_build_args *a, const hdl_step_head *head,
                       const hdl_batch_cache *cache)
{
    const hdl_step_row *rows = (const void *)(a->step + head->rows_at);
    for (uint32_t i = 0; i < a->n_rows; i++) {
        const hdl_step_row *r = &rows[i];
        if (i < head->n_rows)
            cache->rows[i] =
                (hdl_attn_row){.token_at = r->token_at,
                               .n_tokens = r->n_tokens,
                               .pos = r->pos,
                               .table = cache->tables + (size_t)r->slot * cache->per_seq};
        else
            cache->rows[i] = (hdl_attn_row){.token_at = head->n_tokens + (i - head->n_rows),
                                            .table = cache->tables};
    }
}

static void write_tasks(const hdl_batch_build_args *a, const hdl_step_head *head)
{
    const hdl_sample_task *tasks = (const void *)(a->step + head->tasks_at);
    for (uint32_t i = 0; i < a->n_tasks; i++) {
        bool live = i < head->n_tasks;
        a->tasks[i] =
            live ? tasks[i] : (hdl_sample_task){.slot = HDL_NONE_U32, .score = -1, .guess = -1};
        a->heads[i] = live ? (hdl_token)a->step[head->heads_at + i] : 0;
    }
}

void hdl_ref_batch_build(const hdl_batch_build_args *a, hdl_stream *stream)
{
    hdl_step_head head;
    (void)stream; /* as small as it is, thread 0 does it */
    memcpy(&head, a->step, sizeof head);
    HDL_ASSERT(head.n_rows <= a->n_rows && head.n_tokens <= a->n_tokens);
    HDL_ASSERT_EQ(a->n_rows - head.n_rows, a->n_tokens - head.n_tokens);
    write_tables(a, &head);
    for (uint32_t i = 0; i < a->n_caches; i++)
        write_rows(a, &head, &a->caches[i]);
    for (uint32_t t = 0; t < a->n_tokens; t++) {
        hdl_token id = t < head.n_tokens ? (hdl_token)a->step[head.ids_at + t] : 0;
        a->ids[t] = id < 0 ? a->last[~id] : id;
    }
    HDL_ASSERT_LE(head.n_tasks, a->n_tasks);
    write_tasks(a, &head);
    *a->n_live = head.n_tokens;
}
