/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/front.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/front/call.h"
#include "scheduler/front/conn.h"
#include "scheduler/front/job.h"

enum {
    BACKLOG = 4096, /* with the customary 128, a thousand clients at once wait for SYN retries */
    ACCEPTS_PER_TURN = 64,
    EMITS_PER_POP = 64,
    POPS_PER_TURN = 8,
    HANDED_RING = 4096,
    THREADS_MAX = 64,
    PIECE_BYTES_MAX = 16 * 1024 * 1024,
};
#define ACCEPT_PAUSE_US (100 * HDL_MS_US)

void hdl_front_opts_defaults(hdl_front_opts *opts)
{
#define DEFAULT(field, value)                                                                      \
    if (!opts->field)                                                                              \
    opts->field = (value)
    DEFAULT(host, "127.0.0.1");
    DEFAULT(n_threads, 1);
    DEFAULT(max_connections, 8192);
    DEFAULT(body_bytes_max, HDL_HTTP_BODY_BYTES_MAX);
    DEFAULT(header_timeout_us, 10 * HDL_SEC_US);
    DEFAULT(body_timeout_us, 60 * HDL_SEC_US);
    DEFAULT(idle_timeout_us, 120 * HDL_SEC_US);
    DEFAULT(write_timeout_us, 60 * HDL_SEC_US);
    DEFAULT(ping_us, 10 * HDL_SEC_US);
    DEFAULT(emit_ring, 16384);
#undef DEFAULT
}

/* ---- accepting ---- */

static void turn_away(int fd)
{
    static const char body[] =
        "{\"error\":{\"message\":\"too many connections are open; try again\","
        "\"type\":\"server_error\",\"param\":null,\"code\":null}}";
    char answer[512];
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
                       "content-length: %zu\r\nretry-after: 1\r\nconnection: close\r\n\r\n%s",
                       sizeof body - 1, body);
    (void)send(fd, answer, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR);
    close(fd);
    hdl_metric_add(HDL_METRIC_HTTP_REQUESTS, hdl_metric_http_code(503), 1);
}

static void deal_out(hdl_front *front, int fd)
{
    int one = 1;
    uint32_t open = atomic_fetch_add_explicit(&front->n_conns, 1, memory_order_relaxed);
    /* Clients that keep their connections for later would else keep out the others, and the probes
     * of whoever restarts a server that does not answer. */
    if (open >= front->opts.max_connections && !hdl_conns_end_idle(&front->threads[0])) {
        atomic_fetch_sub_explicit(&front->n_conns, 1, memory_order_relaxed);
        turn_away(fd);
        return;
    }
    hdl_metric_set(HDL_METRIC_HTTP_CONNECTIONS, 0, (int64_t)open + 1);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    hdl_front_thread *thread = &front->threads[front->next_thread++ % front->n_threads];
    if (thread->idx == 0) {
        hdl_conn_open(thread, fd);
    } else if (hdl_ring_push(thread->handed, &fd) != HDL_OK) {
        atomic_fetch_sub_explicit(&front->n_conns, 1, memory_order_relaxed);
        turn_away(fd);
    }
}

static void want_accepts(hdl_loop *loop, hdl_watch *watch, bool want)
{
    hdl_err err = hdl_watch_set(loop, watch, want ? HDL_LOOP_READ : 0);
    if (err != HDL_OK)
        HDL_LOG(ERROR, FRONT, "accept_watch_failed", "want=%d err=%s", want, hdl_err_name(err));
}

static void on_accept(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)ready;
    hdl_front *front = watch->arg;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            deal_out(front, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            /* Out of descriptors or memory: the socket stays readable, so stop looking for a
             * while instead of spinning. */
            HDL_LOG(WARN, FRONT, "accept_failed", "reason=%s", HDL_LOG_QUOTE(strerror(errno)));
            hdl_time_us later = hdl_loop_now_us(loop) + ACCEPT_PAUSE_US;
            if (hdl_timer_set(loop, &front->listen_timer, later) == HDL_OK)
                want_accepts(loop, watch, false);
        }
        return;
    }
}

static void on_accept_again(hdl_loop *loop, hdl_timer *timer)
{
    hdl_front *front = timer->arg;
    want_accepts(loop, &front->listen_watch, true);
}

static int bind_one(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    /* No SO_REUSEPORT: a second server on the same port must fail, not share its clients. */
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static hdl_err listen_on(hdl_front *front, hdl_errmsg *why)
{
    const hdl_front_opts *opts = &front->opts;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", opts->port);
    int rc = getaddrinfo(opts->host, port, &hints, &list);
    if (rc != 0)
        return hdl_fail(HDL_INVALID, why,
                        "cannot listen on %s; %s; give an address of this machine", opts->host,
                        gai_strerror(rc));
    front->listen_fd = -1;
    for (const struct addrinfo *a = list; a && front->listen_fd < 0; a = a->ai_next)
        front->listen_fd = bind_one(a);
    int saved = errno;
    freeaddrinfo(list);
    if (front->listen_fd < 0)
        return hdl_fail(HDL_IO, why, "cannot listen on %s port %u; %s; choose another --port",
                        opts->host, opts->port, strerror(saved));
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(front->listen_fd, (struct sockaddr *)&at, &len) != 0)
        return hdl_fail(HDL_IO, why, "cannot read the port; %s; try again", strerror(errno));
    front->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&at)->sin6_port
                                                 : ((struct sockaddr_in *)(void *)&at)->sin_port);
    return HDL_OK;
}

