/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/json.h"

enum { FREE, CONNECTING, SENDING, HEAD, CHUNK_SIZE, CHUNK, CHUNK_END, LAST, BODY };
enum { IN_BYTES_MAX = 1 << 20, OUT_BYTES_MAX = 128 << 20, READ_BYTES = 65536 };

static uint64_t now(const hdl_load_conn *c) { return hdl_clock_now_us() - c->shared->start_us; }

static void hang_up(hdl_load_conn *c)
{
    hdl_watch_del(c->shared->loop, &c->watch);
    if (c->watch.fd >= 0)
        close(c->watch.fd);
    c->watch.fd = -1;
}

static void end(hdl_load_conn *c, bool ok)
{
    hdl_timer_del(c->shared->loop, &c->timeout);
    if (!ok || !c->keep)
        hang_up(c);
    hdl_buf_clear(&c->out);
    hdl_buf_clear(&c->line);
    if (c->watch.fd < 0)
        hdl_buf_clear(&c->in);
    if (ok && c->job.result->first_us == 0) /* nothing to say: ended with its first token */
        c->job.result->first_us = c->job.result->last_us = c->event_us;
    c->job.result->ok = ok;
    c->state = FREE;
    c->shared->on_end(c->shared->arg, c);
}

static void HDL_PRINTF(2, 3) fail(hdl_load_conn *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->job.result->error, sizeof(c->job.result->error), fmt, args);
    va_end(args);
    end(c, false);
}

static void on_timeout(hdl_loop *loop, hdl_timer *timer)
{
    (void)loop;
    fail(timer->arg, "no end within the time limit");
}

/* ---- events -------------------------------------------------------------------------------- */

/* Does an event carry text? Looks at the strings of "text" and "content" instead of parsing every
 * event, which would cost the machine under test more than the server's own writing. */
static bool has_text(const char *event)
{
    static const char *const keys[] = {"\"content\":", "\"text\":"};
    for (size_t i = 0; i < 2; i++)
        for (const char *at = strstr(event, keys[i]); at; at = strstr(at, keys[i])) {
            at += strlen(keys[i]);
            at += strspn(at, " ");
            if (at[0] == '"' && at[1] != '"')
                return true;
        }
    return false;
}

static void read_usage(hdl_load_conn *c, const char *event, size_t len)
{
    hdl_json *doc = NULL;
    if (hdl_json_parse(event, len, 0, &doc, NULL) != HDL_OK)
        return;
    int64_t in = 0, out = 0;
    hdl_jv root = hdl_json_root(doc), usage = hdl_jv_get(&root, "usage");
    hdl_jv n_in = hdl_jv_get(&usage, "prompt_tokens"),
           n_out = hdl_jv_get(&usage, "completion_tokens");
    const hdl_jv_range any = {0, UINT32_MAX};
    if (hdl_jv_int(&n_in, any, &in, NULL) == HDL_OK &&
        hdl_jv_int(&n_out, any, &out, NULL) == HDL_OK) {
        c->job.result->n_input = (uint32_t)in;
        c->job.result->n_output = (uint32_t)out;
    }
    hdl_json_close(doc);
}

/* One line of the stream. False: the request has ended. */
static bool event_line(hdl_load_conn *c, const char *line, size_t len, uint64_t at_us)
{
    if (strncmp(line, "data:", 5) != 0)
        return true; /* a comment, or the blank line between events */
    const char *data = line + 5;
    data += strspn(data, " ");
    if (strncmp(data, "{\"error\"", 8) == 0) {
        fail(c, "error in the stream: %.80s", data);
        return false;
    }
    if (c->event_us == 0)
        c->event_us = at_us;
    if (has_text(data))
        c->shared->on_text(c->shared->arg, c->job.idx, at_us);
    if (strstr(data, "\"usage\":{") || strstr(data, "\"usage\": {"))
        read_usage(c, data, len - (size_t)(data - line));
    return true;
}

static bool body_bytes(hdl_load_conn *c, const unsigned char *bytes, size_t n, uint64_t at_us)
{
    hdl_buf_append(&c->line, bytes, n);
    for (;;) {
        char *text = (char *)(uintptr_t)hdl_buf_cstr(&c->line);
        char *newline = memchr(text, '\n', c->line.len);
        if (!newline)
            return true;
        size_t len = (size_t)(newline - text);
        *newline = '\0';
        if (!event_line(c, text, len, at_us))
            return false;
        hdl_buf_consume(&c->line, len + 1);
    }
}

