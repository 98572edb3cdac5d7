/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of the benchmark's output; its figures are nobody's pass or fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/sched/bench_sched.h"

static void test_json(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    hdl_bench_sched_opts opts = {.running = {50, 100}, .steps = 20, .json = true, .out = out};
    assert_int_equal(hdl_bench_sched(&opts), 0);
    fclose(out);
    unsigned asked = 0, found = 0;
    double median = 0, p99 = 0, least = 0;
    int n = sscanf(text,
                   "{\"rows\":[{\"running\":%u,\"found\":%u,\"step_us_median\":%lf,"
                   "\"step_us_p99\":%lf,\"step_us_min\":%lf}",
                   &asked, &found, &median, &p99, &least);
    assert_int_equal(n, 5);
    assert_int_equal(asked, 50);
    assert_in_range(found, 45, 55);
    assert_true(least > 0 && median >= least && p99 >= median);
    assert_non_null(strstr(text, "],\"rows_long_prompts\":[{\"running\":50,"));
    assert_string_equal(text + len - 4, "}]}\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_json)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
