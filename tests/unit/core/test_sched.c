/* SPDX-License-Identifier: Apache-2.0 */
/* One request's life, told as events and actions. */
#include "rig.h"

static rig r;

static int setup(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    rig_init(&r, &c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&r);
    return 0;
}

static hdl_finish done_reason(uint64_t id)
{
    const hdl_action *a = rig_act(&r, HDL_ACT_DONE, 0);
    assert_non_null(a);
    assert_int_equal(a->done.req.v, id);
    return a->done.reason;
}

static hdl_err rejected(void)
{
    const hdl_action *a = rig_act(&r, HDL_ACT_REJECT, 0);
    assert_non_null(a);
    return a->reject.err;
}

static void test_whole_life(void **state)
{
    (void)state;
    rig_submit(&r, rig_request(&r, 7, 10, 3));
    assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 0); /* no group is up */
    rig_up(&r, 1);

    /* Two plans at once: the prompt, and the token that it will give. */
    assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 2);
    const hdl_plan *first = rig_plan(&r, 0), *second = rig_plan(&r, 1);
    assert_int_equal(first->step, 1);
    assert_int_equal(first->n_opens, 1);
    assert_int_equal(first->opens[0].req_lo, 7);
    assert_int_equal(first->rows[0].n_tokens, 10);
    assert_int_equal(first->n_grants, 1);
    assert_int_equal(first->grants[0].n_blocks, 3);
    assert_int_equal(first->rows[0].flags, HDL_ROW_SAMPLE);
    assert_memory_equal(first->tokens, r.prompt, 10 * sizeof(hdl_token));
    assert_int_equal(second->rows[0].pos, 10);
    assert_int_equal(second->rows[0].flags, HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK);

    rig_answer(&r, first, 41);
    assert_int_equal(rig_token(&r, 0)->token, 41);
    assert_int_equal(rig_token(&r, 0)->index, 0);
    const hdl_plan *third = rig_plan(&r, 0);
    rig_answer(&r, second, 42);
    assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 0); /* the last token is in flight */
    rig_answer(&r, third, 43);
    assert_int_equal(rig_token(&r, 0)->index, 2);
    assert_int_equal(done_reason(7), HDL_FINISH_LENGTH);
    assert_int_equal(rig_act(&r, HDL_ACT_DONE, 0)->done.n_new, 3);

    hdl_sched_stats st = rig_stats(&r);
    assert_int_equal(st.running + st.waiting, 0);
    assert_int_equal(st.caches[0].used, 0);
    assert_int_equal(st.log_tokens_used, 0);
    assert_int_equal(st.finished[HDL_FINISH_LENGTH], 1);
}

static void test_stop_id(void **state)
{
    (void)state;
    rig_up(&r, 1);
    hdl_ev_submit s = rig_request(&r, 1, 5, 20);
    s.n_stop_ids = 3;
    s.stop_ids[0] = 9;
    s.stop_ids[2] = 77;
    rig_submit(&r, s);
    const hdl_plan *p = rig_plan(&r, 0), *in_flight = rig_plan(&r, 1);
    rig_answer(&r, p, 77);
    assert_int_equal(rig_token_count(&r), 1); /* the stop id is emitted */
    assert_int_equal(done_reason(1), HDL_FINISH_STOP);
    /* What the step in flight sampled for it is void, and its slot is closed before it is used
     * again. */
    rig_submit(&r, rig_request(&r, 2, 5, 20));
    const hdl_plan *next = rig_plan(&r, 0);
    assert_int_equal(next->n_closes, 1);
    assert_int_equal(next->closes[0], next->opens[0].slot);
    rig_answer(&r, in_flight, 5);
    assert_int_equal(rig_token_count(&r), 0);
    assert_int_equal(rig_count(&r, HDL_ACT_DONE), 0);
    rig_answer(&r, next, 6);
    assert_int_equal(rig_token(&r, 0)->req.v, 2);
}

