/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/checked.h"

enum { SIZE_MIN = 256 };

void hdl_buf_init(hdl_buf *buf, size_t cap_bytes) { *buf = (hdl_buf){.cap = cap_bytes}; }

void hdl_buf_deinit(hdl_buf *buf)
{
    free(buf->mem);
    *buf = (hdl_buf){.cap = buf->cap};
}

static hdl_err fail(hdl_buf *buf, hdl_err err)
{
    buf->failed = true;
    return err;
}

hdl_err hdl_buf_reserve(hdl_buf *buf, size_t n)
{
    if (n <= buf->size - buf->start - buf->len)
        return HDL_OK;
    size_t need;
    if (!hdl_add_size(buf->len, n, &need) || need > buf->cap)
        return fail(buf, HDL_BUSY);
    if (buf->start > 0) {
        memmove(buf->mem, buf->mem + buf->start, buf->len);
        buf->start = 0;
        /* Only when that frees a good part of the buffer is it enough; else consuming a byte and
         * appending a byte in turn would move everything each time. */
        if (need <= buf->size - buf->size / 4)
            return HDL_OK;
    }
    size_t size = buf->size < SIZE_MIN ? SIZE_MIN : buf->size;
    while (size < need || size == buf->size) {
        if (size > buf->cap / 2) {
            size = buf->cap;
            break;
        }
        size *= 2;
    }
    if (size > buf->cap)
        size = buf->cap;
    if (size <= buf->size)
        return HDL_OK; /* at the cap already, and there is room */
    unsigned char *mem = realloc(buf->mem, size);
    if (!mem)
        return fail(buf, HDL_NOMEM);
    buf->mem = mem;
    buf->size = size;
    return HDL_OK;
}

void hdl_buf_commit(hdl_buf *buf, size_t n)
{
    HDL_ASSERT_LE(n, buf->size - buf->start - buf->len);
    buf->len += n;
}

hdl_err hdl_buf_append(hdl_buf *buf, const void *bytes, size_t n)
{
    if (n == 0)
        return HDL_OK;
    HDL_TRY(hdl_buf_reserve(buf, n));
    memcpy(hdl_buf_tail(buf), bytes, n);
    buf->len += n;
    return HDL_OK;
}

hdl_err hdl_buf_puts(hdl_buf *buf, const char *text)
{
    return hdl_buf_append(buf, text, strlen(text));
}

hdl_err hdl_buf_printf(hdl_buf *buf, const char *fmt, ...)
{
    size_t room = buf->size - buf->start - buf->len;
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(room ? (char *)hdl_buf_tail(buf) : NULL, room, fmt, args);
    va_end(args);
    hdl_err err = n < 0 ? fail(buf, HDL_INVALID) : HDL_OK;
    if (err == HDL_OK && (size_t)n >= room) {
        /* vsnprintf needs room for its terminator, which is not kept. */
        err = hdl_buf_reserve(buf, (size_t)n + 1);
        if (err == HDL_OK)
            n = vsnprintf((char *)hdl_buf_tail(buf), (size_t)n + 1, fmt, again);
    }
    va_end(again);
    if (err == HDL_OK)
        buf->len += (size_t)n;
    return err;
}

void hdl_buf_consume(hdl_buf *buf, size_t n)
{
    HDL_ASSERT_LE(n, buf->len);
    buf->start += n;
    buf->len -= n;
    if (buf->len == 0)
        buf->start = 0;
}

void hdl_buf_clear(hdl_buf *buf)
{
    buf->start = buf->len = 0;
    buf->failed = false;
}

const char *hdl_buf_cstr(hdl_buf *buf)
{
    bool failed = buf->failed;
    if (hdl_buf_reserve(buf, 1) != HDL_OK) {
        buf->failed = failed;
        return "";
    }
    *hdl_buf_tail(buf) = '\0';
    return (const char *)buf->mem + buf->start;
}

char *hdl_buf_steal(hdl_buf *buf, size_t *len)
{
    *len = 0;
    if (buf->failed)
        return NULL;
    char *out = malloc(buf->len + 1);
    if (!out)
        return NULL;
    if (buf->len)
        memcpy(out, buf->mem + buf->start, buf->len);
    out[buf->len] = '\0';
    *len = buf->len;
    hdl_buf_deinit(buf);
    return out;
}
