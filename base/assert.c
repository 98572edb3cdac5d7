/* SPDX-License-Identifier: Apache-2.0 */
/* Assertion reports and thread roles. The only place of the project, besides main, that ends the
 * process. */
#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static hdl_assert_report_fn *report_fn;
static void *report_arg;
static _Thread_local hdl_role thread_role;
static _Thread_local bool failing;

#define ROLE_TEXT(name) #name,
static const char *const role_names[] = {HDL_ROLE_LIST(ROLE_TEXT)};
#undef ROLE_TEXT

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n <= 0)
        return;
    size_t len = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    /* Nothing can be done about a failing stderr on the way to abort. */
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
}

static _Noreturn void report_and_abort(void)
{
    /* A hook that fails an assertion itself must not report for ever. */
    if (report_fn && !failing) {
        failing = true;
        report_fn(report_arg, STDERR_FILENO);
    }
    abort();
}

void hdl_assert_fail(const char *file, int line, const char *expr)
{
    say("assertion failed: %s:%d: %s [thread %s]\n", file, line, expr, hdl_role_name(thread_role));
    report_and_abort();
}

void hdl_assert_fail_values(const char *file, int line, const char *expr, long long a, long long b)
{
    say("assertion failed: %s:%d: %s with %lld (0x%llx) and %lld (0x%llx) [thread %s]\n", file,
        line, expr, a, (unsigned long long)a, b, (unsigned long long)b, hdl_role_name(thread_role));
    report_and_abort();
}

void hdl_assert_role(hdl_role role, const char *file, int line)
{
    if (__builtin_expect(thread_role == role || thread_role == HDL_ROLE_NONE, 1))
        return;
    say("assertion failed: %s:%d: called on thread %s, belongs to %s\n", file, line,
        hdl_role_name(thread_role), hdl_role_name(role));
    report_and_abort();
}

void hdl_thread_set_role(hdl_role role) { thread_role = role; }

hdl_role hdl_thread_role(void) { return thread_role; }

const char *hdl_role_name(hdl_role role)
{
    return (unsigned)role < HDL_ROLE_COUNT ? role_names[role] : "?";
}

void hdl_assert_set_report(hdl_assert_report_fn *fn, void *arg)
{
    report_arg = arg;
    report_fn = fn;
}
