/* SPDX-License-Identifier: Apache-2.0 */
/* Cache groups besides the one that keeps everything: windows give blocks back, states are kept at
 * edges, admission and prefix hits look at all of them. Blocks are of 4 tokens. */
#include "rig.h"

static rig r;

/* All positions, and windows of 8 positions in `window_blocks` blocks. */
static hdl_sched_config windowed(uint32_t window_blocks)
{
    hdl_sched_config c = rig_config();
    c.max_row_tokens = 8;
    c.n_caches = 2;
    c.caches[1] = (hdl_cache_capacity){.rule = {.window = 8}, .n_blocks = window_blocks};
    return c;
}

static hdl_sched_config with_states(uint32_t n_states)
{
    hdl_sched_config c = rig_config();
    c.n_caches = 2;
    c.caches[1] = (hdl_cache_capacity){.rule = {.kind = HDL_CACHE_STATE}, .n_blocks = n_states};
    return c;
}

static uint32_t most(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Plans that are not answered. */
static const hdl_plan *flight[4];
static uint32_t n_flight;

static void take_plans(void)
{
    for (uint32_t i = 0; rig_act(&r, HDL_ACT_PLAN, i); i++)
        flight[n_flight++] = rig_plan(&r, i);
}

static void start(const hdl_sched_config *c)
{
    n_flight = 0;
    rig_init(&r, c);
    rig_up(&r, 1);
}

static void submit(hdl_ev_submit s)
{
    rig_submit(&r, s);
    take_plans();
}

static void answer(void)
{
    const hdl_plan *p = flight[0];
    memmove(flight, flight + 1, --n_flight * sizeof *flight);
    rig_answer(&r, p, 7);
    take_plans();
}

/* What run_dry saw. */
typedef struct seen {
    uint32_t longest, most_used; /* tokens of a row; blocks of cache group 1 */
} seen;

static seen run_dry(void)
{
    seen s = {0};
    for (uint32_t guard = 0; n_flight > 0; guard++) {
        for (uint32_t k = 0; k < flight[0]->n_rows; k++)
            s.longest = most(s.longest, flight[0]->rows[k].n_tokens);
        s.most_used = most(s.most_used, (uint32_t)rig_stats(&r).caches[1].used);
        answer();
        assert_true(guard < 2000);
    }
    return s;
}

/* The grant of a cache group in a plan, or NULL. */
static const hdl_plan_grant *grant_of(const hdl_plan *p, uint32_t cache)
{
    for (uint32_t i = 0; i < p->n_grants; i++)
        if (p->grants[i].cache == cache)
            return &p->grants[i];
    return NULL;
}

/* -- windows ----------------------------------------------------------------------------------- */

static void test_a_window_gives_its_blocks_back(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(8);
    start(&c);
    submit(rig_request(&r, 1, 100, 20)); /* 30 blocks go through the window's 8 */
    seen s = run_dry();
    assert_int_equal(rig_act(&r, HDL_ACT_DONE, 0)->done.n_new, 20);
    assert_in_range(s.most_used, 3, 5); /* two rows of 8 and the edge of a block */
    assert_true(rig_stats(&r).window_releases > 20);
    assert_int_equal(rig_stats(&r).caches[1].used, 0);
    assert_int_equal(rig_stats(&r).caches[0].total, 64);
    assert_int_equal(rig_stats(&r).caches[1].total, 8);
    rig_free(&r);
}

static void test_admission_counts_every_cache(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(8);
    start(&c);
    submit(rig_request(&r, 1, 40, 4)); /* up to 5 blocks of the window */
    r.prompt[0] = 1;
    submit(rig_request(&r, 2, 40, 4)); /* main has room for many, the window for one */
    assert_int_equal(rig_stats(&r).running, 1);
    assert_int_equal(rig_stats(&r).waiting, 1);
    run_dry();
    assert_int_equal(rig_stats(&r).finished[HDL_FINISH_LENGTH], 2);
    rig_free(&r);
}

static void test_rows_are_cut_to_the_pool(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(4);
    c.max_row_tokens = 32;
    start(&c);
    submit(rig_request(&r, 1, 60, 4));
    seen s = run_dry();
    assert_int_equal(s.longest, 4);
    assert_int_equal(rig_stats(&r).max_len, 128);
    rig_free(&r);
    c.caches[1].n_blocks = 2; /* cannot even move on: the length is what is limited */
    start(&c);
    assert_int_equal(rig_stats(&r).max_len, 8);
    rig_free(&r);
}

static void test_a_hit_needs_the_window_before_it(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(12);
    start(&c);
    submit(rig_request(&r, 1, 33, 1));
    run_dry();
    submit(rig_request(&r, 2, 33, 1));
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->rows[0].pos, 32);
    assert_int_equal(grant_of(p, 0)->table_at, 0);
    assert_int_equal(grant_of(p, 0)->n_blocks, 9);
    assert_int_equal(grant_of(p, 1)->table_at, 6); /* 25 is the first position that 32 sees */
    assert_int_equal(grant_of(p, 1)->n_blocks, 3);
    run_dry();
    /* A long one goes through the window in its own blocks, but for those before its last edge. */
    r.prompt[0] = 3;
    submit(rig_request(&r, 3, 100, 1));
    run_dry();
    r.prompt[0] = 100;
    submit(rig_request(&r, 4, 33, 1));
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 32);
    run_dry();
    /* Many push them out; in the main cache there is room for all. */
    for (uint64_t id = 5; id < 10; id++) {
        r.prompt[0] = (hdl_token)id;
        submit(rig_request(&r, id, 20, 1));
        run_dry();
    }
    r.prompt[0] = 100;
    submit(rig_request(&r, 10, 33, 1));
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 0);
    rig_free(&r);
}

