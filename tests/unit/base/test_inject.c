/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/clock.h"
#include "base/inject.h"
#include "base/log.h"

static hdl_errmsg why;

static int teardown(void **state)
{
    (void)state;
    hdl_inject_reset();
    return 0;
}

static hdl_err reach(void)
{
    HDL_TRY(HDL_INJECT("test.point"));
    return HDL_OK;
}

#ifdef HDL_INJECT_ENABLED

static void test_error(void **state)
{
    (void)state;
    assert_ok(reach());
    assert_ok(hdl_inject_arm("test.point:2=error(PEER)", &why));
    assert_ok(reach());
    assert_err(reach(), PEER);
    assert_ok(reach());
    assert_int_equal(hdl_inject_hits("test.point"), 3);
    assert_int_equal(hdl_inject_hits("other"), 0);
    hdl_inject_reset();
    assert_ok(reach());
}

static void test_every_and_default(void **state)
{
    (void)state;
    assert_ok(hdl_inject_arm(" test.point:*=error(IO) ; other = error(PEER);", &why));
    assert_err(reach(), IO);
    assert_err(reach(), IO);
    assert_err(HDL_INJECT("other"), PEER); /* the first hit */
    assert_ok(HDL_INJECT("other"));
}

static void test_delay(void **state)
{
    (void)state;
    assert_ok(hdl_inject_arm("test.point=delay(3ms)", &why));
    hdl_time_us before = hdl_clock_now_us();
    assert_ok(reach());
    assert_true(hdl_clock_now_us() - before >= 3000);
}

static void test_kill(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        if (hdl_inject_arm("test.point=kill", &why) == HDL_OK)
            (void)!reach();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_bad_specs(void **state)
{
    (void)state;
    static const char *const specs[] = {"x",           "x=",         "x=boom",   "x:0=kill",
                                        "x:-1=kill",   "x:y=kill",   "=kill",    "x=error(NO)",
                                        "x=error(OK)", "x=delay(5)", "x=error(", "x:=kill"};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        if (hdl_inject_arm(specs[i], &why) != HDL_INVALID)
            fail_msg("taken: %s", specs[i]);
        assert_has(why.text, "point:N=");
    }
    assert_ok(hdl_inject_arm("", &why));
    hdl_err err = HDL_OK;
    for (int i = 0; i < 100 && err == HDL_OK; i++)
        err = hdl_inject_arm("p=kill", &why);
    assert_err(err, BUSY);
}

#else

static void test_not_compiled_in(void **state)
{
    (void)state;
    assert_ok(hdl_inject_arm("", &why));
    assert_err(hdl_inject_arm("test.point=kill", &why), UNSUPPORTED);
    assert_ok(reach());
}

#endif

int main(void)
{
    hdl_errmsg quiet_why;
    hdl_log_opts quiet = {.path = "/dev/null", .level = HDL_LOG_INFO};
    if (hdl_log_setup(&quiet, &quiet_why) != HDL_OK)
        return 1;
    const struct CMUnitTest tests[] = {
#ifdef HDL_INJECT_ENABLED
        cmocka_unit_test_teardown(test_error, teardown),
        cmocka_unit_test_teardown(test_every_and_default, teardown),
        cmocka_unit_test_teardown(test_delay, teardown),
        cmocka_unit_test_teardown(test_kill, teardown),
        cmocka_unit_test_teardown(test_bad_specs, teardown),
#else
        cmocka_unit_test_teardown(test_not_compiled_in, teardown),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
