/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that no scheduler should send: each is refused by name and touches nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "worker/batch.h"

enum { SEQS = 8, BLOCKS = 20, VOCAB = 50, MAX_LEN = 128, TOKENS = 96 };

static hdl_batch batch;
static rig_plan p;
static const hdl_token ids[100] = {1, 2, 3, 4};

static hdl_err check(void)
{
    hdl_errmsg why = {0};
    hdl_err err = hdl_batch_check(&batch, &p.plan, &why);
    if (err != HDL_OK)
        assert_non_null(strstr(why.text, "bad plan"));
    return err;
}

/* Slot 0 holds 40 tokens in blocks 0 and 1 and has sampled; slot 1 is open, without a row. */
static int setup(void **state)
{
    hdl_errmsg why = {0};
    hdl_batch_opts opts = {.max_seqs = SEQS,
                           .step_tokens = TOKENS,
                           .max_len = MAX_LEN,
                           .block_tokens = HDL_BLOCK_TOKENS,
                           .n_caches = 1,
                           .caches = {{.n_blocks = BLOCKS}},
                           .vocab = VOCAB};
    hdl_sampling greedy = rig_greedy();
    (void)state;
    assert_int_equal(hdl_batch_open(&batch, &opts, &why), HDL_OK);
    rig_plan_init(&p, 1);
    rig_next(&p);
    rig_open(&p, 0, &greedy);
    rig_open(&p, 1, &greedy);
    rig_row(&p, 0, 0, ids, 40, HDL_ROW_SAMPLE);
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    batch.slots[0].last = 7;
    batch.slots[0].has_last = true;
    rig_next(&p);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hdl_batch_close(&batch);
    return 0;
}

/* A good plan of one row for slot 0 and an open of slot 2, to be spoiled. */
static void good(void)
{
    hdl_sampling greedy = rig_greedy();
    rig_open(&p, 2, &greedy);
    rig_row(&p, 0, 40, ids, 30, HDL_ROW_SAMPLE); /* a third block */
    p.blocks[0] = 5;
    assert_int_equal(check(), HDL_OK);
}

static void bad(void) { assert_int_equal(check(), HDL_BUG); }

static void test_good_plan_applies(void **state)
{
    (void)state;
    good();
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.n_rows, 1);
    assert_int_equal(batch.n_tokens, 30);
    assert_int_equal(batch.n_wants, 1);
    assert_int_equal(batch.wants[0].token_idx, 29);
    assert_int_equal(batch.wants[0].pos, 70);
    assert_int_equal(batch.groups[0].rows[0].table[0], 0);
    assert_int_equal(batch.groups[0].rows[0].table[1], 1);
    assert_int_equal(batch.groups[0].rows[0].table[2], 5);
    assert_true(batch.slots[2].open);
}

static void test_refusal_touches_nothing(void **state)
{
    hdl_slot slots[SEQS];
    (void)state;
    good();
    memcpy(slots, batch.slots, sizeof(slots));
    p.rows[0].n_tokens = 1000;
    bad();
    assert_memory_equal(slots, batch.slots, sizeof(slots));
}

static void test_bad_rows(void **state)
{
    (void)state;
    good();
    hdl_plan_row row = p.rows[0];
#define SPOIL(field, value)                                                                        \
    do {                                                                                           \
        p.rows[0] = row;                                                                           \
        p.rows[0].field = (value);                                                                 \
        bad();                                                                                     \
    } while (0)
    SPOIL(slot, SEQS);
    SPOIL(slot, UINT32_MAX);
    SPOIL(slot, 3); /* not open */
    SPOIL(n_tokens, 0);
    SPOIL(n_tokens, HDL_ROW_TOKENS_MAX);
    SPOIL(n_tokens, 31); /* more than the plan has */
    SPOIL(token_at, 1);
    SPOIL(token_at, UINT32_MAX);
    SPOIL(pos, 41); /* a gap */
    SPOIL(pos, MAX_LEN);
    SPOIL(pos, UINT32_MAX);
    SPOIL(flags, 1u << 7);
    SPOIL(flags, HDL_ROW_LOGITS); /* no file for it */
    p.rows[0] = row;
    p.tokens[3] = VOCAB;
    bad();
    p.tokens[3] = -1;
    bad();
    p.tokens[3] = 0;
    assert_int_equal(check(), HDL_OK);
#undef SPOIL
}

