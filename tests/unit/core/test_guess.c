/* SPDX-License-Identifier: Apache-2.0 */
/* What is guessed, when, how much, and what comes of it. */
#include "rig.h"

static rig r;
static hdl_token text[512]; /* what the only right stream says, prompt and all */
static const hdl_plan *flight[2];
static uint32_t n_flight;

static hdl_sched_config config(void)
{
    hdl_sched_config c = rig_config();
    c.block_tokens = 16;
    c.caches[0].n_blocks = 64;
    c.max_len = 256;
    c.guess_tokens = HDL_GUESSES_MAX;
    c.guess_step_tokens = 16;
    return c;
}

static void note_plans(void)
{
    for (uint32_t i = 0; rig_act(&r, HDL_ACT_PLAN, i); i++)
        flight[n_flight++] = rig_plan(&r, i);
}

static void start(const hdl_sched_config *c)
{
    rig_init(&r, c);
    n_flight = 0;
    rig_up(&r, 1);
}

/* A text that repeats itself after `period` tokens. */
static void repeat(uint32_t period)
{
    for (uint32_t i = 0; i < 512; i++)
        text[i] = (hdl_token)(1000 + i % period);
}

static void submit(uint64_t id, uint32_t n_prompt, uint32_t max_new)
{
    rig_submit(
        &r, (hdl_ev_submit){.req = {id}, .max_new = max_new, .prompt = text, .n_prompt = n_prompt});
    note_plans();
}

static uint32_t add_answers(const hdl_plan *p, const hdl_plan_row *row, uint32_t n)
{
    const uint32_t guesses = row->flags & HDL_ROW_GUESS ? row->n_tokens - 1u : 0;
    const uint32_t first = row->pos + row->n_tokens - guesses;
    for (uint32_t i = 0; i <= guesses; i++) {
        r.rows[n++] =
            (hdl_result_row){.slot = row->slot, .pos = first + i, .token = text[first + i]};
        if (i < guesses && p->tokens[row->token_at + 1 + i] != text[first + i])
            break;
    }
    return n;
}

/* The oldest plan gets the answer that a worker which reads `text` would give. */
static const hdl_plan *answer(void)
{
    const hdl_plan *p = flight[0];
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_rows; i++)
        if (p->rows[i].flags & HDL_ROW_SAMPLE)
            n = add_answers(p, &p->rows[i], n);
    flight[0] = flight[1];
    n_flight--;
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RESULT,
                             .result = {.group = p->group,
                                        .epoch = p->epoch,
                                        .step = p->step,
                                        .n_rows = n,
                                        .rows = r.rows}});
    note_plans();
    return n_flight > 0 ? flight[n_flight - 1] : NULL;
}

/* The first row with guesses of a plan, or NULL. */
static const hdl_plan_row *guessing(const hdl_plan *p)
{
    for (uint32_t i = 0; p && i < p->n_rows; i++)
        if (p->rows[i].flags & HDL_ROW_GUESS)
            return &p->rows[i];
    return NULL;
}

/* Answers until something is guessed. */
static const hdl_plan *until_guess(void)
{
    for (uint32_t i = 0; i < 100 && n_flight > 0; i++)
        if (guessing(flight[n_flight - 1]))
            return flight[n_flight - 1];
        else
            answer();
    return NULL;
}

static void test_guesses_are_what_followed_before(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    repeat(20);
    start(&c);
    submit(1, 50, 100);
    const hdl_plan *p = until_guess();
    assert_non_null(p);
    const hdl_plan_row *row = guessing(p);
    assert_int_equal(row->flags & HDL_ROW_SAMPLE, HDL_ROW_SAMPLE);
    for (uint32_t i = 1; i < row->n_tokens; i++)
        assert_int_equal(p->tokens[row->token_at + i], text[row->pos + i]);
    while (n_flight > 1)
        answer();
    const uint32_t pos = row->pos, n = row->n_tokens;
    answer();
    assert_int_equal(rig_token_count(&r), n); /* all of them, in order */
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(rig_token(&r, i)->token, text[pos + 1 + i]);
        assert_int_equal(rig_token(&r, i)->index, pos + 1 + i - 50);
    }
    assert_int_equal(guessing(flight[0])->pos, pos + n);
    assert_int_equal(rig_stats(&r).guesses_held, n - 1);
    rig_free(&r);
}

