/* SPDX-License-Identifier: Apache-2.0 */
/* Rings under threads; a main of its own, every check an assertion. */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/ring.h"
#include "base/thread.h"

typedef struct item {
    uint32_t producer;
    uint32_t number;
    uint64_t check; /* number * prime: a torn item does not match */
    char pad[8];
} item;

static const uint64_t PRIME = 0x9e3779b97f4a7c15u;

static hdl_ring *open_ring(hdl_ring_kind kind, size_t count, hdl_ring_wake wake)
{
    hdl_ring *ring;
    hdl_ring_opts opts = {.kind = kind, .item_bytes = sizeof(item), .count = count, .wake = wake};
    HDL_ASSERT_EQ(hdl_ring_open(&ring, &opts), HDL_OK);
    return ring;
}

static void test_order_and_full(hdl_ring_kind kind)
{
    hdl_ring *ring = open_ring(kind, 5, HDL_RING_WAKE_NONE);
    HDL_ASSERT_EQ(hdl_ring_capacity(ring), 8);
    HDL_ASSERT_EQ(hdl_ring_fd(ring), -1);
    item out[8], it = {0};
    HDL_ASSERT_EQ(hdl_ring_pop_many(ring, out, 8), 0);
    for (uint32_t lap = 0; lap < 100; lap++) {
        for (uint32_t i = 0; i < 8; i++) {
            it.number = lap * 8 + i;
            HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_OK);
        }
        HDL_ASSERT_EQ(hdl_ring_len(ring), 8);
        HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_BUSY);
        HDL_ASSERT_EQ(hdl_ring_pop_many(ring, out, 3), 3);
        HDL_ASSERT_EQ(hdl_ring_pop_many(ring, out + 3, 8), 5);
        for (uint32_t i = 0; i < 8; i++)
            HDL_ASSERT_EQ(out[i].number, lap * 8 + i);
        HDL_ASSERT(!hdl_ring_pop(ring, out));
        HDL_ASSERT_EQ(hdl_ring_len(ring), 0);
    }
    hdl_ring_close(ring);
}

static void test_opts(void)
{
    hdl_ring *ring;
    hdl_ring_opts bad[] = {
        {.item_bytes = 0, .count = 8},
        {.item_bytes = 1 << 20, .count = 8},
        {.item_bytes = 8, .count = SIZE_MAX},
        {.item_bytes = 8, .count = 8, .wake = HDL_RING_WAKE_SHARED, .wake_fd = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        hdl_err err = hdl_ring_open(&ring, &bad[i]);
        HDL_ASSERT(err != HDL_OK && ring == NULL);
    }
    hdl_ring_close(NULL);
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* An eventfd is written only for a consumer that armed, once. */
static void test_wake(void)
{
    hdl_ring *ring = open_ring(HDL_RING_SPSC, 8, HDL_RING_WAKE_OWN);
    item it = {0};
    HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_OK);
    HDL_ASSERT(!readable(hdl_ring_fd(ring)));
    HDL_ASSERT(!hdl_ring_arm(ring)); /* there is something to do */
    HDL_ASSERT(hdl_ring_pop(ring, &it));
    HDL_ASSERT(hdl_ring_arm(ring));
    HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_OK);
    HDL_ASSERT(readable(hdl_ring_fd(ring)));
    hdl_ring_ack(ring);
    HDL_ASSERT(!readable(hdl_ring_fd(ring)));
    HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_OK);
    HDL_ASSERT(!readable(hdl_ring_fd(ring))); /* the first wake-up was enough */
    hdl_ring_close(ring);

    int fd = eventfd(0, EFD_NONBLOCK);
    hdl_ring_opts opts = {
        .item_bytes = sizeof(item), .count = 8, .wake = HDL_RING_WAKE_SHARED, .wake_fd = fd};
    HDL_ASSERT_EQ(hdl_ring_open(&ring, &opts), HDL_OK);
    HDL_ASSERT(hdl_ring_arm(ring));
    HDL_ASSERT_EQ(hdl_ring_push(ring, &it), HDL_OK);
    hdl_ring_ack(ring); /* not ours to empty */
    HDL_ASSERT(readable(fd));
    hdl_ring_close(ring);
    HDL_ASSERT_EQ(close(fd), 0); /* and not ours to close */
}

enum { PRODUCERS_MAX = 4, NUMBERS = 20000 };

typedef struct producer {
    hdl_ring *ring;
    uint32_t idx;
    hdl_thread thread;
} producer;

static void produce(void *arg)
{
    producer *p = arg;
    for (uint32_t i = 0; i < NUMBERS; i++) {
        item it = {.producer = p->idx, .number = i, .check = i * PRIME};
        while (hdl_ring_push(p->ring, &it) == HDL_BUSY)
            sched_yield();
    }
}

static void take(const item *it, uint32_t *next)
{
    HDL_ASSERT_LT(it->producer, PRODUCERS_MAX);
    HDL_ASSERT_EQ(it->number, next[it->producer]); /* none lost, none twice, in order */
    HDL_ASSERT_EQ(it->check, it->number * PRIME);
    next[it->producer]++;
}

static void test_threads(hdl_ring_kind kind, uint32_t n_producers, hdl_ring_wake wake)
{
    hdl_ring *ring = open_ring(kind, 64, wake);
    producer producers[PRODUCERS_MAX];
    uint32_t next[PRODUCERS_MAX] = {0}, total = 0;
    for (uint32_t i = 0; i < n_producers; i++) {
        producers[i] = (producer){.ring = ring, .idx = i};
        hdl_thread_opts opts = {.name = "producer", .fn = produce, .arg = &producers[i]};
        HDL_ASSERT_EQ(hdl_thread_start(&producers[i].thread, &opts, NULL), HDL_OK);
    }
    while (total < n_producers * NUMBERS) {
        item items[7];
        size_t n = hdl_ring_pop_many(ring, items, 7);
        for (size_t i = 0; i < n; i++)
            take(&items[i], next);
        total += (uint32_t)n;
        if (n > 0 || total == n_producers * NUMBERS)
            continue;
        if (wake == HDL_RING_WAKE_NONE) {
            sched_yield();
        } else if (hdl_ring_arm(ring)) {
            /* A lost wake-up would hang here; the limit makes it a failure. */
            struct pollfd p = {.fd = hdl_ring_fd(ring), .events = POLLIN};
            HDL_ASSERT_EQ(poll(&p, 1, 20000), 1);
            hdl_ring_ack(ring);
        }
    }
    for (uint32_t i = 0; i < n_producers; i++)
        hdl_thread_join(&producers[i].thread);
    HDL_ASSERT_EQ(hdl_ring_len(ring), 0);
    hdl_ring_close(ring);
}

int main(void)
{
    test_order_and_full(HDL_RING_SPSC);
    test_order_and_full(HDL_RING_MPSC);
    test_opts();
    test_wake();
    test_threads(HDL_RING_SPSC, 1, HDL_RING_WAKE_NONE);
    test_threads(HDL_RING_SPSC, 1, HDL_RING_WAKE_OWN);
    test_threads(HDL_RING_MPSC, PRODUCERS_MAX, HDL_RING_WAKE_NONE);
    test_threads(HDL_RING_MPSC, PRODUCERS_MAX, HDL_RING_WAKE_OWN);
    printf("rings: ok\n");
    return 0;
}
