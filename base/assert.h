/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions for our own broken promises; compiled into every build, release too.
 *
 * A failed one prints `file:line`, the expression, both values and the thread's role to stderr,
 * runs the crash-report hook once, and aborts. The failing functions are out of line, so that
 * the pure core references nothing but their names. Operands of the comparing forms are
 * evaluated again when they fail: no side effects in them. Bad input and a failing world are not
 * assertions but hdl_err. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
#define HDL_NORETURN [[noreturn]]
#else
#define HDL_NORETURN _Noreturn
#endif

/* What a thread is for. A thread that never stated a role (a test's main) passes every check. */
#define HDL_ROLE_LIST(X)                                                                           \
    X(NONE)   /* not stated */                                                                     \
    X(MAIN)   /* main() of a daemon: signals, supervision */                                       \
    X(FRONT)  /* scheduler: HTTP connections */                                                    \
    X(TEXT)   /* scheduler: tokenises long prompts */                                              \
    X(BRAIN)  /* scheduler: owns hdl_sched */                                                      \
    X(RPC)    /* gRPC completion queue */                                                          \
    X(LOG)    /* log writer */                                                                     \
    X(STEP)   /* worker: owns device, stream, collectives */                                       \
    X(TEAM)   /* worker: compute threads of a team */                                              \
    X(LOADER) /* worker: reads weights at start */                                                 \
    X(ADMIN)  /* metrics and admin endpoints of a daemon without an HTTP front */

#define HDL_ROLE_ENUM(name) HDL_ROLE_##name,
typedef enum hdl_role { HDL_ROLE_LIST(HDL_ROLE_ENUM) HDL_ROLE_COUNT } hdl_role;
#undef HDL_ROLE_ENUM

#define HDL_ASSERT(cond)                                                                           \
    (__builtin_expect(!!(cond), 1) ? (void)0 : hdl_assert_fail(__FILE__, __LINE__, #cond))

#define HDL_ASSERT_OP_(a, op, b)                                                                   \
    (__builtin_expect((a)op(b), 1) ? (void)0                                                       \
                                   : hdl_assert_fail_values(__FILE__, __LINE__, #a " " #op " " #b, \
                                                            (long long)(a), (long long)(b)))
/* For integers, enums and pointers. */
#define HDL_ASSERT_EQ(a, b) HDL_ASSERT_OP_(a, ==, b)
#define HDL_ASSERT_LT(a, b) HDL_ASSERT_OP_(a, <, b)
#define HDL_ASSERT_LE(a, b) HDL_ASSERT_OP_(a, <=, b)

/* O(n) checks of whole structures: compiled in with -DHDL_SLOW_CHECKS (dev, sim, sanitizers). */
#ifdef HDL_SLOW_CHECKS
#define HDL_ASSERT_SLOW(cond) HDL_ASSERT(cond)
#else
#define HDL_ASSERT_SLOW(cond) ((void)sizeof(!(cond)))
#endif

#define HDL_UNREACHABLE(msg) hdl_assert_fail(__FILE__, __LINE__, "unreachable: " msg)

/* First line of a function that only one kind of thread may call: HDL_ON_THREAD(BRAIN); */
#define HDL_ON_THREAD(role) hdl_assert_role(HDL_ROLE_##role, __FILE__, __LINE__)

HDL_NORETURN void hdl_assert_fail(const char *file, int line, const char *expr)
    __attribute__((cold));
HDL_NORETURN void hdl_assert_fail_values(const char *file, int line, const char *expr, long long a,
                                         long long b) __attribute__((cold));
void hdl_assert_role(hdl_role role, const char *file, int line);

/* States and reads the calling thread's role; hdl_thread_start (thread.h) does it for its
 * threads. */
void hdl_thread_set_role(hdl_role role);
hdl_role hdl_thread_role(void);
const char *hdl_role_name(hdl_role role);

/* Crash-report hook: called once, on the failing thread, with a file descriptor to write to (a
 * table of recent events, say); it must not allocate. Process-wide; NULL removes it. Set before
 * threads start. */
typedef void hdl_assert_report_fn(void *arg, int fd);
void hdl_assert_set_report(hdl_assert_report_fn *fn, void *arg);
