/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/assert.h"

static char report[4096];

static void plain(void)
{
    int answer = 41;
    HDL_ASSERT(answer == 42);
}

static void values(void)
{
    size_t used = 7, size = 5;
    HDL_ASSERT_LE(used, size);
}

static void wrong_role(void)
{
    hdl_thread_set_role(HDL_ROLE_FRONT);
    HDL_ON_THREAD(BRAIN);
}

static void unreachable(void) { HDL_UNREACHABLE("no such case"); }

static void hook(void *arg, int fd)
{
    const char *text = arg;
    ssize_t n = write(fd, text, strlen(text));
    (void)n;
    HDL_ASSERT(text == NULL && "the hook itself fails");
}

static void with_hook(void)
{
    static char last_events[] = "last events: none\n";
    hdl_assert_set_report(hook, last_events);
    HDL_ASSERT_EQ(1, 2);
}

static void test_reports(void **state)
{
    (void)state;
    must_abort(plain, report, sizeof report);
    assert_has(report, "test_assert.c:");
    assert_has(report, "answer == 42");
    assert_has(report, "[thread NONE]");

    must_abort(values, report, sizeof report);
    assert_has(report, "used <= size with 7 (0x7) and 5 (0x5)");

    must_abort(unreachable, report, sizeof report);
    assert_has(report, "unreachable: no such case");
}

static void test_roles(void **state)
{
    (void)state;
    must_abort(wrong_role, report, sizeof report);
    assert_has(report, "called on thread FRONT, belongs to BRAIN");

    HDL_ON_THREAD(BRAIN); /* a thread without a role passes */
    hdl_thread_set_role(HDL_ROLE_STEP);
    HDL_ON_THREAD(STEP);
    assert_int_equal(hdl_thread_role(), HDL_ROLE_STEP);
    hdl_thread_set_role(HDL_ROLE_NONE);
    assert_string_equal(hdl_role_name(HDL_ROLE_TEAM), "TEAM");
    assert_string_equal(hdl_role_name((hdl_role)99), "?");
}

/* A hook that fails must not report for ever. */
static void test_hook(void **state)
{
    (void)state;
    must_abort(with_hook, report, sizeof report);
    assert_has(report, "1 == 2");
    assert_has(report, "last events: none");
    assert_has(report, "the hook itself fails");
}

static void test_pass(void **state)
{
    (void)state;
    int calls = 0;
    HDL_ASSERT(++calls == 1);
    HDL_ASSERT_EQ(calls, 1);
    HDL_ASSERT_LT(calls, 2);
    HDL_ASSERT_LE(calls, 1);
    HDL_ASSERT_SLOW(calls == 1);
    assert_int_equal(calls, 1); /* each operand ran once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reports),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_hook),
        cmocka_unit_test(test_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
