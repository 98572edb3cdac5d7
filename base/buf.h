/* SPDX-License-Identifier: Apache-2.0 */
/* Growable byte buffer with a hard cap, for cold and front paths; cursor.h is the reading side.
 *
 * Bytes are appended at the end and consumed from the front. After a failed append the content
 * is as before and `failed` stays set, so a writer may append many pieces and check once
 * (hdl_buf_ok). The data is not NUL-terminated; hdl_buf_cstr terminates it. Owner: whoever holds
 * the struct; one thread. Invariant: start + len <= size <= cap. */
#pragma once

#include "base/cursor.h"
#include "heddle/err.h"

typedef struct hdl_buf {
    unsigned char *mem; /* owned */
    size_t start;       /* first unconsumed byte */
    size_t len;         /* unconsumed bytes */
    size_t size;        /* of mem */
    size_t cap;         /* hard limit of size */
    bool failed;        /* an append did not fit */
} hdl_buf;

/* Allocates nothing. cap_bytes bounds what the buffer may ever hold at once. */
void hdl_buf_init(hdl_buf *buf, size_t cap_bytes);
void hdl_buf_deinit(hdl_buf *buf);

/* HDL_BUSY when the cap is reached, HDL_NOMEM when the heap is empty; both also set `failed`. */
hdl_err hdl_buf_append(hdl_buf *buf, const void *bytes, size_t n);
hdl_err hdl_buf_puts(hdl_buf *buf, const char *text);
hdl_err hdl_buf_printf(hdl_buf *buf, const char *fmt, ...) HDL_PRINTF(2, 3);

/* Room for n more bytes at hdl_buf_tail; hdl_buf_commit says how many of them were written. */
hdl_err hdl_buf_reserve(hdl_buf *buf, size_t n) HDL_MUST_CHECK;
void hdl_buf_commit(hdl_buf *buf, size_t n);

/* Drops n bytes (at most len) from the front; cheap. */
void hdl_buf_consume(hdl_buf *buf, size_t n);
/* Drops everything and the failed flag; keeps the memory. */
void hdl_buf_clear(hdl_buf *buf);

/* NUL-terminated view (borrowed: until the next append), or "" when the terminator does not fit. */
const char *hdl_buf_cstr(hdl_buf *buf);
/* Moves the content out as one malloc'd, NUL-terminated block (owned: free()), leaving the
 * buffer empty; NULL when the heap is empty or an append had failed. */
char *hdl_buf_steal(hdl_buf *buf, size_t *len);

static inline const unsigned char *hdl_buf_data(const hdl_buf *buf)
{
    return buf->mem ? buf->mem + buf->start : (const unsigned char *)"";
}
/* Only after a hdl_buf_reserve of more than 0 bytes. */
static inline unsigned char *hdl_buf_tail(hdl_buf *buf) { return buf->mem + buf->start + buf->len; }
static inline bool hdl_buf_ok(const hdl_buf *buf) { return !buf->failed; }
