/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's main thread: sessions with the scheduler, heartbeats, signals, the end. */
#include "worker/control.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/fs.h"
#include "base/log.h"
#include "worker/coll/host.h"

enum {
    BACKOFF_MIN_US = 20000,
    BACKOFF_MAX_US = 1000000,
    LEAVE_US = 2000000, /* a step thread in the middle of loading is left behind */
};

/* No order of the step thread takes so long without getting on: loading tells its progress, a
 * collective has a deadline, a step takes milliseconds. */
#define STEP_STUCK_US (60 * HDL_SEC_US)

/* -- the rpc thread -------------------------------------------------------------------------- */

static int take_slot(hdl_control *c)
{
    for (int i = 0; i < CONTROL_SLOTS; i++) {
        /* Acquire: the step thread has read the last message before it released the slot. */
        if (!atomic_load_explicit(&c->slots[i].busy, memory_order_acquire)) {
            atomic_store_explicit(&c->slots[i].busy, true, memory_order_relaxed);
            return i;
        }
    }
    return -1;
}

/* True: the message was for this thread alone. */
static bool handle_here(hdl_control *c, hdl_session *session, const hdl_sched_msg *msg)
{
    switch (msg->kind) {
    case HDL_SMSG_ASSIGN:
        atomic_store(&c->heartbeat_us, msg->assign.heartbeat_us);
        atomic_store(&c->hang_us, msg->assign.hang_us);
        return false;
    case HDL_SMSG_JOIN: atomic_store(&c->epoch, msg->join.epoch); return false;
    case HDL_SMSG_LISTEN: atomic_store(&c->epoch, msg->listen.epoch); return false;
    case HDL_SMSG_STEP: return false;
    case HDL_SMSG_ABORT: hdl_control_abort(c, msg->abort.epoch); return true;
    case HDL_SMSG_HEARTBEAT: return true;
    case HDL_SMSG_GOODBYE:
        session->dismissed = true;
        session->err = msg->goodbye.err;
        memcpy(session->text, msg->goodbye.text, sizeof session->text);
        return true;
    }
    return true;
}

static void on_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_session *session = arg;
    hdl_control *c = session->control;
    hdl_errmsg why = {0};
    atomic_store_explicit(&session->seen_us, hdl_clock_now_us(), memory_order_relaxed);
    int i = take_slot(c);
    if (i < 0) {
        HDL_LOG(ERROR, WORKER, "scheduler_floods");
        hdl_rpc_cancel(stream);
        return;
    }
    hdl_control_slot *slot = &c->slots[i];
    hdl_err err =
        hdl_wire_decode_sched((hdl_wire_bytes){bytes, len}, &slot->arena, &slot->msg, &why);
    if (err == HDL_OK && !handle_here(c, session, &slot->msg)) {
        slot->stream = hdl_rpc_stream_keep(stream);
        if (hdl_ring_push(c->orders, &i) == HDL_OK)
            return; /* the step thread releases the slot */
        hdl_rpc_stream_drop(slot->stream);
        err = hdl_fail(HDL_BUSY, &why, "the step thread's ring is full");
    }
    atomic_store_explicit(&slot->busy, false, memory_order_relaxed);
    if (err != HDL_OK) {
        HDL_LOG(ERROR, WORKER, "bad_message", "why=%s", HDL_LOG_QUOTE(why.text));
        hdl_rpc_cancel(stream);
    }
}

static void on_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)stream;
    hdl_session *session = arg;
    if (!session->dismissed) {
        session->err = err;
        snprintf(session->text, sizeof session->text, "%s", text);
    }
    hdl_loop *loop = session->control->loop;
    /* Release: main reads the fields above once it sees the flag. */
    atomic_store_explicit(&session->closed, true, memory_order_release);
    hdl_loop_wake(loop);
}

/* -- sessions: main thread ------------------------------------------------------------------- */

static hdl_err say(const hdl_session *session, const hdl_worker_msg *msg)
{
    unsigned char mem[2048];
    hdl_wire_encoder encoder = {.mem = mem, .size = sizeof mem};
    hdl_wire_bytes bytes;
    HDL_TRY(hdl_wire_encode_worker(&encoder, msg, &bytes));
    return hdl_rpc_send(session->stream, bytes.data, bytes.len);
}

