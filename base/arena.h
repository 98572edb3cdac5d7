/* SPDX-License-Identifier: Apache-2.0 */
/* Two bump allocators. Nothing is freed one by one; one reset or close gives everything back.
 *
 * hdl_arena works in the caller's memory, never allocates, and is what the pure core and the
 * step use: process lifetime (sized from limits at start) or step lifetime (reset each step).
 * hdl_pool_arena grows by heap chunks up to a hard cap and serves one request or one parse on a
 * cold path. Owner: whoever holds the struct; one thread. Invariant: used <= size, pointers stay
 * valid until reset, rewind below them, or close. */
#pragma once

#include <stddef.h>

typedef struct hdl_arena {
    unsigned char *base; /* borrowed: until the arena is dropped */
    size_t size;
    size_t used;
    size_t used_max; /* high-water mark over all resets */
} hdl_arena;

/* mem may be NULL only when size is 0. */
void hdl_arena_init(hdl_arena *arena, void *mem, size_t size);

/* Uninitialised memory aligned to align (a power of two), or NULL when the arena is full: the
 * caller says HDL_BUSY. size 0 gives a valid pointer while any room is left. */
void *hdl_arena_alloc(hdl_arena *arena, size_t size, size_t align);
/* count * item_bytes, checked, zeroed; NULL when it does not fit or overflows. */
void *hdl_arena_alloc_array(hdl_arena *arena, size_t count, size_t item_bytes, size_t align);

void hdl_arena_reset(hdl_arena *arena);

/* Everything allocated after mark is gone with the rewind. */
size_t hdl_arena_mark(const hdl_arena *arena);
void hdl_arena_rewind(hdl_arena *arena, size_t mark);

#define HDL_ARENA_NEW(arena, type)                                                                 \
    ((type *)hdl_arena_alloc_array((arena), 1, sizeof(type), _Alignof(type)))
#define HDL_ARENA_ARRAY(arena, type, count)                                                        \
    ((type *)hdl_arena_alloc_array((arena), (count), sizeof(type), _Alignof(type)))

typedef struct hdl_pool_chunk hdl_pool_chunk;
typedef struct hdl_pool_arena {
    hdl_pool_chunk *chunks; /* owned; newest first */
    size_t total_bytes;     /* of all chunks */
    size_t cap_bytes;
    size_t chunk_bytes;
} hdl_pool_arena;

/* cap_bytes bounds all chunks together; the first chunk is taken on first use. Zeroed memory is
 * given. */
void hdl_pool_arena_init(hdl_pool_arena *arena, size_t cap_bytes);
void hdl_pool_arena_deinit(hdl_pool_arena *arena);
/* Zeroed, 16-byte aligned; NULL when the cap is reached or the heap is empty. */
void *hdl_pool_arena_alloc(hdl_pool_arena *arena, size_t size);
void *hdl_pool_arena_alloc_array(hdl_pool_arena *arena, size_t count, size_t item_bytes);
/* NUL-terminated copy of len bytes; NULL as above. */
char *hdl_pool_arena_copy(hdl_pool_arena *arena, const char *text, size_t len);