static void test_ignore_eos(void **state)
{
    (void)state;
    rig_up(&r, 1);
    hdl_ev_submit s = rig_request(&r, 1, 5, 20);
    s.n_stop_ids = 1;
    s.stop_ids[0] = 77;
    s.flags = HDL_SUBMIT_IGNORE_EOS;
    rig_submit(&r, s);
    rig_answer(&r, rig_plan(&r, 0), 77);
    assert_int_equal(rig_count(&r, HDL_ACT_DONE), 0);
}

static void test_refusals(void **state)
{
    (void)state;
    rig_submit(&r, rig_request(&r, 1, 0, 5));
    assert_int_equal(rejected(), HDL_INVALID);
    rig_submit(&r, rig_request(&r, 2, 5, 0)); /* no token wanted, and nothing else either */
    assert_int_equal(rejected(), HDL_INVALID);
    rig_submit(&r, rig_request(&r, 3, 128, 1));
    assert_int_equal(rejected(), HDL_INVALID);
    assert_int_equal(rig_act(&r, HDL_ACT_REJECT, 0)->reject.have, 128);
    hdl_ev_submit s = rig_request(&r, 4, 5, 5);
    s.tenant = 1;
    rig_submit(&r, s);
    assert_int_equal(rejected(), HDL_INVALID);
    s.tenant = 0;
    s.deadline_us = r.now_us;
    rig_submit(&r, s);
    assert_int_equal(rejected(), HDL_TIMEOUT);
    for (uint64_t i = 0; i < 16; i++) {
        rig_submit(&r, rig_request(&r, 10 + i, 5, 5));
        assert_int_equal(rig_count(&r, HDL_ACT_REJECT), 0);
    }
    rig_submit(&r, rig_request(&r, 30, 5, 5));
    assert_int_equal(rejected(), HDL_BUSY);
    assert_true(rig_act(&r, HDL_ACT_REJECT, 0)->reject.retry_after_ms > 0);
}

static void test_group_shorter_than_promised(void **state)
{
    (void)state;
    rig_submit(&r, rig_request(&r, 1, 100, 5));
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_UP, .rank = {.epoch = 1, .n_blocks = {10}}});
    assert_int_equal(rejected(), HDL_INVALID);
    assert_int_equal(rig_stats(&r).max_len, 40);
    rig_submit(&r, rig_request(&r, 2, 38, 50));
    rig_answer(&r, rig_plan(&r, 0), 1); /* the length is the pool's: 40 */
    rig_answer(&r, rig_plan(&r, 0), 2);
}

static void test_prompt_only(void **state)
{
    (void)state;
    rig_up(&r, 1);
    hdl_ev_submit s = rig_request(&r, 1, 40, 0);
    s.flags = HDL_SUBMIT_SCORE | HDL_SUBMIT_LOGITS;
    rig_submit(&r, s);
    const hdl_plan *p = rig_plan(&r, 0), *q = rig_plan(&r, 1);
    assert_int_equal(p->rows[0].flags, HDL_ROW_SCORE | HDL_ROW_LOGITS);
    assert_int_equal(p->n_tokens, 33);
    assert_int_equal(p->tokens[32], r.prompt[32]); /* what the last of them is scored on */
    assert_int_equal(q->rows[0].n_tokens, 8);
    assert_int_equal(q->tokens[8], -1);
    rig_answer(&r, p, 0);
    rig_answer(&r, q, 0);
    assert_int_equal(done_reason(1), HDL_FINISH_LENGTH);
    assert_int_equal(rig_act(&r, HDL_ACT_DONE, 0)->done.n_new, 0);
}

static void test_cancel_everywhere(void **state)
{
    (void)state;
    rig_submit(&r, rig_request(&r, 1, 5, 5));
    rig_cancel(&r, 1); /* waiting */
    assert_int_equal(done_reason(1), HDL_FINISH_CANCELLED);
    rig_up(&r, 1);
    rig_submit(&r, rig_request(&r, 2, 100, 5)); /* in prefill */
    rig_cancel(&r, 2);
    assert_int_equal(done_reason(2), HDL_FINISH_CANCELLED);
    rig_cancel(&r, 2); /* again: ignored */
    assert_int_equal(rig_count(&r, HDL_ACT_DONE), 0);
    assert_int_equal(rig_stats(&r).caches[0].used, 0);
}