static void fill_hello(const hdl_control *c, hdl_msg_hello *hello)
{
    static const char *const kinds[] = {HDL_CHOICES_device};
    int cpus[HDL_CPUS_MAX];
    *hello = (hdl_msg_hello){
        .protocol = HDL_WIRE_PROTOCOL,
        .pid = (uint32_t)getpid(),
        .n_cpus = (uint32_t)hdl_cpus_allowed(cpus, HDL_CPUS_MAX),
        .memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
        .instance = c->instance,
        .holds = atomic_load(&c->holds),
        .epoch = atomic_load(&c->epoch),
        .machine = hdl_host_machine(),
    };
    snprintf(hello->version, sizeof hello->version, "%s", HDL_VERSION);
    snprintf(hello->device, sizeof hello->device, "%s", kinds[c->config->device]);
    memcpy(hello->token, c->token, sizeof hello->token);
    if (gethostname(hello->host, sizeof hello->host - 1) != 0)
        snprintf(hello->host, sizeof hello->host, "?");
}

static void close_session(hdl_control *c)
{
    hdl_session *session = c->session;
    if (!session)
        return;
    c->session = NULL;
    hdl_rpc_client_close(session->client);
    hdl_rpc_stream_drop(session->stream);
    free(session);
    hdl_control_abort(c, atomic_load(&c->epoch)); /* nobody will end that epoch for us */
}

static hdl_err dial(hdl_control *c, hdl_errmsg *why)
{
    const hdl_config *config = c->config;
    const hdl_rpc_tls tls = {
        .ca = config->rpc_tls_ca, .cert = config->rpc_tls_cert, .key = config->rpc_tls_key};
    hdl_session *session = calloc(1, sizeof *session);
    if (!session)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    session->control = c;
    c->session = session;
    session->dialled_us = hdl_clock_now_us();
    atomic_store(&session->seen_us, session->dialled_us);
    const hdl_rpc_client_opts opts = {.address = config->scheduler_address, .tls = &tls};
    const hdl_rpc_callbacks callbacks = {
        .on_message = on_message, .on_close = on_close, .arg = session};
    hdl_err err = hdl_rpc_client_open(&session->client, &opts, why);
    if (err == HDL_OK)
        err = hdl_rpc_stream_open(&session->stream, session->client, HDL_WIRE_ATTACH, &callbacks);
    if (err != HDL_OK)
        return err;
    hdl_worker_msg msg = {.kind = HDL_WMSG_HELLO};
    fill_hello(c, &msg.hello);
    return say(session, &msg);
}

static void leave(hdl_control *c, int exit_code)
{
    if (c->leaving)
        return;
    const int end = -1;
    c->leaving = true;
    c->exit_code = exit_code;
    c->leave_by_us = hdl_loop_now_us(c->loop) + LEAVE_US;
    hdl_notify_stopping(&c->notify, LEAVE_US + HDL_SEC_US);
    hdl_control_abort(c, UINT64_MAX);
    if (hdl_ring_push(c->orders, &end) != HDL_OK)
        c->leave_by_us = 0;
}

/* What a dismissal means: in good order we go; a refusal would be repeated; else try again. */
static void after_session(hdl_control *c)
{
    hdl_session *session = c->session;
    hdl_err err = session->err;
    if (atomic_load(&session->seen_us) > session->dialled_us)
        HDL_LOG(INFO, WORKER, "session_ends", "dismissed=%d err=%s text=%s", session->dismissed,
                hdl_err_name(err), HDL_LOG_QUOTE(session->text));
    else /* ordinary while a scheduler starts; the last words are in on_timer */
        HDL_LOG(DEBUG, WORKER, "no_scheduler", "err=%s text=%s", hdl_err_name(err),
                HDL_LOG_QUOTE(session->text));
    if (session->dismissed && err == HDL_OK) {
        leave(c, 0);
    } else if (!atomic_load(&c->step_failed) && /* which has said why, and is leaving */
               (err == HDL_DENIED || err == HDL_UNSUPPORTED || err == HDL_INVALID)) {
        fprintf(stderr, "heddle-worker: the scheduler refused this worker; %s\n", session->text);
        leave(c, 1);
    }
    if (c->lost_us == 0)
        c->lost_us = hdl_loop_now_us(c->loop);
    close_session(c);
    c->dial_at_us = hdl_loop_now_us(c->loop) + c->backoff_us;
    c->backoff_us = c->backoff_us * 2 < BACKOFF_MAX_US ? c->backoff_us * 2 : BACKOFF_MAX_US;
}

