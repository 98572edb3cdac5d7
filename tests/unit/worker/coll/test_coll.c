/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives over shared memory: every operation against its definition, ranks as threads and as
 * processes, back to back, with messages longer than the buffer; deaths, aborts and leftovers. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "coll/script.h"
#include <heddle/limits.h>

typedef struct group {
    char address[64];
    const char *backend;
    uint32_t n_ranks;
    uint64_t timeout_us;
    void (*script)(hdl_coll *world);
} group;

typedef struct rank {
    const group *g;
    uint32_t idx;
} rank;

static group make_group(uint32_t n_ranks, void (*script)(hdl_coll *))
{
    static unsigned serial;
    group g = {.backend = "shm", .n_ranks = n_ranks, .timeout_us = 30000000, .script = script};
    snprintf(g.address, sizeof(g.address), "heddle-coll-%d-%u", (int)getpid(), serial++);
    return g;
}

static hdl_err open_rank(hdl_coll **coll, const group *g, uint32_t idx, hdl_errmsg *why)
{
    hdl_coll_opts opts = {.backend = g->backend,
                          .address = g->address,
                          .rank = idx,
                          .n_ranks = g->n_ranks,
                          .buffer_bytes = SCRIPT_BUFFER,
                          .timeout_us = g->timeout_us};
    return hdl_coll_open(coll, &opts, why);
}

static void *run_rank(void *arg)
{
    const rank *r = arg;
    hdl_coll *coll = NULL;
    hdl_errmsg why = {0};
    MUST(open_rank(&coll, r->g, r->idx, &why) == HDL_OK);
    r->g->script(coll);
    hdl_coll_close(coll);
    return NULL;
}

static void run_threads(const group *g)
{
    pthread_t threads[HDL_RANKS_MAX];
    rank ranks[HDL_RANKS_MAX];
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        ranks[i] = (rank){.g = g, .idx = i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &ranks[i]), 0);
    }
    for (uint32_t i = 0; i < g->n_ranks; i++)
        pthread_join(threads[i], NULL);
}

static void run_processes(const group *g)
{
    pid_t pids[HDL_RANKS_MAX];
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            rank r = {.g = g, .idx = i};
            run_rank(&r);
            _exit(0);
        }
    }
    for (uint32_t i = 0; i < g->n_ranks; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void test_threads(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 8; n *= 2) {
        group g = make_group(n, script_operations);
        run_threads(&g);
    }
}

static void test_checked(void **state)
{
    (void)state;
    group g = make_group(4, script_operations);
    g.backend = "check+shm";
    run_threads(&g);
}

static void test_processes(void **state)
{
    (void)state;
    group g = make_group(4, script_operations);
    run_processes(&g);
}

static void test_fast_root(void **state)
{
    (void)state;
    group g = make_group(4, script_fast_root);
    run_threads(&g);
}

/* ---- failures ----------------------------------------------------------------------------- */

/* Ranks that disagree on the call are told so instead of hanging. */
static void script_mismatch(hdl_coll *c)
{
    float x[8] = {0};
    size_t n = hdl_coll_rank(c) == 1 ? 8 : 4;
    MUST(hdl_coll_all_reduce(c, x, n) == HDL_BUG);
    MUST(hdl_coll_poll(c) == HDL_BUG);
}

static void test_mismatch_is_found(void **state)
{
    (void)state;
    group g = make_group(2, script_mismatch);
    g.backend = "check+shm";
    run_threads(&g);
}

