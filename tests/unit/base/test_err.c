/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

static void test_rows(void **state)
{
    (void)state;
    for (int err = 0; err < HDL_ERR_COUNT; err++) {
        assert_true(strlen(hdl_err_name((hdl_err)err)) > 0);
        assert_true(strlen(hdl_err_text((hdl_err)err)) > 0);
        int http = hdl_err_http_status((hdl_err)err);
        assert_in_range(http, 200, 599);
    }
    assert_string_equal(hdl_err_name(HDL_TIMEOUT), "TIMEOUT");
    assert_int_equal(hdl_err_http_status(HDL_BUSY), 429);
    assert_string_equal(hdl_err_name((hdl_err)1000), "BUG");
    assert_string_equal(hdl_err_name((hdl_err)-1), "BUG");
}

static void test_messages(void **state)
{
    (void)state;
    hdl_errmsg why = {""};
    assert_err(hdl_fail(HDL_IO, &why, "cannot open %s", "x"), IO);
    assert_string_equal(why.text, "cannot open x");
    hdl_fail_prefix(HDL_IO, &why, "%s:%d", "a.yaml", 3);
    assert_string_equal(why.text, "a.yaml:3: cannot open x");
    /* The message itself may be an argument. */
    hdl_fail(HDL_IO, &why, "again: %s", why.text);
    assert_string_equal(why.text, "again: a.yaml:3: cannot open x");
    assert_err(hdl_fail(HDL_PEER, NULL, "nobody reads this"), PEER);
    assert_err(hdl_fail_prefix(HDL_PEER, NULL, "nor this"), PEER);
    hdl_errmsg empty = {""};
    hdl_fail_prefix(HDL_IO, &empty, "alone");
    assert_string_equal(empty.text, "alone");
}

/* A cut message ends in a whole character, because it may become JSON. */
static void test_cut_is_utf8(void **state)
{
    (void)state;
    for (size_t pad = 0; pad < 4; pad++) {
        char text[1024];
        memset(text, 'a', pad);
        for (size_t i = pad; i + 4 < sizeof text; i += 4)
            memcpy(text + i, "\xF0\x9F\x98\x80", 5);
        hdl_errmsg why;
        hdl_fail(HDL_IO, &why, "%s", text);
        size_t len = strlen(why.text);
        assert_in_range(len, sizeof why.text - 5, sizeof why.text - 1);
        assert_int_equal((len - pad) % 4, 0);
    }
}

static hdl_err try_it(hdl_err inner)
{
    HDL_TRY(inner);
    return HDL_BUG;
}

static hdl_err try_goto(hdl_err inner, int *cleaned)
{
    hdl_err err;
    HDL_TRY_GOTO(inner, fail);
fail:
    ++*cleaned;
    return err;
}

static void test_macros(void **state)
{
    (void)state;
    int cleaned = 0;
    assert_err(try_it(HDL_NOMEM), NOMEM);
    assert_err(try_it(HDL_OK), BUG);
    assert_err(try_goto(HDL_PEER, &cleaned), PEER);
    assert_int_equal(cleaned, 1);
    hdl_err err = HDL_OK;
    HDL_KEEP_FIRST(err, HDL_IO);
    HDL_KEEP_FIRST(err, HDL_PEER);
    assert_err(err, IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_cut_is_utf8),
        cmocka_unit_test(test_macros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
