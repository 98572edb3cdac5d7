/* SPDX-License-Identifier: Apache-2.0 */
/* `test_worker_upload FILE [SEED]`: the arrays that a plugin's kernel makes of the words of a step
 * are those that batch.c makes of its plan, bit for bit, over random plans. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "rig.h"
#include "worker/upload.h"

enum { SEQS = 24, MAX_LEN = RIG_BLOCKS_PER_SEQ * HDL_BLOCK_TOKENS, TOKENS = 256, STEPS = 60 };
enum { SEEDS = 12, BLOCKS = SEQS * RIG_BLOCKS_PER_SEQ, VOCAB = 50000 };

static const hdl_plugin *plugin;
static uint64_t first_seed;
static uint32_t n_seeds = SEEDS;

typedef struct world {
    hdl_rng rng;
    hdl_device *device;
    hdl_batch batch;
    hdl_upload upload;
    hdl_token *last; /* of the device */
    rig_plan plan;
    uint32_t turn[SEQS];
    uint32_t n_fed, n_padded, n_granted; /* what was met */
} world;

static uint32_t below(world *w, uint32_t n) { return (uint32_t)hdl_rng_below(&w->rng, n); }

static void open_world(world *w, uint64_t seed)
{
    hdl_errmsg why = {0};
    hdl_plugin_device_opts device = {
        .plugin = plugin, .device = {.scratch_bytes = 65536}, .host = {.n_threads = 1}};
    device.device.order = seed % 3 == 2 ? (uint32_t)seed : (uint32_t)(seed % 3);
    hdl_batch_opts opts = {.max_seqs = SEQS,
                           .step_tokens = TOKENS,
                           .max_len = MAX_LEN,
                           .block_tokens = HDL_BLOCK_TOKENS,
                           .n_caches = 3,
                           .caches = {{.n_blocks = BLOCKS},
                                      {.rule = {.window = 40}, .n_blocks = BLOCKS},
                                      {.rule = {.kind = HDL_CACHE_STATE}, .n_blocks = 2 * SEQS}},
                           .vocab = VOCAB};
    if (seed % 2) /* without states, for guesses */
        opts.n_caches = 2;
    *w = (world){0};
    hdl_rng_init(&w->rng, seed);
    if (hdl_device_open_plugin(&w->device, &device, &why) != HDL_OK)
        fail_msg("%s", why.text);
    assert_int_equal(hdl_batch_open(&w->batch, &opts, &why), HDL_OK);
    assert_int_equal(hdl_upload_open(&w->upload, w->device, &w->batch, &why), HDL_OK);
    w->upload.last = w->last = hdl_device_alloc(w->device, SEQS * sizeof *w->last);
    assert_non_null(w->last);
    rig_plan_init(&w->plan, 1);
    w->plan.n_caches = opts.n_caches;
    memcpy(w->plan.caches, opts.caches, sizeof opts.caches);
}

static void close_world(world *w)
{
    hdl_upload_close(&w->upload);
    hdl_device_free(w->device, w->last, SEQS * sizeof *w->last);
    hdl_batch_close(&w->batch);
    hdl_device_close(w->device);
}

/* ---- plans -------------------------------------------------------------------------------- */

/* One row of an open slot, with all that its state allows. */
static void add_row(world *w, uint32_t slot, uint32_t most)
{
    const hdl_slot *s = &w->batch.slots[slot];
    hdl_token ids[TOKENS];
    uint32_t n = 1 + below(w, most), flags = HDL_ROW_SAMPLE;
    if (s->next_pos + n > MAX_LEN || w->plan.plan.n_tokens + n > TOKENS)
        return;
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (hdl_token)below(w, VOCAB);
    if (s->has_last && below(w, 4) != 0) {
        ids[0] = -1;
        flags |= HDL_ROW_FEEDBACK;
        w->n_fed++;
    }
    if (n > 1 && n <= HDL_GUESSES_MAX && w->plan.n_caches == 2 && below(w, 2))
        flags |= HDL_ROW_GUESS;
    rig_row(&w->plan, slot, s->next_pos, ids, n, flags);
}