static void test_deadlines(void **state)
{
    (void)state;
    hdl_ev_submit s = rig_request(&r, 1, 5, 50);
    s.deadline_us = 5000;
    rig_submit(&r, s);
    assert_int_equal(rig_act(&r, HDL_ACT_TIMER, 0)->timer.at_us, 5000);
    s.req.v = 2;
    s.deadline_us = 3000;
    rig_submit(&r, s);
    assert_int_equal(rig_act(&r, HDL_ACT_TIMER, 0)->timer.at_us, 3000);
    r.now_us = 3000;
    rig_feed(&r, (hdl_event){.kind = HDL_EV_TICK});
    assert_int_equal(rejected(), HDL_TIMEOUT); /* it never ran */
    rig_up(&r, 1);
    r.now_us = 6000;
    rig_feed(&r, (hdl_event){.kind = HDL_EV_TICK});
    assert_int_equal(done_reason(1), HDL_FINISH_TIMEOUT);
    r.now_us = 10; /* the clock went back: nothing breaks */
    rig_feed(&r, (hdl_event){.kind = HDL_EV_TICK});
}

static void test_drain(void **state)
{
    (void)state;
    rig_up(&r, 1);
    rig_submit(&r, rig_request(&r, 1, 5, 1));
    const hdl_plan *p = rig_plan(&r, 0);
    rig_feed(&r, (hdl_event){.kind = HDL_EV_DRAIN});
    rig_submit(&r, rig_request(&r, 2, 5, 1));
    assert_int_equal(rejected(), HDL_AGAIN);
    rig_answer(&r, p, 1);
    assert_int_equal(done_reason(1), HDL_FINISH_LENGTH);
    bool drained = false;
    for (uint32_t i = 0; rig_act(&r, HDL_ACT_TRACE, i); i++)
        drained |= rig_act(&r, HDL_ACT_TRACE, i)->trace.what == HDL_TRACE_DRAINED;
    assert_true(drained);
}

static void test_rank_lost_goes_on_exactly(void **state)
{
    (void)state;
    rig_up(&r, 1);
    hdl_ev_submit s = rig_request(&r, 1, 6, 10);
    s.flags = HDL_SUBMIT_HISTORY;
    rig_submit(&r, s);
    const hdl_plan *p = rig_plan(&r, 0), *q = rig_plan(&r, 1);
    rig_answer(&r, p, 50);
    hdl_ev_rank old = {.epoch = 1};
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_LOST, .rank = old});
    assert_int_equal(rig_stats(&r).waiting, 1);
    rig_answer(&r, q, 51); /* late: void */
    assert_int_equal(rig_token_count(&r), 0);
    assert_int_equal(rig_stats(&r).stale_results, 1);
    rig_up(&r, 2);
    p = rig_plan(&r, 0);
    assert_int_equal(p->epoch, 2);
    assert_int_equal(p->step, 1);
    assert_int_equal(p->opens[0].n_history, 7);
    const hdl_plan_row *row = &p->rows[0];
    assert_int_equal(row->n_tokens, 7); /* the prompt and the token that was emitted */
    assert_int_equal(p->tokens[row->token_at + 6], 50);
    rig_answer(&r, p, 51);
    assert_int_equal(rig_token(&r, 0)->index, 1);
}

/* The plans that are not answered yet, the oldest first. */
static const hdl_plan *flight[4];
static uint32_t n_flight;

static void collect_plans(void)
{
    for (uint32_t i = 0; i < rig_count(&r, HDL_ACT_PLAN); i++)
        flight[n_flight++] = rig_plan(&r, i);
}

static void answer_oldest(hdl_token token)
{
    const hdl_plan *p = flight[0];
    flight[0] = flight[1];
    n_flight--;
    rig_answer(&r, p, token);
    collect_plans();
}

/* All that a sequence generated is in its log again when it must be computed anew, wherever it lay:
 * in full blocks, in one that its prompt began, or among the newest tokens. */