/* ---- threads ---- */

/* At most so many in a turn as make a stream's backlog grow by little: an engine that is faster
 * than this loop would otherwise keep it here, with nothing sent and no slow reader noticed. */
static void take_emits(hdl_front_thread *thread)
{
    hdl_emit emits[EMITS_PER_POP];
    for (int pop = 0; pop < POPS_PER_TURN; pop++) {
        size_t n = hdl_ring_pop_many(thread->emits, emits, EMITS_PER_POP);
        for (size_t i = 0; i < n; i++)
            hdl_call_on_emit(thread, &emits[i]);
        if (n < EMITS_PER_POP && hdl_ring_arm(thread->emits))
            return;
    }
    hdl_loop_wake(thread->loop); /* the rest in the next turn */
}

/* End of a loop's turn: what came for this thread, then one send for each connection that has
 * something to say. Rings are asked for a wake-up last, so nothing can be missed. */
static void on_turn(hdl_loop *loop, void *arg)
{
    hdl_front_thread *thread = arg;
    int fd;
    (void)loop;
    take_emits(thread);
    do
        while (hdl_ring_pop(thread->handed, &fd))
            hdl_conn_open(thread, fd);
    while (!hdl_ring_arm(thread->handed));
    do
        hdl_jobs_finish(thread);
    while (!hdl_ring_arm(thread->finished));
    hdl_conns_flush(thread);
    hdl_conns_bury(thread);
}

static void thread_main(void *arg)
{
    hdl_front_thread *thread = arg;
    hdl_loop_wake(thread->loop); /* the first turn arms the rings */
    if (hdl_loop_run(thread->loop) != HDL_OK)
        HDL_LOG(ERROR, FRONT, "loop_failed", "thread=%u", thread->idx);
    hdl_conns_end(thread);
}

static hdl_err open_thread(hdl_front *front, uint32_t idx, hdl_errmsg *why)
{
    hdl_front_thread *thread = &front->threads[idx];
    thread->front = front;
    thread->idx = idx;
    hdl_buf_init(&thread->piece, PIECE_BYTES_MAX);
    HDL_TRY(hdl_loop_open(&thread->loop, why));
    hdl_ring_opts ring = {.kind = HDL_RING_MPSC,
                          .item_bytes = sizeof(hdl_emit),
                          .count = front->opts.emit_ring,
                          .wake = HDL_RING_WAKE_SHARED,
                          .wake_fd = hdl_loop_wake_fd(thread->loop)};
    HDL_TRY(hdl_ring_open(&thread->emits, &ring));
    ring.item_bytes = sizeof(int);
    ring.count = HANDED_RING;
    HDL_TRY(hdl_ring_open(&thread->handed, &ring));
    ring.item_bytes = sizeof(hdl_job *);
    ring.count = HDL_JOBS_BACK;
    HDL_TRY(hdl_ring_open(&thread->finished, &ring));
    size_t bytes = hdl_pool_bytes(sizeof(hdl_choice *), HDL_SEQS_MAX);
    thread->choices_mem = aligned_alloc(64, bytes);
    if (!thread->choices_mem)
        return HDL_NOMEM;
    hdl_pool_init(&thread->choices, thread->choices_mem, sizeof(hdl_choice *), HDL_SEQS_MAX);
    if (getrandom(&thread->id_key, sizeof thread->id_key, 0) != sizeof thread->id_key)
        thread->id_key = hdl_clock_wall_us() ^ (uint64_t)idx << 56;
    hdl_loop_on_turn(thread->loop, on_turn, thread);
    return HDL_OK;
}

static void stop_thread(hdl_front_thread *thread)
{
    if (!thread->thread.started)
        return;
    hdl_loop_stop(thread->loop);
    hdl_thread_join(&thread->thread);
}

/* After all threads have stopped, the text thread, too. */
static void close_thread(hdl_front_thread *thread)
{
    int fd;
    while (thread->handed && hdl_ring_pop(thread->handed, &fd))
        close(fd);
    if (thread->finished)
        hdl_jobs_finish(thread);
    hdl_ring_close(thread->emits);
    hdl_ring_close(thread->handed);
    hdl_ring_close(thread->finished);
    hdl_loop_close(thread->loop);
    hdl_tok_scratch_free(thread->scratch);
    hdl_buf_deinit(&thread->piece);
    free(thread->choices_mem);
}

