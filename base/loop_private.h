/* SPDX-License-Identifier: Apache-2.0 */
/* Private to loop*.c: the loop's fields. Owner: the loop's thread, except `stop` and the wake
 * eventfd. */
#pragma once

#include <stdatomic.h>
#include <sys/epoll.h>

#include "base/loop.h"

enum { HDL_LOOP_BATCH = 256 };

struct hdl_loop {
    int epoll_fd;
    hdl_watch wake;
    hdl_time_us now_us;
    _Atomic bool stop;
    void (*on_turn)(hdl_loop *loop, void *arg);
    void *on_turn_arg;
    /* the batch being worked off; a removed watch is struck out of it */
    struct epoll_event ready[HDL_LOOP_BATCH];
    int ready_count;
    int ready_next;
    /* binary heap by (due, order), [0] unused */
    hdl_timer **heap; /* owned */
    size_t heap_count;
    size_t heap_size;
    uint64_t timer_order;
};

/* Runs the timers due at loop->now_us that were set before this call. */
void hdl_loop_run_timers(hdl_loop *loop);
/* Time of the next timer, or UINT64_MAX. */
hdl_time_us hdl_loop_next_due(const hdl_loop *loop);