static void test_a_text_that_repeats_takes_few_steps(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    repeat(20);
    start(&c);
    submit(1, 50, 160);
    uint32_t steps = 0;
    bool done = false;
    for (; n_flight > 0 && steps < 200; steps++) {
        answer();
        done = done || rig_act(&r, HDL_ACT_DONE, 0);
    }
    assert_true(done);
    assert_in_range(steps, 11, 20); /* 160 tokens; rows of 16 at most */
    assert_int_equal(rig_stats(&r).emitted_tokens, 160);
    assert_int_equal(rig_stats(&r).guesses, rig_stats(&r).guesses_held);
    rig_free(&r);
}

/* A block that is filed in two parts, with guesses over the middle of it. */
static void test_large_blocks_and_a_preempted_log(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    c.block_tokens = 64;
    repeat(20);
    start(&c);
    submit(1, 50, 160);
    for (uint32_t i = 0; i < 8; i++)
        answer();
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_LOST, .rank = {.epoch = 1}});
    n_flight = 0;
    rig_up(&r, 2);
    note_plans();
    uint32_t known = 0; /* the log is what was said */
    for (uint32_t i = 0; n_flight > 0; i++) {
        const hdl_plan *p = flight[0];
        const hdl_plan_row *row = &p->rows[0];
        if (i < 4 && !(row->flags & HDL_ROW_GUESS) && !(row->flags & HDL_ROW_FEEDBACK))
            for (uint32_t k = 0; k < row->n_tokens; k++, known++)
                assert_int_equal(p->tokens[row->token_at + k], text[row->pos + k]);
        answer();
    }
    assert_true(known > 60);
    assert_int_equal(rig_stats(&r).emitted_tokens, 160);
    rig_free(&r);
}

static void test_wrong_guesses_become_few(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    /* Three tokens that come again and again, each time with something else behind them. */
    for (uint32_t i = 0; i < 512; i++)
        text[i] = i % 7 < 3 ? (hdl_token)(i % 7) : (hdl_token)(1000 + i);
    start(&c);
    submit(1, 65, 150);
    while (n_flight > 0)
        answer();
    const hdl_sched_stats st = rig_stats(&r);
    assert_int_equal(st.emitted_tokens, 150);
    assert_int_equal(st.guesses_held, 0);
    assert_in_range(st.guesses, 3, 12); /* at 21 places that look like others: rests grow */
    rig_free(&r);
}

static void test_no_plan_beside_one_that_guesses(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    repeat(20);
    start(&c);
    submit(1, 50, 100);
    assert_non_null(until_guess());
    while (n_flight > 1) {
        answer(); /* of the plan before: the one with guesses stays alone */
        assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 0);
    }
    submit(2, 10, 5); /* it waits for the answer */
    assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 0);
    answer();
    assert_true(rig_count(&r, HDL_ACT_PLAN) > 0);
    rig_free(&r);
}

static void test_guesses_keep_to_their_block_and_end(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    repeat(20);
    start(&c);
    submit(1, 50, 37);
    uint32_t seen = 0;
    while (n_flight > 0) {
        const hdl_plan_row *row = guessing(flight[0]);
        if (row) {
            const uint32_t last = row->pos + row->n_tokens - 1u;
            assert_int_equal(row->pos / c.block_tokens, last / c.block_tokens);
            assert_true(last + 1 <= 50 + 37 - 1);
            seen++;
        }
        answer();
    }
    assert_true(seen > 2);
    assert_int_equal(rig_stats(&r).emitted_tokens, 37);
    rig_free(&r);
}

