/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/rng.h"

/* Known-answer vectors published with the paper's Random123 library (philox4x32, 10 rounds). */
static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint32_t ctr[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t out[4];
        hdl_philox(cases[i].ctr, cases[i].key, out);
        assert_memory_equal(out, cases[i].out, sizeof out);
    }
}

static void test_philox_unit(void **state)
{
    (void)state;
    assert_true(hdl_philox_unit(0) > 0.0f);
    assert_true(hdl_philox_unit(UINT32_MAX) < 1.0f);
    assert_true(hdl_philox_unit(1u << 31) > 0.5f);
    assert_true(hdl_philox_unit((1u << 31) - 1) < 0.5f);
}

static void test_streams(void **state)
{
    (void)state;
    hdl_rng a, b;
    hdl_rng_init(&a, 1);
    hdl_rng_init(&b, 1);
    for (int i = 0; i < 100; i++)
        assert_int_equal(hdl_rng_u64(&a), hdl_rng_u64(&b));
    hdl_rng_init(&b, 2);
    assert_int_not_equal(hdl_rng_u64(&a), hdl_rng_u64(&b));
    hdl_rng child = hdl_rng_fork(&a);
    assert_int_not_equal(hdl_rng_u64(&child), hdl_rng_u64(&a));
    hdl_rng_init(&a, 0);
    assert_int_not_equal(hdl_rng_u64(&a), 0);
}

/* 6 bins of 60,000 draws: 10,000 expected, standard deviation 91; the seed is fixed. */
static void test_below(void **state)
{
    (void)state;
    hdl_rng rng;
    hdl_rng_init(&rng, 7);
    uint32_t bins[6] = {0};
    for (int i = 0; i < 60000; i++)
        bins[hdl_rng_below(&rng, 6)]++;
    for (int i = 0; i < 6; i++)
        assert_in_range(bins[i], 10000 - 500, 10000 + 500);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(hdl_rng_below(&rng, 1), 0);
        assert_in_range(hdl_rng_range(&rng, 3, 5), 3, 5);
        assert_true(hdl_rng_below(&rng, (1ull << 63) + 1) <= 1ull << 63);
        double unit = hdl_rng_unit(&rng);
        assert_true(unit >= 0 && unit < 1);
    }
    hdl_rng_range(&rng, 0, UINT64_MAX); /* the full width must not divide by zero */
    assert_true(hdl_rng_chance(&rng, 1, 1));
    assert_false(hdl_rng_chance(&rng, 0, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_philox_unit),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
