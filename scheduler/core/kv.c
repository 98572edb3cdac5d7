/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/core/kv.h"

#include "scheduler/core/plant.h"
#include "scheduler/core/prefix.h"

void hdl_kv_reset(hdl_kv *kv, uint32_t total)
{
    kv->total = kv->n_free = total;
    kv->n_cached = kv->promised = 0;
    kv->lru_head = kv->lru_tail = NONE;
    kv->serial = 0;
    memset(kv->blocks, 0, total * sizeof *kv->blocks);
    for (uint32_t b = 0; b < total; b++)
        kv->blocks[b].next = b + 1 < total ? b + 1 : NONE;
    kv->free_head = total ? 0 : NONE;
    memset(kv->bucket, 0xff, (kv->bucket_mask + 1u) * sizeof *kv->bucket);
}

static void lru_remove(hdl_kv *kv, hdl_block *b)
{
    *(b->prev == NONE ? &kv->lru_head : &kv->blocks[b->prev].next) = b->next;
    *(b->next == NONE ? &kv->lru_tail : &kv->blocks[b->next].prev) = b->prev;
    kv->n_cached--;
}

/* The next to be evicted has not been looked at for long: ask for it now. */
static void lru_look_ahead(const hdl_kv *kv)
{
    if (kv->lru_head == NONE)
        return;
    const hdl_block *next = &kv->blocks[kv->lru_head]; /* asked for the last time */
    __builtin_prefetch(&kv->bucket[next->hash & kv->bucket_mask], 1);
    if (next->next != NONE)
        __builtin_prefetch(&kv->blocks[next->next], 1);
}

static void lru_insert(hdl_kv *kv, uint32_t block, uint32_t before)
{
    hdl_block *b = &kv->blocks[block];
    b->next = before;
    b->prev = before == NONE ? kv->lru_tail : kv->blocks[before].prev;
    *(b->prev == NONE ? &kv->lru_head : &kv->blocks[b->prev].next) = block;
    *(before == NONE ? &kv->lru_tail : &kv->blocks[before].prev) = block;
    kv->n_cached++;
}

void hdl_kv_hold(hdl_kv *kv, uint32_t block)
{
    hdl_block *b = &kv->blocks[block];
    if (b->ref++ > 0)
        return;
    HDL_ASSERT(b->serial != 0);
    lru_remove(kv, b);
}

uint32_t hdl_kv_take(hdl_sched *s, hdl_kv *kv)
{
    uint32_t block = kv->free_head;
    if (block != NONE) {
        kv->free_head = kv->blocks[block].next;
        kv->n_free--;
    } else {
        block = kv->lru_head;
        HDL_ASSERT(block != NONE);
        lru_remove(kv, &kv->blocks[block]);
        lru_look_ahead(kv);
        if (!hdl_planted(s, STALE_BLOCK))
            hdl_prefix_forget(kv, block);
        s->stats.prefix_evictions++;
    }
    HDL_ASSERT_EQ(kv->blocks[block].ref, 0);
    kv->blocks[block].ref = 1;
    return block;
}

uint32_t hdl_kv_give(hdl_kv *kv, uint32_t block, uint32_t anchor)
{
    hdl_block *b = &kv->blocks[block];
    HDL_ASSERT_LT(b->pins, b->ref);
    if (--b->ref > 0)
        return anchor;
    if (b->serial != 0) {
        lru_insert(kv, block, anchor);
        return block;
    }
    b->next = kv->free_head;
    kv->free_head = block;
    kv->n_free++;
    return anchor;
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
    hdl_kv_give(kv, block, NONE);
}
