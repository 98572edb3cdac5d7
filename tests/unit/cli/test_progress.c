/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cli/progress.h"

#define MIB ((uint64_t)1 << 20)

static void bars(void **state)
{
    (void)state;
    static const struct {
        const char *state;
        uint64_t done, total;
        const char *text;
    } rows[] = {
        {"loading 0 %", 0, 8 * MIB, "loading [..............................]   0 %, 0 B of 8 MiB"},
        {"loading 50 %", 4 * MIB, 8 * MIB,
         "loading [###############...............]  50 %, 4 MiB of 8 MiB"},
        {"loading 100 %", 8 * MIB, 8 * MIB,
         "loading [##############################] 100 %, 8 MiB of 8 MiB"},
        {"loading 100 %", 9 * MIB, 8 * MIB, /* a rank that started again */
         "loading [##############################] 100 %, 9 MiB of 8 MiB"},
        {"loading", 0, 0, "loading"},
        {"joining", 8 * MIB, 8 * MIB, "joining"},
        {"waiting for workers: 0 of 2", 0, 0, "waiting for workers: 0 of 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[160];
        cli_progress_text(text, sizeof text, rows[i].state, rows[i].done, rows[i].total);
        assert_string_equal(text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