static hdl_err start_threads(hdl_front *front, hdl_errmsg *why)
{
    hdl_loop *first = front->threads[0].loop;
    front->listen_watch = (hdl_watch){.fd = front->listen_fd, .fn = on_accept, .arg = front};
    front->listen_timer = (hdl_timer){.fn = on_accept_again, .arg = front};
    HDL_TRY(hdl_watch_add(first, &front->listen_watch, HDL_LOOP_READ));
    for (uint32_t i = 0; i < front->n_threads; i++) {
        char name[20];
        (void)snprintf(name, sizeof name, "front-%u", i);
        HDL_TRY(hdl_thread_start(
            &front->threads[i].thread,
            &(hdl_thread_opts){
                .name = name, .role = HDL_ROLE_FRONT, .fn = thread_main, .arg = &front->threads[i]},
            why));
    }
    return HDL_OK;
}

/* ---- the public entry ---- */

static hdl_err open_parts(hdl_front *front, hdl_errmsg *why)
{
    const hdl_front_opts *opts = &front->opts;
    bool cert = opts->tls_cert && *opts->tls_cert, key = opts->tls_key && *opts->tls_key;
    if (cert != key)
        return hdl_fail(HDL_INVALID, why,
                        "TLS needs a certificate and a key; one of them is missing; give both "
                        "http.tls_cert and http.tls_key");
    if (opts->n_threads > THREADS_MAX)
        return hdl_fail(HDL_INVALID, why, "%u HTTP threads; at most %d; lower http.threads",
                        opts->n_threads, THREADS_MAX);
    if (cert)
        HDL_TRY(hdl_tls_open(&front->tls, opts->tls_cert, opts->tls_key, why));
    if (opts->api_key_file && *opts->api_key_file)
        HDL_TRY(hdl_keys_open(&front->keys, opts->api_key_file, why));
    front->threads = calloc(opts->n_threads, sizeof *front->threads);
    if (!front->threads)
        return HDL_NOMEM;
    front->n_threads = opts->n_threads;
    for (uint32_t i = 0; i < front->n_threads; i++)
        HDL_TRY(open_thread(front, i, why));
    HDL_TRY(hdl_text_thread_open(&front->text, why));
    HDL_TRY(listen_on(front, why));
    return start_threads(front, why);
}

hdl_err hdl_front_open(hdl_front **out, const hdl_front_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    hdl_front *front = calloc(1, sizeof *front);
    if (!front)
        return HDL_NOMEM;
    front->opts = *opts;
    front->listen_fd = -1;
    hdl_front_opts_defaults(&front->opts);
    if (opts->model)
        hdl_front_set_model(front, opts->model);
    hdl_err err = open_parts(front, why);
    if (err != HDL_OK) {
        hdl_front_close(front);
        return err;
    }
    HDL_LOG(INFO, FRONT, "listening", "host=%s port=%u threads=%u tls=%d keys=%d",
            HDL_LOG_QUOTE(front->opts.host), front->port, front->n_threads, front->tls != NULL,
            front->keys != NULL);
    *out = front;
    return HDL_OK;
}

void hdl_front_set_model(hdl_front *front, const hdl_front_model *model)
{
    HDL_ASSERT(atomic_load(&front->model) == NULL && model->engine && model->name);
    front->model_copy = *model;
    /* release: whoever sees the pointer sees the fields */
    atomic_store_explicit(&front->model, &front->model_copy, memory_order_release);
}

uint16_t hdl_front_port(const hdl_front *front) { return front->port; }

void hdl_front_drain(hdl_front *front)
{
    atomic_store_explicit(&front->draining, true, memory_order_relaxed);
}

uint32_t hdl_front_busy(const hdl_front *front)
{
    return atomic_load_explicit(&front->n_calls, memory_order_relaxed);
}

hdl_err hdl_front_reload(hdl_front *front, hdl_errmsg *why)
{
    if (front->tls)
        HDL_TRY(hdl_tls_reload(front->tls, why));
    if (front->keys)
        HDL_TRY(hdl_keys_reload(front->keys, why));
    return HDL_OK;
}

void hdl_front_stop(hdl_front *front)
{
    if (!front || front->stopped)
        return;
    front->stopped = true;
    for (uint32_t i = 0; i < front->n_threads; i++)
        stop_thread(&front->threads[i]);
    hdl_text_thread_close(front->text);
    front->text = NULL;
    if (front->listen_fd >= 0)
        close(front->listen_fd);
    front->listen_fd = -1;
}

void hdl_front_close(hdl_front *front)
{
    if (!front)
        return;
    hdl_front_stop(front);
    for (uint32_t i = 0; i < front->n_threads; i++)
        close_thread(&front->threads[i]);
    hdl_keys_close(front->keys);
    hdl_tls_close(front->tls);
    free(front->threads);
    free(front);
}
