/* SPDX-License-Identifier: Apache-2.0 */
/* A run is one store of the epoch by thread 0, and one store by each worker when it is done.
 *
 *   thread 0:  fn, arg, epoch+1 ..... own share ..... wait until every done == epoch
 *   worker:    wait for epoch change . share ........ done = epoch
 *
 * Every thread writes only its own cache line, so nothing bounces but what carries news. The
 * barrier inside a run works the same way: arrivals on the threads' own lines, thread 0 collects
 * them and publishes one release word. A central counter was the alternative; with 64 threads
 * its line moves 64 times per barrier.
 *
 * Parking is the usual two-sided check: a worker counts itself as parked, then sleeps only if
 * the epoch is still the old one (the futex compares again in the kernel); thread 0 changes the
 * epoch, then looks at the count. Both sides are seq_cst, so at least one sees the other. */
#include "base/team.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/thread.h"

enum {
    LINE = 64,
    SPIN_US_DEFAULT = 2000,
    PAUSES_MAX = 1024, /* before a sched_yield, about 50 us; see yield() */
    PAUSES_MIN = 32,
    PAUSES_PER_YIELD = 32,
    YIELD_NS_MAX = 2000, /* a longer one has run somebody else */
};

typedef struct worker {
    _Alignas(LINE) _Atomic uint32_t done; /* epoch of the last finished run */
    _Atomic uint32_t arrived;             /* count of barriers reached */
    /* touched by this thread only */
    uint32_t barriers; /* reached so far */
    uint32_t pauses;   /* before it yields */
    hdl_team *team;
    int idx;
    hdl_thread thread;
} worker;

struct hdl_team {
    /* written by thread 0, read by all */
    _Alignas(LINE) _Atomic uint32_t epoch;
    hdl_team_fn *fn;
    void *arg;
    bool stop;
    _Alignas(LINE) _Atomic uint32_t release; /* barriers thread 0 has let pass */
    _Alignas(LINE) _Atomic uint32_t parked;  /* workers at or near the futex */
    _Atomic bool park_now;
    /* constant */
    _Alignas(LINE) worker *workers; /* owned; [n_threads], [0] is the caller */
    int n_threads;
    uint32_t spin_us;
};

/* Spinning is right when the thread we wait for runs, and wrong when it waits for our CPU; who
 * shares the machine with us changes while we run. So each thread learns: a yield that took long
 * has run somebody, and halves its spinning; a wait that needed no yield lengthens it a little.
 * With a fixed 4096 pauses two threads on one busy CPU took 200 us for an empty run, now 4. */
static void yield(worker *me)
{
    uint64_t before_ns = hdl_clock_now_ns();
    sched_yield();
    if (hdl_clock_now_ns() - before_ns > YIELD_NS_MAX)
        me->pauses = me->pauses / 2 > PAUSES_MIN ? me->pauses / 2 : PAUSES_MIN;
}

static void wait_for(worker *me, const _Atomic uint32_t *word, uint32_t want)
{
    uint32_t n = 0;
    bool yielded = false;
    /* acquire: what the writer did before is visible after */
    while (atomic_load_explicit(word, memory_order_acquire) != want) {
        hdl_cpu_relax();
        if (++n < me->pauses)
            continue;
        yield(me);
        yielded = true;
        n = me->pauses - PAUSES_PER_YIELD;
    }
    if (!yielded && me->pauses < PAUSES_MAX)
        me->pauses++;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void park(hdl_team *team, uint32_t seen)
{
    /* seq_cst: see the head of the file */
    atomic_fetch_add_explicit(&team->parked, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&team->epoch, memory_order_seq_cst) == seen)
        futex_wait(&team->epoch, seen);
    /* relaxed: a count that is still too high costs thread 0 one needless wake call */
    atomic_fetch_sub_explicit(&team->parked, 1, memory_order_relaxed);
}

/* Returns the new epoch. */
static uint32_t wait_for_run(worker *me, uint32_t seen)
{
    hdl_team *team = me->team;
    uint32_t n = 0;
    hdl_time_us idle_since_us = 0;
    for (;;) {
        /* acquire: fn and arg were written before */
        uint32_t epoch = atomic_load_explicit(&team->epoch, memory_order_acquire);
        if (epoch != seen)
            return epoch;
        hdl_cpu_relax();
        if (++n < me->pauses)
            continue;
        n = me->pauses - PAUSES_PER_YIELD;
        yield(me);
        hdl_time_us now_us = hdl_clock_now_us();
        if (idle_since_us == 0)
            idle_since_us = now_us;
        /* relaxed: a hint */
        if (now_us - idle_since_us >= team->spin_us ||
            atomic_load_explicit(&team->park_now, memory_order_relaxed))
            park(team, seen);
    }
}

static void worker_main(void *arg)
{
    worker *me = arg;
    hdl_team *team = me->team;
    uint32_t epoch = 0;
    for (;;) {
        epoch = wait_for_run(me, epoch);
        if (team->stop)
            return;
        team->fn(team->arg, me->idx, team->n_threads);
        /* release: the share's results are visible to thread 0 */
        atomic_store_explicit(&me->done, epoch, memory_order_release);
    }
}

