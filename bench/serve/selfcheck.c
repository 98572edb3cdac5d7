/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/selfcheck.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/loop.h"
#include "base/thread.h"
#include "bench/serve/report.h"

enum {
    FIRST_US = 20000, /* the server's time to first token */
    GAP_US = 5000,    /* ... and between tokens */
    PIECES = 16,
    CONNS_MAX = 1024,
    IN_BYTES_MAX = 1 << 20,
};

typedef struct fixed_server fixed_server;

typedef struct fixed_conn {
    hdl_watch watch;
    hdl_timer timer;
    fixed_server *server;
    hdl_buf in;
    uint32_t request; /* number that the prompt carries */
    uint32_t n_sent;
    bool busy;
} fixed_conn;

struct fixed_server {
    hdl_loop *loop; /* owned, of the server's thread once it runs */
    hdl_watch listener;
    hdl_thread thread;
    uint16_t port;
    uint64_t *written_us; /* owned [n_requests, PIECES] on the clock */
    uint32_t n_requests;
    fixed_conn *conns; /* owned [CONNS_MAX] */
    size_t n_conns;
};

static void send_text(fixed_conn *c, const char *text, size_t len)
{
    /* Pieces are far smaller than a socket's buffer. */
    if (send(c->watch.fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
        c->busy = false;
}

static void send_piece(fixed_conn *c)
{
    char event[160], chunk[192];
    int n =
        snprintf(event, sizeof(event), "data: {\"choices\":[{\"index\":0,\"text\":\"w\"}]}\n\n");
    int len = snprintf(chunk, sizeof(chunk), "%x\r\n%s\r\n", n, event);
    if (c->request < c->server->n_requests)
        c->server->written_us[c->request * PIECES + c->n_sent] = hdl_clock_now_us();
    send_text(c, chunk, (size_t)len);
}

static void on_timer(hdl_loop *loop, hdl_timer *timer)
{
    fixed_conn *c = timer->arg;
    send_piece(c);
    if (++c->n_sent < PIECES) {
        (void)!hdl_timer_set(loop, timer, hdl_loop_now_us(loop) + GAP_US);
        return;
    }
    static const char last[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    send_text(c, last, sizeof(last) - 1);
    c->busy = false;
}

/* A whole request is in: its prompt is [number]. */
static void begin(fixed_conn *c, const char *body)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    const char *prompt = strstr(body, "\"prompt\":[");
    c->request = prompt ? (uint32_t)strtoul(prompt + 10, NULL, 10) - 1 : UINT32_MAX;
    c->n_sent = 0;
    c->busy = true;
    send_text(c, head, sizeof(head) - 1);
    (void)!hdl_timer_set(c->server->loop, &c->timer, hdl_loop_now_us(c->server->loop) + FIRST_US);
}

static void on_conn(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    fixed_conn *c = watch->arg;
    (void)ready;
    if (hdl_buf_reserve(&c->in, 65536) != HDL_OK)
        return;
    ssize_t n = recv(watch->fd, hdl_buf_tail(&c->in), 65536, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hdl_timer_del(loop, &c->timer);
        hdl_watch_del(loop, watch);
        close(watch->fd);
        watch->fd = -1;
        return;
    }
    hdl_buf_commit(&c->in, (size_t)n);
    const char *text = hdl_buf_cstr(&c->in), *stop = strstr(text, "\r\n\r\n");
    const char *length = strstr(text, "Content-Length: ");
    if (!stop || !length)
        return;
    size_t total = (size_t)(stop - text) + 4 + strtoul(length + 16, NULL, 10);
    if (c->in.len < total)
        return;
    begin(c, stop + 4);
    hdl_buf_consume(&c->in, total);
}

static void on_accept(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    fixed_server *s = watch->arg;
    (void)ready;
    for (;;) {
        int one = 1, fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (s->n_conns == CONNS_MAX) {
            close(fd);
            return;
        }
        fixed_conn *c = &s->conns[s->n_conns++];
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        *c = (fixed_conn){.server = s, .watch = {.fd = fd, .fn = on_conn, .arg = c}};
        c->timer = (hdl_timer){.fn = on_timer, .arg = c};
        hdl_buf_init(&c->in, IN_BYTES_MAX);
        (void)!hdl_watch_add(loop, &c->watch, HDL_LOOP_READ);
    }
}

static void serve(void *arg) { (void)!hdl_loop_run(((fixed_server *)arg)->loop); }

static hdl_err listen_anywhere(fixed_server *s, hdl_errmsg *why)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    s->listener = (hdl_watch){.fn = on_accept, .arg = s};
    s->listener.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->listener.fd < 0 || bind(s->listener.fd, (struct sockaddr *)&at, len) != 0 ||
        listen(s->listener.fd, 512) != 0 ||
        getsockname(s->listener.fd, (struct sockaddr *)&at, &len) != 0)
        return hdl_fail(HDL_IO, why, "no port of the loopback address: %s; free one",
                        strerror(errno));
    s->port = ntohs(at.sin_port);
    return hdl_watch_add(s->loop, &s->listener, HDL_LOOP_READ);
}

