/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/upload.h"

#include <string.h>

#include "base/assert.h"
#include "worker/carve.h"

enum {
    WORD = sizeof(uint32_t),
    HEAD_WORDS = sizeof(hdl_step_head) / WORD,
    ROW_WORDS = sizeof(hdl_step_row) / WORD,
    GRANT_WORDS = sizeof(hdl_step_grant) / WORD,
    TASK_WORDS = sizeof(hdl_sample_task) / WORD,
    BLOCKS_EXTRA = 8192, /* beside some for every sequence: of long prompts */
};

static void place(hdl_upload *u, hdl_carve *c)
{
    const hdl_batch_opts *o = &u->batch->opts;
    u->ids = hdl_carve_take(c, o->step_tokens, sizeof *u->ids);
    u->tasks = hdl_carve_take(c, o->step_tokens, sizeof *u->tasks);
    u->heads = hdl_carve_take(c, o->step_tokens, sizeof *u->heads);
    u->n_live = hdl_carve_take(c, 1, sizeof *u->n_live);
    u->words = hdl_carve_take(c, u->n_words, WORD);
    for (uint32_t i = 0; i < o->n_caches; i++) {
        hdl_upload_group *g = &u->groups[i];
        g->tables =
            hdl_carve_take(c, (size_t)o->max_seqs * u->batch->groups[i].per_seq, sizeof *g->tables);
        g->rows = hdl_carve_take(c, o->max_seqs, sizeof *g->rows);
        g->src = hdl_carve_take(c, o->caches[i].n_blocks, sizeof *g->src);
        g->dst = hdl_carve_take(c, o->caches[i].n_blocks, sizeof *g->dst);
    }
}

static hdl_err no_memory(hdl_upload *u, hdl_errmsg *why)
{
    size_t bytes = u->bytes;
    hdl_upload_close(u);
    return hdl_fail(HDL_NOMEM, why,
                    "no memory for block tables of %zu bytes; the device is full; lower max_seqs",
                    bytes);
}

hdl_err hdl_upload_open(hdl_upload *out, hdl_device *device, const hdl_batch *batch,
                        hdl_errmsg *why)
{
    const hdl_batch_opts *o = &batch->opts;
    *out = (hdl_upload){.batch = batch};
    if (hdl_device_is_host(device))
        return HDL_OK;
    size_t grants = (size_t)o->max_seqs * o->n_caches;
    out->device = device;
    out->n_blocks_max = (uint32_t)(2 * grants + BLOCKS_EXTRA);
    out->n_words = HEAD_WORDS + (size_t)o->max_seqs * ROW_WORDS + grants * GRANT_WORDS +
                   (size_t)o->step_tokens * (2 + TASK_WORDS) + out->n_blocks_max;
    hdl_carve c = {0};
    place(out, &c);
    out->bytes = c.at;
    out->memory = c.overflow ? NULL : hdl_device_alloc(device, c.at);
    if (!out->memory)
        return no_memory(out, why);
    c = (hdl_carve){.base = out->memory};
    place(out, &c);
    for (uint32_t i = 0; i < HDL_UPLOADS; i++) {
        out->staged[i] = hdl_device_alloc_pinned(device, out->n_words * WORD);
        if (!out->staged[i])
            return no_memory(out, why);
    }
    return HDL_OK;
}

void hdl_upload_close(hdl_upload *u)
{
    if (u->memory)
        hdl_device_free(u->device, u->memory, u->bytes);
    for (uint32_t i = 0; i < HDL_UPLOADS && u->staged[i]; i++)
        hdl_device_free_pinned(u->device, u->staged[i], u->n_words * WORD);
    *u = (hdl_upload){0};
}

/* ---- words -------------------------------------------------------------------------------- */

/* Rows as the batch has them, which knows where their tokens lie in the step. */
static void pack_rows(const hdl_upload *u, const hdl_plan *p, uint32_t *words, hdl_step_head *head)
{
    const hdl_attn_row *rows = u->batch->groups[0].rows;
    uint32_t *ids = words + head->ids_at;
    memcpy(ids, u->batch->ids, head->n_tokens * sizeof *ids);
    for (uint32_t i = 0; i < head->n_rows; i++) {
        const hdl_step_row row = {.slot = p->rows[i].slot,
                                  .pos = rows[i].pos,
                                  .token_at = rows[i].token_at,
                                  .n_tokens = rows[i].n_tokens};
        memcpy(words + head->rows_at + i * ROW_WORDS, &row, sizeof row);
        if ((p->rows[i].flags & HDL_ROW_FEEDBACK) && u->batch->slots[row.slot].last_on_device)
            ids[row.token_at] = ~row.slot;
    }
}

/* A grant that the words have no room for, once in a long prompt: straight into the table. */
static hdl_err write_table(const hdl_upload *u, const hdl_plan_grant *g)
{
    const hdl_batch_group *from = &u->batch->groups[g->cache];
    size_t at = (size_t)g->slot * from->per_seq + g->table_at;
    return hdl_device_write(u->device, u->groups[g->cache].tables + at, from->tables + at,
                            g->n_blocks * sizeof *from->tables);
}

static hdl_err pack_grants(const hdl_upload *u, const hdl_plan *p, uint32_t *words,
                           hdl_step_head *head)
{
    for (uint32_t i = 0; i < p->n_grants; i++) {
        const hdl_plan_grant *g = &p->grants[i];
        if (g->n_blocks > u->n_blocks_max - head->n_blocks) {
            HDL_TRY(write_table(u, g));
            continue;
        }
        const hdl_step_grant grant = {.slot = g->slot,
                                      .cache = g->cache,
                                      .table_at = g->table_at,
                                      .block_at = head->n_blocks};
        memcpy(words + head->grants_at + head->n_grants++ * GRANT_WORDS, &grant, sizeof grant);
        memcpy(words + head->blocks_at + head->n_blocks, p->blocks + g->block_at,
               g->n_blocks * sizeof *words);
        head->n_blocks += g->n_blocks;
    }
    return HDL_OK;
}

