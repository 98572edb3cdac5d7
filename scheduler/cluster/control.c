/* SPDX-License-Identifier: Apache-2.0 */
/* The rpc thread's side of the cluster: workers' messages are decoded and checked here, into slots
 * that the brain reads; heartbeats and progress end here. Nothing waits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/log.h"
#include "base/metrics.h"
#include "scheduler/cluster/state.h"

void hdl_conn_free(hdl_conn *conn)
{
    hdl_rpc_stream_drop(conn->stream);
    free(conn->slot_mem);
    free(conn);
}

/* The ring has room for every slot of every connection and their openings and ends. */
static void tell(hdl_cluster *c, hdl_conn *conn, int slot)
{
    const hdl_note note = {.conn = conn, .slot = slot};
    if (hdl_ring_push(c->notes, &note) != HDL_OK)
        HDL_LOG(ERROR, CLUSTER, "note_lost", "slot=%d", slot);
}

static void on_open(void *arg, hdl_rpc_stream *stream)
{
    hdl_cluster *c = arg;
    hdl_conn *conn = NULL;
    if (atomic_fetch_add(&c->n_conns, 1) < CONNS_MAX)
        conn = calloc(1, sizeof *conn);
    if (conn)
        conn->slot_mem = malloc(c->slot_bytes * CONN_SLOTS); /* pages are touched when used */
    if (!conn || !conn->slot_mem) {
        free(conn);
        atomic_fetch_sub(&c->n_conns, 1);
        hdl_rpc_finish(stream, HDL_BUSY, "too many workers");
        return;
    }
    for (size_t i = 0; i < CONN_SLOTS; i++)
        hdl_arena_init(&conn->slots[i].arena, (char *)conn->slot_mem + i * c->slot_bytes,
                       c->slot_bytes);
    conn->stream = hdl_rpc_stream_keep(stream);
    conn->group = HDL_NONE_U32;
    atomic_store(&conn->number, HDL_NONE_U32);
    atomic_store(&conn->seen_us, hdl_clock_now_us());
    hdl_rpc_stream_set_user(stream, conn);
    tell(c, conn, HDL_NOTE_OPENED);
}

static int take_slot(hdl_conn *conn)
{
    for (int i = 0; i < CONN_SLOTS; i++) {
        /* Acquire: the brain has read the last message before it released the slot. */
        if (!atomic_load_explicit(&conn->slots[i].busy, memory_order_acquire)) {
            atomic_store_explicit(&conn->slots[i].busy, true, memory_order_relaxed);
            return i;
        }
    }
    return -1;
}

/* Ranks but the first answer a step with their times alone; the brain need not wake for that. And
 * it must not: the first rank's answers drive the steps, so the others' may come in bursts. */
static bool is_times_alone(const hdl_worker_msg *msg)
{
    return msg->kind == HDL_WMSG_RESULT && msg->result.rank != 0 && msg->result.err == HDL_OK &&
           msg->result.n_rows == 0;
}

/* The series is of the rank that the worker was given, not of the one that it says. */
static void observe_times(hdl_conn *conn, const hdl_result *result)
{
    const uint32_t number = atomic_load_explicit(&conn->number, memory_order_relaxed);
    atomic_store_explicit(&conn->step_us, result->step_us, memory_order_relaxed);
    atomic_store_explicit(&conn->coll_us, result->coll_us, memory_order_relaxed);
    if (number >= HDL_METRIC_RANKS_MAX)
        return;
    hdl_metric_observe(HDL_METRIC_STEP_TIME, number, result->step_us);
    hdl_metric_observe(HDL_METRIC_COLL_TIME, number, result->coll_us);
}

/* True: the message was for this thread alone. */
static bool handle_here(hdl_conn *conn, const hdl_worker_msg *msg)
{
    if (msg->kind == HDL_WMSG_PROGRESS) {
        atomic_store_explicit(&conn->bytes_total, msg->progress.bytes_total, memory_order_relaxed);
        atomic_store_explicit(&conn->bytes_done, msg->progress.bytes_done, memory_order_relaxed);
        return true;
    }
    if (msg->kind == HDL_WMSG_RESULT && msg->result.err == HDL_OK)
        observe_times(conn, &msg->result);
    return msg->kind == HDL_WMSG_HEARTBEAT || is_times_alone(msg);
}

