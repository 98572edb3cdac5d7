/* SPDX-License-Identifier: Apache-2.0 */
/* How a step's tokens and the blocks are shared between sequences. */
#include "rig.h"

static rig r;

static void start(const hdl_sched_config *c)
{
    rig_init(&r, c);
    rig_up(&r, 1);
}

/* Plans are answered oldest first until nothing is in flight; the order of EMITs is not looked at.
 */
static void run_dry(hdl_token token)
{
    const hdl_plan *flight[4];
    uint32_t n = 0, guard = 0;
    for (uint32_t i = 0; rig_act(&r, HDL_ACT_PLAN, i); i++)
        flight[n++] = rig_plan(&r, i);
    while (n > 0) {
        rig_answer(&r, flight[0], token);
        memmove(flight, flight + 1, --n * sizeof *flight);
        for (uint32_t i = 0; rig_act(&r, HDL_ACT_PLAN, i); i++)
            flight[n++] = rig_plan(&r, i);
        assert_true(guard++ < 2000);
    }
}

static void test_long_prompt_does_not_starve_short_ones(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 120, 5));
    const hdl_plan *a = rig_plan(&r, 0), *b = rig_plan(&r, 1);
    r.prompt[0] = 1; /* no shared prefix */
    rig_submit(&r, rig_request(&r, 2, 10, 5));
    rig_answer(&r, a, 1);
    /* The long one goes on with half of the step at least; the short one is done in it. */
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->n_rows, 2);
    assert_int_equal(p->rows[0].n_tokens, 22);
    assert_int_equal(p->rows[1].n_tokens, 10);
    assert_true(p->rows[1].flags & HDL_ROW_SAMPLE);
    (void)b;
    rig_free(&r);
}

static void test_decode_goes_first(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.step_tokens = c.max_row_tokens = 4;
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 4, 50));
    const hdl_plan *a = rig_plan(&r, 0);
    rig_submit(&r, rig_request(&r, 2, 100, 5));
    rig_answer(&r, a, 1);
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->rows[0].n_tokens, 1); /* decode */
    assert_int_equal(p->rows[1].n_tokens, 3); /* what is left of the step */
    rig_free(&r);
}

static void test_prefix_is_computed_once(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 18, 1));
    run_dry(9);
    rig_submit(&r, rig_request(&r, 2, 20, 1));
    const hdl_plan_row *row = &rig_plan(&r, 0)->rows[0];
    assert_int_equal(row->pos, 16);
    assert_int_equal(row->n_tokens, 4);
    const hdl_plan_grant *grant = &rig_plan(&r, 0)->grants[0];
    assert_int_equal(rig_plan(&r, 0)->n_grants, 1);
    assert_int_equal(grant->slot, row->slot);
    assert_int_equal(grant->table_at, 0);
    assert_int_equal(grant->n_blocks, 5); /* four from the cache, one of its own */
    run_dry(9);
    assert_int_equal(rig_act(&r, HDL_ACT_DONE, 0)->done.n_cached, 16);

    hdl_ev_submit other = rig_request(&r, 3, 20, 1);
    other.salt = 1; /* another tenant's secret: nothing is shared */
    rig_submit(&r, other);
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 0);
    run_dry(9);
    hdl_ev_submit scored = rig_request(&r, 4, 20, 1);
    scored.flags = HDL_SUBMIT_SCORE;
    rig_submit(&r, scored);
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 0);
    rig_free(&r);
}

static void test_fork_copies_the_partial_block(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 10, 30));
    const hdl_plan *a = rig_plan(&r, 0);
    const uint32_t *blocks = a->blocks + a->grants[0].block_at;
    uint32_t parent[3] = {blocks[0], blocks[1], blocks[2]};
    hdl_ev_submit fork = rig_request(&r, 2, 10, 30);
    fork.fork_of.v = 1;
    rig_submit(&r, fork); /* held: the parent's prompt is not answered */
    assert_int_equal(rig_stats(&r).waiting, 1);
    rig_answer(&r, a, 1);
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->n_copies, 1);
    assert_int_equal(p->copies[0].src, parent[2]);
    const hdl_plan_row *row = &p->rows[1];
    assert_int_equal(row->pos, 9); /* its last token alone */
    assert_int_equal(row->n_tokens, 1);
    assert_int_equal(p->n_grants, 1); /* the parent goes on in its own blocks */
    assert_int_equal(p->grants[0].slot, row->slot);
    const uint32_t *own = p->blocks + p->grants[0].block_at;
    assert_int_equal(own[0], parent[0]);
    assert_int_equal(own[1], parent[1]);
    assert_int_equal(own[2], p->copies[0].dst);
    assert_int_equal(rig_stats(&r).forks_shared, 1);
    rig_free(&r);
}

static void test_fork_whose_parent_is_gone(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 10, 30));
    const hdl_plan *a = rig_plan(&r, 0);
    hdl_ev_submit fork = rig_request(&r, 2, 10, 30);
    fork.fork_of.v = 1;
    rig_submit(&r, fork);
    rig_cancel(&r, 1);
    rig_answer(&r, a, 1);
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->n_copies, 0);
    assert_int_equal(p->rows[0].n_tokens, 10); /* an ordinary prefill */
    rig_free(&r);
}

