/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "scheduler/core/kv.h"
#include "scheduler/core/prefix.h"

static rig r;
static hdl_kv *kv;
static const hdl_token one[4] = {1, 2, 3, 4}, two[4] = {1, 2, 3, 5};

static int setup(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    rig_init(&r, &c);
    kv = &r.s->groups[0].kv;
    hdl_kv_reset(kv, 16);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&r);
    return 0;
}

static uint64_t publish(uint32_t block, const hdl_prefix_key *key)
{
    memcpy(hdl_block_tokens(r.s, kv, block), key->tokens, sizeof one);
    kv->blocks[block].hash = key->hash;
    return hdl_prefix_publish(r.s, kv, block, key->parent);
}

/* Equal hashes are the worst that can happen: tokens decide. */
static void test_a_collision_is_no_hit(void **state)
{
    (void)state;
    hdl_prefix_key a = {77, 0, one}, b = {77, 0, two};
    uint32_t block = hdl_kv_take(r.s, kv);
    publish(block, &a);
    assert_int_equal(hdl_prefix_find(r.s, kv, &a), block);
    assert_int_equal(hdl_prefix_find(r.s, kv, &b), HDL_NONE_U32);
    uint32_t other = hdl_kv_take(r.s, kv);
    publish(other, &b);
    assert_int_equal(hdl_prefix_find(r.s, kv, &a), block);
    assert_int_equal(hdl_prefix_find(r.s, kv, &b), other);
}

/* The same tokens under the same hash, but after another prefix. */
static void test_the_parent_must_be_the_same(void **state)
{
    (void)state;
    uint32_t block = hdl_kv_take(r.s, kv);
    publish(block, &(hdl_prefix_key){77, 5, one});
    assert_int_equal(hdl_prefix_find(r.s, kv, &(hdl_prefix_key){77, 6, one}), HDL_NONE_U32);
    assert_int_equal(hdl_prefix_find(r.s, kv, &(hdl_prefix_key){77, 5, one}), block);
}

static void test_the_first_publication_stands(void **state)
{
    (void)state;
    hdl_prefix_key key = {77, 0, one};
    uint32_t a = hdl_kv_take(r.s, kv), b = hdl_kv_take(r.s, kv);
    uint64_t serial = publish(a, &key);
    assert_int_equal(publish(b, &key), serial);
    assert_int_equal(hdl_prefix_find(r.s, kv, &key), a);
    hdl_prefix_forget(kv, a);
    hdl_prefix_forget(kv, a); /* again: nothing */
    assert_int_equal(hdl_prefix_find(r.s, kv, &key), HDL_NONE_U32);
    assert_int_not_equal(publish(b, &key), serial);
}

/* More entries of one home than a line has room for: they stand in the lines behind it, also when
 * one before them has gone since. */
static void test_a_full_line_runs_over(void **state)
{
    (void)state;
    uint32_t blocks[2 * HDL_LINE_ENTRIES];
    hdl_prefix_key keys[2 * HDL_LINE_ENTRIES];
    for (uint32_t i = 0; i < 2 * HDL_LINE_ENTRIES; i++) {
        keys[i] = (hdl_prefix_key){(uint64_t)UINT32_MAX << 32 | i, 0, one}; /* in the last line */
        blocks[i] = hdl_kv_take(r.s, kv);
        publish(blocks[i], &keys[i]);
    }
    for (uint32_t gone = 0; gone < 2 * HDL_LINE_ENTRIES; gone += 3)
        hdl_prefix_forget(kv, blocks[gone]);
    for (uint32_t i = 0; i < 2 * HDL_LINE_ENTRIES; i++)
        assert_int_equal(hdl_prefix_find(r.s, kv, &keys[i]), i % 3 ? blocks[i] : HDL_NONE_U32);
    for (uint32_t i = 0; i < 2 * HDL_LINE_ENTRIES; i++)
        hdl_prefix_forget(kv, blocks[i]);
    for (uint32_t i = 0; i < kv->n_lines; i++)
        assert_int_equal(kv->lines[i].n_past, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_collision_is_no_hit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_parent_must_be_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_first_publication_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_line_runs_over, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