/* The step thread hangs in an order. */
static bool is_stuck(hdl_control *c, hdl_time_us now)
{
    uint64_t beat = atomic_load_explicit(&c->step_beat_us, memory_order_relaxed);
    return atomic_load(&c->step_busy) && now >= beat + STEP_STUCK_US;
}

/* A rank whose step thread hangs falls silent: the scheduler drops it and goes on with another, and
 * a supervisor on this machine ends it. */
static void watch_session(hdl_control *c, hdl_time_us now)
{
    hdl_session *session = c->session;
    uint64_t hang = atomic_load(&c->hang_us);
    uint64_t seen = atomic_load_explicit(&session->seen_us, memory_order_relaxed);
    if (hang && now > seen + 2 * hang)
        hdl_rpc_cancel(session->stream); /* on_close follows */
    if (hang && seen > c->dial_at_us) {  /* it talks to us: all is well */
        c->lost_us = 0;
        c->backoff_us = BACKOFF_MIN_US;
    }
    if (is_stuck(c, now))
        return;
    const hdl_worker_msg beat = {.kind = HDL_WMSG_HEARTBEAT,
                                 .heartbeat = {.count = ++c->n_heartbeats}};
    if (say(session, &beat) != HDL_OK)
        return;
    /* An abort that met the step thread between its check and its call is repeated. */
    uint64_t busy = atomic_load(&c->busy_epoch);
    if (busy && busy <= atomic_load(&c->aborted))
        hdl_control_abort(c, busy);
}

/* For systemd and probes: what we do, and a sign of life as long as the step thread gets on. */
static void report(hdl_control *c, hdl_time_us now)
{
    bool loaded = atomic_load(&c->holds) != 0, busy = atomic_load(&c->step_busy);
    hdl_notify_status(&c->notify, "%s at %s; %s",
                      c->session ? "connected to the scheduler" : "looking for a scheduler",
                      c->config->scheduler_address,
                      loaded ? "holds its shard"
                      : busy ? "loads a shard"
                             : "holds no shard");
    if (is_stuck(c, now))
        return;
    hdl_notify_alive(&c->notify, now);
    bool heard = c->session && atomic_load_explicit(&c->session->seen_us, memory_order_relaxed) >
                                   c->session->dialled_us;
    hdl_pulse_beat(&c->pulse, now, loaded && heard && !c->leaving);
}

static void on_timer(hdl_loop *loop, hdl_timer *timer)
{
    hdl_control *c = timer->arg;
    hdl_errmsg why = {0};
    hdl_time_us now = hdl_loop_now_us(loop);
    report(c, now);
    if (c->session) {
        watch_session(c, now);
    } else if (c->lost_us && now > c->lost_us + c->config->redial_us) {
        fprintf(stderr,
                "heddle-worker: no scheduler answers at %s; gave up after worker.redial; start one "
                "or correct --scheduler\n",
                c->config->scheduler_address);
        leave(c, 1);
    } else if (now >= c->dial_at_us && dial(c, &why) != HDL_OK && c->session &&
               !c->session->stream) { /* not the network: configuration or memory */
        fprintf(stderr, "heddle-worker: %s\n", why.text);
        leave(c, 1);
    }
}

static void on_turn(hdl_loop *loop, void *arg)
{
    hdl_control *c = arg;
    hdl_time_us now = hdl_loop_now_us(loop);
    if (c->session && atomic_load_explicit(&c->session->closed, memory_order_acquire))
        after_session(c);
    if (atomic_load(&c->step_failed))
        leave(c, 1);
    if (c->leaving && (atomic_load(&c->step_done) || now >= c->leave_by_us)) {
        hdl_loop_stop(loop);
        return;
    }
    uint64_t beat = atomic_load(&c->heartbeat_us);
    hdl_time_us next = now + (beat ? beat : 100 * HDL_MS_US);
    if (!c->session && !c->leaving && c->dial_at_us < next)
        next = c->dial_at_us;
    if (c->leaving && c->leave_by_us < next)
        next = c->leave_by_us;
    if (!hdl_timer_is_set(&c->timer) || !c->session || c->leaving)
        if (hdl_timer_set(loop, &c->timer, next) != HDL_OK)
            hdl_loop_stop(loop);
}

static void on_signal(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)loop;
    (void)ready;
    struct signalfd_siginfo info;
    if (read(watch->fd, &info, sizeof info) != sizeof info)
        return;
    HDL_LOG(INFO, WORKER, "signal", "number=%u", info.ssi_signo);
    leave(watch->arg, 0);
}

