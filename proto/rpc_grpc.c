/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: the half of the gRPC wrapper that server and client share. Only rpc_grpc*.c include
 * <grpc/...>; see README.md for the rules of gRPC's C core that are not in its headers. */
#include "proto/rpc_grpc.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/limits.h>
#include <heddle/types.h>

#include <grpc/support/log.h>

#include "base/assert.h"
#include "base/log.h"

/* gRPC's own words belong in our log. */
static void log_line(gpr_log_func_args *args)
{
    if (args->severity == GPR_LOG_SEVERITY_ERROR)
        HDL_LOG(WARN, PROTO, "grpc", "text=%s", HDL_LOG_QUOTE(args->message));
}

static void set_log(void) { gpr_set_log_function(log_line); }

void hdl_rpc_hold(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_log);
    grpc_init();
}

void hdl_rpc_unhold(void) { grpc_shutdown(); }

static void queue_main(void *arg)
{
    rpc_queue *queue = arg;
    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(queue->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return;
        if (event.type == GRPC_OP_COMPLETE)
            rpc_tag_run(event.tag, event.success != 0);
    }
}

hdl_err rpc_queue_start(rpc_queue *queue, const char *name, hdl_errmsg *why)
{
    queue->cq = grpc_completion_queue_create_for_next(NULL);
    return hdl_thread_start(
        &queue->thread,
        &(hdl_thread_opts){.name = name, .role = HDL_ROLE_RPC, .fn = queue_main, .arg = queue},
        why);
}

void rpc_queue_stop(rpc_queue *queue)
{
    if (!queue->cq)
        return;
    grpc_completion_queue_shutdown(queue->cq);
    if (queue->thread.started) {
        hdl_thread_join(&queue->thread);
    } else { /* a queue must be drained before it is destroyed, with or without a thread */
        queue_main(queue);
    }
    grpc_completion_queue_destroy(queue->cq);
    queue->cq = NULL;
}

grpc_byte_buffer *rpc_bytes_from(const void *bytes, size_t len)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

gpr_timespec rpc_deadline_in(uint64_t us)
{
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_micros((int64_t)us, GPR_TIMESPAN));
}

static const struct {
    hdl_err err;
    grpc_status_code status;
} statuses[] = {
    {HDL_OK, GRPC_STATUS_OK},
    {HDL_CANCELLED, GRPC_STATUS_CANCELLED},
    {HDL_INVALID, GRPC_STATUS_INVALID_ARGUMENT},
    {HDL_TIMEOUT, GRPC_STATUS_DEADLINE_EXCEEDED},
    {HDL_NOTFOUND, GRPC_STATUS_NOT_FOUND},
    {HDL_DENIED, GRPC_STATUS_PERMISSION_DENIED},
    {HDL_DENIED, GRPC_STATUS_UNAUTHENTICATED},
    {HDL_BUSY, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {HDL_AGAIN, GRPC_STATUS_FAILED_PRECONDITION},
    {HDL_UNSUPPORTED, GRPC_STATUS_UNIMPLEMENTED},
    {HDL_CORRUPT, GRPC_STATUS_DATA_LOSS},
    {HDL_BUG, GRPC_STATUS_INTERNAL},
    {HDL_PEER, GRPC_STATUS_UNAVAILABLE},
};

hdl_err rpc_err_of(grpc_status_code status)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(statuses); i++)
        if (statuses[i].status == status)
            return statuses[i].err;
    return HDL_PEER;
}

grpc_status_code rpc_status_of(hdl_err err)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(statuses); i++)
        if (statuses[i].err == err)
            return statuses[i].status;
    return GRPC_STATUS_UNKNOWN;
}

static void on_received(rpc_tag *tag, bool ok);
static void on_sent(rpc_tag *tag, bool ok);

hdl_rpc_stream *rpc_stream_new(bool is_server)
{
    hdl_rpc_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->is_server = is_server;
    s->kind = HDL_RPC_BIDI;
    s->recv_tag.fn = on_received;
    s->send_tag.fn = on_sent;
    s->status_text = grpc_empty_slice();
    s->finish_text = grpc_empty_slice();
    grpc_metadata_array_init(&s->initial_md);
    grpc_metadata_array_init(&s->trailing_md);
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->refs, 1);
    return s;
}

/* Relaxed: a reference is only taken by someone who holds one. */
void rpc_stream_ref(hdl_rpc_stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
}

