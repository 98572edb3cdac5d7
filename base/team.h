/* SPDX-License-Identifier: Apache-2.0 */
/* A team of compute threads that meet at spin barriers: parallel_for for CPU kernels.
 *
 * The thread that opens the team is its thread 0 and the only one that may call run, park and
 * close. hdl_team_run makes all threads call fn(arg, thread_idx, n_threads) and returns when all
 * have returned; what they wrote is visible to the caller and to the next run. Nothing in run or
 * barrier allocates or waits in the kernel while the team is hot. An idle worker spins for
 * spin_us, then parks on a futex; the next run wakes it. Where the CPUs are shared with others a
 * wait turns into sched_yield after a bounded number of pauses, which adapts. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "heddle/err.h"

enum { HDL_TEAM_THREADS_MAX = 256 };

typedef struct hdl_team_opts {
    int n_threads;    /* 1 .. HDL_TEAM_THREADS_MAX, thread 0 (the caller) included */
    const int *cpus;  /* n_threads CPU numbers, thread 0 included; NULL: not pinned */
    uint32_t spin_us; /* idle time before a worker parks; 0: 2000 */
} hdl_team_opts;

typedef struct hdl_team hdl_team; /* opaque; heap, cold */
typedef void hdl_team_fn(void *arg, int thread_idx, int n_threads);

hdl_err hdl_team_open(hdl_team **out, const hdl_team_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_team_close(hdl_team *team);

void hdl_team_run(hdl_team *team, hdl_team_fn *fn, void *arg);
/* Inside fn only, by every thread the same number of times. */
void hdl_team_barrier(hdl_team *team, int thread_idx);
/* Lets idle workers park now, e.g. when the step queue is empty. The next run wakes them. */
void hdl_team_park(hdl_team *team);

int hdl_team_size(const hdl_team *team);

/* The part [from, to) of `total` items that belongs to a thread: contiguous, in thread order,
 * cut at multiples of grain (>= 1), sizes at most one grain apart. */
typedef struct hdl_team_part {
    size_t from;
    size_t to;
} hdl_team_part;
hdl_team_part hdl_team_share(size_t total, size_t grain, int thread_idx, int n_threads);
