/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/json_write.h"
#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/front/conn.h"

/* A chunk's size is written when its end is known: eight digits are kept free for it. */
enum { CHUNK_HEAD_BYTES = 10 };

bool hdl_api_fail(hdl_api_error *err, int status, const char *param, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    *err = (hdl_api_error){.status = status};
    (void)vsnprintf(err->message.text, sizeof err->message.text, fmt, args);
    va_end(args);
    if (param)
        (void)snprintf(err->param, sizeof err->param, "%s", param);
    return false;
}

bool hdl_api_fail_at(hdl_api_error *err, const hdl_jv *v, const char *fmt, ...)
{
    char path[HDL_API_PARAM_BYTES], text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    hdl_jv_path(v, path, sizeof path);
    return hdl_api_fail(err, 400, path, "%s %s", path[0] ? path : "the body", text);
}

const char *hdl_api_error_type(int status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    default: return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void hdl_api_error_write(const hdl_api_error *err, hdl_buf *out)
{
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    hdl_jw_begin_object(&w);
    hdl_jw_key(&w, "error");
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "message", err->message.text);
    hdl_jw_kv_cstr(&w, "type", hdl_api_error_type(err->status));
    hdl_jw_kv_cstr(&w, "param", err->param[0] ? err->param : NULL);
    hdl_jw_kv_cstr(&w, "code", err->code);
    hdl_jw_end_object(&w);
    hdl_jw_end_object(&w);
}

