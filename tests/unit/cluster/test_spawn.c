/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes: lines, ends, restarts, stopping the stubborn. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/thread.h"
#include "scheduler/cluster/spawn.h"

typedef struct seen {
    uint32_t starts, lines, ends;
    uint32_t enough_after; /* ends */
    char line[128];
} seen;

static bool on_event(void *arg, hdl_spawn_child *child, hdl_spawn_event event, const char *line)
{
    (void)child;
    seen *s = arg;
    switch (event) {
    case HDL_SPAWN_STARTED: s->starts++; return false;
    case HDL_SPAWN_LINE:
        s->lines++;
        snprintf(s->line, sizeof s->line, "%s", line);
        return true;
    case HDL_SPAWN_ENDED: s->ends++; return s->ends >= s->enough_after;
    }
    return false;
}

typedef struct fixture {
    hdl_loop *loop;
    hdl_spawn *spawn;
    seen seen;
    hdl_spawn_child *child;
    hdl_errmsg why;
} fixture;

static hdl_err start(fixture *f, const char *program, const char *script, bool once)
{
    const char *argv[] = {program, "-c", script, NULL};
    assert_int_equal(hdl_loop_open(&f->loop, &f->why), HDL_OK);
    assert_int_equal(hdl_spawn_open(&f->spawn, f->loop), HDL_OK);
    return hdl_spawn_start(
        f->spawn,
        &(hdl_spawn_opts){
            .name = "child", .argv = argv, .once = once, .on_event = on_event, .arg = &f->seen},
        &f->child, &f->why);
}

static void run_until(fixture *f, const uint32_t *counter, uint32_t at_least)
{
    while (*counter < at_least)
        assert_int_equal(hdl_loop_run_once(f->loop, 1000000), HDL_OK);
}

static void stop(fixture *f)
{
    hdl_spawn_close(f->spawn);
    hdl_loop_close(f->loop);
}

static void lines_and_status(void **state)
{
    (void)state;
    fixture f = {0};
    char text[64];
    assert_int_equal(start(&f, "/bin/sh", "echo one; printf two; cat; exit 3", true), HDL_OK);
    run_until(&f, &f.seen.ends, 1); /* cat ended: standard input is empty */
    assert_int_equal(f.seen.starts, 1);
    assert_int_equal(f.seen.lines, 2);
    assert_string_equal(f.seen.line, "two");
    assert_int_equal(WEXITSTATUS(hdl_spawn_status(f.child)), 3);
    assert_string_equal(hdl_spawn_status_text(hdl_spawn_status(f.child), text, sizeof text),
                        "exit status 3");
    assert_int_equal(hdl_spawn_pid(f.child), 0);
    stop(&f);
}

/* Whoever reads late, after the end, reads all that was written, on both pipes. */
static void last_words_are_heard(void **state)
{
    (void)state;
    enum { LINES = 300 };
    fixture f = {0};
    siginfo_t info;
    char line[256];
    uint32_t heard = 0;
    FILE *errors = tmpfile();
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    assert_non_null(errors);
    assert_int_equal(start(&f, "/bin/sh",
                           "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo a line of the usual $i;"
                           "echo what went wrong, at length: $i >&2; done; exit 1",
                           true),
                     HDL_OK);
    assert_int_equal(waitid(P_PID, (id_t)hdl_spawn_pid(f.child), &info, WEXITED | WNOWAIT), 0);
    dup2(fileno(errors), STDERR_FILENO); /* where the lines of standard error are passed on */
    run_until(&f, &f.seen.ends, 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(f.seen.lines, LINES);
    assert_string_equal(f.seen.line, "a line of the usual 300");
    rewind(errors);
    while (fgets(line, sizeof line, errors))
        heard += strncmp(line, "[child] what went wrong", 23) == 0;
    fclose(errors);
    assert_int_equal(heard, LINES);
    stop(&f);
}

/* A grandchild that keeps the pipes open, in the middle of a line, holds up nothing. */
static void a_grandchild_holds_up_nothing(void **state)
{
    (void)state;
    fixture f = {0};
    assert_int_equal(start(&f, "/bin/sh", "sleep 1000 & printf part; exit 0", true), HDL_OK);
    pid_t group = hdl_spawn_pid(f.child);
    run_until(&f, &f.seen.ends, 1);
    assert_string_equal(f.seen.line, "part");
    assert_int_equal(kill(-group, SIGKILL), 0);
    stop(&f);
}

static void the_dead_are_started_again(void **state)
{
    (void)state;
    fixture f = {.seen = {.enough_after = 3}};
    assert_int_equal(start(&f, "/bin/sh", "kill -9 $$", false), HDL_OK);
    run_until(&f, &f.seen.ends, 3);
    assert_int_equal(f.seen.starts, 3);
    assert_int_equal(hdl_spawn_restarts(f.child), 2);
    assert_true(WIFSIGNALED(hdl_spawn_status(f.child)));
    stop(&f);
}

static void the_stubborn_are_killed(void **state)
{
    (void)state;
    fixture f = {.seen = {.enough_after = 9}};
    /* Signals are not blocked in children, though this process blocks them all. */
    assert_int_equal(
        start(&f, "/bin/sh", "trap '' TERM; echo up; while :; do sleep 9; done", false), HDL_OK);
    run_until(&f, &f.seen.lines, 1);
    hdl_spawn_stop(f.spawn, 50000);
    assert_int_equal(f.seen.ends, 1);
    assert_int_equal(f.seen.starts, 1); /* and stay dead */
    assert_int_equal(WTERMSIG(hdl_spawn_status(f.child)), SIGKILL);
    stop(&f);
}

static void the_willing_end_by_sigterm(void **state)
{
    (void)state;
    fixture f = {0};
    assert_int_equal(start(&f, "/bin/sh", "echo up; exec sleep 60", false), HDL_OK);
    run_until(&f, &f.seen.lines, 1);
    hdl_spawn_stop(f.spawn, 20000000);
    assert_int_equal(WTERMSIG(hdl_spawn_status(f.child)), SIGTERM);
    stop(&f);
}

static void a_missing_program_is_told(void **state)
{
    (void)state;
    fixture f = {.seen = {.enough_after = 1}};
    char text[64];
    assert_int_equal(start(&f, "/nonexistent/program", "", false), HDL_OK);
    run_until(&f, &f.seen.ends, 1);
    assert_non_null(strstr(hdl_spawn_status_text(hdl_spawn_status(f.child), text, sizeof text),
                           "cannot be run"));
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_words_are_heard),
        cmocka_unit_test(a_grandchild_holds_up_nothing),
        cmocka_unit_test(lines_and_status),
        cmocka_unit_test(the_dead_are_started_again),
        cmocka_unit_test(the_stubborn_are_killed),
        cmocka_unit_test(the_willing_end_by_sigterm),
        cmocka_unit_test(a_missing_program_is_told),
    };
    hdl_thread_block_signals();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