static hdl_err write_copies(const hdl_upload *u, uint32_t cache)
{
    const hdl_batch_group *from = &u->batch->groups[cache];
    const hdl_upload_group *to = &u->groups[cache];
    size_t bytes = from->n_copies * sizeof *from->src;
    if (bytes == 0)
        return HDL_OK;
    HDL_TRY(hdl_device_write(u->device, to->src, from->src, bytes));
    return hdl_device_write(u->device, to->dst, from->dst, bytes);
}

/* What is wanted of logits, and the token that each of them is of. */
static void pack_tasks(const hdl_upload *u, uint32_t *words, const hdl_step_head *head)
{
    const hdl_want *wants = u->batch->wants;
    for (uint32_t i = 0; i < head->n_tasks; i++) {
        bool wanted = (wants[i].flags & (HDL_ROW_SAMPLE | HDL_ROW_SCORE)) != 0;
        const hdl_sample_task task = {.slot = wanted ? wants[i].slot : HDL_NONE_U32,
                                      .pos = wants[i].pos,
                                      .score = wants[i].flags & HDL_ROW_SCORE ? wants[i].next : -1,
                                      .guess =
                                          wants[i].flags & HDL_ROW_GUESS ? wants[i - 1].next : -1};
        memcpy(words + head->tasks_at + i * TASK_WORDS, &task, sizeof task);
        words[head->heads_at + i] = wants[i].token_idx;
    }
}

static hdl_err pack(const hdl_upload *u, const hdl_plan *p, uint32_t *words, size_t *n)
{
    hdl_step_head head = {.n_rows = u->batch->n_rows,
                          .n_tokens = u->batch->n_tokens,
                          .n_tasks = u->batch->n_wants,
                          .rows_at = HEAD_WORDS};
    head.tasks_at = head.rows_at + head.n_rows * ROW_WORDS;
    head.heads_at = head.tasks_at + head.n_tasks * TASK_WORDS;
    head.ids_at = head.heads_at + head.n_tasks;
    head.grants_at = head.ids_at + head.n_tokens;
    head.blocks_at = head.grants_at + p->n_grants * GRANT_WORDS;
    pack_rows(u, p, words, &head);
    pack_tasks(u, words, &head);
    HDL_TRY(pack_grants(u, p, words, &head));
    memcpy(words, &head, sizeof head);
    *n = head.blocks_at + head.n_blocks;
    HDL_ASSERT_LE(*n, u->n_words);
    return HDL_OK;
}

hdl_err hdl_upload_send(hdl_upload *u, const hdl_plan *p)
{
    size_t n;
    if (!u->device)
        return HDL_OK;
    uint32_t *words = u->staged[u->turn++ % HDL_UPLOADS];
    HDL_TRY(pack(u, p, words, &n));
    for (uint32_t i = 0; i < u->batch->opts.n_caches; i++)
        HDL_TRY(write_copies(u, i));
    return hdl_device_write(u->device, u->words, words, n * WORD);
}

/* ---- arrays ------------------------------------------------------------------------------- */

/* Numbers of what the arrays hold. */
typedef struct extent {
    uint32_t n_tokens, n_rows, n_tasks;
} extent;

static hdl_tokens build(hdl_upload *u, extent e)
{
    const hdl_batch_opts *o = &u->batch->opts;
    hdl_tokens t = {.ids = u->ids, .n_tokens = e.n_tokens, .n_rows = e.n_rows, .n_live = u->n_live};
    hdl_batch_build_args args = {.step = u->words,
                                 .last = u->last,
                                 .n_rows = e.n_rows,
                                 .n_tokens = e.n_tokens,
                                 .n_tasks = e.n_tasks,
                                 .n_caches = o->n_caches,
                                 .ids = u->ids,
                                 .tasks = u->tasks,
                                 .heads = u->heads,
                                 .n_live = u->n_live};
    HDL_ASSERT(e.n_tokens <= o->step_tokens && e.n_rows <= o->max_seqs);
    for (uint32_t i = 0; i < o->n_caches; i++) {
        args.caches[i] = (hdl_batch_cache){.tables = u->groups[i].tables,
                                           .per_seq = u->batch->groups[i].per_seq,
                                           .rows = u->groups[i].rows};
        t.rows[i] = u->groups[i].rows;
    }
    hdl_device_ops(u->device)->batch_build(&args, hdl_device_stream(u->device));
    return t;
}

hdl_tokens hdl_upload_build(hdl_upload *u)
{
    if (!u->device)
        return hdl_batch_tokens(u->batch);
    const hdl_batch *b = u->batch;
    hdl_tokens t = build(u, (extent){b->n_tokens, b->n_rows, b->n_wants});
    t.row_least = b->row_least;
    t.n_keys = b->n_keys;
    t.n_live = NULL; /* all are */
    return t;
}

hdl_tokens hdl_upload_build_decode(hdl_upload *u, uint32_t n_rows)
{
    return build(u, (extent){n_rows, n_rows, n_rows});
}

hdl_upload_copies hdl_upload_copies_of(const hdl_upload *u, uint32_t cache)
{
    const hdl_batch_group *g = &u->batch->groups[cache];
    hdl_upload_copies c = {.src = g->src, .dst = g->dst, .n = g->n_copies};
    if (u->device) {
        c.src = u->groups[cache].src;
        c.dst = u->groups[cache].dst;
    }
    return c;
}