/* A slot's tenants get its blocks each in another order; so what the one before left shows. */
static void turn_blocks(world *w)
{
    for (uint32_t i = 0; i < w->plan.plan.n_opens; i++)
        w->turn[w->plan.opens[i].slot] = below(w, RIG_BLOCKS_PER_SEQ);
    for (uint32_t i = 0; i < w->plan.plan.n_grants; i++) {
        const hdl_plan_grant *g = &w->plan.grants[i];
        uint32_t turn = w->turn[g->slot];
        for (uint32_t k = g->block_at; k < g->block_at + g->n_blocks; k++) {
            uint32_t *block = &w->plan.blocks[k];
            if (g->cache == 2)
                *block += turn % 2 * SEQS;
            else
                *block = g->slot * RIG_BLOCKS_PER_SEQ + (*block + turn) % RIG_BLOCKS_PER_SEQ;
        }
    }
}

static void make_plan(world *w, uint32_t most)
{
    hdl_errmsg why = {0};
    hdl_sampling greedy = rig_greedy();
    rig_next(&w->plan);
    for (uint32_t slot = 0; slot < SEQS; slot++) {
        bool open = w->batch.slots[slot].open, full = w->batch.slots[slot].next_pos > MAX_LEN - 40;
        if (open && (full || below(w, 20) == 0)) {
            rig_close(&w->plan, slot);
            continue; /* a new tenant comes in a later step */
        }
        if (!open && below(w, 3) == 0) {
            rig_open(&w->plan, slot, &greedy);
            uint32_t n = 1 + below(w, most);
            hdl_token ids[TOKENS];
            for (uint32_t i = 0; i < n; i++)
                ids[i] = (hdl_token)below(w, VOCAB);
            if (w->plan.plan.n_tokens + n <= TOKENS)
                rig_row(&w->plan, slot, 0, ids, n, HDL_ROW_SAMPLE);
        } else if (open && below(w, 4) != 0) {
            add_row(w, slot, most);
        }
    }
    turn_blocks(w);
    if (hdl_batch_check(&w->batch, &w->plan.plan, &why) != HDL_OK)
        fail_msg("%s", why.text);
    w->n_granted += w->plan.plan.n_blocks;
}

/* What a step samples; some of it is known on the device alone, as far as `last` there goes. */
static void sample(world *w)
{
    hdl_token last[SEQS];
    for (uint32_t slot = 0; slot < SEQS; slot++) {
        hdl_slot *s = &w->batch.slots[slot];
        s->has_last = s->has_last || (s->open && s->started);
        s->last = (hdl_token)below(w, VOCAB);
        s->last_on_device = s->has_last && below(w, 2);
        last[slot] = s->last_on_device ? s->last : -7;
    }
    assert_int_equal(hdl_device_write(w->device, w->last, last, sizeof last), HDL_OK);
}

/* ---- comparisons -------------------------------------------------------------------------- */

static void *fetch(world *w, const void *from, size_t bytes)
{
    void *to = malloc(bytes + 1);
    assert_non_null(to);
    assert_int_equal(hdl_device_read(w->device, to, from, bytes), HDL_OK);
    return to;
}

static void same(world *w, const void *device, const void *host, size_t bytes)
{
    void *got = fetch(w, device, bytes);
    assert_memory_equal(got, host, bytes);
    free(got);
}

static void same_rows(world *w, const hdl_tokens *t, uint32_t cache)
{
    const hdl_batch_group *g = &w->batch.groups[cache];
    const hdl_upload_group *there = &w->upload.groups[cache];
    hdl_attn_row *rows = fetch(w, t->rows[cache], t->n_rows * sizeof *rows);
    for (uint32_t i = 0; i < t->n_rows; i++) {
        const hdl_attn_row padding = {.token_at = i, .table = g->tables};
        const hdl_attn_row *want = i < w->batch.n_rows ? &g->rows[i] : &padding;
        assert_int_equal(rows[i].token_at, want->token_at);
        assert_int_equal(rows[i].n_tokens, want->n_tokens);
        assert_int_equal(rows[i].pos, want->pos);
        assert_int_equal(rows[i].table - there->tables, want->table - g->tables);
    }
    free(rows);
    same(w, there->tables, g->tables, (size_t)SEQS * g->per_seq * sizeof *g->tables);
}

