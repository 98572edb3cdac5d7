/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/prefix.h"

static rig r;
static hdl_kv *kv;

static int setup(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.caches[0].n_blocks = 4;
    rig_init(&r, &c);
    kv = &r.s->groups[0].kv;
    hdl_kv_reset(kv, 4);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&r);
    return 0;
}

static void publish(uint32_t block, uint64_t hash)
{
    const hdl_token tokens[4] = {(hdl_token)hash, 1, 2, 3};
    memcpy(hdl_block_tokens(r.s, kv, block), tokens, sizeof tokens);
    kv->blocks[block].hash = hash;
    hdl_prefix_publish(r.s, kv, block, 0);
}

static uint32_t find(uint64_t hash)
{
    hdl_token tokens[4] = {(hdl_token)hash, 1, 2, 3};
    hdl_prefix_key key = {hash, 0, tokens};
    return hdl_prefix_find(r.s, kv, &key);
}

static void test_take_and_give(void **state)
{
    (void)state;
    uint32_t a = hdl_kv_take(r.s, kv), b = hdl_kv_take(r.s, kv);
    assert_int_not_equal(a, b);
    assert_int_equal(hdl_kv_spare(kv), 2);
    hdl_kv_hold(kv, a);
    hdl_kv_give(kv, a);
    assert_int_equal(hdl_kv_spare(kv), 2); /* still held once */
    hdl_kv_give(kv, a);
    hdl_kv_give(kv, b);
    assert_int_equal(kv->n_free, 4);
}

static void test_a_cached_block_is_found_until_it_is_taken(void **state)
{
    (void)state;
    uint32_t a = hdl_kv_take(r.s, kv);
    publish(a, 11);
    hdl_kv_give(kv, a);
    assert_int_equal(kv->n_cached, 1);
    assert_int_equal(find(11), a);
    hdl_kv_hold(kv, a); /* a hit */
    assert_int_equal(kv->n_cached, 0);
    hdl_kv_give(kv, a);
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(hdl_kv_take(r.s, kv), a); /* empty ones go first */
    assert_int_equal(hdl_kv_take(r.s, kv), a);
    assert_int_equal(find(11), HDL_NONE_U32); /* taking it killed its content */
}

static void test_eviction_order(void **state)
{
    (void)state;
    uint32_t b[4];
    for (uint32_t i = 0; i < 4; i++) {
        b[i] = hdl_kv_take(r.s, kv);
        publish(b[i], 20 + i);
    }
    hdl_kv_give(kv, b[3]); /* oldest */
    for (uint32_t i = 3; i > 0; i--)
        hdl_kv_give(kv, b[i - 1]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[3]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[2]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[1]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[0]);
}

/* Hits leave void entries behind; the ring must neither overflow nor forget the order. */
static void test_many_hits(void **state)
{
    (void)state;
    uint32_t b[4];
    for (uint32_t i = 0; i < 4; i++) {
        b[i] = hdl_kv_take(r.s, kv);
        publish(b[i], 20 + i);
    }
    for (uint32_t i = 0; i < 4; i++)
        hdl_kv_give(kv, b[i]);
    for (uint32_t n = 0; n < 1000; n++) {
        hdl_kv_hold(kv, b[n % 3]);
        hdl_kv_give(kv, b[n % 3]);
    }
    assert_int_equal(kv->n_cached, 4);
    assert_int_equal(hdl_kv_take(r.s, kv), b[3]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[1]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[2]);
    assert_int_equal(hdl_kv_take(r.s, kv), b[0]);
}

static void test_a_pin_holds(void **state)
{
    (void)state;
    uint32_t a = hdl_kv_take(r.s, kv);
    hdl_kv_pin(kv, a);
    hdl_kv_give(kv, a); /* its sequence is gone; the reader is not */
    for (int i = 0; i < 3; i++)
        assert_int_not_equal(hdl_kv_take(r.s, kv), a);
    assert_int_equal(hdl_kv_spare(kv), 0);
    hdl_kv_unpin(kv, a);
    assert_int_equal(hdl_kv_take(r.s, kv), a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_take_and_give, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_cached_block_is_found_until_it_is_taken, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_eviction_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_hits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_pin_holds, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
