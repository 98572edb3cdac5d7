/* SPDX-License-Identifier: Apache-2.0 */
/* Timers of a loop: a binary heap of pointers, each timer knowing its place, so that moving and
 * removing cost O(log n). A wheel would make that O(1) but rounds times; with one timer per
 * connection the heap is a few levels deep. */
#include "base/loop_private.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/checked.h"

static bool before(const hdl_timer *a, const hdl_timer *b)
{
    return a->_due_us != b->_due_us ? a->_due_us < b->_due_us : a->_order < b->_order;
}

static void place(hdl_loop *loop, size_t pos, hdl_timer *timer)
{
    loop->heap[pos] = timer;
    timer->_heap_pos = pos;
}

static void sift_up(hdl_loop *loop, size_t pos, hdl_timer *timer)
{
    for (; pos > 1 && before(timer, loop->heap[pos / 2]); pos /= 2)
        place(loop, pos, loop->heap[pos / 2]);
    place(loop, pos, timer);
}

static void sift_down(hdl_loop *loop, size_t pos, hdl_timer *timer)
{
    for (size_t child; (child = 2 * pos) <= loop->heap_count; pos = child) {
        if (child < loop->heap_count && before(loop->heap[child + 1], loop->heap[child]))
            child++;
        if (!before(loop->heap[child], timer))
            break;
        place(loop, pos, loop->heap[child]);
    }
    place(loop, pos, timer);
}

static void settle(hdl_loop *loop, size_t pos, hdl_timer *timer)
{
    if (pos > 1 && before(timer, loop->heap[pos / 2]))
        sift_up(loop, pos, timer);
    else
        sift_down(loop, pos, timer);
}

static hdl_err grow(hdl_loop *loop)
{
    size_t size = loop->heap_size ? loop->heap_size * 2 : 64;
    size_t bytes;
    if (!hdl_mul_size(size, sizeof *loop->heap, &bytes))
        return HDL_NOMEM;
    hdl_timer **heap = realloc(loop->heap, bytes);
    if (!heap)
        return HDL_NOMEM;
    loop->heap = heap;
    loop->heap_size = size;
    return HDL_OK;
}

hdl_err hdl_timer_set(hdl_loop *loop, hdl_timer *timer, hdl_time_us due_us)
{
    HDL_ASSERT(timer->fn != NULL);
    if (timer->_heap_pos == 0) {
        if (loop->heap_count + 1 >= loop->heap_size)
            HDL_TRY(grow(loop));
        timer->_heap_pos = ++loop->heap_count;
        loop->heap[timer->_heap_pos] = timer;
    }
    timer->_due_us = due_us;
    timer->_order = loop->timer_order++;
    settle(loop, timer->_heap_pos, timer);
    return HDL_OK;
}

void hdl_timer_del(hdl_loop *loop, hdl_timer *timer)
{
    size_t pos = timer->_heap_pos;
    if (pos == 0)
        return;
    HDL_ASSERT(pos <= loop->heap_count && loop->heap[pos] == timer);
    timer->_heap_pos = 0;
    hdl_timer *last = loop->heap[loop->heap_count--];
    if (last != timer)
        settle(loop, pos, last);
}

hdl_time_us hdl_loop_next_due(const hdl_loop *loop)
{
    return loop->heap_count ? loop->heap[1]->_due_us : UINT64_MAX;
}

void hdl_loop_run_timers(hdl_loop *loop)
{
    /* A callback that sets a timer for a past time gets it in the next turn, else it could hold
     * the loop for ever. */
    uint64_t order_end = loop->timer_order;
    while (loop->heap_count > 0) {
        hdl_timer *timer = loop->heap[1];
        if (timer->_due_us > loop->now_us || timer->_order >= order_end)
            return;
        hdl_timer_del(loop, timer);
        timer->fn(loop, timer);
    }
}
