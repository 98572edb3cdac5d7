/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/kv.h"

#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"

void hdl_kv_reset(hdl_kv *kv, uint32_t total)
{
    kv->total = kv->n_free = total;
    kv->n_cached = kv->promised = 0;
    kv->lru_head = kv->lru_tail = 1;
    kv->serial = 0;
    memset(kv->blocks, 0, total * sizeof *kv->blocks);
    for (uint32_t b = 0; b < total; b++)
        kv->blocks[b].next = b + 1 < total ? b + 1 : NONE;
    kv->free_head = total ? 0 : NONE;
    memset(kv->bucket, 0xff, (kv->bucket_mask + 1u) * sizeof *kv->bucket);
}

static uint32_t *place(const hdl_kv *kv, uint64_t at) { return &kv->lru[at & kv->lru_mask]; }

/* The ring is full, and half of it at least is void, for it is twice as long as there are blocks.
 */
static void lru_compact(hdl_kv *kv)
{
    uint64_t to = kv->lru_head;
    for (uint64_t at = kv->lru_head; at != kv->lru_tail; at++) {
        uint32_t block = *place(kv, at);
        if (kv->blocks[block].given != at)
            continue;
        kv->blocks[block].given = to;
        *place(kv, to++) = block;
    }
    kv->lru_tail = to;
}

static void lru_append(hdl_kv *kv, uint32_t block)
{
    if (kv->lru_tail - kv->lru_head > kv->lru_mask)
        lru_compact(kv);
    kv->blocks[block].given = kv->lru_tail;
    *place(kv, kv->lru_tail++) = block;
    kv->n_cached++;
}

/* The next to be evicted have not been looked at for long: ask for them, and for their places in
 * the index. */
static void lru_look_ahead(const hdl_kv *kv)
{
    uint64_t left = kv->lru_tail - kv->lru_head;
    if (left > 8)
        __builtin_prefetch(&kv->blocks[*place(kv, kv->lru_head + 8)], 1);
    if (left > 4)
        hdl_prefix_look_ahead(kv, kv->blocks[*place(kv, kv->lru_head + 4)].hash);
}

static uint32_t lru_take(hdl_kv *kv)
{
    HDL_ASSERT_LT(0, kv->n_cached);
    uint32_t block;
    do {
        lru_look_ahead(kv);
        block = *place(kv, kv->lru_head);
    } while (kv->blocks[block].given != kv->lru_head++);
    kv->blocks[block].given = 0;
    kv->n_cached--;
    return block;
}

void hdl_kv_hold(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    if (b->ref++ > 0)
        return;
    HDL_ASSERT(b->given != 0);
    b->given = 0;
    kv->n_cached--;
}

uint32_t hdl_kv_take(hdl_sched *s, hdl_kv *kv)
{
    uint32_t block = kv->free_head;
    if (block != NONE) {
        kv->free_head = kv->blocks[block].next;
        kv->n_free--;
    } else {
        block = lru_take(kv);
        if (!hdl_planted(s, STALE_BLOCK))
            hdl_prefix_forget(kv, block);
        s->stats.prefix_evictions++;
    }
    HDL_ASSERT_EQ(kv->blocks[block].ref, 0);
    kv->blocks[block].ref = 1;
    return block;
}

void hdl_kv_give(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    HDL_ASSERT_LT(b->pins, b->ref);
    if (--b->ref > 0)
        return;
    if (b->serial != 0) {
        lru_append(kv, block);
        return;
    }
    b->next = kv->free_head;
    kv->free_head = block;
    kv->n_free++;
}

void hdl_kv_pin(hdl_kv *kv, uint32_t block)
{
    hdl_kv_hold(kv, block);
    kv->blocks[block].pins++;
}

void hdl_kv_unpin(hdl_kv *kv, uint32_t block)
{
    HDL_ASSERT_LT(0, kv->blocks[block].pins);
    kv->blocks[block].pins--;
    hdl_kv_give(kv, block);
}