static void test_bad_grants(void **state)
{
    (void)state;
    good();
    hdl_plan_grant grant = p.grants[0];
#define SPOIL(field, value)                                                                        \
    do {                                                                                           \
        p.grants[0] = grant;                                                                       \
        p.grants[0].field = (value);                                                               \
        bad();                                                                                     \
    } while (0)
    SPOIL(slot, SEQS);
    SPOIL(slot, UINT32_MAX);
    SPOIL(slot, 3);  /* not open */
    SPOIL(slot, 1);  /* slot 0 misses its third block */
    SPOIL(cache, 1); /* there is one group */
    SPOIL(cache, UINT32_MAX);
    SPOIL(table_at, 3); /* a hole in the table */
    SPOIL(table_at, UINT32_MAX);
    SPOIL(block_at, 1);
    SPOIL(block_at, UINT32_MAX);
    SPOIL(n_blocks, 0);
    SPOIL(n_blocks, UINT32_MAX);
    p.grants[0] = grant;
    p.blocks[0] = BLOCKS;
    bad();
    p.blocks[0] = 5;
    assert_int_equal(check(), HDL_OK);
    p.grants[p.plan.n_grants++] = grant; /* a second one for the same table */
    bad();
    p.plan.n_grants = 0; /* the third block is missing */
    bad();
#undef SPOIL
}

static void test_two_rows_of_a_slot_or_a_block(void **state)
{
    hdl_sampling greedy = rig_greedy();
    (void)state;
    good();
    rig_row(&p, 0, 70, ids, 1, 0);
    bad();
    p.rows[1].slot = 1;
    p.rows[1].pos = 0;
    p.grants[p.plan.n_grants++] =
        (hdl_plan_grant){.slot = 1, .block_at = p.plan.n_blocks, .n_blocks = 1};
    p.blocks[p.plan.n_blocks++] = 5; /* which row 0 writes */
    bad();
    p.blocks[p.plan.n_blocks - 1] = 6;
    assert_int_equal(check(), HDL_OK);
    (void)greedy;
}

static void test_too_many_tokens(void **state)
{
    (void)state;
    rig_row(&p, 0, 40, ids, 60, 0);
    assert_int_equal(check(), HDL_OK);
    rig_row(&p, 1, 0, ids, 37, 0);
    bad();
    p.rows[1].n_tokens = 36;
    assert_int_equal(check(), HDL_OK);
}

static void test_feedback_needs_a_sample(void **state)
{
    (void)state;
    rig_row(&p, 0, 40, NULL, 1, 0);
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.ids[0], 7);
    assert_int_equal(hdl_batch_tokens(&batch).n_keys, 41); /* of this step alone */
    assert_int_equal(hdl_batch_tokens(&batch).row_least, 1);
    rig_next(&p);
    rig_row(&p, 1, 0, NULL, 1, 0);
    bad();
}

static void test_score_rows(void **state)
{
    static const hdl_token three[] = {4, 5, 6, 9};
    static const hdl_token end[] = {4, 5, 6, -1};
    (void)state;
    rig_row(&p, 0, 40, three, 3, HDL_ROW_SCORE);
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.n_wants, 3);
    assert_int_equal(batch.wants[2].next, 9);
    p.rows[0].flags |= HDL_ROW_SAMPLE; /* the next token cannot be known and sampled both */
    bad();
    rig_next(&p);
    rig_row(&p, 0, 43, end, 3, HDL_ROW_SCORE | HDL_ROW_SAMPLE);
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.n_wants, 3);
    assert_int_equal(batch.wants[1].flags, HDL_ROW_SCORE);
    assert_int_equal(batch.wants[2].flags, HDL_ROW_SAMPLE);
    p.plan.n_tokens--; /* the entry after the last token is missing */
    bad();
}

static void test_rows_with_guesses(void **state)
{
    static const hdl_token four[] = {4, 5, 6, 9};
    (void)state;
    rig_row(&p, 0, 40, four, 4, HDL_ROW_SAMPLE | HDL_ROW_GUESS);
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.n_wants, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const hdl_want *want = &batch.wants[i];
        assert_int_equal(want->flags, HDL_ROW_SAMPLE | (i > 0 ? HDL_ROW_GUESS : 0u));
        assert_int_equal(want->pos, 41 + i);
        assert_int_equal(want->next, i < 3 ? four[i + 1] : -1);
    }
    batch.slots[0].next_pos = 42; /* the second guess was wrong: what follows comes again */
    rig_next(&p);
    rig_row(&p, 0, 42, four, 4, HDL_ROW_SAMPLE | HDL_ROW_GUESS);
    assert_int_equal(check(), HDL_OK);
    p.rows[0].pos = 43; /* computed with a wrong guess before it */
    bad();
    p.rows[0].pos = 42;
    p.rows[0].flags = HDL_ROW_GUESS; /* for nothing */
    bad();
    p.rows[0].flags = HDL_ROW_SAMPLE | HDL_ROW_GUESS | HDL_ROW_SCORE;
    bad();
    p.rows[0].flags = HDL_ROW_SAMPLE | HDL_ROW_GUESS;
    p.rows[0].n_tokens = 1;
    bad();
    rig_next(&p);
    rig_row(&p, 0, 42, ids, 2 + HDL_GUESSES_MAX, HDL_ROW_SAMPLE | HDL_ROW_GUESS);
    bad();
}