void rpc_stream_unref(hdl_rpc_stream *s)
{
    /* Release what this thread did with the stream; the last one acquires all of it. */
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < s->queue_count; i++)
        grpc_byte_buffer_destroy(s->queue[(s->queue_at + i) % RPC_SEND_QUEUE]);
    if (s->sending_bytes)
        grpc_byte_buffer_destroy(s->sending_bytes);
    if (s->received)
        grpc_byte_buffer_destroy(s->received);
    grpc_slice_unref(s->status_text);
    grpc_slice_unref(s->finish_text);
    grpc_metadata_array_destroy(&s->initial_md);
    grpc_metadata_array_destroy(&s->trailing_md);
    gpr_free(s->peer);
    if (s->call)
        grpc_call_unref(s->call);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void rpc_stream_batch(hdl_rpc_stream *s, const grpc_op *ops, size_t n_ops, rpc_tag *tag)
{
    rpc_stream_ref(s);
    rpc_tag_give(tag);
    grpc_call_error error = grpc_call_start_batch(s->call, ops, n_ops, tag, NULL);
    /* Anything else means that we gave two operations of one kind at a time. */
    HDL_ASSERT_EQ(error, GRPC_CALL_OK);
}

/* -- receiving: rpc thread ------------------------------------------------------------------- */

void rpc_stream_receive(hdl_rpc_stream *s)
{
    if (!s->receiving) /* an opener has set it before the close tag could look */
        s->receiving = true;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &s->received;
    rpc_stream_batch(s, &op, 1, &s->recv_tag);
}

static void deliver(hdl_rpc_stream *s, grpc_byte_buffer *bytes)
{
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, bytes)) { /* does not decompress */
        hdl_rpc_cancel(s);
        return;
    }
    grpc_slice *only;
    grpc_slice whole = grpc_empty_slice();
    bool one = grpc_byte_buffer_length(bytes) == 0;
    const grpc_slice *slice = &whole;
    if (!one && bytes->type == GRPC_BB_RAW && bytes->data.raw.compression == GRPC_COMPRESS_NONE &&
        bytes->data.raw.slice_buffer.count == 1 &&
        grpc_byte_buffer_reader_peek(&reader, &only)) { /* in place, without a copy */
        slice = only;
    } else if (!one) {
        whole = grpc_byte_buffer_reader_readall(&reader);
    }
    s->callbacks.on_message(s->callbacks.arg, s, GRPC_SLICE_START_PTR(*slice),
                            GRPC_SLICE_LENGTH(*slice));
    grpc_slice_unref(whole);
    grpc_byte_buffer_reader_destroy(&reader);
}

static void on_received(rpc_tag *tag, bool ok)
{
    hdl_rpc_stream *s = HDL_CONTAINER_OF(tag, hdl_rpc_stream, recv_tag);
    grpc_byte_buffer *bytes = s->received;
    s->received = NULL;
    s->receiving = false;
    if (ok && bytes) {
        if (s->callbacks.on_message)
            deliver(s, bytes);
        if (s->kind == HDL_RPC_BIDI)
            rpc_stream_receive(s);
    } else if (s->is_server) {
        /* The client has no more to say, or is gone: the same to us. A call must have a status. */
        hdl_rpc_finish(s, s->kind == HDL_RPC_BIDI ? HDL_OK : HDL_INVALID,
                       s->kind == HDL_RPC_BIDI ? "" : "a request message is missing");
    }
    if (bytes)
        grpc_byte_buffer_destroy(bytes);
    rpc_stream_maybe_closed(s);
    rpc_stream_unref(s);
}

void rpc_stream_maybe_closed(hdl_rpc_stream *s)
{
    if (!s->close_seen || s->receiving || s->closed)
        return;
    s->closed = true;
    pthread_mutex_lock(&s->lock);
    s->dead = true;
    pthread_mutex_unlock(&s->lock);
    if (!s->callbacks.on_close)
        return;
    if (s->is_server) {
        s->callbacks.on_close(s->callbacks.arg, s, s->cancelled ? HDL_PEER : HDL_OK,
                              s->cancelled ? "the call was cancelled or the connection lost" : "");
        return;
    }
    char *text = grpc_slice_to_c_string(s->status_text);
    s->callbacks.on_close(s->callbacks.arg, s, rpc_err_of(s->status), text);
    gpr_free(text);
}

/* -- sending: any thread, under lock --------------------------------------------------------- */

