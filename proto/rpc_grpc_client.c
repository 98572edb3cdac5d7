/* SPDX-License-Identifier: Apache-2.0 */
/* The client's half of the gRPC wrapper: one channel, streams on it, and simple calls. */
#include "proto/rpc_grpc.h"

#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/assert.h"

struct hdl_rpc_client {
    grpc_channel *channel;
    rpc_queue queue;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    bool closing;
    uint32_t live_count;
    struct client_stream *live; /* list of streams that have not closed */
};

/* A stream in the list of its client, which cancels and awaits it at close. */
typedef struct client_stream {
    hdl_rpc_stream *stream;
    hdl_rpc_client *client;
    hdl_rpc_callbacks callbacks; /* the user's; the stream calls ours */
    struct client_stream *next, **link;
} client_stream;

static void wrap_message(void *arg, hdl_rpc_stream *s, const void *bytes, size_t len)
{
    client_stream *item = arg;
    if (item->callbacks.on_message)
        item->callbacks.on_message(item->callbacks.arg, s, bytes, len);
}

static void wrap_close(void *arg, hdl_rpc_stream *s, hdl_err err, const char *text)
{
    client_stream *item = arg;
    hdl_rpc_client *client = item->client;
    if (item->callbacks.on_close)
        item->callbacks.on_close(item->callbacks.arg, s, err, text);
    pthread_mutex_lock(&client->lock);
    *item->link = item->next;
    if (item->next)
        item->next->link = item->link;
    client->live_count--;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    free(item);
}

static void on_opened(rpc_tag *tag, bool ok)
{
    (void)ok; /* the close tag says how it went */
    rpc_stream_unref(HDL_CONTAINER_OF(tag, hdl_rpc_stream, open_tag));
}

static void on_status(rpc_tag *tag, bool ok)
{
    (void)ok; /* always true for this operation */
    hdl_rpc_stream *s = HDL_CONTAINER_OF(tag, hdl_rpc_stream, close_tag);
    s->close_seen = true;
    rpc_stream_maybe_closed(s);
    rpc_stream_unref(s);
}

hdl_err hdl_rpc_client_open(hdl_rpc_client **out, const hdl_rpc_client_opts *opts, hdl_errmsg *why)
{
    *out = NULL;
    hdl_rpc_client *client = calloc(1, sizeof *client);
    if (!client)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    pthread_mutex_init(&client->lock, NULL);
    pthread_cond_init(&client->changed, NULL);
    hdl_rpc_hold();
    grpc_channel_credentials *creds;
    hdl_err err = rpc_client_creds(&creds, opts->address, opts->tls, why);
    if (err != HDL_OK)
        goto fail;
    grpc_arg args[16];
    grpc_channel_args channel_args = {.args = args};
    channel_args.num_args = rpc_channel_args(args, opts->message_bytes_max);
    if (opts->tls && opts->tls->server_name && opts->tls->server_name[0]) {
        grpc_arg *arg = &args[channel_args.num_args++];
        *arg = (grpc_arg){.type = GRPC_ARG_STRING,
                          .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG};
        arg->value.string = (char *)(uintptr_t)opts->tls->server_name;
    }
    client->channel = grpc_channel_create(opts->address, creds, &channel_args);
    grpc_channel_credentials_release(creds);
    HDL_TRY_GOTO(rpc_queue_start(&client->queue, "rpc-client", why), fail);
    *out = client;
    return HDL_OK;
fail:
    hdl_rpc_client_close(client);
    return err;
}

void hdl_rpc_client_close(hdl_rpc_client *client)
{
    if (!client)
        return;
    HDL_ASSERT(hdl_thread_role() != HDL_ROLE_RPC);
    pthread_mutex_lock(&client->lock);
    client->closing = true;
    for (client_stream *item = client->live; item; item = item->next)
        hdl_rpc_cancel(item->stream);
    while (client->live_count > 0)
        pthread_cond_wait(&client->changed, &client->lock);
    pthread_mutex_unlock(&client->lock);
    if (client->channel)
        grpc_channel_destroy(client->channel);
    rpc_queue_stop(&client->queue);
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->lock);
    free(client);
    hdl_rpc_unhold();
}

/* False when the client is closing. */
static bool enlist(hdl_rpc_client *client, client_stream *item)
{
    pthread_mutex_lock(&client->lock);
    bool ok = !client->closing;
    if (ok) {
        item->next = client->live;
        item->link = &client->live;
        if (item->next)
            item->next->link = &item->next;
        client->live = item;
        client->live_count++;
    }
    pthread_mutex_unlock(&client->lock);
    return ok;
}

static grpc_call *create_call(hdl_rpc_client *client, grpc_completion_queue *cq, const char *path,
                              gpr_timespec deadline)
{
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, cq,
                                               method, NULL, deadline, NULL);
    grpc_slice_unref(method); /* the call has a reference of its own */
    return call;
}