static void test_opens_and_closes(void **state)
{
    hdl_sampling greedy = rig_greedy();
    (void)state;
    rig_open(&p, 0, &greedy); /* still open */
    bad();
    rig_close(&p, 0);
    assert_int_equal(check(), HDL_OK);
    rig_close(&p, 0); /* twice */
    bad();
    p.closes[1] = 5; /* not open */
    bad();
    p.closes[1] = SEQS;
    bad();
    p.plan.n_closes = 1;
    rig_open(&p, 0, &greedy); /* twice */
    bad();
    p.opens[1].slot = SEQS;
    bad();
    p.plan.n_opens = 1;
    rig_row(&p, 0, 0, ids, 3, 0);
    assert_int_equal(check(), HDL_OK);
    p.rows[0].flags |= HDL_ROW_FEEDBACK; /* the new tenant has sampled nothing */
    bad();
    p.rows[0].flags = 0;
    p.opens[0].history_at = 1;
    p.opens[0].n_history = 3;
    bad();
    p.opens[0].history_at = 0;
    assert_int_equal(check(), HDL_OK);
    p.opens[0].n_history = UINT32_MAX;
    bad();
    p.plan.n_opens = 0; /* closed and not opened again */
    bad();
}

static void test_copies(void **state)
{
    (void)state;
    p.copies[0] = (hdl_plan_copy){.src = 1, .dst = 9};
    p.plan.n_copies = 1;
    rig_row(&p, 0, 40, ids, 1, 0);
    p.grants[0] = (hdl_plan_grant){.table_at = 1, .n_blocks = 1}; /* in the place of block 1 */
    p.plan.n_grants = 1;
    p.blocks[0] = 9;
    p.plan.n_blocks = 1;
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.groups[0].rows[0].table[1], 9);
    assert_int_equal(batch.groups[0].n_copies, 1);
    assert_int_equal(batch.groups[0].dst[0], 9);
    static const hdl_plan_copy spoilt[][2] = {
        {{0, BLOCKS, 1}, {0, 2, 3}}, {{0, 1, BLOCKS}, {0, 2, 3}}, {{0, 1, 9}, {0, 2, 9}},
        {{0, 1, 9}, {0, 9, 3}},      {{0, 4, 4}, {0, 2, 3}},      {{1, 1, 9}, {0, 2, 3}},
    };
    p.plan.n_copies = 2;
    for (size_t i = 0; i < HDL_ARRAY_LEN(spoilt); i++) {
        memcpy(p.copies, spoilt[i], sizeof(spoilt[i]));
        bad();
    }
    p.plan.n_copies = BLOCKS + 1;
    bad();
}

/* ---- several cache groups ----------------------------------------------------------------- */

/* All positions, a window of 40, and states. */
static const hdl_cache_capacity three[] = {
    {.n_blocks = BLOCKS},
    {.rule = {.window = 40}, .n_blocks = BLOCKS},
    {.rule = {.kind = HDL_CACHE_STATE}, .n_blocks = 2 * SEQS},
};

static int setup_three(void **state)
{
    hdl_errmsg why = {0};
    hdl_batch_opts opts = {.max_seqs = SEQS,
                           .step_tokens = TOKENS,
                           .max_len = MAX_LEN,
                           .block_tokens = HDL_BLOCK_TOKENS,
                           .n_caches = 3,
                           .vocab = VOCAB};
    (void)state;
    memcpy(opts.caches, three, sizeof(three));
    assert_int_equal(hdl_batch_open(&batch, &opts, &why), HDL_OK);
    rig_plan_init(&p, 1);
    p.n_caches = 3;
    memcpy(p.caches, three, sizeof(three));
    rig_next(&p);
    return 0;
}

