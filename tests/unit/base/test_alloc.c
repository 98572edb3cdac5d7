/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <pthread.h>

#include "base/alloc.h"

static void *volatile sink;
static char report[2048];

static void frozen_malloc(void)
{
    hdl_alloc_freeze();
    sink = malloc(10);
}

static void frozen_free(void)
{
    sink = malloc(10); /* volatile: the compiler may drop a pair it sees through */
    hdl_alloc_freeze();
    free(sink);
}

/* An allocation inside the C library: the trap must see that too. */
static void frozen_library(void)
{
    hdl_alloc_freeze();
    sink = strdup("inside libc");
}

static void test_abort(void **state)
{
    (void)state;
    if (!hdl_alloc_traps())
        skip();
    must_abort(frozen_malloc, report, sizeof report);
    assert_has(report, "malloc");
    assert_has(report, "frozen thread");
    must_abort(frozen_free, report, sizeof report);
    assert_has(report, "free");
    must_abort(frozen_library, report, sizeof report);
}

static void *allocate(void *arg)
{
    sink = malloc(10);
    free(sink);
    return arg;
}

static void test_per_thread(void **state)
{
    (void)state;
    pthread_t thread;
    hdl_alloc_trap_count_only(true);
    uint64_t before = hdl_alloc_violations();
    hdl_alloc_freeze();
    hdl_alloc_freeze();
    hdl_alloc_thaw();
    hdl_alloc_thaw();
    assert_int_equal(pthread_create(&thread, NULL, allocate, NULL), 0); /* thawed: may allocate */
    assert_int_equal(pthread_join(thread, NULL), 0);
    uint64_t counted = hdl_alloc_count();
    allocate(NULL);
    assert_int_equal(hdl_alloc_count() - counted, hdl_alloc_traps() ? 1 : 0);
    assert_int_equal(hdl_alloc_violations(), before);
    hdl_alloc_freeze();
    allocate(NULL);
    hdl_alloc_thaw();
    assert_int_equal(hdl_alloc_violations() - before, hdl_alloc_traps() ? 2 : 0);
    hdl_alloc_trap_count_only(false);
}

static void test_still_works(void **state)
{
    (void)state;
    void *p = NULL;
    assert_int_equal(posix_memalign(&p, 256, 1000), 0);
    assert_int_equal((uintptr_t)p % 256, 0);
    free(p);
    if (hdl_alloc_traps()) /* sanitizers report this mistake instead of returning it */
        assert_int_equal(posix_memalign(&p, 3, 1000), 22); /* EINVAL */
    p = aligned_alloc(64, 640);
    assert_int_equal((uintptr_t)p % 64, 0);
    free(p);
    unsigned char *zeros = calloc(100, 10);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zeros[i], 0);
    zeros = realloc(zeros, 5000);
    assert_non_null(zeros);
    free(zeros);
    free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_per_thread),
        cmocka_unit_test(test_still_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