static void test_a_stop_id_is_not_guessed(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    repeat(20);
    start(&c);
    hdl_ev_submit s = {.req = {1}, .max_new = 100, .prompt = text, .n_prompt = 45};
    s.n_stop_ids = 3;
    s.stop_ids[0] = 7;
    s.stop_ids[1] = 8;
    s.stop_ids[2] = 1019; /* token 59 of the text */
    rig_submit(&r, s);
    note_plans();
    const hdl_action *done = NULL;
    while (n_flight > 0) {
        const hdl_plan *p = flight[0];
        const hdl_plan_row *row = guessing(p);
        for (uint32_t i = 1; row && i < row->n_tokens; i++)
            assert_int_not_equal(p->tokens[row->token_at + i], 1019);
        answer();
        done = rig_act(&r, HDL_ACT_DONE, 0) ? rig_act(&r, HDL_ACT_DONE, 0) : done;
    }
    assert_non_null(done);
    assert_int_equal(done->done.reason, HDL_FINISH_STOP);
    assert_int_equal(done->done.n_new, 15);
    assert_true(rig_stats(&r).guesses_held > 0);
    rig_free(&r);
}

/* Tokens of all rows, and whether any guesses, over a run of n sequences. */
static uint64_t run_many(const hdl_sched_config *c, uint32_t n)
{
    rig_init(&r, c);
    n_flight = 0;
    repeat(20);
    for (uint32_t i = 0; i < n; i++)
        submit(1 + i, 41, 40);
    rig_up(&r, 1);
    note_plans();
    for (uint32_t i = 0; n_flight > 0; i++) {
        uint32_t tokens = 0;
        for (uint32_t k = 0; k < flight[0]->n_rows; k++)
            tokens += flight[0]->rows[k].n_tokens;
        assert_true(tokens <= c->step_tokens);
        assert_true(!guessing(flight[0]) || tokens <= c->guess_step_tokens ||
                    flight[0]->rows[flight[0]->n_rows - 1].pos < 41);
        answer();
    }
    const hdl_sched_stats st = rig_stats(&r);
    assert_int_equal(st.emitted_tokens, (uint64_t)n * 40);
    rig_free(&r);
    return st.guesses;
}

static void test_a_large_batch_does_not_guess(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    c.guess_step_tokens = 6;
    assert_true(run_many(&c, 2) > 0);
    assert_true(run_many(&c, 5) > 0);
    c.prefix_cache = false;
    c.guess_step_tokens = 4;
    c.prefills_max = 8;
    c.step_tokens = c.max_row_tokens = 256; /* all begin and end together */
    assert_int_equal(run_many(&c, 4), 0);
    c.guess_tokens = 0;
    c.guess_step_tokens = 16;
    assert_int_equal(run_many(&c, 2), 0);
}

static void test_states_forbid_it(void **state)
{
    (void)state;
    hdl_sched_config c = config();
    c.n_caches = 2;
    c.caches[1] = (hdl_cache_capacity){.rule = {.kind = HDL_CACHE_STATE}, .n_blocks = 20};
    assert_int_equal(run_many(&c, 2), 0);
}

/* A worker that brings more or less than its guesses allow is not believed. */
static void test_wrong_numbers_of_answers_end_the_epoch(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 3; k++) {
        hdl_sched_config c = config();
        repeat(20);
        start(&c);
        submit(1, 50, 100);
        const hdl_plan *p = until_guess();
        assert_non_null(p);
        while (n_flight > 1)
            answer();
        uint32_t n = add_answers(p, guessing(p), 0);
        assert_true(n > 2);
        if (k == 0)
            n--; /* the guess came true, and nothing follows it */
        else if (k == 1)
            r.rows[n - 2].token++; /* it did not, and something does */
        else
            r.rows[n - 1].pos++;
        rig_feed(&r, (hdl_event){.kind = HDL_EV_RESULT,
                                 .result = {.group = p->group,
                                            .epoch = p->epoch,
                                            .step = p->step,
                                            .n_rows = n,
                                            .rows = r.rows}});
        assert_int_equal(rig_stats(&r).bad_results, 1);
        rig_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guesses_are_what_followed_before),
        cmocka_unit_test(test_a_text_that_repeats_takes_few_steps),
        cmocka_unit_test(test_large_blocks_and_a_preempted_log),
        cmocka_unit_test(test_wrong_guesses_become_few),
        cmocka_unit_test(test_no_plan_beside_one_that_guesses),
        cmocka_unit_test(test_guesses_keep_to_their_block_and_end),
        cmocka_unit_test(test_a_stop_id_is_not_guessed),
        cmocka_unit_test(test_a_large_batch_does_not_guess),
        cmocka_unit_test(test_states_forbid_it),
        cmocka_unit_test(test_wrong_numbers_of_answers_end_the_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