static void test_a_chunk_sees_itself_alone(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(12);
    c.caches[1].rule = (hdl_cache_rule){.chunk = 16};
    start(&c);
    submit(rig_request(&r, 1, 33, 1));
    seen s = run_dry();
    assert_true(s.most_used <= 7);
    submit(rig_request(&r, 2, 33, 1));
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->rows[0].pos, 32); /* where a chunk begins: nothing before it is needed */
    assert_int_equal(grant_of(p, 1)->table_at, 8);
    assert_int_equal(grant_of(p, 1)->n_blocks, 1);
    rig_free(&r);
}

static void test_a_window_that_is_full_preempts(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(6);
    c.caches[1].rule.window = 16;
    c.max_row_tokens = 4;
    start(&c);
    submit(rig_request(&r, 1, 4, 60)); /* both start with two blocks and grow to five */
    r.prompt[0] = 1;
    submit(rig_request(&r, 2, 4, 60));
    run_dry();
    assert_int_equal(rig_stats(&r).finished[HDL_FINISH_LENGTH], 2);
    assert_true(rig_stats(&r).preemptions > 0);
    rig_free(&r);
}

static void test_a_fork_copies_in_every_cache(void **state)
{
    (void)state;
    hdl_sched_config c = windowed(32);
    c.max_row_tokens = 32;
    start(&c);
    submit(rig_request(&r, 1, 14, 30));
    const hdl_plan *a = rig_plan(&r, 0);
    const hdl_plan_grant *window = grant_of(a, 1);
    uint32_t third = a->blocks[window->block_at + 3];
    hdl_ev_submit fork = rig_request(&r, 2, 14, 30);
    fork.fork_of.v = 1;
    submit(fork);
    answer();
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(rig_stats(&r).forks_shared, 1);
    assert_int_equal(p->n_copies, 2);
    uint32_t of_window = p->copies[0].cache == 1 ? 0 : 1;
    assert_int_equal(p->copies[of_window].cache, 1);
    assert_int_equal(p->copies[of_window].src, third);
    rig_free(&r);
}

/* -- no cache that keeps everything; several that do ------------------------------------------- */

static void test_windows_alone(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.max_row_tokens = 8;
    c.caches[0] = (hdl_cache_capacity){.rule = {.window = 8}, .n_blocks = 12};
    start(&c);
    assert_int_equal(rig_stats(&r).max_len, 128); /* longer than the pool */
    submit(rig_request(&r, 1, 100, 1));
    run_dry();
    submit(rig_request(&r, 2, 100, 1));
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->rows[0].pos, 96);
    assert_int_equal(p->n_grants, 1);
    assert_int_equal(p->grants[0].cache, 0);
    assert_int_equal(p->grants[0].table_at, 22);
    assert_int_equal(p->n_blocks, 3);
    rig_free(&r);
}