/* -- start and end --------------------------------------------------------------------------- */

static hdl_err read_token(hdl_control *c, hdl_errmsg *why)
{
    char *text;
    size_t len;
    if (c->config->rpc_token_file[0] == '\0')
        return HDL_OK;
    HDL_TRY(hdl_fs_read(c->config->rpc_token_file, sizeof c->token - 1, &text, &len, why));
    text[strcspn(text, "\r\n")] = '\0';
    memcpy(c->token, text, strlen(text) + 1);
    explicit_bzero(text, len);
    free(text);
    return HDL_OK;
}

static hdl_err open_parts(hdl_control *c, hdl_errmsg *why)
{
    const size_t slot_bytes = 2 * (size_t)HDL_RPC_MESSAGE_BYTES_MAX;
    const hdl_ring_opts orders = {.kind = HDL_RING_MPSC,
                                  .item_bytes = sizeof(int),
                                  .count = 2 * CONTROL_SLOTS,
                                  .wake = HDL_RING_WAKE_OWN};
    HDL_TRY(hdl_pulse_open(&c->pulse, c->config->health_file, why));
    HDL_TRY(read_token(c, why));
    HDL_TRY(hdl_loop_open(&c->loop, why));
    c->slot_mem = malloc(slot_bytes * CONTROL_SLOTS); /* pages are touched when used */
    if (!c->slot_mem || hdl_ring_open(&c->orders, &orders) != HDL_OK ||
        hdl_wire_encoder_init(&c->encoder, HDL_RPC_MESSAGE_BYTES_MAX) != HDL_OK)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    for (size_t i = 0; i < CONTROL_SLOTS; i++)
        hdl_arena_init(&c->slots[i].arena, (char *)c->slot_mem + i * slot_bytes, slot_bytes);
    if (getrandom(&c->instance, sizeof c->instance, 0) != sizeof c->instance)
        return hdl_fail(HDL_IO, why, "the system gives no random numbers");
    return hdl_thread_start(
        &c->step_thread,
        &(hdl_thread_opts){
            .name = "step", .role = HDL_ROLE_STEP, .fn = hdl_control_step_main, .arg = c},
        why);
}

static hdl_err run_loop(hdl_control *c, hdl_errmsg *why)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    hdl_watch watch = {
        .fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .arg = c};
    if (watch.fd < 0)
        return hdl_fail(HDL_IO, why, "signals cannot be awaited");
    c->timer = (hdl_timer){.fn = on_timer, .arg = c};
    c->backoff_us = BACKOFF_MIN_US;
    c->lost_us = hdl_clock_now_us();
    hdl_err err = hdl_watch_add(c->loop, &watch, HDL_LOOP_READ);
    if (err == HDL_OK)
        err = hdl_timer_set(c->loop, &c->timer, c->lost_us);
    hdl_loop_on_turn(c->loop, on_turn, c);
    hdl_notify_ready(
        &c->notify); /* to take a shard; whether it has one is the scheduler's to say */
    if (err == HDL_OK)
        err = hdl_loop_run(c->loop);
    hdl_watch_del(c->loop, &watch);
    close(watch.fd);
    return err;
}

int hdl_control_run(const hdl_config *config)
{
    hdl_errmsg why = {0};
    hdl_control *c = calloc(1, sizeof *c);
    if (!c)
        return 1;
    c->config = config;
    hdl_notify_open(&c->notify);
    hdl_rpc_hold();
    pthread_mutex_init(&c->worker_lock, NULL);
    hdl_err err = open_parts(c, &why);
    if (err == HDL_OK)
        err = run_loop(c, &why);
    if (err != HDL_OK) {
        fprintf(stderr, "heddle-worker: %s\n", why.text[0] ? why.text : hdl_err_text(err));
        c->exit_code = 1;
    }
    int exit_code = c->exit_code;
    close_session(c);
    hdl_notify_close(&c->notify);
    hdl_pulse_close(&c->pulse);
    if (c->step_thread.started && !atomic_load(&c->step_done))
        return exit_code; /* in the middle of something long; the process ends under it */
    hdl_thread_join(&c->step_thread);
    hdl_ring_close(c->orders);
    hdl_wire_encoder_deinit(&c->encoder);
    hdl_loop_close(c->loop);
    free(c->slot_mem);
    pthread_mutex_destroy(&c->worker_lock);
    free(c);
    hdl_rpc_unhold();
    return exit_code;
}