/* ---- HTTP ---------------------------------------------------------------------------------- */

static void header(hdl_load_conn *c, const char *line)
{
    const char *colon = strchr(line, ':');
    if (!colon)
        return;
    size_t n = (size_t)(colon - line);
    const char *value = colon + 1 + strspn(colon + 1, " ");
    if (n == 17 && strncasecmp(line, "transfer-encoding", n) == 0)
        c->chunked = strncasecmp(value, "chunked", 7) == 0;
    else if (n == 14 && strncasecmp(line, "content-length", n) == 0)
        c->left = strtoll(value, NULL, 10);
    else if (n == 10 && strncasecmp(line, "connection", n) == 0)
        c->keep = strncasecmp(value, "close", 5) != 0;
}

/* False: not all of it is here. */
static bool head(hdl_load_conn *c)
{
    const char *text = hdl_buf_cstr(&c->in), *stop = strstr(text, "\r\n\r\n");
    if (!stop)
        return false;
    c->status = 0;
    if (sscanf(text, "HTTP/1.%*d %d", &c->status) != 1)
        c->status = -1;
    c->chunked = false;
    c->keep = true;
    c->left = -1;
    char line[256];
    for (const char *at = strstr(text, "\r\n"); at && at < stop; at = strstr(at + 2, "\r\n")) {
        snprintf(line, sizeof(line), "%.*s", (int)strcspn(at + 2, "\r"), at + 2);
        header(c, line);
    }
    hdl_buf_consume(&c->in, (size_t)(stop - text) + 4);
    c->state = c->chunked ? CHUNK_SIZE : BODY;
    if (!c->chunked && c->left < 0)
        c->keep = false;
    return true;
}

static void finish(hdl_load_conn *c)
{
    if (c->status != 200)
        fail(c, "HTTP status %d: %.90s", c->status, hdl_buf_cstr(&c->line));
    else if (c->event_us == 0)
        fail(c, "an answer without events");
    else
        end(c, true);
}

/* A chunk's size line. False: not here yet, or the request has ended. */
static bool chunk_size(hdl_load_conn *c)
{
    const char *text = hdl_buf_cstr(&c->in), *stop = strstr(text, "\r\n");
    if (!stop)
        return false;
    c->left = strtoll(text, NULL, 16);
    hdl_buf_consume(&c->in, (size_t)(stop - text) + 2);
    c->state = c->left > 0 ? CHUNK : LAST;
    return true;
}

/* Gives what is here of the body to body_bytes. False when the request has ended. */
static bool body(hdl_load_conn *c, uint64_t at_us)
{
    size_t n = c->in.len;
    if (c->left >= 0 && n > (size_t)c->left)
        n = (size_t)c->left;
    if (c->status == 200 ? !body_bytes(c, hdl_buf_data(&c->in), n, at_us)
                         : hdl_buf_append(&c->line, hdl_buf_data(&c->in), n) != HDL_OK)
        return false;
    hdl_buf_consume(&c->in, n);
    c->left -= c->left >= 0 ? (int64_t)n : 0;
    return true;
}

static void parse(hdl_load_conn *c, uint64_t at_us)
{
    for (;;) {
        switch (c->state) {
        case HEAD:
            if (!head(c))
                return;
            break;
        case CHUNK_SIZE:
            if (!chunk_size(c))
                return;
            break;
        case CHUNK:
            if (c->in.len == 0 || !body(c, at_us))
                return;
            if (c->left == 0)
                c->state = CHUNK_END;
            break;
        case CHUNK_END: /* the line's end behind a chunk, or behind the last size */
        case LAST:
            if (c->in.len < 2)
                return;
            hdl_buf_consume(&c->in, 2);
            if (c->state == LAST) {
                finish(c);
                return;
            }
            c->state = CHUNK_SIZE;
            break;
        case BODY:
            if (!body(c, at_us))
                return;
            if (c->left == 0)
                finish(c);
            return;
        default: return;
        }
    }
}

/* ---- socket -------------------------------------------------------------------------------- */

static void read_some(hdl_load_conn *c)
{
    uint64_t at_us = now(c);
    for (;;) {
        if (hdl_buf_reserve(&c->in, READ_BYTES) != HDL_OK) {
            fail(c, "an answer of more than %d bytes in one piece", IN_BYTES_MAX);
            return;
        }
        ssize_t n = recv(c->watch.fd, hdl_buf_tail(&c->in), READ_BYTES, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            const char *why = n < 0 ? strerror(errno) : "connection closed";
            if (c->state == BODY && n == 0 && c->left < 0)
                finish(c); /* a body that ends with its connection */
            else
                fail(c, "%s before the end of the answer", why);
            return;
        }
        hdl_buf_commit(&c->in, (size_t)n);
        parse(c, at_us);
        if (c->state == FREE || n < READ_BYTES)
            return;
    }
}