static void test_twins_share_numbers(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.n_caches = 3;
    c.caches[1] = (hdl_cache_capacity){.rule = {.kind = HDL_CACHE_LATENT}, .n_blocks = 20};
    c.caches[2] = (hdl_cache_capacity){.rule = {.window = 8}, .n_blocks = 20};
    rig_init(&r, &c);
    rig_feed(&r,
             (hdl_event){.kind = HDL_EV_RANK_UP, .rank = {.epoch = 1, .n_blocks = {64, 20, 20}}});
    assert_int_equal(rig_stats(&r).max_len, 80); /* the smaller of the two */
    submit(rig_request(&r, 1, 10, 3));
    const hdl_plan *p = rig_plan(&r, 0);
    const hdl_plan_grant *a = grant_of(p, 0), *b = grant_of(p, 1);
    assert_int_equal(a->n_blocks, 3);
    assert_int_equal(b->n_blocks, 3);
    assert_int_equal(a->block_at, b->block_at);
    assert_int_equal(grant_of(p, 2)->n_blocks, 3);
    rig_free(&r);
}

/* -- states ------------------------------------------------------------------------------------ */

static void test_a_state_is_kept_at_the_last_edge(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(6);
    start(&c);
    submit(rig_request(&r, 1, 30, 2));
    const hdl_plan *a = rig_plan(&r, 0), *b = rig_plan(&r, 1);
    assert_int_equal(a->rows[0].n_tokens, 28); /* cut where the state shall be kept */
    assert_int_equal(grant_of(a, 1)->n_blocks, 1);
    const uint32_t live = a->blocks[grant_of(a, 1)->block_at];
    assert_int_equal(a->n_copies, 0); /* position 0 needs no state */
    assert_int_equal(b->rows[0].pos, 28);
    assert_null(grant_of(b, 1));
    assert_int_equal(b->n_copies, 1);
    assert_int_equal(b->copies[0].cache, 1);
    assert_int_equal(b->copies[0].src, live);
    const uint32_t kept = b->copies[0].dst;
    run_dry();
    assert_int_equal(rig_stats(&r).caches[1].used, 0);
    assert_int_equal(rig_stats(&r).caches[1].cached, 1);

    submit(rig_request(&r, 2, 30, 2));
    a = rig_plan(&r, 0);
    assert_int_equal(a->rows[0].pos, 28);
    assert_int_equal(a->n_copies, 1);
    assert_int_equal(a->copies[0].src, kept);
    assert_int_equal(a->copies[0].dst, a->blocks[grant_of(a, 1)->block_at]);
    run_dry();
    assert_int_equal(rig_stats(&r).snapshots, 1);
    assert_int_equal(rig_stats(&r).restores, 1);

    /* The blocks are there for 28 positions, but without the state they are of no use. */
    for (uint64_t id = 3; id < 9; id++) {
        r.prompt[0] = (hdl_token)id;
        submit(rig_request(&r, id, 8, 1));
        run_dry();
    }
    r.prompt[0] = 100;
    submit(rig_request(&r, 9, 30, 2));
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 0);
    rig_free(&r);
}

/* The second that shares a beginning finds no state there and leaves one for the third. */
static void test_a_state_is_kept_where_prompts_part(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(8);
    start(&c);
    static const uint32_t from[] = {0, 0, 16};
    for (uint64_t id = 1; id <= 3; id++) {
        r.prompt[18] = (hdl_token)id; /* 16 tokens in whole blocks are shared */
        submit(rig_request(&r, id, 30, 1));
        const hdl_plan *p = rig_plan(&r, 0);
        assert_int_equal(p->rows[0].pos, from[id - 1]);
        if (id == 2)
            assert_int_equal(p->rows[0].n_tokens, 16);
        run_dry();
    }
    assert_int_equal(rig_stats(&r).snapshots, 4); /* three ends, one fork in the road */
    rig_free(&r);
}

static void test_states_at_an_interval(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(30);
    c.snapshot_tokens = 12;
    start(&c);
    submit(rig_request(&r, 1, 30, 20)); /* 12, 24, 28 and, while it decodes, 36 and 48 */
    run_dry();
    assert_int_equal(rig_stats(&r).snapshots, 5);
    c.snapshot_tokens = 6;
    assert_non_null(hdl_sched_config_problem(&c));
    rig_free(&r);
}

