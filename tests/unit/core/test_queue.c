/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

static rig r;

static void start(uint32_t n_tenants, uint32_t aging_us)
{
    hdl_sched_config c = rig_config();
    c.n_tenants = n_tenants;
    c.aging_us = aging_us;
    c.max_seqs = 1;
    c.waiting_max = 64;
    rig_init(&r, &c);
}

static void submit(uint64_t id, uint32_t tenant, uint32_t priority)
{
    hdl_ev_submit s = rig_request(&r, id, 8, 1);
    s.tenant = tenant;
    s.priority = priority;
    rig_submit(&r, s);
}

/* Runs all, one at a time, and writes down the order. */
static uint32_t order(uint64_t *ids)
{
    uint32_t n = 0;
    rig_up(&r, 1);
    while (rig_count(&r, HDL_ACT_PLAN) > 0) {
        const hdl_plan *p = rig_plan(&r, 0);
        ids[n++] = p->opens[0].req_lo;
        rig_answer(&r, p, 1);
    }
    return n;
}

static void test_arrival_order(void **state)
{
    (void)state;
    uint64_t ids[8], want[] = {3, 1, 2};
    start(1, 0);
    submit(3, 0, 0);
    submit(1, 0, 0);
    submit(2, 0, 0);
    assert_int_equal(order(ids), 3);
    assert_memory_equal(ids, want, sizeof want);
    rig_free(&r);
}

static void test_priority_and_aging(void **state)
{
    (void)state;
    uint64_t ids[8], want[] = {2, 1, 3};
    start(1, 0);
    submit(1, 0, 3);
    submit(2, 0, 0);
    submit(3, 0, 3);
    order(ids);
    assert_memory_equal(ids, want, sizeof want);
    rig_free(&r);

    start(1, 1000); /* a millisecond of waiting is worth a level */
    submit(1, 0, 3);
    r.now_us += 5000;
    submit(2, 0, 0);
    uint64_t aged[] = {1, 2};
    order(ids);
    assert_memory_equal(ids, aged, sizeof aged);
    rig_free(&r);
}

static void test_a_flood_does_not_starve(void **state)
{
    (void)state;
    uint64_t ids[32];
    start(2, 0);
    for (uint64_t i = 0; i < 10; i++)
        submit(100 + i, 0, 0);
    submit(1, 1, 0);
    submit(2, 1, 0);
    order(ids);
    /* They take turns: the other tenant's two are among the first four. */
    uint32_t early = 0;
    for (int i = 0; i < 4; i++)
        early += ids[i] < 100;
    assert_int_equal(early, 2);
    rig_free(&r);
}

static void test_weights(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.n_tenants = 2;
    c.tenant_weight[0] = 3;
    c.tenant_weight[1] = 1;
    c.max_seqs = 1;
    c.waiting_max = 64;
    c.prefix_cache = false; /* a hit would be charged less */
    rig_init(&r, &c);
    for (uint64_t i = 0; i < 12; i++) {
        submit(100 + i, 0, 0);
        submit(1 + i, 1, 0);
    }
    uint64_t ids[32];
    order(ids);
    uint32_t heavy = 0;
    for (int i = 0; i < 12; i++)
        heavy += ids[i] >= 100;
    assert_int_equal(heavy, 9);
    rig_free(&r);
}

static void test_one_tenant_cannot_fill_the_queue(void **state)
{
    (void)state;
    start(2, 0);
    uint64_t id = 1;
    do
        submit(id++, 0, 0);
    while (rig_count(&r, HDL_ACT_REJECT) == 0);
    assert_int_equal(rig_stats(&r).waiting, 57); /* 57 >= 8 * (64 - 57) */
    submit(1000, 1, 0);
    assert_int_equal(rig_count(&r, HDL_ACT_REJECT), 0);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrival_order),
        cmocka_unit_test(test_priority_and_aging),
        cmocka_unit_test(test_a_flood_does_not_starve),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_one_tenant_cannot_fill_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
