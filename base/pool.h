/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed pool of equal slots in the caller's memory, with generations against stale references.
 *
 * A slot's reference is (index, generation); giving a slot back bumps its generation, so an old
 * reference finds NULL instead of another object. Free slots are reused last in, first out.
 * Owner: one thread. Invariant: free + taken = count; a generation is odd exactly while its slot
 * is taken. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hdl_pool_ref {
    uint32_t idx;
    uint32_t gen; /* 0 is never valid: a zeroed reference is none */
} hdl_pool_ref;

typedef struct hdl_pool {
    unsigned char *slots; /* borrowed: caller's memory */
    uint32_t *gen;
    uint32_t *next_free;
    size_t slot_bytes;
    uint32_t count;
    uint32_t free_head;
    uint32_t free_count;
} hdl_pool;

/* Bytes that hdl_pool_init needs (aligned to 64), or 0 when they overflow. */
size_t hdl_pool_bytes(size_t slot_bytes, uint32_t count);
/* mem is hdl_pool_bytes() long and 64-byte aligned; slots are aligned to 64 when slot_bytes is a
 * multiple of 64, else to 16. */
void hdl_pool_init(hdl_pool *pool, void *mem, size_t slot_bytes, uint32_t count);

/* A zeroed slot and its reference, or NULL when all are taken. */
void *hdl_pool_take(hdl_pool *pool, hdl_pool_ref *ref);
/* The reference must be live. */
void hdl_pool_give(hdl_pool *pool, hdl_pool_ref ref);
/* NULL when the reference is stale or foreign. */
void *hdl_pool_find(const hdl_pool *pool, hdl_pool_ref ref);
/* Asserts that it is live. */
void *hdl_pool_get(const hdl_pool *pool, hdl_pool_ref ref);
/* The live reference of a taken slot by index, e.g. while walking; gen 0 when the slot is free. */
hdl_pool_ref hdl_pool_at(const hdl_pool *pool, uint32_t idx);

/* One word for the wire and for logs; never 0 for a live reference. */
static inline uint64_t hdl_pool_ref_word(hdl_pool_ref ref)
{
    return (uint64_t)ref.gen << 32 | ref.idx;
}
static inline hdl_pool_ref hdl_pool_ref_of(uint64_t word)
{
    return (hdl_pool_ref){.idx = (uint32_t)word, .gen = (uint32_t)(word >> 32)};
}
