/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/kv.h"

#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"

void hdl_kv_reset(hdl_kv *kv, uint32_t total)
{
    kv->total = kv->n_free = total;
    kv->n_cached = kv->promised = kv->n_pins = 0;
    kv->lru_head = kv->lru_tail = 1ull << 62; /* grows at both ends */
    memset(kv->blocks, 0, total * sizeof *kv->blocks);
    for (uint32_t b = 0; b < total; b++)
        kv->blocks[b].link = b + 1 < total ? b + 1 : NONE;
    kv->free_head = total ? 0 : NONE;
    hdl_prefix_reset(kv);
}

static uint32_t *place(const hdl_kv *kv, uint64_t at) { return &kv->lru[at & kv->lru_mask]; }

/* The block of a place, or NONE when it has been held or taken since. */
static uint32_t cached_at(const hdl_kv *kv, uint64_t at)
{
    uint32_t block = *place(kv, at);
    const hdl_block *b = &kv->blocks[block];
    return b->ref == 0 && b->published && b->link == (uint32_t)at ? block : NONE;
}

/* The ring is full, and half of it at least is void, for it is twice as long as there are blocks.
 */
static void lru_compact(hdl_kv *kv)
{
    uint64_t to = kv->lru_head;
    for (uint64_t at = kv->lru_head; at != kv->lru_tail; at++) {
        uint32_t block = cached_at(kv, at);
        if (block == NONE)
            continue;
        kv->blocks[block].link = (uint32_t)to;
        *place(kv, to++) = block;
    }
    kv->lru_tail = to;
}

static void lru_append(hdl_kv *kv, uint32_t block)
{
    if (kv->lru_tail - kv->lru_head > kv->lru_mask)
        lru_compact(kv);
    kv->blocks[block].link = (uint32_t)kv->lru_tail;
    *place(kv, kv->lru_tail++) = block;
    kv->n_cached++;
}

static void lru_prepend(hdl_kv *kv, uint32_t block)
{
    if (kv->lru_tail - kv->lru_head > kv->lru_mask)
        lru_compact(kv);
    kv->blocks[block].link = (uint32_t)--kv->lru_head;
    *place(kv, kv->lru_head) = block;
    kv->n_cached++;
}

static uint32_t lru_take(hdl_kv *kv)
{
    HDL_ASSERT_LT(0, kv->n_cached);
    uint32_t block;
    do {
        block = cached_at(kv, kv->lru_head++);
    } while (block == NONE);
    kv->n_cached--;
    return block;
}

uint32_t hdl_kv_nth(const hdl_kv *kv, uint32_t n)
{
    if (n < kv->n_free || n - kv->n_free >= kv->n_cached)
        return NONE;
    return *place(kv, kv->lru_head + n - kv->n_free);
}

void hdl_kv_look_ahead(const hdl_kv *kv, uint32_t n, uint32_t n_next)
{
    uint64_t at = kv->lru_head, left = kv->n_cached;
    n = n > kv->n_free ? n - kv->n_free : 0;
    for (; n > 0 && left > 0; at++, n--, left--)
        hdl_prefix_look_ahead(kv, kv->blocks[*place(kv, at)].hash);
    for (; n_next > 0 && left > 0; at++, n_next--, left--)
        __builtin_prefetch(&kv->blocks[*place(kv, at)], 1);
}

void hdl_kv_hold(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    if (b->ref++ > 0)
        return;
    HDL_ASSERT(b->published);
    kv->n_cached--;
}

static void forget_side(hdl_kv *kv, uint32_t block)
{
    kv->of_main[kv->blocks[block].parent] = NONE;
    kv->blocks[block].published = false;
}

uint32_t hdl_kv_take(hdl_sched *s, hdl_kv *kv)
{
    uint32_t block = kv->free_head;
    if (block != NONE) {
        kv->free_head = kv->blocks[block].link;
        kv->n_free--;
    } else {
        block = lru_take(kv);
        if (kv->of_main)
            forget_side(kv, block);
        else if (!hdl_planted(s, STALE_BLOCK))
            hdl_prefix_forget(kv, block);
        s->stats.prefix_evictions++;
    }
    HDL_ASSERT_EQ(kv->blocks[block].ref, 0);
    kv->blocks[block].ref = 1;
    return block;
}

/* One hold less. True when that was the last one of a block that is still published. */
static inline bool let_go(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    HDL_ASSERT_LT(b->pins, b->ref);
    if (--b->ref > 0)
        return false;
    if (b->published)
        return true;
    b->link = kv->free_head;
    kv->free_head = block;
    kv->n_free++;
    return false;
}

void hdl_kv_give(hdl_kv *kv, uint32_t block)
{
    if (let_go(kv, block))
        lru_append(kv, block);
}

void hdl_kv_give_first(hdl_kv *kv, uint32_t block)
{
    if (let_go(kv, block))
        lru_prepend(kv, block);
}

void hdl_kv_pin(hdl_kv *kv, uint32_t block)
{
    hdl_kv_hold(kv, block);
    kv->blocks[block].pins++;
    kv->n_pins++;
}

void hdl_kv_unpin(hdl_kv *kv, uint32_t block)
{
    HDL_ASSERT_LT(0, kv->blocks[block].pins);
    kv->blocks[block].pins--;
    kv->n_pins--;
    hdl_kv_give(kv, block);
}
