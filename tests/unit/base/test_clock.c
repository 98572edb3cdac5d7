/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/clock.h"

static void test_format(void **state)
{
    (void)state;
    static const struct {
        hdl_time_us us;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000000Z"},
        {1, "1970-01-01T00:00:00.000001Z"},
        {951827696000000 + 123456, "2000-02-29T12:34:56.123456Z"},
        {4102444799999999, "2099-12-31T23:59:59.999999Z"},
        {253402300799999999, "9999-12-31T23:59:59.999999Z"},
        {UINT64_MAX, "9999-12-31T23:59:59.999999Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[HDL_CLOCK_TEXT_BYTES];
        hdl_clock_format(cases[i].us, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_now(void **state)
{
    (void)state;
    hdl_time_us before = hdl_clock_now_us();
    assert_true(before > 0);
    hdl_clock_sleep_us(2000);
    hdl_time_us after = hdl_clock_now_us();
    assert_true(after >= before + 2000); /* a sleep may be longer, never shorter */
    assert_true(hdl_clock_now_ns() / 1000 + 1 >= after);
    assert_true(hdl_clock_wall_us() > 1600000000 * HDL_SEC_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