/* One batch at a time: what is queued, then the end. */
static void send_next(hdl_rpc_stream *s)
{
    grpc_op ops[3] = {0};
    size_t n = 0;
    if (s->sending || s->dead)
        return;
    bool has_message = s->queue_count > 0;
    bool last = s->finish_wanted && !s->finish_sent && s->queue_count <= 1;
    if (!has_message && !last)
        return;
    if (!s->md_sent)
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    s->md_sent = true;
    if (has_message) {
        s->sending_bytes = s->queue[s->queue_at];
        s->queue_at = (s->queue_at + 1) % RPC_SEND_QUEUE;
        s->queue_count--;
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = s->sending_bytes;
    }
    if (last) {
        s->finish_sent = true;
        ops[n].op = s->is_server ? GRPC_OP_SEND_STATUS_FROM_SERVER : GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        if (s->is_server) {
            ops[n].data.send_status_from_server.status = rpc_status_of(s->finish_err);
            ops[n].data.send_status_from_server.status_details = &s->finish_text;
        }
        n++;
    }
    s->sending = true;
    rpc_stream_batch(s, ops, n, &s->send_tag);
}

static void on_sent(rpc_tag *tag, bool ok)
{
    hdl_rpc_stream *s = HDL_CONTAINER_OF(tag, hdl_rpc_stream, send_tag);
    pthread_mutex_lock(&s->lock);
    if (s->sending_bytes)
        grpc_byte_buffer_destroy(s->sending_bytes);
    s->sending_bytes = NULL;
    s->sending = false;
    if (!ok)
        s->dead = true; /* the close tag follows */
    send_next(s);
    pthread_mutex_unlock(&s->lock);
    rpc_stream_unref(s);
}

hdl_err hdl_rpc_send(hdl_rpc_stream *s, const void *bytes, size_t len)
{
    hdl_err err = HDL_OK;
    pthread_mutex_lock(&s->lock);
    if (s->dead || s->finish_wanted) {
        err = HDL_PEER;
    } else if (s->queue_count == RPC_SEND_QUEUE) {
        err = HDL_BUSY;
    } else {
        uint32_t at = (s->queue_at + s->queue_count) % RPC_SEND_QUEUE;
        s->queue[at] = rpc_bytes_from(bytes, len);
        s->queue_count++;
        send_next(s);
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

void hdl_rpc_finish(hdl_rpc_stream *s, hdl_err err, const char *text)
{
    pthread_mutex_lock(&s->lock);
    if (!s->finish_wanted) {
        s->finish_wanted = true;
        s->finish_err = err;
        s->finish_text = grpc_slice_from_copied_string(text ? text : "");
        send_next(s);
    }
    pthread_mutex_unlock(&s->lock);
}

void hdl_rpc_cancel(hdl_rpc_stream *s) { grpc_call_cancel(s->call, NULL); }

hdl_rpc_stream *hdl_rpc_stream_keep(hdl_rpc_stream *s)
{
    rpc_stream_ref(s);
    return s;
}

void hdl_rpc_stream_drop(hdl_rpc_stream *s)
{
    if (s)
        rpc_stream_unref(s);
}

void hdl_rpc_stream_set_user(hdl_rpc_stream *s, void *user) { s->user = user; }
void *hdl_rpc_stream_user(const hdl_rpc_stream *s) { return s->user; }
const char *hdl_rpc_stream_peer(const hdl_rpc_stream *s) { return s->peer ? s->peer : "?"; }

size_t rpc_channel_args(grpc_arg *args, size_t message_bytes_max)
{
    const struct {
        const char *key;
        int value;
    } table[] = {
        {GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
         (int)(message_bytes_max ? message_bytes_max : HDL_RPC_MESSAGE_BYTES_MAX)},
        {GRPC_ARG_MAX_METADATA_SIZE, 8192},
        {GRPC_ARG_KEEPALIVE_TIME_MS, RPC_KEEPALIVE_MS},
        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, RPC_KEEPALIVE_TIMEOUT_MS},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
        {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
        /* Below the client's interval, or a healthy client is told off for too many pings. */
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, RPC_KEEPALIVE_MS / 2},
        {GRPC_ARG_ALLOW_REUSEPORT, 0}, /* or two daemons share a port unseen */
        /* A client's connection is its own: it ends with it. */
        {GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1},
        {GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100},
        {GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000},
        {GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(table); i++) {
        args[i] = (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)table[i].key};
        args[i].value.integer = table[i].value;
    }
    return HDL_ARRAY_LEN(table);
}

bool hdl_rpc_address_is_local(const char *address)
{
    char host[64];
    unsigned char ipv4[4];
    if (strncmp(address, "unix:", 5) == 0)
        return true;
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;
    if (len == 0 || len >= sizeof host)
        return false;
    memcpy(host, address, len);
    host[len] = '\0';
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    /* A number, not a name that begins like one. */
    return inet_pton(AF_INET, host, ipv4) == 1 && ipv4[0] == 127;
}