hdl_err hdl_rpc_stream_open(hdl_rpc_stream **out, hdl_rpc_client *client, const char *path,
                            const hdl_rpc_callbacks *callbacks)
{
    *out = NULL;
    client_stream *item = calloc(1, sizeof *item);
    hdl_rpc_stream *s = rpc_stream_new(false);
    if (!item || !s) {
        free(item);
        hdl_rpc_stream_drop(s);
        return HDL_NOMEM;
    }
    *item = (client_stream){.stream = s, .client = client, .callbacks = *callbacks};
    s->callbacks =
        (hdl_rpc_callbacks){.on_message = wrap_message, .on_close = wrap_close, .arg = item};
    s->open_tag.fn = on_opened;
    s->close_tag.fn = on_status;
    s->call = create_call(client, client->queue.cq, path, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    s->peer = grpc_call_get_peer(s->call);
    if (!enlist(client, item)) {
        free(item);
        hdl_rpc_stream_drop(s);
        return HDL_CANCELLED;
    }
    grpc_op open[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                       {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    open[1].data.recv_initial_metadata.recv_initial_metadata = &s->initial_md;
    grpc_op close = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    close.data.recv_status_on_client.trailing_metadata = &s->trailing_md;
    close.data.recv_status_on_client.status = &s->status;
    close.data.recv_status_on_client.status_details = &s->status_text;
    /* The receive comes last: its completion may start the next one on the rpc thread. */
    s->md_sent = true;
    s->receiving = true;
    rpc_stream_batch(s, open, 2, &s->open_tag);
    rpc_stream_batch(s, &close, 1, &s->close_tag);
    rpc_stream_receive(s);
    *out = s;
    return HDL_OK;
}

/* Outputs of a simple call's one batch. */
typedef struct call_result {
    grpc_metadata_array initial_md, trailing_md;
    grpc_byte_buffer *sent, *received;
    grpc_status_code status;
    grpc_slice status_text;
    bool hasty;
} call_result;

static void run_call(grpc_call *call, grpc_completion_queue *cq, call_result *r)
{
    grpc_op ops[6] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_MESSAGE},           {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
    ops[0].flags = r->hasty ? 0 : GRPC_INITIAL_METADATA_WAIT_FOR_READY;
    ops[1].data.send_message.send_message = r->sent;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &r->initial_md;
    ops[4].data.recv_message.recv_message = &r->received;
    ops[5].data.recv_status_on_client.trailing_metadata = &r->trailing_md;
    ops[5].data.recv_status_on_client.status = &r->status;
    ops[5].data.recv_status_on_client.status_details = &r->status_text;
    HDL_ASSERT_EQ(grpc_call_start_batch(call, ops, 6, ops, NULL), GRPC_CALL_OK);
    grpc_completion_queue_pluck(cq, ops, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

static hdl_err take_reply(const call_result *r, void **reply, size_t *reply_len, hdl_errmsg *why)
{
    if (r->status != GRPC_STATUS_OK || !r->received) {
        hdl_err err = r->status == GRPC_STATUS_OK ? HDL_CORRUPT : rpc_err_of(r->status);
        char *text = grpc_slice_to_c_string(r->status_text);
        hdl_fail(err, why, "the call failed; %s", text[0] ? text : hdl_err_text(err));
        gpr_free(text);
        return err;
    }
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, r->received))
        return hdl_fail(HDL_CORRUPT, why, "the call's answer does not decompress");
    grpc_slice whole = grpc_byte_buffer_reader_readall(&reader);
    grpc_byte_buffer_reader_destroy(&reader);
    size_t len = GRPC_SLICE_LENGTH(whole);
    void *copy = malloc(len ? len : 1);
    if (copy && len)
        memcpy(copy, GRPC_SLICE_START_PTR(whole), len);
    grpc_slice_unref(whole);
    if (!copy)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    *reply = copy;
    *reply_len = len;
    return HDL_OK;
}

hdl_err hdl_rpc_call(hdl_rpc_client *client, const hdl_rpc_request *request, void **reply,
                     size_t *reply_len, hdl_errmsg *why)
{
    *reply = NULL;
    *reply_len = 0;
    grpc_completion_queue *cq = grpc_completion_queue_create_for_pluck(NULL);
    grpc_call *call = create_call(client, cq, request->path, rpc_deadline_in(request->timeout_us));
    call_result r = {.sent = rpc_bytes_from(request->bytes, request->len), .hasty = request->hasty};
    grpc_metadata_array_init(&r.initial_md);
    grpc_metadata_array_init(&r.trailing_md);
    run_call(call, cq, &r);
    hdl_err err = take_reply(&r, reply, reply_len, why);
    grpc_byte_buffer_destroy(r.sent);
    if (r.received)
        grpc_byte_buffer_destroy(r.received);
    grpc_slice_unref(r.status_text);
    grpc_metadata_array_destroy(&r.initial_md);
    grpc_metadata_array_destroy(&r.trailing_md);
    grpc_call_unref(call);
    grpc_completion_queue_shutdown(cq);
    grpc_completion_queue_destroy(cq);
    return err;
}
