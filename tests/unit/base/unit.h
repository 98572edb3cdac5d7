/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with its prerequisites, and two helpers: strings that must hold a part, and functions
 * that must die. */
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "heddle/err.h"

#define assert_has(text, part)                                                                     \
    do {                                                                                           \
        if (strstr((text), (part)) == NULL)                                                        \
            fail_msg("\"%s\" does not hold \"%s\"", (text), (part));                               \
    } while (0)

#define assert_ok(call)        assert_string_equal(hdl_err_name(call), "OK")
#define assert_err(call, code) assert_string_equal(hdl_err_name(call), #code)

/* Runs fn in a child process, which must abort; its stderr is left in out. */
static inline void must_abort(void (*fn)(void), char *out, size_t size)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        fn();
        _exit(0);
    }
    close(fds[1]);
    size_t at = 0;
    ssize_t n;
    while (at + 1 < size && (n = read(fds[0], out + at, size - 1 - at)) > 0)
        at += (size_t)n;
    out[at] = '\0';
    close(fds[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}
