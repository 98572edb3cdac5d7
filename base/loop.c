/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

static void drain_wake(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)loop;
    (void)ready;
    uint64_t count;
    while (read(watch->fd, &count, sizeof count) < 0 && errno == EINTR) {}
}

hdl_err hdl_loop_open(hdl_loop **out, hdl_errmsg *why)
{
    *out = NULL;
    hdl_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return hdl_fail(HDL_NOMEM, why, "no memory for an event loop");
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake = (hdl_watch){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .fn = drain_wake};
    if (loop->epoll_fd < 0 || loop->wake.fd < 0 ||
        hdl_watch_add(loop, &loop->wake, HDL_LOOP_READ) != HDL_OK) {
        hdl_err err = hdl_fail(HDL_IO, why, "cannot make an event loop; %s; check ulimit -n",
                               strerror(errno));
        hdl_loop_close(loop);
        return err;
    }
    loop->now_us = hdl_clock_now_us();
    *out = loop;
    return HDL_OK;
}

void hdl_loop_close(hdl_loop *loop)
{
    if (!loop)
        return;
    if (loop->wake.fd >= 0)
        close(loop->wake.fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop->heap);
    free(loop);
}

static uint32_t to_epoll(uint32_t interest)
{
    return (interest & HDL_LOOP_READ ? (uint32_t)EPOLLIN : 0u) |
           (interest & HDL_LOOP_WRITE ? (uint32_t)EPOLLOUT : 0u) |
           (interest & HDL_LOOP_HANGUP ? (uint32_t)EPOLLRDHUP : 0u);
}

static uint32_t from_epoll(uint32_t events)
{
    uint32_t lost = (uint32_t)EPOLLHUP | (uint32_t)EPOLLERR | (uint32_t)EPOLLRDHUP;
    return (events & (uint32_t)EPOLLIN ? (uint32_t)HDL_LOOP_READ : 0u) |
           (events & (uint32_t)EPOLLOUT ? (uint32_t)HDL_LOOP_WRITE : 0u) |
           (events & lost ? (uint32_t)HDL_LOOP_HANGUP : 0u);
}

static hdl_err control(hdl_loop *loop, int op, hdl_watch *watch)
{
    struct epoll_event event = {.events = to_epoll(watch->_interest), .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, op, watch->fd, &event) == 0)
        return HDL_OK;
    /* ENOSPC: the user's limit of watches; EPERM: a regular file, which epoll does not take */
    return errno == ENOMEM || errno == ENOSPC ? HDL_BUSY : errno == EPERM ? HDL_INVALID : HDL_IO;
}

hdl_err hdl_watch_add(hdl_loop *loop, hdl_watch *watch, uint32_t interest)
{
    HDL_ASSERT(!watch->_added && watch->fn != NULL);
    watch->_interest = interest;
    HDL_TRY(control(loop, EPOLL_CTL_ADD, watch));
    watch->_added = true;
    return HDL_OK;
}

hdl_err hdl_watch_set(hdl_loop *loop, hdl_watch *watch, uint32_t interest)
{
    HDL_ASSERT(watch->_added);
    if (watch->_interest == interest)
        return HDL_OK;
    uint32_t old = watch->_interest;
    watch->_interest = interest;
    hdl_err err = control(loop, EPOLL_CTL_MOD, watch);
    if (err != HDL_OK)
        watch->_interest = old;
    return err;
}

void hdl_watch_del(hdl_loop *loop, hdl_watch *watch)
{
    if (!watch->_added)
        return;
    watch->_added = false;
    (void)control(loop, EPOLL_CTL_DEL, watch); /* fails only for an fd that is closed already */
    /* Its events of this batch must not reach a struct that may be freed by now. */
    for (int i = loop->ready_next; i < loop->ready_count; i++)
        if (loop->ready[i].data.ptr == watch)
            loop->ready[i].data.ptr = NULL;
}

void hdl_loop_on_turn(hdl_loop *loop, void (*fn)(hdl_loop *loop, void *arg), void *arg)
{
    loop->on_turn = fn;
    loop->on_turn_arg = arg;
}

/* Milliseconds to wait, rounded up so that a timer is due when epoll_wait returns for it. */
static int wait_ms(const hdl_loop *loop, hdl_time_us wait_us)
{
    hdl_time_us due_us = hdl_loop_next_due(loop);
    if (due_us != UINT64_MAX) {
        hdl_time_us now_us = hdl_clock_now_us();
        hdl_time_us until_us = due_us > now_us ? due_us - now_us : 0;
        if (until_us < wait_us)
            wait_us = until_us;
    }
    if (wait_us == UINT64_MAX)
        return -1;
    hdl_time_us ms = wait_us / HDL_MS_US + (wait_us % HDL_MS_US != 0);
    return ms > 1000000 ? 1000000 : (int)ms;
}

hdl_err hdl_loop_run_once(hdl_loop *loop, hdl_time_us wait_us)
{
    int n = epoll_wait(loop->epoll_fd, loop->ready, HDL_LOOP_BATCH, wait_ms(loop, wait_us));
    if (n < 0 && errno != EINTR)
        return HDL_IO;
    loop->now_us = hdl_clock_now_us();
    loop->ready_count = n > 0 ? n : 0;
    for (loop->ready_next = 0; loop->ready_next < loop->ready_count;) {
        struct epoll_event event = loop->ready[loop->ready_next++];
        hdl_watch *watch = event.data.ptr;
        if (watch)
            watch->fn(loop, watch, from_epoll(event.events));
    }
    loop->ready_count = loop->ready_next = 0;
    hdl_loop_run_timers(loop);
    if (loop->on_turn)
        loop->on_turn(loop, loop->on_turn_arg);
    return HDL_OK;
}

hdl_err hdl_loop_run(hdl_loop *loop)
{
    /* acquire: what the stopping thread did before is visible to who runs after the loop */
    while (!atomic_load_explicit(&loop->stop, memory_order_acquire))
        HDL_TRY(hdl_loop_run_once(loop, UINT64_MAX));
    /* relaxed: makes the loop runnable again; only its own thread is here */
    atomic_store_explicit(&loop->stop, false, memory_order_relaxed);
    return HDL_OK;
}

void hdl_loop_wake(hdl_loop *loop)
{
    uint64_t one = 1;
    /* EAGAIN means that the counter is full: a wake-up is pending anyway. */
    while (write(loop->wake.fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

void hdl_loop_stop(hdl_loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_release); /* pairs with hdl_loop_run */
    hdl_loop_wake(loop);
}

hdl_time_us hdl_loop_now_us(const hdl_loop *loop) { return loop->now_us; }

int hdl_loop_wake_fd(const hdl_loop *loop) { return loop->wake.fd; }
