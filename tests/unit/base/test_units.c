/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/units.h"
#include "heddle/types.h"

typedef struct amount {
    const char *text;
    bool ok;
    uint64_t value;
} amount;

static void test_sizes(void **state)
{
    (void)state;
    static const amount cases[] = {
        {"0", true, 0},
        {"4096", true, 4096},
        {"1k", true, 1024},
        {"4GiB", true, 4ull << 30},
        {"1.5G", true, 3ull << 29},
        {"0.25MiB", true, 1 << 18},
        {"2GB", true, 2000000000},
        {"17B", true, 17},
        {"16777215TiB", true, 16777215ull << 40},
        {"16777216TiB", false, 0}, /* 2^64 */
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"", false, 0},
        {"G", false, 0},
        {"-1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1gib", false, 0},
        {"1.", false, 0},
        {"0.3", false, 0}, /* no whole byte */
        {"1e3", false, 0},
        {"0.00000001TiB", false, 0},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        uint64_t value = 0;
        if (hdl_parse_size(cases[i].text, &value) != cases[i].ok)
            fail_msg("\"%s\"", cases[i].text);
        if (cases[i].ok)
            assert_int_equal(value, cases[i].value);
    }
}

static void test_durations(void **state)
{
    (void)state;
    static const amount cases[] = {
        {"0", true, 0},          {"2s", true, 2000000},
        {"150ms", true, 150000}, {"10us", true, 10},
        {"5m", true, 300000000}, {"1h", true, 3600000000},
        {"1.5s", true, 1500000}, {"5", false, 0},
        {"s", false, 0},         {"-1s", false, 0},
        {"0.5us", false, 0},     {"1s ", false, 0},
        {"0s", true, 0},         {"99999999999h", false, 0},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(cases); i++) {
        uint64_t value = 0;
        if (hdl_parse_duration(cases[i].text, &value) != cases[i].ok)
            fail_msg("\"%s\"", cases[i].text);
        if (cases[i].ok)
            assert_int_equal(value, cases[i].value);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    int64_t n;
    assert_true(hdl_parse_int("42", &n) && n == 42);
    assert_true(hdl_parse_int("-7", &n) && n == -7);
    assert_true(hdl_parse_int("+7", &n) && n == 7);
    assert_true(hdl_parse_int("0", &n) && n == 0);
    assert_true(hdl_parse_int("0xff", &n) && n == 255);
    assert_true(hdl_parse_int("0o17", &n) && n == 15);
    assert_true(hdl_parse_int("9223372036854775807", &n) && n == INT64_MAX);
    assert_true(hdl_parse_int("-9223372036854775808", &n) && n == INT64_MIN);
    static const char *const not_ints[] = {
        "",    "-",   "0123", "1.0", "1e3", "9223372036854775808",
        " 1",  "1 ",  "0x",   "0xg", "--1", "-0x1",
        "0o8", "abc", "+-1",  "1_0", "0x-1"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(not_ints); i++)
        if (hdl_parse_int(not_ints[i], &n))
            fail_msg("\"%s\" was taken as %lld", not_ints[i], (long long)n);

    double v;
    assert_true(hdl_parse_float("0.5", &v) && v == 0.5);
    assert_true(hdl_parse_float("-2", &v) && v == -2);
    assert_true(hdl_parse_float(".5", &v) && v == 0.5);
    assert_true(hdl_parse_float("1e-3", &v) && v == 1e-3);
    static const char *const not_floats[] = {"",   ".",     "-",    "nan", "inf",  "0x1p3",
                                             "1e", "1e400", "1.5x", " 1",  "01.5", "1,5"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(not_floats); i++)
        if (hdl_parse_float(not_floats[i], &v))
            fail_msg("\"%s\" was taken as %g", not_floats[i], v);

    bool flag;
    assert_true(hdl_parse_bool("true", &flag) && flag);
    assert_true(hdl_parse_bool("False", &flag) && !flag);
    assert_false(hdl_parse_bool("yes", &flag));
    assert_false(hdl_parse_bool("1", &flag));
    assert_false(hdl_parse_bool("", &flag));
}

static void test_format(void **state)
{
    (void)state;
    char text[HDL_UNITS_TEXT_BYTES];
    assert_string_equal(hdl_format_size(17, text), "17 B");
    assert_string_equal(hdl_format_size(1536, text), "1.50 KiB");
    assert_string_equal(hdl_format_size(4ull << 30, text), "4 GiB");
    assert_string_equal(hdl_format_size((1 << 20) - 1, text), "1.00 MiB");
    assert_string_equal(hdl_format_size(UINT64_MAX, text), "16 EiB");
    static const uint64_t exact[] = {0,         1, 17, 1024, 1536, 4ull << 30, (4ull << 30) + 1,
                                     UINT64_MAX};
    for (size_t i = 0; i < HDL_ARRAY_LEN(exact); i++) {
        uint64_t back = 1;
        assert_true(hdl_parse_size(hdl_format_size_exact(exact[i], text), &back));
        assert_int_equal(back, exact[i]);
    }
    static const uint64_t times[] = {0, 1, 999, 1000, 1500, 2000000, 2000001, 3600000000};
    for (size_t i = 0; i < HDL_ARRAY_LEN(times); i++) {
        uint64_t back = 1;
        assert_true(hdl_parse_duration(hdl_format_duration(times[i], text), &back));
        assert_int_equal(back, times[i]);
    }
}

static void test_suggest(void **state)
{
    (void)state;
    static const char *const keys[] = {"port", "host", NULL, "max_seqs", "prefix_cache"};
    enum { COUNT = HDL_ARRAY_LEN(keys) };
    assert_int_equal(hdl_suggest("prot", keys, COUNT), 0); /* a swap is one edit */
    assert_int_equal(hdl_suggest("hosts", keys, COUNT), 1);
    assert_int_equal(hdl_suggest("max_seq", keys, COUNT), 3);
    assert_int_equal(hdl_suggest("max-seqs", keys, COUNT), 3);
    assert_int_equal(hdl_suggest("prefixcahce", keys, COUNT), 4);
    assert_int_equal(hdl_suggest("temperature", keys, COUNT), -1);
    assert_int_equal(hdl_suggest("", keys, COUNT), -1);
    assert_int_equal(hdl_suggest("x", NULL, 0), -1);
    char longest[500];
    memset(longest, 'p', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(hdl_suggest(longest, keys, COUNT), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),   cmocka_unit_test(test_durations),
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_format),
        cmocka_unit_test(test_suggest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