static void test_full_cache_preempts_and_all_end(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.caches[0].n_blocks = 32;
    c.prefix_cache = false;
    start(&c);
    for (uint64_t i = 1; i <= 6; i++) {
        r.prompt[0] = (hdl_token)i;
        rig_submit(&r, rig_request(&r, i, 8, 60));
        if (i == 1)
            assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 2);
    }
    /* The first two plans were announced by the first SUBMIT: feed a loss to collect all in one
     * place. */
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_LOST, .rank = {.epoch = 1}});
    rig_up(&r, 2);
    run_dry(3);
    hdl_sched_stats st = rig_stats(&r);
    assert_true(st.preemptions > 0);
    assert_int_equal(st.finished[HDL_FINISH_LENGTH], 6);
    assert_int_equal(st.emitted_tokens, 6 * 60);
    rig_free(&r);
}

static void test_groups_share_the_load(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.n_groups = 2;
    rig_init(&r, &c);
    rig_up(&r, 1);
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_UP,
                             .rank = {.group = 1, .epoch = 5, .n_blocks = {64}}});
    rig_submit(&r, rig_request(&r, 1, 16, 50));
    assert_int_equal(rig_plan(&r, 0)->group, 0);
    const hdl_plan *first = rig_plan(&r, 0);
    r.prompt[0] = 1;
    rig_submit(&r, rig_request(&r, 2, 16, 50));
    assert_int_equal(rig_plan(&r, 0)->group, 1); /* the emptier one */
    r.prompt[0] = 100;
    rig_answer(&r, first, 1);
    rig_submit(&r, rig_request(&r, 3, 20, 50)); /* waits for the group that has its prefix */
    assert_int_equal(rig_count(&r, HDL_ACT_PLAN), 0);
    rig_free(&r);
}

/* Plans in flight of each of two groups, oldest first. */
typedef struct flights {
    const hdl_plan *plan[2][4];
    uint32_t n[2], n_opens[2];
} flights;

static void take_plans(flights *f)
{
    for (uint32_t i = 0; rig_act(&r, HDL_ACT_PLAN, i); i++) {
        const hdl_plan *p = rig_plan(&r, i);
        f->n_opens[p->group] += p->n_opens;
        f->plan[p->group][f->n[p->group]++] = p;
    }
}

static void answer_oldest(flights *f, uint32_t g)
{
    if (f->n[g] == 0)
        return;
    rig_answer(&r, f->plan[g][0], 7);
    memmove(f->plan[g], f->plan[g] + 1, --f->n[g] * sizeof f->plan[g][0]);
    take_plans(f);
}

/* Prompts that begin alike go to the group that has the beginning until it is busier by more than
 * the beginning saves. */
static void test_a_prefix_does_not_overload_its_group(void **state)
{
    (void)state;
    flights f = {0};
    hdl_sched_config c = rig_config();
    c.n_groups = 2;
    c.caches[0].n_blocks = 256;
    c.max_len = 256;
    c.step_tokens = c.max_row_tokens = 128;
    rig_init(&r, &c);
    rig_up(&r, 1);
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_UP,
                             .rank = {.group = 1, .epoch = 5, .n_blocks = {256}}});
    for (uint64_t id = 1; id <= 6; id++) {
        r.prompt[99] = (hdl_token)id; /* 96 tokens alike: worth three running sequences */
        rig_submit(&r, rig_request(&r, id, 100, 100));
        take_plans(&f);
        for (uint32_t k = 0; k < 4; k++)
            answer_oldest(&f, k & 1);
    }
    assert_int_equal(rig_stats(&r).finished[HDL_FINISH_LENGTH], 0);
    assert_int_equal(f.n_opens[0], 4);
    assert_int_equal(f.n_opens[1], 2);
    rig_free(&r);
}

/* What prompt tokens took decides how many a step takes beside a sequence that decodes. */
static void test_prompts_are_cut_by_the_time_they_take(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.step_tokens = c.max_row_tokens = 100;
    c.max_len = 256;
    c.caches[0].n_blocks = 256;
    c.step_us = 50000;
    start(&c);
    rig_submit(&r, rig_request(&r, 1, 100, 50));
    const hdl_plan *first = rig_plan(&r, 0), *second = rig_plan(&r, 1);
    assert_int_equal(first->rows[0].n_tokens, 100); /* nobody waits for it, and nothing is known */
    r.prompt[0] = 1;
    rig_submit(&r, rig_request(&r, 2, 240, 5));
    r.now_us += 100000; /* a millisecond a token */
    rig_answer(&r, first, 7);
    const hdl_plan *third = rig_plan(&r, 0);
    assert_int_equal(third->n_rows, 2);
    assert_int_equal(third->rows[1].n_tokens, 49); /* and the one that decodes */
    r.now_us += 1000;
    rig_answer(&r, second, 7); /* a step without prompts says nothing about them */
    const hdl_plan *fourth = rig_plan(&r, 0);
    assert_int_equal(fourth->rows[1].n_tokens, 49);
    r.now_us += 5000; /* a tenth of that: the mean goes down to (3 * 1 + 0.1) / 4 ms */
    rig_answer(&r, third, 7);
    assert_int_equal(rig_plan(&r, 0)->rows[1].n_tokens, 63);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_prompt_does_not_starve_short_ones),
        cmocka_unit_test(test_decode_goes_first),
        cmocka_unit_test(test_prefix_is_computed_once),
        cmocka_unit_test(test_fork_copies_the_partial_block),
        cmocka_unit_test(test_fork_whose_parent_is_gone),
        cmocka_unit_test(test_full_cache_preempts_and_all_end),
        cmocka_unit_test(test_prompts_are_cut_by_the_time_they_take),
        cmocka_unit_test(test_groups_share_the_load),
        cmocka_unit_test(test_a_prefix_does_not_overload_its_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
