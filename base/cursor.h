/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds-checked reader over foreign bytes, little-endian.
 *
 * The first read that does not fit sets `failed`; from then on every read gives 0 or NULL and
 * moves nothing, so a parser reads a whole record and checks once. Borrows the bytes; pure; one
 * thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct hdl_cursor {
    const unsigned char *bytes; /* borrowed: until parsing ends */
    size_t size;
    size_t at;
    bool failed;
} hdl_cursor;

static inline hdl_cursor hdl_cursor_of(const void *bytes, size_t size)
{
    return (hdl_cursor){.bytes = bytes, .size = size};
}

static inline size_t hdl_cursor_left(const hdl_cursor *c)
{
    return c->failed ? 0 : c->size - c->at;
}

/* n bytes in place, or NULL. n = 0 gives a non-NULL pointer unless the cursor has failed. */
static inline const unsigned char *hdl_cursor_bytes(hdl_cursor *c, size_t n)
{
    static const unsigned char empty[1];
    if (c->failed || n > c->size - c->at) {
        c->failed = true;
        return NULL;
    }
    const unsigned char *p = c->bytes ? c->bytes + c->at : empty;
    c->at += n;
    return p;
}

static inline bool hdl_cursor_copy(hdl_cursor *c, void *out, size_t n)
{
    const unsigned char *p = hdl_cursor_bytes(c, n);
    if (p && n)
        memcpy(out, p, n);
    return p != NULL;
}

static inline uint64_t hdl_cursor_le_(hdl_cursor *c, size_t n)
{
    const unsigned char *p = hdl_cursor_bytes(c, n);
    uint64_t v = 0;
    for (size_t i = 0; p && i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static inline uint8_t hdl_cursor_u8(hdl_cursor *c) { return (uint8_t)hdl_cursor_le_(c, 1); }
static inline uint16_t hdl_cursor_u16(hdl_cursor *c) { return (uint16_t)hdl_cursor_le_(c, 2); }
static inline uint32_t hdl_cursor_u32(hdl_cursor *c) { return (uint32_t)hdl_cursor_le_(c, 4); }
static inline uint64_t hdl_cursor_u64(hdl_cursor *c) { return hdl_cursor_le_(c, 8); }
