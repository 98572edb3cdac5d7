/* SPDX-License-Identifier: Apache-2.0 */
/* How many replicas are wanted: rises, lulls, the way to zero and back, on a clock of the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/rng.h"
#include "scheduler/cluster/scale_policy.h"

#define SEC ((uint64_t)1000000)

static const hdl_scale_policy policy = {.min = 0,
                                        .max = 4,
                                        .queued_tokens = 1000,
                                        .requests = 10,
                                        .up_after_us = 5 * SEC,
                                        .down_after_us = 60 * SEC,
                                        .zero_after_us = 120 * SEC};

typedef struct service {
    hdl_scale_policy policy;
    hdl_scale_state state;
    uint64_t now_us;
    unsigned n_changes;
} service;

static service begin(const hdl_scale_policy *p)
{
    service s = {.policy = *p, .now_us = 1000 * SEC};
    hdl_scale_init(&s.state, &s.policy, s.now_us);
    return s;
}

/* The demand stands for so long, looked at ten times a second. */
static uint32_t hold(service *s, hdl_scale_demand demand, uint64_t us)
{
    for (uint64_t end = s->now_us + us; s->now_us < end; s->now_us += SEC / 10)
        s->n_changes += hdl_scale_step(&s->state, &s->policy, &demand, s->now_us);
    return s->state.desired;
}

static void test_wanted(void **state)
{
    (void)state;
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){0}), 0);
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){.running = 1}), 1);
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){.refused = true}), 1);
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){.running = 8, .waiting = 3}), 2);
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){.queued_tokens = 2001}), 3);
    assert_int_equal(hdl_scale_wanted(&policy, &(hdl_scale_demand){.queued_tokens = 1u << 30}), 4);
}

static void test_from_zero_at_once(void **state)
{
    service s = begin(&policy);
    (void)state;
    assert_int_equal(hold(&s, (hdl_scale_demand){0}, 10 * SEC), 0);
    assert_int_equal(hold(&s, (hdl_scale_demand){.waiting = 1}, SEC / 10), 1);
    assert_string_equal(s.state.reason, "requests came while there was no replica");
}

static void test_up_when_it_stands(void **state)
{
    service s = begin(&policy);
    const hdl_scale_demand some = {.running = 5}, much = {.running = 25};
    (void)state;
    hold(&s, some, 10 * SEC);
    assert_int_equal(hold(&s, much, 4 * SEC), 1); /* a burst adds nothing */
    assert_int_equal(hold(&s, some, SEC), 1);
    assert_int_equal(hold(&s, much, 4 * SEC), 1); /* and does not add up */
    assert_int_equal(hold(&s, much, 2 * SEC), 3);
}

static void test_down_after_a_while(void **state)
{
    service s = begin(&policy);
    const hdl_scale_demand much = {.running = 25}, some = {.running = 5};
    (void)state;
    hold(&s, much, 20 * SEC);
    assert_int_equal(s.state.desired, 3);
    assert_int_equal(hold(&s, some, 50 * SEC), 3); /* a lull stops nothing */
    assert_int_equal(hold(&s, much, SEC), 3);
    assert_int_equal(hold(&s, some, 50 * SEC), 3); /* it begins anew */
    assert_int_equal(hold(&s, some, 15 * SEC), 1);
    assert_string_equal(s.state.reason, "fewer replicas would have done for a while");
}

static void test_to_zero(void **state)
{
    service s = begin(&policy);
    (void)state;
    hold(&s, (hdl_scale_demand){.running = 1}, 10 * SEC);
    assert_int_equal(hold(&s, (hdl_scale_demand){0}, 119 * SEC), 1);
    assert_int_equal(hold(&s, (hdl_scale_demand){0}, 2 * SEC), 0);
    assert_string_equal(s.state.reason, "idle");
    hdl_scale_policy kept = policy;
    kept.min = 1;
    s = begin(&kept);
    assert_int_equal(hold(&s, (hdl_scale_demand){0}, 500 * SEC), 1);
}

/* Demand that swings between one and two replicas' worth faster than the windows: at most one
 * change, whatever the swing. */
static void test_no_flapping(void **state)
{
    hdl_rng rng;
    (void)state;
    hdl_rng_init(&rng, 7);
    for (int round = 0; round < 50; round++) {
        service s = begin(&policy);
        hold(&s, (hdl_scale_demand){.running = 5}, 30 * SEC);
        s.n_changes = 0;
        for (int i = 0; i < 200; i++) {
            hold(&s, (hdl_scale_demand){.running = 15}, SEC * hdl_rng_range(&rng, 1, 30));
            hold(&s, (hdl_scale_demand){.running = 5}, SEC * hdl_rng_range(&rng, 1, 50));
        }
        assert_true(s.n_changes <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wanted),
        cmocka_unit_test(test_from_zero_at_once),
        cmocka_unit_test(test_up_when_it_stands),
        cmocka_unit_test(test_down_after_a_while),
        cmocka_unit_test(test_to_zero),
        cmocka_unit_test(test_no_flapping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
