/* SPDX-License-Identifier: Apache-2.0 */
/* What a step of the scheduler core costs: `heddle bench sched`.
 *
 * A steady crowd of sequences decodes on a paged KV with shared prefixes; each step 1 % of them end
 * and as many arrive (a SUBMIT with a prompt each). A step's cost is all time spent in
 * hdl_sched_step for it: its SUBMITs and its RESULT, which brings the next PLAN. What a worker
 * would do happens outside the measured time. Main thread. */
#pragma once

#include <heddle/err.h>
#include <stdint.h>
#include <stdio.h>

enum { HDL_BENCH_SCHED_ROWS_MAX = 8 };

typedef struct hdl_bench_sched_opts {
    uint32_t
        running[HDL_BENCH_SCHED_ROWS_MAX]; /* sequences; 0 ends the list; empty: 1,000 and 10,000 */
    uint32_t steps;                        /* measured steps a row; 0: 2,000 */
    bool json;
    FILE *out; /* NULL: stdout */
} hdl_bench_sched_opts;

/* Prints a table or one JSON document. 0, or 1 when memory does not suffice or a size is out of
 * range. */
int hdl_bench_sched(const hdl_bench_sched_opts *opts);
