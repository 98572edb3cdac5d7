/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1.1 requests from bytes: strict framing, no I/O, no clock.
 *
 * A request is taken only if every proxy in front of us would frame it in the same way; anything
 * two readers could understand differently is refused with a status, and the connection ends
 * there. http-parser reads the head (this is the only file that knows it); what it lets pass, the
 * line rules of RFC 9112 and the chunk framing are checked here. Owner: one connection. Views in
 * hdl_http_req are borrowed: until hdl_http_reset. */
#pragma once

#include <heddle/err.h>
#include <heddle/limits.h>
#include <heddle/types.h>

#include "base/buf.h"

typedef enum hdl_http_method {
    HDL_HTTP_GET = 1u << 0,
    HDL_HTTP_HEAD = 1u << 1,
    HDL_HTTP_POST = 1u << 2,
    HDL_HTTP_OPTIONS = 1u << 3,
    HDL_HTTP_OTHER = 1u << 4, /* PUT, DELETE, ...: known to HTTP, served by no route */
} hdl_http_method;

typedef struct hdl_http_text {
    const char *at; /* not NUL-terminated; NULL: the header is absent */
    size_t len;
} hdl_http_text;

/* clang-format off */
/* Headers that somebody here reads. `once`: a second one is refused. */
#define HDL_HTTP_HEADER_LIST(X)                                                                    \
    X(HOST,              "host",              true)                                                \
    X(CONTENT_LENGTH,    "content-length",    true)                                                \
    X(TRANSFER_ENCODING, "transfer-encoding", true)                                                \
    X(CONTENT_TYPE,      "content-type",      true)                                                \
    X(CONTENT_ENCODING,  "content-encoding",  true)                                                \
    X(EXPECT,            "expect",            true)                                                \
    X(AUTHORIZATION,     "authorization",     true)                                                \
    X(X_API_KEY,         "x-api-key",         true)
/* clang-format on */

#define HDL_HTTP_HEADER_ENUM(name, text, once) HDL_HTTP_##name,
typedef enum hdl_http_header {
    HDL_HTTP_HEADER_LIST(HDL_HTTP_HEADER_ENUM) HDL_HTTP_HEADER_COUNT
} hdl_http_header;
#undef HDL_HTTP_HEADER_ENUM

typedef struct hdl_http_req {
    hdl_http_method method;
    hdl_http_text target; /* as sent */
    hdl_http_text path;   /* of it: up to '?', absolute form cut to its path */
    uint32_t minor;       /* HTTP/1.<minor> */
    uint32_t n_headers;
    bool keep_alive;
    bool expect_continue;
    bool framed; /* Content-Length or Transfer-Encoding was there, so a body was announced */
    hdl_http_text header[HDL_HTTP_HEADER_COUNT]; /* values without blanks around them */
} hdl_http_req;

typedef enum hdl_http_state {
    HDL_HTTP_ST_HEAD,    /* between requests, or inside a head */
    HDL_HTTP_ST_LENGTH,  /* inside a body of known length */
    HDL_HTTP_ST_SIZE,    /* inside a chunk-size line */
    HDL_HTTP_ST_DATA,    /* inside a chunk */
    HDL_HTTP_ST_DATAEND, /* at the CRLF after a chunk */
    HDL_HTTP_ST_LAST,    /* at the CRLF after the last chunk */
    HDL_HTTP_ST_DONE,    /* the request is complete: answer, then reset */
    HDL_HTTP_ST_REFUSED, /* status and reason say why; feed takes nothing any more */
} hdl_http_state;

typedef struct hdl_http {
    hdl_http_state state;
    uint64_t body_max;
    hdl_buf head;            /* raw bytes up to and with the empty line */
    hdl_buf body;            /* decoded */
    size_t scanned, line_at; /* of head: bytes looked at, start of the current line */
    uint64_t left;           /* of the body or of the chunk; in SIZE: the value so far */
    uint32_t size_digits;
    bool size_cr;
    uint64_t chunk_overhead; /* framing bytes of a chunked body */
    hdl_http_req req;        /* valid from the end of the head */
    int status;              /* REFUSED: what to answer */
    const char *reason;      /* REFUSED: static text */
} hdl_http;

void hdl_http_init(hdl_http *http, uint64_t body_max);
void hdl_http_deinit(hdl_http *http);
/* For the next request of the connection; gives body memory back. */
void hdl_http_reset(hdl_http *http);

/* The body of a complete request, which the caller owns from now on. */
hdl_buf hdl_http_take_body(hdl_http *http);

/* Takes at most the rest of the current request from bytes; returns how many it took. What is left
 * over belongs to the next request. */
size_t hdl_http_feed(hdl_http *http, const void *bytes, size_t n);

/* The head is complete (its fields may be read), the body perhaps not. */
static inline bool hdl_http_head_done(const hdl_http *http)
{
    return http->state != HDL_HTTP_ST_HEAD && http->state != HDL_HTTP_ST_REFUSED;
}
/* Nothing of a request has come. */
static inline bool hdl_http_idle(const hdl_http *http)
{
    return http->state == HDL_HTTP_ST_HEAD && http->head.len == 0;
}

/* "OK", "Bad Request", ...; "Unknown" for codes that we never send. */
const char *hdl_http_status_text(int status);
/* Case-insensitive comparison with a word in lower case. */
bool hdl_http_text_is(hdl_http_text text, const char *word);
