/* SPDX-License-Identifier: Apache-2.0 */
/* The server's half of the gRPC wrapper: listening, dispatch of calls by path, ordered shutdown. */
#include "proto/rpc_grpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/assert.h"
#include "base/log.h"

enum { CALLS_ARMED = 16 }; /* requests for new calls that wait in the queue */

struct hdl_rpc_server {
    grpc_server *server;
    rpc_queue queue;
    rpc_certs *certs;
    hdl_rpc_method *methods; /* [n_methods] owned */
    size_t n_methods;
    char address[256];
    atomic_bool stopping;
    rpc_tag shutdown_tag;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool down; /* under lock: gRPC has finished all calls */
    bool started;
};

/* A call that has not come yet, and what gRPC writes about it. */
typedef struct pending_call {
    rpc_tag tag;
    hdl_rpc_server *server; /* borrowed: outlives its queue */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array md;
} pending_call;

static void on_call(rpc_tag *tag, bool ok);

static void pending_free(pending_call *pending)
{
    grpc_call_details_destroy(&pending->details);
    grpc_metadata_array_destroy(&pending->md);
    free(pending);
}

static void arm_call(hdl_rpc_server *server)
{
    pending_call *pending = calloc(1, sizeof *pending);
    if (!pending) {
        HDL_LOG(ERROR, PROTO, "out_of_memory", "what=call");
        return;
    }
    pending->tag.fn = on_call;
    pending->server = server;
    grpc_call_details_init(&pending->details);
    grpc_metadata_array_init(&pending->md);
    rpc_tag_give(&pending->tag);
    if (grpc_server_request_call(server->server, &pending->call, &pending->details, &pending->md,
                                 server->queue.cq, server->queue.cq, &pending->tag) != GRPC_CALL_OK)
        pending_free(pending); /* shutting down */
}

static const hdl_rpc_method *find_method(const hdl_rpc_server *server, grpc_slice path)
{
    for (size_t i = 0; i < server->n_methods; i++)
        if (grpc_slice_str_cmp(path, server->methods[i].path) == 0)
            return &server->methods[i];
    return NULL;
}

static void on_closed(rpc_tag *tag, bool ok)
{
    (void)ok; /* always true for this operation */
    hdl_rpc_stream *s = HDL_CONTAINER_OF(tag, hdl_rpc_stream, close_tag);
    s->close_seen = true;
    rpc_stream_maybe_closed(s);
    rpc_stream_unref(s);
}

static void accept_call(hdl_rpc_server *server, pending_call *pending)
{
    hdl_rpc_stream *s = rpc_stream_new(true);
    if (!s) {
        grpc_call_cancel(pending->call, NULL);
        grpc_call_unref(pending->call);
        return;
    }
    s->call = pending->call;
    s->peer = grpc_call_get_peer(s->call);
    s->close_tag.fn = on_closed;
    const hdl_rpc_method *method = find_method(server, pending->details.method);
    if (method) {
        s->kind = method->kind;
        s->callbacks = method->callbacks;
    }
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &s->cancelled;
    rpc_stream_batch(s, &op, 1, &s->close_tag);
    if (!method) {
        hdl_rpc_finish(s, HDL_UNSUPPORTED, "no such method");
    } else {
        if (s->callbacks.on_open)
            s->callbacks.on_open(s->callbacks.arg, s);
        rpc_stream_receive(s);
    }
    rpc_stream_unref(s);
}

static void on_call(rpc_tag *tag, bool ok)
{
    pending_call *pending = HDL_CONTAINER_OF(tag, pending_call, tag);
    hdl_rpc_server *server = pending->server;
    if (ok) {
        if (!atomic_load(&server->stopping))
            arm_call(server);
        accept_call(server, pending);
    }
    pending_free(pending);
}

