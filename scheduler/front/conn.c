/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 1 of 14: accepted sockets, bytes in and out, deadlines (DESIGN section 4). */
#include "scheduler/front/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/front/call.h"
#include "scheduler/front/job.h"
#include "scheduler/front/reply.h"
#include "scheduler/front/route.h"

enum {
    READS_PER_TURN = 4, /* of one connection, so that a fast sender waits its turn */
    IDLE_TRIES = 16,
    OUT_BYTES_MAX = 256 * 1024 * 1024, /* one answer that is no stream: all choices with logprobs */
    AHEAD_BYTES_MAX = 65536,           /* one read: then the connection is read no further */
    OUT_PAUSE_BYTES = HDL_SSE_BACKLOG_BYTES_MAX, /* unsent answers that stop pipelined requests */
    BODY_FREE_BYTES = 65536, /* a body of this size is taken whatever the others hold */
    BODIES_FULL_SIZE = 8,    /* so many bodies of full size are held at a time */
};
#define LINGER_US (2 * HDL_SEC_US)

static hdl_time_us now_us(const hdl_conn *conn) { return hdl_loop_now_us(conn->thread->loop); }

static const hdl_front_opts *opts_of(const hdl_conn *conn) { return &conn->thread->front->opts; }

static void mark_dirty(hdl_conn *conn)
{
    if (conn->dirty || conn->phase == HDL_CONN_DEAD)
        return;
    conn->dirty = true;
    conn->next_dirty = conn->thread->dirty;
    conn->thread->dirty = conn;
}

void hdl_conn_touch(hdl_conn *conn)
{
    conn->wrote_us = now_us(conn);
    mark_dirty(conn);
}

static void hold_body(hdl_conn *conn, uint64_t bytes)
{
    atomic_fetch_add_explicit(&conn->thread->front->body_bytes, bytes - conn->body_bytes,
                              memory_order_relaxed);
    conn->body_bytes = bytes;
}

static void set_idle(hdl_conn *conn, bool idle)
{
    hdl_front_thread *thread = conn->thread;
    if (conn->idle == idle)
        return;
    conn->idle = idle;
    if (idle) {
        conn->idle_prev = thread->idle_last;
        conn->idle_next = NULL;
        *(conn->idle_prev ? &conn->idle_prev->idle_next : &thread->idle_first) = conn;
        thread->idle_last = conn;
    } else {
        *(conn->idle_prev ? &conn->idle_prev->idle_next : &thread->idle_first) = conn->idle_next;
        *(conn->idle_next ? &conn->idle_next->idle_prev : &thread->idle_last) = conn->idle_prev;
    }
}

void hdl_conn_kill(hdl_conn *conn)
{
    hdl_front_thread *thread = conn->thread;
    if (conn->phase == HDL_CONN_DEAD)
        return;
    conn->phase = HDL_CONN_DEAD;
    set_idle(conn, false);
    hdl_watch_del(thread->loop, &conn->watch);
    hdl_timer_del(thread->loop, &conn->timer);
    if (conn->call)
        hdl_call_abandon(conn->call);
    if (conn->job)
        conn->job->conn = NULL;
    conn->call = NULL;
    conn->job = NULL;
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        thread->conns = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    conn->next = thread->dead;
    thread->dead = conn;
}

/* What has come and is not read yet is a request, which would be lost. Few are looked at: whoever
 * fills the list with such connections must not make each accept a walk. */