static uint32_t publish(hdl_team *team)
{
    /* seq_cst: orders the new epoch before the look at parked, and publishes fn and arg */
    uint32_t epoch = atomic_fetch_add_explicit(&team->epoch, 1, memory_order_seq_cst) + 1;
    if (atomic_load_explicit(&team->parked, memory_order_seq_cst) > 0)
        futex_wake_all(&team->epoch);
    return epoch;
}

void hdl_team_run(hdl_team *team, hdl_team_fn *fn, void *arg)
{
    if (team->n_threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    team->fn = fn;
    team->arg = arg;
    atomic_store_explicit(&team->park_now, false, memory_order_relaxed); /* a hint */
    uint32_t epoch = publish(team);
    fn(arg, 0, team->n_threads);
    for (int i = 1; i < team->n_threads; i++)
        wait_for(&team->workers[0], &team->workers[i].done, epoch);
}

void hdl_team_barrier(hdl_team *team, int thread_idx)
{
    if (team->n_threads == 1)
        return;
    worker *me = &team->workers[thread_idx];
    uint32_t turn = ++me->barriers;
    if (thread_idx != 0) {
        /* release: our writes are visible to all after the barrier, through thread 0 */
        atomic_store_explicit(&me->arrived, turn, memory_order_release);
        wait_for(me, &team->release, turn);
        return;
    }
    for (int i = 1; i < team->n_threads; i++)
        wait_for(me, &team->workers[i].arrived, turn);
    /* release: passes on everything that was acquired from the arrivals */
    atomic_store_explicit(&team->release, turn, memory_order_release);
}

void hdl_team_park(hdl_team *team)
{
    atomic_store_explicit(&team->park_now, true, memory_order_relaxed); /* a hint */
}

int hdl_team_size(const hdl_team *team) { return team->n_threads; }

hdl_team_part hdl_team_share(size_t total, size_t grain, int thread_idx, int n_threads)
{
    HDL_ASSERT(grain > 0);
    size_t n = (size_t)n_threads, idx = (size_t)thread_idx;
    size_t grains = total / grain + (total % grain != 0);
    size_t each = grains / n, extra = grains % n;
    size_t first = idx * each + (idx < extra ? idx : extra);
    size_t last = first + each + (idx < extra);
    /* The last grain may be a partial one. */
    size_t from = first == grains ? total : first * grain;
    size_t to = last == grains ? total : last * grain;
    return (hdl_team_part){from, to};
}

hdl_err hdl_team_open(hdl_team **out, const hdl_team_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    if (opts->n_threads < 1 || opts->n_threads > HDL_TEAM_THREADS_MAX)
        return hdl_fail(HDL_INVALID, why, "bad thread count %d; it must be 1 to %d",
                        opts->n_threads, HDL_TEAM_THREADS_MAX);
    hdl_team *team = aligned_alloc(LINE, sizeof *team);
    size_t workers_bytes = sizeof(worker) * (size_t)opts->n_threads;
    worker *workers = aligned_alloc(LINE, workers_bytes);
    if (!team || !workers) {
        free(team);
        free(workers);
        return hdl_fail(HDL_NOMEM, why, "no memory for a team of %d threads", opts->n_threads);
    }
    memset(team, 0, sizeof *team);
    memset(workers, 0, workers_bytes);
    team->workers = workers;
    team->n_threads = opts->n_threads;
    team->spin_us = opts->spin_us ? opts->spin_us : SPIN_US_DEFAULT;
    for (int i = 0; i < opts->n_threads; i++)
        workers[i].pauses = PAUSES_MAX / 4;

    hdl_err err = HDL_OK;
    int n_started = 1;
    if (opts->cpus)
        HDL_TRY_GOTO(hdl_thread_pin(&opts->cpus[0], 1, why), fail);
    for (; n_started < opts->n_threads; n_started++) {
        worker *w = &workers[n_started];
        w->team = team;
        w->idx = n_started;
        char name[32];
        snprintf(name, sizeof name, "hdl-team-%d", n_started);
        hdl_thread_opts thread = {.name = name,
                                  .role = HDL_ROLE_TEAM,
                                  .cpus = opts->cpus ? &opts->cpus[n_started] : NULL,
                                  .cpus_count = 1,
                                  .fn = worker_main,
                                  .arg = w};
        HDL_TRY_GOTO(hdl_thread_start(&w->thread, &thread, why), fail);
    }
    *out = team;
    return HDL_OK;
fail:
    team->n_threads = n_started;
    hdl_team_close(team);
    return err;
}

void hdl_team_close(hdl_team *team)
{
    if (!team)
        return;
    team->stop = true;
    publish(team);
    for (int i = 1; i < team->n_threads; i++)
        hdl_thread_join(&team->workers[i].thread);
    free(team->workers);
    free(team);
}