static const char *date_text(hdl_front_thread *thread)
{
    uint64_t wall_s = hdl_clock_wall_us() / HDL_SEC_US;
    if (wall_s != thread->date_s) {
        time_t t = (time_t)wall_s;
        struct tm tm;
        gmtime_r(&t, &tm);
        (void)strftime(thread->date, sizeof thread->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        thread->date_s = wall_s;
    }
    return thread->date;
}

/* Status line and the headers that every answer carries; the caller adds its own and the empty
 * line. */
static void write_head(hdl_conn *conn, int status)
{
    hdl_time_us now = hdl_loop_now_us(conn->thread->loop);
    hdl_time_us spent = conn->arrived_us && now > conn->arrived_us ? now - conn->arrived_us : 0;
    hdl_buf *out = &conn->out;
    (void)hdl_buf_printf(out, "HTTP/1.1 %d %s\r\ndate: %s\r\nserver: heddle\r\n", status,
                         hdl_http_status_text(status), date_text(conn->thread));
    if (conn->request_id[0])
        (void)hdl_buf_printf(out, "x-request-id: %s\r\nopenai-processing-ms: %llu\r\n",
                             conn->request_id, (unsigned long long)(spent / HDL_MS_US));
    if (!conn->keep_alive)
        (void)hdl_buf_puts(out, "connection: close\r\n");
    else if (conn->http.req.minor == 0)
        (void)hdl_buf_puts(out, "connection: keep-alive\r\n");
    hdl_metric_add(HDL_METRIC_HTTP_REQUESTS, hdl_metric_http_code(status), 1);
    HDL_LOG(DEBUG, FRONT, "answer", "id=%s status=%d spent_us=%llu", conn->request_id, status,
            (unsigned long long)spent);
}

void hdl_reply_send(hdl_conn *conn, const hdl_reply *reply)
{
    int status = reply->status ? reply->status : 200;
    hdl_buf *out = &conn->out;
    write_head(conn, status);
    if (reply->headers)
        (void)hdl_buf_puts(out, reply->headers);
    if (status != 204)
        (void)hdl_buf_printf(out, "content-type: %s\r\ncontent-length: %zu\r\n",
                             reply->content_type ? reply->content_type : "application/json",
                             reply->len);
    (void)hdl_buf_puts(out, "\r\n");
    if (conn->http.req.method != HDL_HTTP_HEAD && reply->len)
        (void)hdl_buf_append(out, reply->body, reply->len);
    hdl_conn_answered(conn);
}

void hdl_reply_json(hdl_conn *conn, hdl_buf *body)
{
    if (hdl_buf_ok(body)) {
        hdl_reply_send(conn, &(hdl_reply){.body = hdl_buf_data(body), .len = body->len});
        return;
    }
    hdl_api_error err;
    (void)hdl_api_fail(&err, 500, NULL, "the answer does not fit into memory");
    hdl_reply_error(conn, &err);
}

/* The openai clients look at x-should-retry first, then at the status; for the delay at
 * retry-after-ms, then at retry-after. */
static void retry_headers(const hdl_api_error *err, char *out, size_t size)
{
    int at = 0;
    out[0] = 0;
    if (err->retry_after_ms)
        at = snprintf(out, size, "retry-after: %u\r\nretry-after-ms: %u\r\n",
                      (err->retry_after_ms + 999) / 1000, err->retry_after_ms);
    bool invites =
        err->status == 408 || err->status == 409 || err->status == 429 || err->status >= 500;
    if (invites)
        (void)snprintf(out + at, size - (size_t)at, "x-should-retry: %s\r\n",
                       err->final ? "false" : "true");
}

void hdl_reply_error(hdl_conn *conn, const hdl_api_error *err)
{
    char headers[256];
    hdl_buf body;
    hdl_buf_init(&body, 8192);
    hdl_api_error_write(err, &body);
    retry_headers(err, headers, sizeof headers);
    if (err->status == 401)
        (void)snprintf(headers, sizeof headers, "www-authenticate: Bearer\r\n");
    hdl_reply_send(conn, &(hdl_reply){.status = err->status,
                                      .headers = headers,
                                      .body = hdl_buf_data(&body),
                                      .len = body.len});
    hdl_buf_deinit(&body);
}

void hdl_reply_refused(hdl_conn *conn, int status, const char *reason)
{
    hdl_api_error err;
    (void)hdl_api_fail(&err, status, NULL, "HTTP request refused: %s", reason);
    conn->keep_alive = false;
    hdl_reply_error(conn, &err);
}

void hdl_reply_stream_begin(hdl_conn *conn)
{
    conn->chunked = conn->http.req.minor >= 1;
    if (!conn->chunked)
        conn->keep_alive = false; /* HTTP/1.0 sees the end by the end of the connection */
    conn->streaming = true;
    write_head(conn, 200);
    (void)hdl_buf_printf(&conn->out,
                         "content-type: text/event-stream; charset=utf-8\r\n"
                         "cache-control: no-cache\r\nx-accel-buffering: no\r\n%s\r\n",
                         conn->chunked ? "transfer-encoding: chunked\r\n" : "");
    hdl_conn_touch(conn);
}

hdl_buf *hdl_reply_stream(hdl_conn *conn)
{
    if (conn->chunked && conn->chunk_at == SIZE_MAX) {
        conn->chunk_at = conn->out.len;
        (void)hdl_buf_append(&conn->out, "00000000\r\n", CHUNK_HEAD_BYTES);
    }
    hdl_conn_touch(conn);
    return &conn->out;
}

void hdl_reply_close_chunk(hdl_conn *conn)
{
    if (conn->chunk_at == SIZE_MAX)
        return;
    size_t at = conn->chunk_at;
    conn->chunk_at = SIZE_MAX;
    if (!hdl_buf_ok(&conn->out))
        return;
    size_t len = conn->out.len - at - CHUNK_HEAD_BYTES;
    if (len == 0) { /* a chunk of no bytes would end the stream */
        conn->out.len = at;
        return;
    }
    char *size = (char *)conn->out.mem + conn->out.start + at;
    for (int i = 7; i >= 0; i--, len >>= 4)
        size[i] = "0123456789abcdef"[len & 15];
    (void)hdl_buf_append(&conn->out, "\r\n", 2);
}

void hdl_reply_stream_end(hdl_conn *conn)
{
    hdl_reply_close_chunk(conn);
    if (conn->chunked)
        (void)hdl_buf_puts(&conn->out, "0\r\n\r\n");
    hdl_conn_answered(conn);
}