static hdl_err server_open(fixed_server *s, uint32_t n, hdl_errmsg *why)
{
    s->n_requests = n;
    s->listener.fd = -1;
    s->conns = calloc(CONNS_MAX, sizeof(*s->conns));
    s->written_us = calloc((size_t)n * PIECES, sizeof(*s->written_us));
    if (!s->conns || !s->written_us)
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    HDL_TRY(hdl_loop_open(&s->loop, why));
    HDL_TRY(listen_anywhere(s, why));
    return hdl_thread_start(
        &s->thread,
        &(hdl_thread_opts){.name = "fixed-server", .role = HDL_ROLE_NONE, .fn = serve, .arg = s},
        why);
}

static void server_close(fixed_server *s)
{
    if (s->thread.started)
        hdl_loop_stop(s->loop);
    hdl_thread_join(&s->thread);
    for (size_t i = 0; i < s->n_conns; i++) {
        if (s->conns[i].watch.fd >= 0)
            close(s->conns[i].watch.fd);
        hdl_buf_deinit(&s->conns[i].in);
    }
    if (s->listener.fd >= 0)
        close(s->listener.fd);
    if (s->loop)
        hdl_loop_close(s->loop);
    free(s->conns);
    free(s->written_us);
}

/* Prompts carry their number, so that the server can say which request it answered. */
static hdl_err number_items(hdl_load_set *set, uint32_t n, hdl_errmsg *why)
{
    set->items = calloc(n, sizeof(*set->items));
    for (uint32_t i = 0; set->items && i < n; i++) {
        char body[64];
        snprintf(body, sizeof(body), "{\"prompt\":[%u],\"stream\":true}", i + 1);
        set->items[i] =
            (hdl_load_item){.n_input = 1, .body = strdup(body), .body_len = strlen(body)};
        if (!set->items[i].body)
            break;
        set->n++;
    }
    return set->n == n ? HDL_OK : hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The client's clock of piece j of request i, after the run's start, is due + gaps. */
static hdl_err compare(hdl_selfcheck *out, const fixed_server *s, const hdl_load_run *run,
                       uint64_t start_us, hdl_errmsg *why)
{
    double *late = calloc((size_t)s->n_requests * PIECES + 1, sizeof(*late));
    if (!late)
        return hdl_fail(HDL_NOMEM, why, "out of memory; ask for fewer requests");
    for (size_t i = 0; i < run->n; i++) {
        const hdl_load_result *r = &run->results[i];
        uint64_t at = r->first_us;
        for (uint32_t j = 0; r->ok && j <= r->n_gaps && j < PIECES; j++) {
            if (j > 0)
                at += run->gaps_us[r->gap_at + j - 1];
            late[out->n++] = (double)(int64_t)(start_us + at - s->written_us[i * PIECES + j]) / 1e3;
        }
    }
    qsort(late, out->n, sizeof(*late), ascending);
    if (out->n > 0) {
        out->p50_ms = late[out->n / 2];
        out->p99_ms = late[out->n * 99 / 100];
        out->max_ms = late[out->n - 1];
    }
    free(late);
    return HDL_OK;
}

static hdl_err check(hdl_selfcheck *out, fixed_server *s, double rate, hdl_errmsg *why)
{
    hdl_load_set set = {0};
    hdl_load_run run = {0};
    hdl_load_figures f;
    const hdl_load_slo none = {0};
    hdl_load_spec spec = {.arrivals = HDL_LOAD_POISSON, .rate = rate, .burstiness = 1, .seed = 1};
    hdl_load_target target = {.host = "127.0.0.1",
                              .port = s->port,
                              .path = "/v1/completions",
                              .timeout_us = 30 * HDL_SEC_US};
    hdl_err err = number_items(&set, s->n_requests, why);
    if (err == HDL_OK) {
        hdl_load_arrive(&set, &spec);
        err = hdl_load_go(&run, &set, &target, why);
    }
    if (err == HDL_OK)
        err = hdl_load_figure(&f, &run, &none, why);
    if (err == HDL_OK && f.completed != s->n_requests)
        err = hdl_fail(HDL_BUG, why, "%zu of %u requests to the fixed server failed; report this",
                       f.failed, s->n_requests);
    if (err == HDL_OK) {
        *out = (hdl_selfcheck){.ttft_asked_ms = FIRST_US / 1e3,
                               .ttft_got_ms = f.ttft.median,
                               .itl_asked_ms = GAP_US / 1e3,
                               .itl_got_ms = f.itl.median};
        err = compare(out, s, &run, run.start_us, why);
    }
    hdl_load_run_free(&run);
    hdl_load_free(&set);
    return err;
}

hdl_err hdl_selfcheck_run(hdl_selfcheck *out, uint32_t n_requests, double rate, hdl_errmsg *why)
{
    fixed_server s = {0};
    hdl_err err = server_open(&s, n_requests, why);
    if (err == HDL_OK)
        err = check(out, &s, rate, why);
    server_close(&s);
    return err;
}
