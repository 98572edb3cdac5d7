/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/pulse.h"

static char folder[64], path[128];

static int make_folder(void **state)
{
    hdl_errmsg why;
    (void)state;
    assert_int_equal(hdl_fs_mkdtemp(folder, sizeof(folder), "heddle-pulse-", &why), HDL_OK);
    snprintf(path, sizeof(path), "%s/worker", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return hdl_fs_remove_tree(folder) == HDL_OK ? 0 : -1;
}

static hdl_err ask(hdl_time_us now_us, bool ready)
{
    hdl_errmsg why = {0};
    hdl_err err = hdl_pulse_ask(path, (hdl_pulse_question){.ready = ready, .now_us = now_us}, &why);
    assert_true(err == HDL_OK || why.text[0] != '\0');
    return err;
}

static void test_life(void **state)
{
    hdl_pulse h;
    hdl_errmsg why = {0};
    const hdl_time_us t = 100 * HDL_SEC_US;
    (void)state;
    assert_int_equal(ask(t, false), HDL_NOTFOUND);
    assert_int_equal(hdl_pulse_open(&h, path, &why), HDL_OK);
    assert_int_equal(ask(t, false), HDL_INVALID); /* has not turned yet */
    hdl_pulse_beat(&h, t, false);
    assert_int_equal(ask(t, false), HDL_OK);
    assert_int_equal(ask(t, true), HDL_AGAIN);
    hdl_pulse_beat(&h, t + 1, true); /* a change is written at once */
    assert_int_equal(ask(t + 1, true), HDL_OK);
    hdl_pulse_beat(&h, t + 2, true); /* the same again is not */
    assert_int_equal(ask(t + 1 + HDL_PULSE_STALE_US, true), HDL_OK);
    assert_int_equal(ask(t + 2 + HDL_PULSE_STALE_US, true), HDL_TIMEOUT);
    assert_int_equal(ask(t + 2 + HDL_PULSE_STALE_US, false), HDL_TIMEOUT);
    hdl_pulse_beat(&h, t + 1 + HDL_SEC_US, true);
    assert_int_equal(ask(t + 2 + HDL_PULSE_STALE_US, true), HDL_OK);
    assert_int_equal(ask(t, false), HDL_TIMEOUT); /* a line of before the machine's start */
    hdl_pulse_close(&h);
}

static void test_one_writer(void **state)
{
    hdl_pulse first, second;
    hdl_errmsg why = {0};
    (void)state;
    assert_int_equal(hdl_pulse_open(&first, path, &why), HDL_OK);
    hdl_pulse_beat(&first, HDL_SEC_US, true);
    assert_int_equal(hdl_pulse_open(&second, path, &why), HDL_BUSY);
    assert_non_null(strstr(why.text, "of its own"));
    assert_int_equal(ask(HDL_SEC_US, true), HDL_OK); /* which the attempt left alone */
    hdl_pulse_close(&first);
    assert_int_equal(hdl_pulse_open(&second, path, &why), HDL_OK);
    assert_int_equal(ask(HDL_SEC_US, false), HDL_INVALID); /* the old one's word is void */
    hdl_pulse_close(&second);
}

static void test_foreign_files(void **state)
{
    static const char *const texts[] = {
        "",
        "ready",
        "ready 00000000000000000001",     /* no end of line */
        "ready 00000000000000000001\n\n", /* one byte more */
        "reddy 00000000000000000001\n",
        "ready 0000000000000000000x\n",
        "ready +0000000000000000001\n",
        "ready 99999999999999999999\n", /* beyond 64 bits */
    };
    hdl_errmsg why;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const hdl_fs_bytes bytes = {.data = texts[i], .len = strlen(texts[i])};
        assert_int_equal(hdl_fs_write_atomic(path, bytes, &why), HDL_OK);
        if (ask(2, true) != HDL_INVALID)
            fail_msg("text %zu was taken: %s", i, texts[i]);
    }
    const hdl_fs_bytes good = {.data = "ready 00000000000000000001\n", .len = 27};
    assert_int_equal(hdl_fs_write_atomic(path, good, &why), HDL_OK);
    assert_int_equal(ask(2, true), HDL_OK);
}

static void test_nobody_asks(void **state)
{
    hdl_pulse h;
    hdl_errmsg why = {0};
    (void)state;
    assert_int_equal(hdl_pulse_open(&h, "", &why), HDL_OK);
    hdl_pulse_beat(&h, HDL_SEC_US, true);
    hdl_pulse_close(&h);
    snprintf(path, sizeof(path), "%s/none/worker", folder);
    assert_int_equal(hdl_pulse_open(&h, path, &why), HDL_IO);
    assert_non_null(strstr(why.text, "worker.health_file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_one_writer, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_foreign_files, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_nobody_asks, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