static void test_a_long_log_is_restored(void **state)
{
    (void)state;
    enum { PROMPT = 6, NEW = 61 };
    n_flight = 0;
    rig_up(&r, 1);
    rig_submit(&r, rig_request(&r, 1, PROMPT, 100));
    collect_plans();
    for (hdl_token n = 0; n < NEW; n++)
        answer_oldest(1000 + n);
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_LOST, .rank = {.epoch = 1}});
    n_flight = 0;
    rig_up(&r, 2);
    collect_plans();
    for (uint32_t at = 0; at < PROMPT + NEW; answer_oldest(7)) {
        const hdl_plan_row *row = &flight[0]->rows[0];
        assert_int_equal(row->pos, at);
        for (uint32_t i = 0; i < row->n_tokens; i++, at++)
            assert_int_equal(flight[0]->tokens[row->token_at + i],
                             at < PROMPT ? r.prompt[at] : 1000 + (hdl_token)(at - PROMPT));
    }
    assert_int_equal(rig_token(&r, 0)->index, NEW);
}

/* Tokens of neighbouring rows come in one action; behind a void row another begins. */
static void test_emits_name_their_rows(void **state)
{
    (void)state;
    n_flight = 0;
    for (uint64_t id = 1; id <= 5; id++)
        rig_submit(&r, rig_request(&r, id, 4, 20));
    rig_up(&r, 1);
    collect_plans();
    answer_oldest(8);
    answer_oldest(9);
    assert_int_equal(rig_count(&r, HDL_ACT_EMIT), 1);
    assert_int_equal(rig_token_count(&r), 5);
    rig_cancel(&r, 3);
    answer_oldest(10);
    assert_int_equal(rig_count(&r, HDL_ACT_EMIT), 2);
    assert_int_equal(rig_act(&r, HDL_ACT_EMIT, 0)->emit.n, 2);
    assert_int_equal(rig_act(&r, HDL_ACT_EMIT, 0)->emit.result_row, 0);
    assert_int_equal(rig_act(&r, HDL_ACT_EMIT, 1)->emit.n, 2);
    assert_int_equal(rig_act(&r, HDL_ACT_EMIT, 1)->emit.result_row, 3);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(rig_token(&r, i)->req.v, i < 2 ? i + 1 : i + 2);
        assert_int_equal(rig_token(&r, i)->index, 2);
    }
}

static void test_bad_result_ends_the_epoch(void **state)
{
    (void)state;
    rig_up(&r, 1);
    rig_submit(&r, rig_request(&r, 1, 6, 10));
    const hdl_plan *p = rig_plan(&r, 0);
    hdl_result_row row = {.slot = p->rows[0].slot, .pos = 5, .token = 1}; /* should be 6 */
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RESULT,
                             .result = {.epoch = 1, .step = 1, .n_rows = 1, .rows = &row}});
    assert_int_equal(rig_token_count(&r), 0);
    assert_int_equal(rig_stats(&r).bad_results, 1);
    assert_int_equal(rig_stats(&r).groups_up, 0);
    assert_int_equal(rig_stats(&r).waiting, 1);
}

static void test_config_problems(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    assert_null(hdl_sched_config_problem(&c));
    c.block_tokens = 24;
    assert_non_null(hdl_sched_config_problem(&c));
    c = rig_config();
    c.log_tokens = 100;
    assert_non_null(hdl_sched_config_problem(&c));
    c = rig_config();
    c.max_seqs = HDL_SEQS_MAX + 1;
    assert_non_null(hdl_sched_config_problem(&c));
    c = rig_config();
    c.max_row_tokens = c.step_tokens + 1;
    assert_non_null(hdl_sched_config_problem(&c));
}

#define LIFE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIFE(test_whole_life),
        LIFE(test_stop_id),
        LIFE(test_ignore_eos),
        LIFE(test_refusals),
        LIFE(test_group_shorter_than_promised),
        LIFE(test_prompt_only),
        LIFE(test_cancel_everywhere),
        LIFE(test_deadlines),
        LIFE(test_drain),
        LIFE(test_rank_lost_goes_on_exactly),
        LIFE(test_a_long_log_is_restored),
        LIFE(test_emits_name_their_rows),
        LIFE(test_bad_result_ends_the_epoch),
        LIFE(test_config_problems),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
