/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked arena of one request or one parse (arena.h). Beside arena.c, so that the pure core
 * never pulls in the heap. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { CHUNK_BYTES_MIN = 4096, CHUNK_BYTES_MAX = 1 << 20, ALIGN = 16 };

struct hdl_pool_chunk {
    alignas(ALIGN) hdl_pool_chunk *next;
    size_t size; /* of data */
    size_t used;
    alignas(ALIGN) unsigned char data[];
};

void hdl_pool_arena_init(hdl_pool_arena *arena, size_t cap_bytes)
{
    *arena = (hdl_pool_arena){.cap_bytes = cap_bytes, .chunk_bytes = CHUNK_BYTES_MIN};
}

void hdl_pool_arena_deinit(hdl_pool_arena *arena)
{
    while (arena->chunks) {
        hdl_pool_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
    arena->total_bytes = 0;
    arena->chunk_bytes = CHUNK_BYTES_MIN;
}

static hdl_pool_chunk *add_chunk(hdl_pool_arena *arena, size_t need)
{
    size_t room = arena->cap_bytes - arena->total_bytes;
    size_t size = arena->chunk_bytes > need ? arena->chunk_bytes : need;
    if (size > room)
        size = need; /* the last chunk before the cap is as small as it can be */
    size_t bytes;
    if (size > room || !hdl_add_size(sizeof(hdl_pool_chunk), size, &bytes))
        return NULL;
    hdl_pool_chunk *chunk = calloc(1, bytes);
    if (!chunk)
        return NULL;
    chunk->size = size;
    /* A big item gets a chunk of its own behind the current one, whose room stays in use. */
    if (arena->chunks && size > arena->chunk_bytes) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    } else {
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        if (arena->chunk_bytes < CHUNK_BYTES_MAX)
            arena->chunk_bytes *= 2;
    }
    arena->total_bytes += size;
    return chunk;
}

void *hdl_pool_arena_alloc(hdl_pool_arena *arena, size_t size)
{
    if (!hdl_align_up_size(size ? size : 1, ALIGN, &size))
        return NULL;
    hdl_pool_chunk *chunk = arena->chunks;
    if (!chunk || size > chunk->size - chunk->used)
        chunk = add_chunk(arena, size);
    if (!chunk)
        return NULL;
    void *p = chunk->data + chunk->used;
    chunk->used += size;
    return p;
}

void *hdl_pool_arena_alloc_array(hdl_pool_arena *arena, size_t count, size_t item_bytes)
{
    size_t size;
    return hdl_mul_size(count, item_bytes, &size) ? hdl_pool_arena_alloc(arena, size) : NULL;
}

char *hdl_pool_arena_copy(hdl_pool_arena *arena, const char *text, size_t len)
{
    size_t size;
    if (!hdl_add_size(len, 1, &size))
        return NULL;
    char *copy = hdl_pool_arena_alloc(arena, size);
    if (copy && len)
        memcpy(copy, text, len);
    return copy;
}