static void test_without_room_no_state_is_kept(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(1);
    start(&c);
    submit(rig_request(&r, 1, 30, 2));
    run_dry();
    assert_int_equal(rig_stats(&r).snapshots, 0);
    assert_int_equal(rig_stats(&r).finished[HDL_FINISH_LENGTH], 1);
    rig_free(&r);
    c = with_states(2); /* one at a time: the other's is the one that runs */
    start(&c);
    submit(rig_request(&r, 1, 30, 2));
    submit(rig_request(&r, 2, 30, 2));
    run_dry();
    hdl_ev_submit quiet = rig_request(&r, 3, 30, 2);
    quiet.flags = HDL_SUBMIT_NO_CACHE;
    uint64_t before = rig_stats(&r).snapshots;
    submit(quiet);
    assert_int_equal(rig_plan(&r, 0)->rows[0].n_tokens, 30); /* nothing to keep, nothing to cut */
    run_dry();
    assert_int_equal(rig_stats(&r).snapshots, before);
    rig_free(&r);
}

/* A parent's state has gone on: a fork takes the one that was kept. */
static void test_a_fork_starts_from_a_kept_state(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(8);
    start(&c);
    submit(rig_request(&r, 1, 10, 30));
    const hdl_plan *b = rig_plan(&r, 1);
    hdl_ev_submit fork = rig_request(&r, 2, 10, 30);
    fork.fork_of.v = 1;
    submit(fork);
    const uint32_t kept = b->copies[0].dst;
    answer();
    answer();
    const hdl_plan *p = rig_plan(&r, 0);
    assert_int_equal(p->n_opens, 1);
    assert_int_equal(p->rows[p->n_rows - 1].pos, 8);
    assert_int_equal(p->copies[0].src, kept);
    assert_int_equal(rig_stats(&r).forks_shared, 0);
    rig_free(&r);
}

static void test_a_loss_forgets_states(void **state)
{
    (void)state;
    hdl_sched_config c = with_states(8);
    start(&c);
    submit(rig_request(&r, 1, 30, 2));
    run_dry();
    rig_feed(&r, (hdl_event){.kind = HDL_EV_RANK_LOST, .rank = {.epoch = 1}});
    rig_up(&r, 2);
    assert_int_equal(rig_stats(&r).caches[1].cached, 0);
    submit(rig_request(&r, 2, 30, 2));
    assert_int_equal(rig_plan(&r, 0)->rows[0].pos, 0);
    rig_free(&r);
}

static void test_configurations(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.n_caches = 0;
    assert_non_null(hdl_sched_config_problem(&c));
    c.n_caches = HDL_CACHE_GROUPS_MAX + 1;
    assert_non_null(hdl_sched_config_problem(&c));
    c.n_caches = 2;
    assert_non_null(hdl_sched_config_problem(&c)); /* no blocks */
    c.caches[1].n_blocks = 1;
    assert_null(hdl_sched_config_problem(&c));
    c.caches[1].rule.kind = HDL_CACHE_KIND_COUNT;
    assert_non_null(hdl_sched_config_problem(&c));
    c.caches[1].rule = (hdl_cache_rule){.window = 3, .chunk = 3};
    assert_non_null(hdl_sched_config_problem(&c));
    c.caches[1].rule = (hdl_cache_rule){.kind = HDL_CACHE_STATE, .window = 3};
    assert_non_null(hdl_sched_config_problem(&c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_window_gives_its_blocks_back),
        cmocka_unit_test(test_admission_counts_every_cache),
        cmocka_unit_test(test_rows_are_cut_to_the_pool),
        cmocka_unit_test(test_a_hit_needs_the_window_before_it),
        cmocka_unit_test(test_a_chunk_sees_itself_alone),
        cmocka_unit_test(test_a_window_that_is_full_preempts),
        cmocka_unit_test(test_a_fork_copies_in_every_cache),
        cmocka_unit_test(test_windows_alone),
        cmocka_unit_test(test_twins_share_numbers),
        cmocka_unit_test(test_a_state_is_kept_at_the_last_edge),
        cmocka_unit_test(test_a_state_is_kept_where_prompts_part),
        cmocka_unit_test(test_states_at_an_interval),
        cmocka_unit_test(test_without_room_no_state_is_kept),
        cmocka_unit_test(test_a_fork_starts_from_a_kept_state),
        cmocka_unit_test(test_a_loss_forgets_states),
        cmocka_unit_test(test_configurations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
