/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as bytes in a connection's out buffer: status line, headers, OpenAI's error object.
 *
 * Every function that writes a whole answer also ends the request (hdl_conn_answered); a streamed
 * answer is begun, filled through hdl_reply_stream, and ended. What a client reads of an error
 * comes from texts in this folder and from the values that it sent itself, never from inside. */
#pragma once

#include <heddle/err.h>

#include "base/buf.h"
#include "base/json.h"

typedef struct hdl_conn hdl_conn;

enum { HDL_API_PARAM_BYTES = 160 };

/* {"error": {"message", "type", "param", "code"}} and its status. */
typedef struct hdl_api_error {
    int status;                      /* 0: no error */
    const char *code;                /* static; NULL: null */
    char param[HDL_API_PARAM_BYTES]; /* path of the field; "": null */
    hdl_errmsg message;
    uint32_t retry_after_ms; /* 0: not said */
    bool final; /* x-should-retry: false although the status alone would invite a retry */
} hdl_api_error;

/* Fills err and returns false, for `return hdl_api_fail(...)`. param may be NULL. */
bool hdl_api_fail(hdl_api_error *err, int status, const char *param, const char *fmt, ...)
    HDL_PRINTF(4, 5);
/* As above with status 400 and the path of v in front of the text and as param. */
bool hdl_api_fail_at(hdl_api_error *err, const hdl_jv *v, const char *fmt, ...) HDL_PRINTF(3, 4);
/* "invalid_request_error", ... of a status. */
const char *hdl_api_error_type(int status);
/* The error object as JSON. */
void hdl_api_error_write(const hdl_api_error *err, hdl_buf *out);

typedef struct hdl_reply {
    int status;               /* 0: 200 */
    const char *content_type; /* NULL: application/json */
    const void *body;
    size_t len;
    const char *headers; /* more header lines, each with CRLF; NULL: none */
} hdl_reply;

void hdl_reply_send(hdl_conn *conn, const hdl_reply *reply);
/* A JSON body; an overflowed buffer becomes a 500. */
void hdl_reply_json(hdl_conn *conn, hdl_buf *body);
void hdl_reply_error(hdl_conn *conn, const hdl_api_error *err);
/* What the HTTP layer refuses: closes the connection after it. */
void hdl_reply_refused(hdl_conn *conn, int status, const char *reason);

/* Headers of a text/event-stream. */
void hdl_reply_stream_begin(hdl_conn *conn);
/* Where the next bytes of the stream go; they leave at the end of the turn. */
hdl_buf *hdl_reply_stream(hdl_conn *conn);
void hdl_reply_stream_end(hdl_conn *conn);
/* Before out is sent: ends the open chunk, if any. */
void hdl_reply_close_chunk(hdl_conn *conn);