static void write_some(hdl_load_conn *c)
{
    while (c->out.len > 0) {
        ssize_t n = send(c->watch.fd, hdl_buf_data(&c->out), c->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (hdl_watch_set(c->shared->loop, &c->watch, HDL_LOOP_READ | HDL_LOOP_WRITE) != HDL_OK)
                fail(c, "the socket cannot be watched");
            return;
        }
        if (n < 0) {
            fail(c, "sending: %s", strerror(errno));
            return;
        }
        hdl_buf_consume(&c->out, (size_t)n);
    }
    c->state = HEAD;
    if (hdl_watch_set(c->shared->loop, &c->watch, HDL_LOOP_READ) != HDL_OK)
        fail(c, "the socket cannot be watched");
}

static void on_ready(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    hdl_load_conn *c = watch->arg;
    (void)loop;
    if (c->state == FREE) { /* the server closed a connection that was kept */
        hang_up(c);
        return;
    }
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0) {
            fail(c, "connecting: %s", strerror(error));
            return;
        }
        c->state = SENDING;
    }
    if (c->state == SENDING) {
        write_some(c);
        return;
    }
    if (ready & (HDL_LOOP_READ | HDL_LOOP_HANGUP))
        read_some(c);
}

static bool dial(hdl_load_conn *c)
{
    const hdl_load_shared *s = c->shared;
    int one = 1;
    c->watch.fd = socket(s->address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->watch.fd < 0)
        return false;
    setsockopt(c->watch.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(c->watch.fd, s->address, s->address_len) != 0 && errno != EINPROGRESS)
        return false;
    return hdl_watch_add(s->loop, &c->watch, HDL_LOOP_READ | HDL_LOOP_WRITE) == HDL_OK;
}

static void put_request(hdl_load_conn *c)
{
    const hdl_load_target *t = c->shared->target;
    hdl_buf_printf(&c->out,
                   "POST %s HTTP/1.1\r\nHost: %s:%u\r\nContent-Type: application/json\r\n"
                   "Accept: text/event-stream\r\nContent-Length: %zu\r\n",
                   t->path, t->host, t->port, c->job.item->body_len);
    if (t->api_key)
        hdl_buf_printf(&c->out, "Authorization: Bearer %s\r\n", t->api_key);
    hdl_buf_puts(&c->out, "\r\n");
    hdl_buf_append(&c->out, c->job.item->body, c->job.item->body_len);
}

void hdl_load_conn_init(hdl_load_conn *c, const hdl_load_shared *shared)
{
    *c = (hdl_load_conn){.shared = shared, .watch = {.fd = -1, .fn = on_ready, .arg = c}};
    c->timeout = (hdl_timer){.fn = on_timeout, .arg = c};
    hdl_buf_init(&c->out, OUT_BYTES_MAX);
    hdl_buf_init(&c->in, IN_BYTES_MAX);
    hdl_buf_init(&c->line, IN_BYTES_MAX);
}

/* A failure to begin is told by the timer, so that on_end never comes before this returns. */
void hdl_load_conn_start(hdl_load_conn *c, hdl_load_job job)
{
    hdl_time_us limit = hdl_clock_now_us() + c->shared->target->timeout_us;
    c->job = job;
    c->event_us = 0;
    put_request(c);
    job.result->sent_us = now(c);
    c->state = SENDING;
    if (c->watch.fd < 0) {
        c->state = CONNECTING;
        if (!dial(c)) {
            hang_up(c);
            limit = 0;
        }
    } else if (hdl_watch_set(c->shared->loop, &c->watch, HDL_LOOP_READ | HDL_LOOP_WRITE) !=
               HDL_OK) {
        limit = 0;
    }
    if (!hdl_buf_ok(&c->out))
        limit = 0;
    (void)!hdl_timer_set(c->shared->loop, &c->timeout, limit);
}

void hdl_load_conn_deinit(hdl_load_conn *c)
{
    hdl_timer_del(c->shared->loop, &c->timeout);
    hang_up(c);
    hdl_buf_deinit(&c->out);
    hdl_buf_deinit(&c->in);
    hdl_buf_deinit(&c->line);
}