static bool segment_exists(const group *g)
{
    char name[80];
    snprintf(name, sizeof(name), "/%s", g->address);
    int fd = shm_open(name, O_RDWR, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Rank 1 is killed in the middle; rank 0 gets a timeout, and nothing is left in /dev/shm. */
static void test_killed_peer(void **state)
{
    (void)state;
    group g = make_group(2, NULL);
    g.timeout_us = 300000;
    pid_t pid = fork();
    assert_true(pid >= 0);
    hdl_coll *c = NULL;
    hdl_errmsg why = {0};
    float x[4] = {1, 2, 3, 4};
    if (pid == 0) {
        if (open_rank(&c, &g, 1, &why) == HDL_OK && hdl_coll_all_reduce(c, x, 4) == HDL_OK)
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(open_rank(&c, &g, 0, &why), HDL_OK);
    assert_false(segment_exists(&g));
    assert_int_equal(hdl_coll_all_reduce(c, x, 4), HDL_OK);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(hdl_coll_all_reduce(c, x, 4), HDL_TIMEOUT);
    assert_int_equal(hdl_coll_poll(c), HDL_TIMEOUT); /* sticky */
    assert_int_equal(hdl_coll_broadcast(c, x, 4, 0), HDL_TIMEOUT);
    hdl_coll_close(c);
}

/* Waits until the rank is in the collective or about to be: either way it must come back. */
static void *abort_soon(void *arg)
{
    hdl_clock_sleep_us(20000);
    hdl_coll_abort(arg);
    return NULL;
}

/* A rank whose peer does nothing is freed by an abort from another thread. */
static void script_abort(hdl_coll *c)
{
    float x[4] = {0};
    pthread_t t;
    if (hdl_coll_rank(c) != 0)
        return;
    MUST(pthread_create(&t, NULL, abort_soon, c) == 0);
    MUST(hdl_coll_all_reduce(c, x, 4) == HDL_CANCELLED);
    pthread_join(t, NULL);
    MUST(hdl_coll_barrier(c) == HDL_CANCELLED);
}

static void test_abort(void **state)
{
    (void)state;
    group g = make_group(2, script_abort);
    run_threads(&g);
    g = make_group(2, script_abort);
    g.backend = "check+shm";
    run_threads(&g);
}

static void test_nobody_comes(void **state)
{
    (void)state;
    for (uint32_t idx = 0; idx < 2; idx++) {
        group g = make_group(2, NULL);
        hdl_coll *c = NULL;
        hdl_errmsg why = {0};
        g.timeout_us = 50000;
        assert_int_equal(open_rank(&c, &g, idx, &why), HDL_TIMEOUT);
        assert_non_null(strstr(why.text, "ranks"));
        assert_false(segment_exists(&g));
    }
}

static void test_cancelled_opening(void **state)
{
    (void)state;
    uint32_t cancel = 1;
    hdl_coll *c = NULL;
    hdl_errmsg why = {0};
    hdl_coll_opts opts = {.backend = "shm",
                          .address = "heddle-cancel",
                          .n_ranks = 2,
                          .timeout_us = 60000000,
                          .cancel = &cancel};
    assert_int_equal(hdl_coll_open(&c, &opts, &why), HDL_CANCELLED);
}

/* A group crashed before all had come: its segment lies there under the same name. */
static void test_leftover_segment(void **state)
{
    (void)state;
    group g = make_group(2, script_operations);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        hdl_coll *c = NULL;
        hdl_errmsg why = {0};
        (void)!open_rank(&c, &g, 0, &why);
        _exit(0);
    }
    while (!segment_exists(&g))
        hdl_clock_sleep_us(1000);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_true(segment_exists(&g));
    run_threads(&g);
    assert_false(segment_exists(&g));
}

static void test_bad_options(void **state)
{
    (void)state;
    static const hdl_coll_opts bad[] = {
        {.backend = "pigeon", .n_ranks = 2},
        {.backend = "shm", .address = "x", .n_ranks = 3},
        {.backend = "shm", .address = "x", .n_ranks = 2, .rank = 2},
        {.backend = "shm", .address = "a/b", .n_ranks = 2},
        {.backend = "shm", .address = "", .n_ranks = 2},
        {.backend = "self", .n_ranks = 2},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(bad); i++) {
        hdl_coll *c = NULL;
        hdl_errmsg why = {0};
        assert_int_not_equal(hdl_coll_open(&c, &bad[i], &why), HDL_OK);
        assert_true(strlen(why.text) > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_processes),
        cmocka_unit_test(test_fast_root),
        cmocka_unit_test(test_mismatch_is_found),
        cmocka_unit_test(test_killed_peer),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_nobody_comes),
        cmocka_unit_test(test_cancelled_opening),
        cmocka_unit_test(test_leftover_segment),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