static void same_tasks(world *w, uint32_t n)
{
    const hdl_batch *b = &w->batch;
    hdl_sample_task *tasks = fetch(w, w->upload.tasks, n * sizeof *tasks);
    hdl_token *heads = fetch(w, w->upload.heads, n * sizeof *heads);
    for (uint32_t i = 0; i < n; i++) {
        const hdl_want *want = &b->wants[i];
        if (i >= b->n_wants) {
            assert_int_equal(tasks[i].slot, HDL_NONE_U32);
            assert_int_equal(heads[i], 0);
            continue;
        }
        assert_int_equal(tasks[i].slot, want->slot);
        assert_int_equal(tasks[i].pos, want->pos);
        assert_int_equal(tasks[i].score, -1);
        assert_int_equal(tasks[i].guess, want->flags & HDL_ROW_GUESS ? b->wants[i - 1].next : -1);
        assert_int_equal(heads[i], want->token_idx);
    }
    free(tasks);
    free(heads);
}

/* n_tasks: that were built, those of padding included. */
static void compare(world *w, const hdl_tokens *t, uint32_t n_tasks)
{
    const hdl_batch *b = &w->batch;
    same(w, t->ids, b->ids, b->n_tokens * sizeof *b->ids);
    same(w, w->upload.n_live, &b->n_tokens, sizeof b->n_tokens);
    same_tasks(w, n_tasks);
    for (uint32_t c = 0; c < b->opts.n_caches; c++)
        same_rows(w, t, c);
}

/* `most` tokens of a row at most: 1 for steps that may be padded. */
static void run_step(world *w, uint32_t most)
{
    make_plan(w, most);
    hdl_batch_apply(&w->batch, &w->plan.plan);
    assert_int_equal(hdl_upload_send(&w->upload, &w->plan.plan), HDL_OK);
    hdl_tokens t = hdl_upload_build(&w->upload);
    assert_int_equal(t.n_tokens, w->batch.n_tokens);
    assert_null(t.n_live);
    compare(w, &t, w->batch.n_wants);
    if (w->batch.n_tokens == w->batch.n_rows) {
        t = hdl_upload_build_decode(&w->upload,
                                    w->batch.n_rows + below(w, SEQS + 1 - w->batch.n_rows));
        assert_ptr_equal(t.n_live, w->upload.n_live);
        w->n_padded += t.n_rows > w->batch.n_rows;
        compare(w, &t, t.n_rows);
    }
    sample(w);
}

static void test_arrays_are_the_batch_s(void **state)
{
    (void)state;
    for (uint64_t seed = first_seed; seed < first_seed + n_seeds; seed++) {
        world w;
        print_message("seed %llu\n", (unsigned long long)seed);
        open_world(&w, seed);
        for (uint32_t i = 0; i < STEPS; i++)
            run_step(&w, seed % 3 == 0 ? 1 : 1 + below(&w, 12));
        assert_true(w.n_fed > 0 && w.n_granted > 0 && (w.n_padded > 0 || seed % 3 != 0));
        close_world(&w);
    }
}

/* More blocks than the words hold: the rest goes another way to the same place. */
static void test_more_blocks_than_words(void **state)
{
    (void)state;
    world w;
    open_world(&w, 0);
    w.upload.n_blocks_max = 5;
    for (uint32_t i = 0; i < STEPS / 2; i++)
        run_step(&w, 40);
    assert_true(w.n_granted > 100);
    close_world(&w);
}

int main(int argc, char **argv)
{
    hdl_errmsg why = {0};
    if (argc < 2 || hdl_plugin_load(&plugin, argv[1], &why) != HDL_OK) {
        fprintf(stderr, "usage: test_worker_upload FILE [SEED]; %s\n", why.text);
        return 2;
    }
    if (argc > 2) {
        first_seed = strtoull(argv[2], NULL, 10);
        n_seeds = 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays_are_the_batch_s),
        cmocka_unit_test(test_more_blocks_than_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
