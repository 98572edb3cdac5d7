/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "kernel_test.h"

enum { SLOTS = 40, PER_SEQ = 9, CACHES = 3, WORDS = 4096 };

/* What a level fills; every case begins with the same garbage in it. */
typedef struct arrays {
    uint32_t *tables[CACHES];
    hdl_attn_row *rows[CACHES];
    hdl_token *ids, *heads;
    hdl_sample_task *tasks;
    uint32_t *n_live;
} arrays;

static arrays make_arrays(kt *t, uint32_t n_rows, uint32_t n_tokens)
{
    arrays a = {.ids = KT_NEW(t, hdl_token, n_tokens),
                .heads = KT_NEW(t, hdl_token, n_rows),
                .tasks = KT_NEW(t, hdl_sample_task, n_rows),
                .n_live = KT_NEW(t, uint32_t, 1)};
    for (uint32_t c = 0; c < CACHES; c++) {
        a.tables[c] = KT_NEW(t, uint32_t, SLOTS * PER_SEQ);
        a.rows[c] = KT_NEW(t, hdl_attn_row, n_rows);
        for (uint32_t i = 0; i < SLOTS * PER_SEQ; i++)
            a.tables[c][i] = 1000 * c + i;
    }
    return a;
}

static hdl_batch_build_args args_of(const arrays *a, const uint32_t *step, const hdl_token *last)
{
    hdl_batch_build_args args = {.step = step,
                                 .last = last,
                                 .n_caches = CACHES,
                                 .ids = a->ids,
                                 .heads = a->heads,
                                 .tasks = a->tasks,
                                 .n_live = a->n_live};
    for (uint32_t c = 0; c < CACHES; c++)
        args.caches[c] =
            (hdl_batch_cache){.tables = a->tables[c], .per_seq = PER_SEQ - c, .rows = a->rows[c]};
    return args;
}

/* Rows of up to `most` tokens for every other slot, some fed back; grants for some of them. */
static void make_step(kt *t, uint32_t n_rows, uint32_t most, uint32_t *words)
{
    hdl_step_head head = {.n_rows = n_rows, .rows_at = sizeof head / 4};
    hdl_step_row *rows = (hdl_step_row *)(void *)(words + head.rows_at);
    head.grants_at = head.rows_at + n_rows * (uint32_t)sizeof *rows / 4;
    hdl_step_grant *grants = (hdl_step_grant *)(void *)(words + head.grants_at);
    for (uint32_t i = 0; i < n_rows; i++) {
        rows[i] = (hdl_step_row){.slot = i * 2 % SLOTS + (i * 2 >= SLOTS),
                                 .pos = kt_range(t, 0, 200),
                                 .token_at = head.n_tokens,
                                 .n_tokens = kt_range(t, 1, most)};
        head.n_tokens += rows[i].n_tokens;
        for (uint32_t c = 0; c < CACHES; c++) {
            uint32_t at = kt_range(t, 0, PER_SEQ - c - 1), n = PER_SEQ - c - at;
            if (kt_chance(t, 60))
                continue;
            grants[head.n_grants++] = (hdl_step_grant){
                .slot = rows[i].slot, .cache = c, .table_at = at, .block_at = head.n_blocks};
            head.n_blocks += kt_range(t, 1, n);
        }
    }
    head.ids_at = head.grants_at + head.n_grants * (uint32_t)sizeof *grants / 4;
    head.blocks_at = head.ids_at + head.n_tokens;
    head.n_tasks = n_rows - n_rows / 3;
    head.tasks_at = head.blocks_at + head.n_blocks;
    head.heads_at = head.tasks_at + head.n_tasks * (uint32_t)sizeof(hdl_sample_task) / 4;
    kt_check(t, head.heads_at + head.n_tasks <= WORDS, "the step fits");
    for (uint32_t i = 0; i < 5 * head.n_tasks; i++)
        words[head.tasks_at + i] = kt_range(t, 0, 1000);
    for (uint32_t i = 0; i < head.n_tokens; i++)
        words[head.ids_at + i] =
            kt_chance(t, 50) ? ~kt_range(t, 0, SLOTS - 1) : kt_range(t, 0, 90000);
    for (uint32_t i = 0; i < head.n_blocks; i++)
        words[head.blocks_at + i] = kt_range(t, 0, 5000);
    memcpy(words, &head, sizeof head);
}

/* Rows hold pointers into the level's own tables. */
static void same_rows(kt *t, const char *what, const arrays *want, const arrays *got, uint32_t n)
{
    bool same = true;
    for (uint32_t c = 0; c < CACHES; c++)
        for (uint32_t i = 0; i < n; i++) {
            const hdl_attn_row *w = &want->rows[c][i], *g = &got->rows[c][i];
            same = same && w->token_at == g->token_at && w->n_tokens == g->n_tokens &&
                   w->pos == g->pos && w->table - want->tables[c] == g->table - got->tables[c];
        }
    kt_check(t, same, what);
}

static void test(kt *t, int c)
{
    static const uint32_t n_rows[] = {1, 5, 40, 7}, most[] = {1, 1, 3, 40},
                          padding[] = {0, 3, 0, 0};
    uint32_t *words = KT_NEW(t, uint32_t, WORDS);
    hdl_token *last = KT_NEW(t, hdl_token, SLOTS);
    for (uint32_t i = 0; i < SLOTS; i++)
        last[i] = (hdl_token)(100000 + i);
    make_step(t, n_rows[c], most[c], words);
    hdl_step_head head;
    memcpy(&head, words, sizeof head);
    uint32_t rows = n_rows[c] + padding[c], tokens = head.n_tokens + padding[c];
    arrays want = make_arrays(t, rows, tokens);
    hdl_batch_build_args args = args_of(&want, words, last);
    args.n_rows = rows;
    args.n_tokens = tokens;
    args.n_tasks = rows;
    t->ref->batch_build(&args, NULL);
    KT_EACH(t, level, stream)
    {
        arrays got = make_arrays(t, rows, tokens);
        args = args_of(&got, words, last);
        args.n_rows = rows;
        args.n_tokens = tokens;
        args.n_tasks = rows;
        t->levels[level]->batch_build(&args, t->streams[stream]);
        same_rows(t, kt_name(t, "rows", level, stream), &want, &got, rows);
        for (uint32_t i = 0; i < CACHES; i++)
            kt_same_bytes(t, kt_name(t, "tables", level, stream), want.tables[i], got.tables[i],
                          SLOTS * PER_SEQ * 4);
        kt_same_bytes(t, kt_name(t, "ids", level, stream), want.ids, got.ids, tokens * 4);
        kt_same_bytes(t, kt_name(t, "tasks", level, stream), want.tasks, got.tasks,
                      rows * sizeof *got.tasks);
        kt_same_bytes(t, kt_name(t, "heads", level, stream), want.heads, got.heads, rows * 4);
        kt_same_bytes(t, kt_name(t, "live", level, stream), want.n_live, got.n_live, 4);
    }
}

const kt_suite kt_batch_build = {"batch_build", 4, test};