bool hdl_conns_end_idle(hdl_front_thread *thread)
{
    char byte;
    int tries = IDLE_TRIES;
    for (hdl_conn *conn = thread->idle_first; conn && tries > 0; conn = conn->idle_next, tries--)
        if (recv(conn->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0) {
            hdl_conn_kill(conn);
            return true;
        }
    return false;
}

void hdl_conns_bury(hdl_front_thread *thread)
{
    while (thread->dead) {
        hdl_conn *conn = thread->dead;
        thread->dead = conn->next;
        hdl_tls_conn_free(conn->tls);
        close(conn->watch.fd);
        hold_body(conn, 0);
        hdl_http_deinit(&conn->http);
        hdl_buf_deinit(&conn->ahead);
        hdl_buf_deinit(&conn->out);
        free(conn);
        uint32_t left =
            atomic_fetch_sub_explicit(&thread->front->n_conns, 1, memory_order_relaxed) - 1;
        hdl_metric_set(HDL_METRIC_HTTP_CONNECTIONS, 0, left);
    }
}

void hdl_conns_end(hdl_front_thread *thread)
{
    hdl_api_error err;
    (void)hdl_api_fail(&err, 503, NULL, "the service is shutting down; ask another replica");
    err.retry_after_ms = 1000;
    for (hdl_conn *conn = thread->conns; conn; conn = conn->next) {
        conn->keep_alive = false;
        if (conn->call)
            hdl_call_fail(conn->call, &err);
        else if (conn->job)
            hdl_reply_error(conn, &err);
    }
    hdl_conns_flush(thread);
    while (thread->conns)
        hdl_conn_kill(thread->conns);
    hdl_conns_bury(thread);
}

/* ---- time ---- */

/* When somebody has to look at the connection again. */
static hdl_time_us next_due(const hdl_conn *conn)
{
    hdl_time_us due = conn->deadline_us ? conn->deadline_us : UINT64_MAX;
    if (conn->blocked_us && conn->blocked_us + opts_of(conn)->write_timeout_us < due)
        due = conn->blocked_us + opts_of(conn)->write_timeout_us;
    if (conn->call && hdl_call_streams(conn->call) && conn->wrote_us + opts_of(conn)->ping_us < due)
        due = conn->wrote_us + opts_of(conn)->ping_us;
    return due;
}

/* The timer is only ever moved forward to an earlier time; when it fires too early, it is set
 * again. So a stream that writes a token every few milliseconds does not touch the heap. */
static void arm_timer(hdl_conn *conn)
{
    hdl_time_us due = next_due(conn);
    if (due == UINT64_MAX || (hdl_timer_is_set(&conn->timer) && conn->timer_due_us <= due))
        return;
    conn->timer_due_us = due;
    if (hdl_timer_set(conn->thread->loop, &conn->timer, due) != HDL_OK)
        hdl_conn_kill(conn);
}

static void on_deadline(hdl_conn *conn)
{
    conn->deadline_us = 0;
    if (conn->phase == HDL_CONN_READING && !hdl_http_idle(&conn->http)) {
        bool head = conn->http.state == HDL_HTTP_ST_HEAD;
        conn->keep_alive = false;
        hdl_reply_refused(conn, 408,
                          head ? "the head did not come in time" : "the body did not come in time");
    } else {
        hdl_conn_kill(conn);
    }
}

static void on_timer(hdl_loop *loop, hdl_timer *timer)
{
    hdl_conn *conn = timer->arg;
    hdl_time_us now = hdl_loop_now_us(loop);
    if (conn->deadline_us && now >= conn->deadline_us)
        on_deadline(conn);
    if (conn->phase == HDL_CONN_DEAD)
        return;
    if (conn->blocked_us && now >= conn->blocked_us + opts_of(conn)->write_timeout_us) {
        hdl_metric_add(HDL_METRIC_SLOW_READERS, 0, 1);
        hdl_conn_kill(conn);
        return;
    }
    if (conn->call && hdl_call_streams(conn->call) &&
        now >= conn->wrote_us + opts_of(conn)->ping_us)
        hdl_call_ping(conn->call);
    arm_timer(conn);
}

/* ---- reading ---- */

static void start_request(hdl_conn *conn)
{
    set_idle(conn, false);
    conn->arrived_us = now_us(conn);
    conn->deadline_us = conn->arrived_us + opts_of(conn)->header_timeout_us;
    arm_timer(conn);
}

/* Thousands of clients that each send nearly a whole body and wait must not fill the memory. */
static bool has_room_for_body(hdl_conn *conn)
{
    hold_body(conn, conn->http.body.len);
    return conn->body_bytes <= BODY_FREE_BYTES ||
           atomic_load_explicit(&conn->thread->front->body_bytes, memory_order_relaxed) <=
               BODIES_FULL_SIZE * opts_of(conn)->body_bytes_max;
}

/* What the bytes that have just been fed mean. */
static void advance(hdl_conn *conn)
{
    hdl_http *http = &conn->http;
    if (http->state == HDL_HTTP_ST_REFUSED) {
        conn->keep_alive = false;
        hdl_reply_refused(conn, http->status, http->reason);
        return;
    }
    if (!has_room_for_body(conn)) {
        hdl_reply_refused(conn, 503, "too many large bodies at a time; send it again later");
        return;
    }
    if (!hdl_http_head_done(http))
        return;
    if (!conn->saw_head) {
        conn->saw_head = true;
        conn->deadline_us = now_us(conn) + opts_of(conn)->body_timeout_us;
        conn->keep_alive =
            http->req.keep_alive &&
            !atomic_load_explicit(&conn->thread->front->draining, memory_order_relaxed);
        if (!hdl_route_head(conn))
            return;
        if (http->req.expect_continue && http->state != HDL_HTTP_ST_DONE) {
            (void)hdl_buf_puts(&conn->out, "HTTP/1.1 100 Continue\r\n\r\n");
            hdl_conn_touch(conn);
        }
    }
    if (http->state == HDL_HTTP_ST_DONE) {
        conn->deadline_us = 0;
        hdl_route_run(conn);
    }
}

/* Feeds what belongs to the requests that can be answered now; returns how much that was. */
static size_t consume(hdl_conn *conn, const unsigned char *bytes, size_t n)
{
    size_t at = 0;
    while (at < n && conn->phase == HDL_CONN_READING && conn->out.len < OUT_PAUSE_BYTES) {
        if (hdl_http_idle(&conn->http))
            start_request(conn);
        at += hdl_http_feed(&conn->http, bytes + at, n - at);
        advance(conn);
    }
    return at;
}

static void take_bytes(hdl_conn *conn, const unsigned char *bytes, size_t n)
{
    size_t used = conn->ahead.len ? 0 : consume(conn, bytes, n);
    if (used < n && (conn->phase == HDL_CONN_READING || conn->phase == HDL_CONN_ANSWERING) &&
        hdl_buf_append(&conn->ahead, bytes + used, n - used) != HDL_OK)
        hdl_conn_kill(conn);
}

/* After an answer: requests that came while it was being made. */
static void take_ahead(hdl_conn *conn)
{
    if (conn->ahead.len == 0 || conn->phase != HDL_CONN_READING)
        return;
    size_t used = consume(conn, hdl_buf_data(&conn->ahead), conn->ahead.len);
    hdl_buf_consume(&conn->ahead, used);
    if (conn->ahead.len == 0) {
        hdl_buf_deinit(&conn->ahead);
        hdl_buf_init(&conn->ahead, AHEAD_BYTES_MAX);
    }
}

static ssize_t read_bytes(hdl_conn *conn, unsigned char *bytes, size_t n)
{
    if (conn->tls)
        return hdl_tls_read(conn->tls, bytes, n);
    ssize_t got;
    do
        got = recv(conn->watch.fd, bytes, n, 0);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    return errno == EAGAIN || errno == EWOULDBLOCK ? HDL_TLS_AGAIN : HDL_TLS_BROKEN;
}

/* The client has shut its sending side. It may still wait for an answer that is in out. */
static void on_eof(hdl_conn *conn)
{
    conn->saw_eof = true;
    if (conn->phase == HDL_CONN_READING && conn->out.len > 0) {
        conn->phase = HDL_CONN_CLOSING;
        hdl_conn_touch(conn);
    } else if (conn->phase != HDL_CONN_CLOSING) {
        hdl_conn_kill(conn);
    }
}

static bool may_read(const hdl_conn *conn)
{
    return !conn->saw_eof && conn->phase != HDL_CONN_DEAD && conn->ahead.len == 0;
}

static void read_some(hdl_conn *conn)
{
    hdl_front_thread *thread = conn->thread;
    for (int i = 0; i < READS_PER_TURN && may_read(conn); i++) {
        ssize_t got = read_bytes(conn, thread->read_buf, sizeof thread->read_buf);
        if (got == HDL_TLS_AGAIN)
            return;
        if (got == HDL_TLS_BROKEN)
            hdl_conn_kill(conn);
        else if (got == 0)
            on_eof(conn);
        else if (conn->phase == HDL_CONN_READING || conn->phase == HDL_CONN_ANSWERING)
            take_bytes(conn, thread->read_buf, (size_t)got);
    }
}

/* ---- writing ---- */

static ssize_t write_bytes(hdl_conn *conn, const unsigned char *bytes, size_t n)
{
    if (conn->tls)
        return hdl_tls_write(conn->tls, bytes, n);
    ssize_t done;
    do
        done = send(conn->watch.fd, bytes, n, MSG_NOSIGNAL);
    while (done < 0 && errno == EINTR);
    if (done >= 0)
        return done;
    return errno == EAGAIN || errno == EWOULDBLOCK ? HDL_TLS_AGAIN : HDL_TLS_BROKEN;
}

static void update_watch(hdl_conn *conn)
{
    uint32_t interest = conn->saw_eof ? 0 : HDL_LOOP_HANGUP;
    bool tls_waits = conn->tls && hdl_tls_wants_write(conn->tls);
    if (may_read(conn))
        interest |= HDL_LOOP_READ;
    if (conn->out.len > 0 || tls_waits)
        interest |= HDL_LOOP_WRITE;
    if (hdl_watch_set(conn->thread->loop, &conn->watch, interest) != HDL_OK)
        hdl_conn_kill(conn);
}

/* Closing a socket with unread bytes in it sends RST, which may overtake our answer: shut our side,
 * read away what comes, close at the peer's end of stream or after LINGER_US. */
static void linger(hdl_conn *conn)
{
    if (conn->tls)
        hdl_tls_shutdown(conn->tls);
    if (conn->saw_eof || shutdown(conn->watch.fd, SHUT_WR) != 0) {
        hdl_conn_kill(conn);
        return;
    }
    conn->phase = HDL_CONN_LINGERING;
    conn->deadline_us = now_us(conn) + LINGER_US;
    hdl_buf_clear(&conn->ahead);
}

static void on_drained(hdl_conn *conn)
{
    conn->blocked_us = 0;
    if (conn->phase == HDL_CONN_CLOSING) {
        linger(conn);
    } else if (conn->phase == HDL_CONN_READING) {
        hdl_buf_deinit(&conn->out); /* idle connections hold no buffers */
        hdl_buf_init(&conn->out, OUT_BYTES_MAX);
        set_idle(conn, hdl_http_idle(&conn->http));
    }
}

static void flush(hdl_conn *conn)
{
    hdl_reply_close_chunk(conn);
    if (!hdl_buf_ok(&conn->out)) {
        HDL_LOG(WARN, FRONT, "answer_too_long", "id=%s", conn->request_id);
        hdl_conn_kill(conn);
        return;
    }
    while (conn->out.len > 0) {
        ssize_t done = write_bytes(conn, hdl_buf_data(&conn->out), conn->out.len);
        if (done == HDL_TLS_AGAIN) {
            if (!conn->blocked_us)
                conn->blocked_us = now_us(conn);
            break;
        }
        if (done < 0) {
            hdl_conn_kill(conn);
            return;
        }
        hdl_buf_consume(&conn->out, (size_t)done);
        conn->blocked_us = 0;
    }
    if (conn->out.len == 0) {
        on_drained(conn);
    } else if (conn->streaming && conn->out.len > HDL_SSE_BACKLOG_BYTES_MAX) {
        hdl_metric_add(HDL_METRIC_SLOW_READERS, 0, 1);
        HDL_LOG(INFO, FRONT, "slow_reader", "id=%s unsent_bytes=%zu", conn->request_id,
                conn->out.len);
        hdl_conn_kill(conn);
    }
}

void hdl_conns_flush(hdl_front_thread *thread)
{
    while (thread->dirty) {
        hdl_conn *conn = thread->dirty;
        thread->dirty = conn->next_dirty;
        conn->dirty = false;
        if (conn->phase != HDL_CONN_DEAD)
            flush(conn);
        if (conn->phase != HDL_CONN_DEAD)
            take_ahead(conn);
        if (conn->phase != HDL_CONN_DEAD)
            update_watch(conn);
        if (conn->phase != HDL_CONN_DEAD)
            arm_timer(conn);
    }
}

/* ---- life ---- */

void hdl_conn_answered(hdl_conn *conn)
{
    hdl_http_reset(&conn->http);
    hold_body(conn, 0);
    conn->saw_head = false;
    conn->streaming = false;
    conn->route = NULL;
    conn->call = NULL;
    if (conn->saw_eof)
        conn->keep_alive = false;
    conn->phase = conn->keep_alive ? HDL_CONN_READING : HDL_CONN_CLOSING;
    conn->deadline_us = conn->keep_alive ? now_us(conn) + opts_of(conn)->idle_timeout_us : 0;
    hdl_conn_touch(conn);
}

void hdl_conn_answer_later(hdl_conn *conn, hdl_call *call)
{
    conn->phase = HDL_CONN_ANSWERING;
    conn->call = call;
    if (call)
        hold_body(conn, 0); /* it has been read and freed */
    conn->wrote_us = now_us(conn);
    hdl_conn_touch(conn);
}

static void on_ready(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)loop;
    hdl_conn *conn = watch->arg;
    /* Half-closed counts as gone while an answer is being computed: the two look alike from here,
     * and computing for nobody is the worse mistake. */
    if ((ready & HDL_LOOP_HANGUP) && conn->phase == HDL_CONN_ANSWERING) {
        hdl_conn_kill(conn);
        return;
    }
    if (ready & (HDL_LOOP_READ | HDL_LOOP_HANGUP))
        read_some(conn);
    if (conn->phase == HDL_CONN_ANSWERING && (ready & HDL_LOOP_HANGUP)) {
        hdl_conn_kill(conn);
        return;
    }
    mark_dirty(conn); /* for its watch and its timer, even when nothing was written */
}

