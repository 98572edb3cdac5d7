/* SPDX-License-Identifier: Apache-2.0 */
/* Named threads with a role, CPU pinning, signal masks.
 *
 * A started thread blocks all signals (the main thread takes them by signalfd or sigwait),
 * carries its role for HDL_ON_THREAD and its name in /proc. The hdl_thread is caller's storage
 * and must outlive the join. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"
#include "heddle/err.h"

enum { HDL_CPUS_MAX = 1024 };

typedef struct hdl_thread_opts {
    const char *name; /* at most 15 bytes are kept */
    hdl_role role;
    const int *cpus; /* borrowed: for the call; NULL: not pinned */
    size_t cpus_count;
    size_t stack_bytes; /* 0: the system's default */
    void (*fn)(void *arg);
    void *arg;
} hdl_thread_opts;

typedef struct hdl_thread {
    pthread_t id;
    hdl_role role;
    char name[16];
    void (*fn)(void *arg);
    void *arg;
    bool started;
} hdl_thread;

hdl_err hdl_thread_start(hdl_thread *thread, const hdl_thread_opts *opts,
                         hdl_errmsg *why) HDL_MUST_CHECK;
/* Waits for the end; nothing when it was never started. */
void hdl_thread_join(hdl_thread *thread);

/* Blocks every signal but the synchronous ones (SEGV, BUS, FPE, ILL, ABRT) on this thread and
 * those it starts. Call it in main before any library starts threads. */
void hdl_thread_block_signals(void);

/* Binds the calling thread. HDL_INVALID when no listed CPU may be used. */
hdl_err hdl_thread_pin(const int *cpus, size_t count, hdl_errmsg *why) HDL_MUST_CHECK;
/* CPUs this process may run on, ascending; returns how many were written (at least 1). */
size_t hdl_cpus_allowed(int *cpus, size_t max);
/* "0-3,8" -> 0 1 2 3 8. */
hdl_err hdl_cpus_parse(const char *text, int *cpus, size_t max, size_t *count,
                       hdl_errmsg *why) HDL_MUST_CHECK;

/* One pause of a spin loop. */
static inline void hdl_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
