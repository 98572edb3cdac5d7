/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded queues of fixed-size PODs between threads: the only way threads of heddle hand work to
 * each other.
 *
 * One consumer thread; one producer thread (SPSC) or any number (MPSC). Items are copied. A full
 * ring is HDL_BUSY to the producer: back-pressure, never growth, never waiting. Only
 * hdl_ring_push may be called from other threads than the consumer's. Order: per producer, first
 * in first out.
 *
 * Wake-up: with HDL_RING_WAKE_OWN or _SHARED a push writes an eventfd, but only when the
 * consumer has said that it is about to sleep (hdl_ring_arm), so a busy consumer costs the
 * producers no system call. A consumer's turn is
 *     hdl_ring_ack(r);
 *     do
 *         while ((n = hdl_ring_pop_many(r, items, max)) > 0)
 *             ...
 *     while (!hdl_ring_arm(r));
 * and then it waits for hdl_ring_fd in its loop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heddle/err.h"

typedef enum hdl_ring_kind { HDL_RING_SPSC, HDL_RING_MPSC } hdl_ring_kind;
typedef enum hdl_ring_wake {
    HDL_RING_WAKE_NONE,  /* the consumer polls */
    HDL_RING_WAKE_OWN,   /* the ring makes an eventfd of its own */
    HDL_RING_WAKE_SHARED /* opts.wake_fd, borrowed: until close; several rings of one consumer */
} hdl_ring_wake;

typedef struct hdl_ring_opts {
    hdl_ring_kind kind;
    size_t item_bytes; /* 1 .. 65536 */
    size_t count;      /* rounded up to a power of two, 2 .. 2^24 */
    hdl_ring_wake wake;
    int wake_fd;
} hdl_ring_opts;

typedef struct hdl_ring hdl_ring; /* opaque; heap, cold */

hdl_err hdl_ring_open(hdl_ring **out, const hdl_ring_opts *opts) HDL_MUST_CHECK;
/* After every producer has stopped. NULL is allowed. */
void hdl_ring_close(hdl_ring *ring);

/* Producer. HDL_OK or HDL_BUSY. */
hdl_err hdl_ring_push(hdl_ring *ring, const void *item) HDL_MUST_CHECK;

/* Consumer. Copies up to max items, returns how many. */
size_t hdl_ring_pop_many(hdl_ring *ring, void *items, size_t max);
static inline bool hdl_ring_pop(hdl_ring *ring, void *item)
{
    return hdl_ring_pop_many(ring, item, 1) == 1;
}

/* Consumer. Asks for a wake-up by the next push. True: the ring is empty, sleeping is safe.
 * False: items came meanwhile, pop again first. */
bool hdl_ring_arm(hdl_ring *ring) HDL_MUST_CHECK;
/* Consumer. Empties the eventfd after a wake-up. */
void hdl_ring_ack(hdl_ring *ring);
/* eventfd to poll for reading, or -1. */
int hdl_ring_fd(const hdl_ring *ring);

size_t hdl_ring_capacity(const hdl_ring *ring);
/* Any thread; a momentary figure for metrics. */
size_t hdl_ring_len(const hdl_ring *ring);
