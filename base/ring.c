/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded ring with a sequence number in each slot (D. Vyukov's queue, consumer side single).
 *
 * A slot at position p is free when its seq is p and full when it is p + 1; after the pop it is
 * p + count, the position it serves next. Producers therefore need no look at the consumer's
 * head, nor the consumer at the tail. An SPSC ring differs only in that its producer moves the
 * tail by a store instead of a compare-and-swap. Positions are 64 bits wide and never wrap. */
#include "base/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/checked.h"

enum { LINE = 64, ITEM_BYTES_MAX = 65536, COUNT_MAX = 1 << 24 };

typedef struct slot {
    _Atomic uint64_t seq;
    unsigned char item[];
} slot;

struct hdl_ring {
    /* constant after open */
    _Alignas(LINE) unsigned char *slots; /* owned */
    size_t stride;
    size_t item_bytes;
    uint64_t mask;
    hdl_ring_kind kind;
    hdl_ring_wake wake;
    int fd;
    /* producers */
    _Alignas(LINE) _Atomic uint64_t tail;
    /* consumer */
    _Alignas(LINE) _Atomic uint64_t head;
    /* both, when the consumer goes to sleep */
    _Alignas(LINE) _Atomic uint32_t armed;
};

static slot *slot_at(const hdl_ring *ring, uint64_t pos)
{
    return (slot *)(void *)(ring->slots + ring->stride * (pos & ring->mask));
}

hdl_err hdl_ring_open(hdl_ring **out, const hdl_ring_opts *opts)
{
    *out = NULL;
    if (opts->item_bytes < 1 || opts->item_bytes > ITEM_BYTES_MAX || opts->count > COUNT_MAX)
        return HDL_INVALID;
    size_t count = 2;
    while (count < opts->count)
        count *= 2;
    size_t stride, bytes;
    if (!hdl_align_up_size(sizeof(slot) + opts->item_bytes, _Alignof(slot), &stride) ||
        !hdl_mul_size(stride, count, &bytes) || !hdl_align_up_size(bytes, LINE, &bytes))
        return HDL_INVALID;

    hdl_ring *ring = aligned_alloc(LINE, sizeof *ring);
    unsigned char *slots = aligned_alloc(LINE, bytes);
    int fd = -1;
    if (opts->wake == HDL_RING_WAKE_OWN)
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    else if (opts->wake == HDL_RING_WAKE_SHARED)
        fd = opts->wake_fd;
    if (!ring || !slots || (fd < 0 && opts->wake != HDL_RING_WAKE_NONE)) {
        free(ring);
        free(slots);
        if (fd >= 0 && opts->wake == HDL_RING_WAKE_OWN)
            close(fd);
        return fd < 0 && opts->wake != HDL_RING_WAKE_NONE ? HDL_IO : HDL_NOMEM;
    }
    memset(ring, 0, sizeof *ring);
    memset(slots, 0, bytes);
    ring->slots = slots;
    ring->stride = stride;
    ring->item_bytes = opts->item_bytes;
    ring->mask = count - 1;
    ring->kind = opts->kind;
    ring->wake = opts->wake;
    ring->fd = fd;
    for (uint64_t pos = 0; pos < count; pos++)
        atomic_init(&slot_at(ring, pos)->seq, pos);
    *out = ring;
    return HDL_OK;
}

void hdl_ring_close(hdl_ring *ring)
{
    if (!ring)
        return;
    if (ring->wake == HDL_RING_WAKE_OWN)
        close(ring->fd);
    free(ring->slots);
    free(ring);
}

static void wake_consumer(hdl_ring *ring)
{
    /* acq_rel exchange: it either reads the consumer's 1, and then wakes, or comes first, and
     * then the consumer's own exchange in hdl_ring_arm reads from it and therefore sees the
     * item. A plain load could miss both. */
    if (atomic_exchange_explicit(&ring->armed, 0, memory_order_acq_rel) == 0)
        return;
    uint64_t one = 1;
    /* EAGAIN means that the counter is full: a wake-up is pending anyway. */
    while (write(ring->fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

hdl_err hdl_ring_push(hdl_ring *ring, const void *item)
{
    /* relaxed: the slot's seq decides; a stale tail costs one more turn */
    uint64_t pos = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    slot *s;
    for (;;) {
        s = slot_at(ring, pos);
        /* acquire: pairs with the pop's release, so that the old item has been read before we
         * overwrite it */
        uint64_t seq = atomic_load_explicit(&s->seq, memory_order_acquire);
        if (seq == pos) {
            if (ring->kind == HDL_RING_SPSC) {
                /* relaxed: nobody else writes the tail */
                atomic_store_explicit(&ring->tail, pos + 1, memory_order_relaxed);
                break;
            }
            /* relaxed: claims the position only; the item is published by seq */
            if (atomic_compare_exchange_weak_explicit(&ring->tail, &pos, pos + 1,
                                                      memory_order_relaxed, memory_order_relaxed))
                break;
        } else if (seq < pos) {
            return HDL_BUSY;
        } else {
            pos = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* as above */
        }
    }
    memcpy(s->item, item, ring->item_bytes);
    /* release: publishes the item */
    atomic_store_explicit(&s->seq, pos + 1, memory_order_release);
    if (ring->wake != HDL_RING_WAKE_NONE)
        wake_consumer(ring);
    return HDL_OK;
}

size_t hdl_ring_pop_many(hdl_ring *ring, void *items, size_t max)
{
    /* relaxed: only the consumer writes the head */
    uint64_t pos = atomic_load_explicit(&ring->head, memory_order_relaxed);
    unsigned char *out = items;
    size_t n = 0;
    for (; n < max; n++, pos++) {
        slot *s = slot_at(ring, pos);
        /* acquire: pairs with the push's release, the item is complete */
        if (atomic_load_explicit(&s->seq, memory_order_acquire) != pos + 1)
            break;
        memcpy(out, s->item, ring->item_bytes);
        out += ring->item_bytes;
        /* release: our read is done before a producer may overwrite */
        atomic_store_explicit(&s->seq, pos + ring->mask + 1, memory_order_release);
    }
    /* relaxed: read by hdl_ring_len only */
    atomic_store_explicit(&ring->head, pos, memory_order_relaxed);
    return n;
}

static bool has_item(hdl_ring *ring)
{
    uint64_t pos = atomic_load_explicit(&ring->head, memory_order_relaxed); /* own word */
    /* acquire: as in pop */
    return atomic_load_explicit(&slot_at(ring, pos)->seq, memory_order_acquire) == pos + 1;
}

bool hdl_ring_arm(hdl_ring *ring)
{
    HDL_ASSERT(ring->wake != HDL_RING_WAKE_NONE);
    if (has_item(ring))
        return false;
    /* acq_rel exchange: see wake_consumer */
    atomic_exchange_explicit(&ring->armed, 1, memory_order_acq_rel);
    if (!has_item(ring))
        return true;
    /* Spares a useless wake-up; an exchange again, so that the chain of acq_rel operations has
     * no gap. */
    atomic_exchange_explicit(&ring->armed, 0, memory_order_acq_rel);
    return false;
}

void hdl_ring_ack(hdl_ring *ring)
{
    uint64_t count;
    /* A shared eventfd is emptied by its owner, the loop. EAGAIN: nothing was pending. */
    if (ring->wake == HDL_RING_WAKE_OWN)
        while (read(ring->fd, &count, sizeof count) < 0 && errno == EINTR) {}
}

int hdl_ring_fd(const hdl_ring *ring) { return ring->wake == HDL_RING_WAKE_NONE ? -1 : ring->fd; }

size_t hdl_ring_capacity(const hdl_ring *ring) { return (size_t)ring->mask + 1; }

size_t hdl_ring_len(const hdl_ring *ring)
{
    /* relaxed, head first: a figure for metrics; the difference of two moments is clamped */
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t len = tail > head ? tail - head : 0;
    return len > ring->mask + 1 ? (size_t)ring->mask + 1 : (size_t)len;
}