static void test_each_group_has_its_table(void **state)
{
    hdl_sampling greedy = rig_greedy();
    (void)state;
    rig_open(&p, 0, &greedy);
    rig_row(&p, 0, 0, ids, 40, 0);
    p.blocks[p.plan.n_blocks++] = 7; /* other blocks for the window */
    p.blocks[p.plan.n_blocks++] = 8;
    p.grants[1].block_at = p.plan.n_blocks - 2;
    p.copies[0] = (hdl_plan_copy){.cache = 2, .src = 0, .dst = 9}; /* of the zero state: harmless */
    p.plan.n_copies = 1;
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    assert_int_equal(batch.groups[0].rows[0].table[1], 1);
    assert_int_equal(batch.groups[1].rows[0].table[0], 7);
    assert_int_equal(batch.groups[1].rows[0].table[1], 8);
    assert_int_equal(batch.groups[2].rows[0].table[0], 0);
    assert_int_equal(batch.groups[2].n_copies, 1);
    assert_int_equal(batch.groups[0].n_copies, 0);
    hdl_tokens tokens = hdl_batch_tokens(&batch);
    for (uint32_t g = 0; g < 3; g++)
        assert_int_equal(tokens.rows[g][0].n_tokens, 40);
}

/* A sequence that starts at position 96 by a prefix hit: of the window it has block 1 on. */
static void test_a_window_may_start_late(void **state)
{
    hdl_sampling greedy = rig_greedy();
    (void)state;
    rig_open(&p, 0, &greedy);
    rig_row(&p, 0, 96, ids, 10, 0);
    hdl_plan_grant *window = &p.grants[1];
    p.copies[0] = (hdl_plan_copy){.cache = 2, .src = 12, .dst = 0}; /* its state at 96 */
    p.plan.n_copies = 1;
    assert_int_equal(window->cache, 1);
    window->table_at = 1;
    window->block_at = 1;
    window->n_blocks = 3;
    assert_int_equal(check(), HDL_OK); /* sees 57, in block 1 */
    window->table_at = 2;
    window->n_blocks = 2;
    bad(); /* block 1 is missing */
    window->table_at = 1;
    window->n_blocks = 3;
    p.grants[0].table_at = 1; /* where all positions are seen, none may be missing */
    p.grants[0].n_blocks = 3;
    bad();
}

static void test_a_state_stands_at_one_position(void **state)
{
    hdl_sampling greedy = rig_greedy();
    (void)state;
    rig_open(&p, 0, &greedy);
    rig_row(&p, 0, 32, ids, 10, 0);
    bad(); /* whose state at 32? */
    p.copies[0] = (hdl_plan_copy){.cache = 2, .src = 12, .dst = 0};
    p.plan.n_copies = 1;
    assert_int_equal(check(), HDL_OK);
    hdl_batch_apply(&batch, &p.plan);
    rig_next(&p);
    rig_row(&p, 0, 41, ids, 1, 0); /* position 41 is in the state already */
    bad();
    p.rows[0].pos = 42;
    assert_int_equal(check(), HDL_OK);
    rig_open(&p, 1, &greedy);
    rig_row(&p, 1, 0, ids, 1, 0);
    assert_int_equal(check(), HDL_OK);
    p.blocks[p.plan.n_blocks - 1] = 0; /* the state of slot 0 */
    bad();
    p.blocks[p.plan.n_blocks - 1] = 2 * SEQS;
    bad();
}

static void test_huge_counts(void **state)
{
    (void)state;
    p.plan.n_rows = UINT32_MAX;
    bad();
    p.plan.n_rows = 0;
    p.plan.n_opens = SEQS + 1;
    bad();
    p.plan.n_opens = 0;
    p.plan.n_closes = UINT32_MAX;
    bad();
}

int main(void)
{
#define TEST(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST3(name) cmocka_unit_test_setup_teardown(name, setup_three, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_good_plan_applies),
        TEST(test_refusal_touches_nothing),
        TEST(test_bad_rows),
        TEST(test_bad_grants),
        TEST(test_two_rows_of_a_slot_or_a_block),
        TEST(test_too_many_tokens),
        TEST(test_feedback_needs_a_sample),
        TEST(test_score_rows),
        TEST(test_rows_with_guesses),
        TEST(test_opens_and_closes),
        TEST(test_copies),
        TEST(test_huge_counts),
        TEST3(test_each_group_has_its_table),
        TEST3(test_a_window_may_start_late),
        TEST3(test_a_state_stands_at_one_position),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