void hdl_conn_open(hdl_front_thread *thread, int fd)
{
    hdl_front *front = thread->front;
    hdl_conn *conn = calloc(1, sizeof *conn);
    if (conn && front->tls && !(conn->tls = hdl_tls_accept(front->tls, fd))) {
        free(conn);
        conn = NULL;
    }
    if (!conn) {
        close(fd);
        atomic_fetch_sub_explicit(&front->n_conns, 1, memory_order_relaxed);
        return;
    }
    conn->thread = thread;
    conn->watch = (hdl_watch){.fd = fd, .fn = on_ready, .arg = conn};
    conn->timer = (hdl_timer){.fn = on_timer, .arg = conn};
    conn->chunk_at = SIZE_MAX;
    conn->next = thread->conns;
    if (conn->next)
        conn->next->prev = conn;
    thread->conns = conn;
    hdl_http_init(&conn->http, front->opts.body_bytes_max);
    hdl_buf_init(&conn->ahead, AHEAD_BYTES_MAX);
    hdl_buf_init(&conn->out, OUT_BYTES_MAX);
    /* A client that connects and says nothing has the time of a head, not of an idle one. */
    conn->deadline_us = now_us(conn) + front->opts.header_timeout_us;
    if (hdl_watch_add(thread->loop, &conn->watch, HDL_LOOP_READ | HDL_LOOP_HANGUP) != HDL_OK)
        hdl_conn_kill(conn);
    else
        arm_timer(conn);
}
