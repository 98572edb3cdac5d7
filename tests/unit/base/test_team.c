/* SPDX-License-Identifier: Apache-2.0 */
/* The spin-barrier team, also with more threads than CPUs; a main of its own. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/team.h"
#include "base/thread.h"

enum { WORDS = 1000, PHASES = 5 };

typedef struct job {
    hdl_team *team;
    uint32_t a[WORDS], b[WORDS]; /* plain memory: only the barriers order the accesses */
    uint32_t calls[HDL_TEAM_THREADS_MAX];
    int n_threads;
} job;

static hdl_team *open_team(int n_threads, uint32_t spin_us)
{
    hdl_team *team;
    hdl_errmsg why = {""};
    hdl_team_opts opts = {.n_threads = n_threads, .spin_us = spin_us};
    HDL_ASSERT_EQ(hdl_team_open(&team, &opts, &why), HDL_OK);
    HDL_ASSERT_EQ(hdl_team_size(team), n_threads);
    return team;
}

/* Each phase reads what other threads wrote in the phase before. */
static void phases(void *arg, int idx, int n_threads)
{
    job *j = arg;
    HDL_ASSERT_EQ(n_threads, j->n_threads);
    j->calls[idx]++;
    hdl_team_part part = hdl_team_share(WORDS, 16, idx, n_threads);
    for (int phase = 0; phase < PHASES; phase++) {
        uint32_t *from = phase % 2 ? j->b : j->a, *to = phase % 2 ? j->a : j->b;
        for (size_t i = part.from; i < part.to; i++)
            to[i] = from[(i + 517) % WORDS] + 1;
        hdl_team_barrier(j->team, idx);
    }
    /* PHASES is odd: the result is in b, and moves to a for the next run */
    for (size_t i = part.from; i < part.to; i++)
        j->a[i] = j->b[i];
}

static void test_phases(int n_threads, int runs)
{
    static job j;
    memset(&j, 0, sizeof j);
    j.team = open_team(n_threads, 0);
    j.n_threads = n_threads;
    for (int run = 1; run <= runs; run++) {
        hdl_team_run(j.team, phases, &j);
        for (size_t i = 0; i < WORDS; i++)
            HDL_ASSERT_EQ(j.a[i], (uint32_t)(run * PHASES));
        if (run % 7 == 0)
            hdl_team_park(j.team);
    }
    for (int i = 0; i < n_threads; i++)
        HDL_ASSERT_EQ(j.calls[i], (uint32_t)runs);
    hdl_team_close(j.team);
}

static void count(void *arg, int idx, int n_threads)
{
    (void)idx;
    (void)n_threads;
    atomic_fetch_add((_Atomic uint32_t *)arg, 1);
}

/* Idle long enough to park, then woken, many times: a lost wake-up would hang. */
static void test_parking(void)
{
    hdl_team *team = open_team(3, 1);
    _Atomic uint32_t calls = 0;
    for (uint32_t run = 1; run <= 50; run++) {
        hdl_clock_sleep_us(run % 5 * 200);
        hdl_team_run(team, count, (void *)&calls);
        HDL_ASSERT_EQ(atomic_load(&calls), 3 * run);
    }
    hdl_team_close(team);
    hdl_team_close(open_team(4, 1)); /* closed without a run */
}

static void test_share(void)
{
    for (size_t total = 0; total < 200; total++)
        for (size_t grain = 1; grain <= 64; grain *= 4)
            for (int n = 1; n <= 9; n++) {
                size_t at = 0, longest = 0, shortest = SIZE_MAX;
                for (int i = 0; i < n; i++) {
                    hdl_team_part part = hdl_team_share(total, grain, i, n);
                    HDL_ASSERT_EQ(part.from, at);
                    HDL_ASSERT_LE(part.from, part.to);
                    HDL_ASSERT(part.from % grain == 0 || part.from == total);
                    at = part.to;
                    size_t grains = (part.to - part.from + grain - 1) / grain;
                    longest = grains > longest ? grains : longest;
                    shortest = grains < shortest ? grains : shortest;
                }
                HDL_ASSERT_EQ(at, total);
                HDL_ASSERT_LE(longest, shortest + 1);
            }
}

static void test_pinned(void)
{
    int cpus[2];
    size_t n = hdl_cpus_allowed(cpus, 2);
    if (n == 1)
        cpus[1] = cpus[0];
    hdl_team *team;
    hdl_errmsg why;
    hdl_team_opts opts = {.n_threads = 2, .cpus = cpus};
    HDL_ASSERT_EQ(hdl_team_open(&team, &opts, &why), HDL_OK);
    _Atomic uint32_t calls = 0;
    hdl_team_run(team, count, (void *)&calls);
    HDL_ASSERT_EQ(atomic_load(&calls), 2);
    hdl_team_close(team);
}

static void test_bad_opts(void)
{
    hdl_team *team;
    hdl_errmsg why;
    static const int wrong_cpus[] = {-1, -1};
    hdl_team_opts bad[] = {{.n_threads = 0},
                           {.n_threads = HDL_TEAM_THREADS_MAX + 1},
                           {.n_threads = 2, .cpus = wrong_cpus}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hdl_err err = hdl_team_open(&team, &bad[i], &why);
        HDL_ASSERT(err == HDL_INVALID && team == NULL);
    }
    hdl_team_close(NULL);
}

/* A hot team neither allocates nor frees. */
static void test_no_allocation(void)
{
    hdl_team *team = open_team(2, 0);
    _Atomic uint32_t calls = 0;
    hdl_alloc_freeze();
    for (int i = 0; i < 1000; i++)
        hdl_team_run(team, count, (void *)&calls);
    hdl_alloc_thaw();
    HDL_ASSERT_EQ(atomic_load(&calls), 2000);
    hdl_team_close(team);
}

int main(void)
{
    test_share();
    test_bad_opts();
    test_phases(1, 50);
    test_phases(2, 300);
    test_phases(3, 100);
    test_phases(8, 40);
    test_parking();
    test_no_allocation();
    test_pinned();
    printf("team: ok\n");
    return 0;
}