static void on_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_cluster *c = arg;
    hdl_conn *conn = hdl_rpc_stream_user(stream);
    hdl_errmsg why = {0};
    if (!conn)
        return;
    atomic_store_explicit(&conn->seen_us, hdl_clock_now_us(), memory_order_relaxed);
    int i = take_slot(conn);
    if (i < 0) {
        HDL_LOG(ERROR, CLUSTER, "worker_floods", "peer=%s",
                HDL_LOG_QUOTE(hdl_rpc_stream_peer(stream)));
        hdl_rpc_cancel(stream);
        return;
    }
    hdl_slot *slot = &conn->slots[i];
    hdl_err err =
        hdl_wire_decode_worker((hdl_wire_bytes){bytes, len}, &slot->arena, &slot->msg, &why);
    if (err == HDL_OK && !handle_here(conn, &slot->msg)) {
        tell(c, conn, i);
        return;
    }
    atomic_store_explicit(&slot->busy, false, memory_order_relaxed);
    if (err != HDL_OK) {
        HDL_LOG(ERROR, CLUSTER, "bad_message", "peer=%s why=%s",
                HDL_LOG_QUOTE(hdl_rpc_stream_peer(stream)), HDL_LOG_QUOTE(why.text));
        hdl_rpc_finish(stream, HDL_INVALID, why.text);
    }
}

static void on_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)err;
    (void)text;
    hdl_conn *conn = hdl_rpc_stream_user(stream);
    if (conn)
        tell(arg, conn, HDL_NOTE_CLOSED);
}

/* -- people and tools ------------------------------------------------------------------------ */

static void on_status(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)bytes;
    (void)len;
    hdl_cluster *c = arg;
    const uint32_t n = c->n_groups * c->n_ranks;
    hdl_wire_encoder encoder;
    hdl_wire_bytes out;
    hdl_rank_status *ranks = malloc(n * sizeof *ranks);
    if (!ranks || hdl_wire_encoder_init(&encoder, 4096 + (size_t)n * 1024) != HDL_OK) {
        free(ranks);
        hdl_rpc_finish(stream, HDL_NOMEM, "out of memory");
        return;
    }
    pthread_mutex_lock(&c->lock);
    hdl_engine_info info = c->info;
    memcpy(ranks, c->statuses, n * sizeof *ranks);
    pthread_mutex_unlock(&c->lock);
    hdl_cluster_status status = {.ready = info.ready,
                                 .draining = info.draining,
                                 .epoch = info.epoch,
                                 .kv_tokens = info.kv_tokens_capacity,
                                 .running = info.running,
                                 .waiting = info.waiting,
                                 .n_ranks = n,
                                 .ranks = ranks};
    memcpy(status.state, info.state, sizeof status.state);
    hdl_err err = hdl_wire_encode_status(&encoder, &status, &out);
    if (err == HDL_OK)
        err = hdl_rpc_send(stream, out.data, out.len);
    hdl_rpc_finish(stream, err, err == HDL_OK ? "" : "the status cannot be sent");
    hdl_wire_encoder_deinit(&encoder);
    free(ranks);
}

static void on_drain(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)bytes;
    (void)len;
    hdl_cluster_drain(arg);
    hdl_err err = hdl_rpc_send(stream, "", 0); /* an empty DrainReply */
    hdl_rpc_finish(stream, err, "");
}

hdl_err hdl_control_open(hdl_cluster *c, hdl_errmsg *why)
{
    const hdl_config *config = c->config;
    hdl_rpc_method methods[3 + HDL_HEALTH_METHODS + HDL_SCALER_METHODS] = {
        {.path = HDL_WIRE_ATTACH,
         .kind = HDL_RPC_BIDI,
         .callbacks =
             {.on_open = on_open, .on_message = on_message, .on_close = on_close, .arg = c}},
        {.path = HDL_WIRE_STATUS,
         .kind = HDL_RPC_UNARY,
         .callbacks = {.on_message = on_status, .arg = c}},
        {.path = HDL_WIRE_DRAIN,
         .kind = HDL_RPC_UNARY,
         .callbacks = {.on_message = on_drain, .arg = c}},
    };
    HDL_TRY(hdl_health_open(&c->health, "heddle.v1.Control"));
    hdl_health_methods(c->health, methods + 3);
    HDL_TRY(hdl_scaler_open(&c->scaler, config, why));
    hdl_scaler_methods(c->scaler, methods + 3 + HDL_HEALTH_METHODS);
    char address[192];
    const char *listen = config->rpc_listen;
    if (listen[0] == '\0') { /* for workers of this machine and user alone */
        HDL_TRY(hdl_run_dir_open(&c->socket_dir, why));
        snprintf(address, sizeof address, "unix:%s/scheduler", c->socket_dir.path);
        listen = address;
    }
    const hdl_rpc_tls tls = {
        .ca = config->rpc_tls_ca, .cert = config->rpc_tls_cert, .key = config->rpc_tls_key};
    return hdl_rpc_server_open(&c->server,
                               &(hdl_rpc_server_opts){.address = listen,
                                                      .tls = &tls,
                                                      .methods = methods,
                                                      .n_methods = HDL_ARRAY_LEN(methods)},
                               why);
}