static void on_shutdown(rpc_tag *tag, bool ok)
{
    (void)ok;
    hdl_rpc_server *server = HDL_CONTAINER_OF(tag, hdl_rpc_server, shutdown_tag);
    pthread_mutex_lock(&server->lock);
    server->down = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static hdl_err listen_on(hdl_rpc_server *server, const char *address,
                         grpc_server_credentials *creds, hdl_errmsg *why)
{
    int port = grpc_server_add_http2_port(server->server, address, creds);
    if (port == 0)
        return hdl_fail(HDL_IO, why,
                        "cannot listen on %s; the address is taken or not of this machine; choose "
                        "another rpc.listen",
                        address);
    const char *colon = strrchr(address, ':');
    if (strncmp(address, "unix:", 5) == 0 || !colon)
        snprintf(server->address, sizeof server->address, "%s", address);
    else
        snprintf(server->address, sizeof server->address, "%.*s:%d", (int)(colon - address),
                 address, port);
    return HDL_OK;
}

hdl_err hdl_rpc_server_open(hdl_rpc_server **out, const hdl_rpc_server_opts *opts, hdl_errmsg *why)
{
    hdl_err err;
    *out = NULL;
    hdl_rpc_server *server = calloc(1, sizeof *server);
    if (!server)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    server->shutdown_tag.fn = on_shutdown;
    hdl_rpc_hold();
    server->n_methods = opts->n_methods;
    server->methods = calloc(opts->n_methods ? opts->n_methods : 1, sizeof *server->methods);
    if (!server->methods) {
        err = hdl_fail(HDL_NOMEM, why, "out of memory");
        goto fail;
    }
    if (opts->n_methods)
        memcpy(server->methods, opts->methods, opts->n_methods * sizeof *server->methods);

    grpc_arg args[16];
    grpc_channel_args channel_args = {.args = args};
    channel_args.num_args = rpc_channel_args(args, opts->message_bytes_max);
    grpc_server_credentials *creds;
    HDL_TRY_GOTO(rpc_server_creds(&creds, &server->certs, opts->address, opts->tls, why), fail);
    server->server = grpc_server_create(&channel_args, NULL);
    err = rpc_queue_start(&server->queue, "rpc-server", why);
    if (err == HDL_OK) {
        grpc_server_register_completion_queue(server->server, server->queue.cq, NULL);
        err = listen_on(server, opts->address, creds, why);
    }
    grpc_server_credentials_release(creds);
    if (err != HDL_OK)
        goto fail;
    grpc_server_start(server->server);
    server->started = true;
    for (int i = 0; i < CALLS_ARMED; i++)
        arm_call(server);
    *out = server;
    return HDL_OK;
fail:
    hdl_rpc_server_close(server, 0);
    return err;
}

/* True when all calls have ended within the time. */
static bool wait_down(hdl_rpc_server *server, uint64_t wait_us)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + wait_us % 1000000 * 1000;
    until.tv_sec += (time_t)(wait_us / 1000000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    pthread_mutex_lock(&server->lock);
    while (!server->down && pthread_cond_timedwait(&server->changed, &server->lock, &until) == 0)
        continue;
    bool down = server->down;
    pthread_mutex_unlock(&server->lock);
    return down;
}

/* The order is gRPC's: stop, grace, cancel, wait, destroy the server, then shut and drain the
 * queue. Any other leaves calls behind or crashes. */
void hdl_rpc_server_close(hdl_rpc_server *server, uint64_t grace_us)
{
    if (!server)
        return;
    HDL_ASSERT(hdl_thread_role() != HDL_ROLE_RPC);
    atomic_store(&server->stopping, true);
    if (server->server) {
        if (server->queue.cq) {
            rpc_tag_give(&server->shutdown_tag);
            grpc_server_shutdown_and_notify(server->server, server->queue.cq,
                                            &server->shutdown_tag);
        }
        if (server->started && !wait_down(server, grace_us)) {
            grpc_server_cancel_all_calls(server->server);
            while (!wait_down(server, 1000000))
                HDL_LOG(WARN, PROTO, "shutdown_waits", "what=calls");
        } else if (server->queue.thread.started && !server->started) {
            (void)wait_down(server, 5000000);
        }
        grpc_server_destroy(server->server);
    }
    rpc_queue_stop(&server->queue);
    rpc_certs_free(server->certs);
    free(server->methods);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
    hdl_rpc_unhold();
}

const char *hdl_rpc_server_address(const hdl_rpc_server *server) { return server->address; }
