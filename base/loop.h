/* SPDX-License-Identifier: Apache-2.0 */
/* Event loop on epoll: file descriptors, timers, wake-ups from other threads.
 *
 * One thread owns a loop and everything in it; only hdl_loop_wake and hdl_loop_stop may be
 * called from others. Watches and timers are the caller's structs: they must stay in place while
 * added, and may be freed as soon as they are removed, also inside a callback, their own or
 * another's: no callback runs for a removed watch or timer. Time is read once per turn
 * (hdl_loop_now_us). Watches are level-triggered. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "heddle/err.h"

typedef struct hdl_loop hdl_loop; /* opaque; heap, cold */

enum {
    HDL_LOOP_READ = 1,
    HDL_LOOP_WRITE = 2,
    HDL_LOOP_HANGUP = 4, /* peer closed or shut down its sending side, or an error; always told */
};

typedef struct hdl_watch hdl_watch;
typedef void hdl_watch_fn(hdl_loop *loop, hdl_watch *watch, uint32_t ready);
struct hdl_watch {
    int fd; /* borrowed: close it after hdl_watch_del */
    hdl_watch_fn *fn;
    void *arg; /* borrowed */
    /* private */
    uint32_t _interest;
    bool _added;
};

typedef struct hdl_timer hdl_timer;
typedef void hdl_timer_fn(hdl_loop *loop, hdl_timer *timer);
struct hdl_timer {
    hdl_timer_fn *fn;
    void *arg; /* borrowed */
    /* private */
    hdl_time_us _due_us;
    uint64_t _order;  /* equal due times fire in the order of setting */
    size_t _heap_pos; /* 1-based; 0: not set */
};

hdl_err hdl_loop_open(hdl_loop **out, hdl_errmsg *why) HDL_MUST_CHECK;
/* Watches and timers still added are forgotten, their fds left open. */
void hdl_loop_close(hdl_loop *loop);

/* fd, fn, arg are set by the caller; the rest is zero. HDL_LOOP_* in interest. */
hdl_err hdl_watch_add(hdl_loop *loop, hdl_watch *watch, uint32_t interest) HDL_MUST_CHECK;
/* No system call when nothing changes. */
hdl_err hdl_watch_set(hdl_loop *loop, hdl_watch *watch, uint32_t interest) HDL_MUST_CHECK;
/* Nothing when it is not added. */
void hdl_watch_del(hdl_loop *loop, hdl_watch *watch);

/* Sets or moves the timer to an absolute monotonic time; a past time fires in the next turn. */
hdl_err hdl_timer_set(hdl_loop *loop, hdl_timer *timer, hdl_time_us due_us) HDL_MUST_CHECK;
void hdl_timer_del(hdl_loop *loop, hdl_timer *timer);
static inline bool hdl_timer_is_set(const hdl_timer *timer) { return timer->_heap_pos != 0; }

/* Called at the end of each turn (drain rings, flush): may be NULL. */
void hdl_loop_on_turn(hdl_loop *loop, void (*fn)(hdl_loop *loop, void *arg), void *arg);

/* One turn: waits at most wait_us (UINT64_MAX: until something happens), then runs what is due. */
hdl_err hdl_loop_run_once(hdl_loop *loop, hdl_time_us wait_us) HDL_MUST_CHECK;
/* Turns until hdl_loop_stop. */
hdl_err hdl_loop_run(hdl_loop *loop) HDL_MUST_CHECK;

/* Any thread: ends the current wait; several wake-ups before the turn are one. */
void hdl_loop_wake(hdl_loop *loop);
/* Any thread. */
void hdl_loop_stop(hdl_loop *loop);

/* Monotonic time at the start of this turn. */
hdl_time_us hdl_loop_now_us(const hdl_loop *loop);
/* The eventfd behind hdl_loop_wake, to be shared by rings (HDL_RING_WAKE_SHARED). */
int hdl_loop_wake_fd(const hdl_loop *loop);
