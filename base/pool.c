/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: slots, then generations, then the free list's links. The links are kept beside the
 * slots and not inside them, so that a write through a stale pointer cannot break the list. */
#include "base/pool.h"

#include <string.h>

#include "base/assert.h"
#include "base/checked.h"

enum { POOL_ALIGN = 64 };
static const uint32_t NO_SLOT = UINT32_MAX;

static size_t stride_of(size_t slot_bytes)
{
    size_t stride;
    return hdl_align_up_size(slot_bytes, 16, &stride) ? stride : 0;
}

size_t hdl_pool_bytes(size_t slot_bytes, uint32_t count)
{
    size_t slots, words, total;
    if (slot_bytes == 0 || !stride_of(slot_bytes) || count == NO_SLOT ||
        !hdl_mul_size(stride_of(slot_bytes), count, &slots) ||
        !hdl_mul_size(2 * sizeof(uint32_t), count, &words) || !hdl_add_size(slots, words, &total) ||
        !hdl_align_up_size(total, POOL_ALIGN, &total))
        return 0;
    return total;
}

void hdl_pool_init(hdl_pool *pool, void *mem, size_t slot_bytes, uint32_t count)
{
    HDL_ASSERT(count > 0 && hdl_pool_bytes(slot_bytes, count) > 0);
    HDL_ASSERT_EQ((uintptr_t)mem % POOL_ALIGN, 0);
    size_t stride = stride_of(slot_bytes);
    unsigned char *words = (unsigned char *)mem + stride * count;
    *pool = (hdl_pool){
        .slots = mem,
        .gen = (uint32_t *)(void *)words,
        .next_free = (uint32_t *)(void *)words + count,
        .slot_bytes = stride,
        .count = count,
        .free_count = count,
    };
    for (uint32_t i = 0; i < count; i++) {
        pool->gen[i] = 0;
        pool->next_free[i] = i + 1 < count ? i + 1 : NO_SLOT;
    }
}

void *hdl_pool_take(hdl_pool *pool, hdl_pool_ref *ref)
{
    if (pool->free_count == 0) {
        *ref = (hdl_pool_ref){0};
        return NULL;
    }
    uint32_t idx = pool->free_head;
    HDL_ASSERT_LT(idx, pool->count);
    pool->free_head = pool->next_free[idx];
    pool->free_count--;
    pool->gen[idx]++; /* odd: taken */
    *ref = (hdl_pool_ref){.idx = idx, .gen = pool->gen[idx]};
    void *slot = pool->slots + pool->slot_bytes * idx;
    memset(slot, 0, pool->slot_bytes);
    return slot;
}

void *hdl_pool_find(const hdl_pool *pool, hdl_pool_ref ref)
{
    bool live = ref.idx < pool->count && (ref.gen & 1u) && pool->gen[ref.idx] == ref.gen;
    return live ? pool->slots + pool->slot_bytes * ref.idx : NULL;
}

void *hdl_pool_get(const hdl_pool *pool, hdl_pool_ref ref)
{
    void *slot = hdl_pool_find(pool, ref);
    HDL_ASSERT(slot != NULL);
    return slot;
}

void hdl_pool_give(hdl_pool *pool, hdl_pool_ref ref)
{
    HDL_ASSERT(hdl_pool_find(pool, ref) != NULL);
    pool->gen[ref.idx]++; /* even: free */
    pool->next_free[ref.idx] = pool->free_count ? pool->free_head : NO_SLOT;
    pool->free_head = ref.idx;
    pool->free_count++;
}

hdl_pool_ref hdl_pool_at(const hdl_pool *pool, uint32_t idx)
{
    HDL_ASSERT_LT(idx, pool->count);
    uint32_t gen = pool->gen[idx];
    return (hdl_pool_ref){.idx = idx, .gen = gen & 1u ? gen : 0};
}
