/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's-memory arena; it references memset and assertions only, for the pure core. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/assert.h"
#include "base/checked.h"

void hdl_arena_init(hdl_arena *arena, void *mem, size_t size)
{
    HDL_ASSERT(mem != NULL || size == 0);
    *arena = (hdl_arena){.base = mem, .size = size};
}

void *hdl_arena_alloc(hdl_arena *arena, size_t size, size_t align)
{
    HDL_ASSERT(hdl_is_pow2(align));
    HDL_ASSERT_LE(arena->used, arena->size);
    /* The address is aligned, not the offset: the caller's memory may start anywhere. */
    uintptr_t at = (uintptr_t)arena->base + arena->used;
    size_t pad = (size_t)(-at & (align - 1));
    size_t left = arena->size - arena->used;
    if (arena->base == NULL || pad > left || size > left - pad)
        return NULL;
    unsigned char *p = arena->base + arena->used + pad;
    arena->used += pad + size;
    if (arena->used > arena->used_max)
        arena->used_max = arena->used;
    return p;
}

void *hdl_arena_alloc_array(hdl_arena *arena, size_t count, size_t item_bytes, size_t align)
{
    size_t size;
    if (!hdl_mul_size(count, item_bytes, &size))
        return NULL;
    void *p = hdl_arena_alloc(arena, size, align);
    if (p)
        memset(p, 0, size);
    return p;
}

void hdl_arena_reset(hdl_arena *arena) { arena->used = 0; }

size_t hdl_arena_mark(const hdl_arena *arena) { return arena->used; }

void hdl_arena_rewind(hdl_arena *arena, size_t mark)
{
    HDL_ASSERT_LE(mark, arena->used);
    arena->used = mark;
}
