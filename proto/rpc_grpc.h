/* SPDX-License-Identifier: Apache-2.0 */
/* Private to rpc_grpc*.c: what the stream, server and client halves of the gRPC wrapper share.
 *
 * Every operation given to gRPC carries an rpc_tag, embedded in the struct that it belongs to; the
 * completion queue's thread runs the tag's function. A stream is alive while a tag is outstanding
 * or somebody holds a reference. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "base/thread.h"
#include "proto/rpc.h"

enum {
    RPC_SEND_QUEUE = 256,    /* messages of a stream that wait for the one on its way */
    RPC_KEEPALIVE_MS = 5000, /* a half-dead peer is noticed after time + timeout */
    RPC_KEEPALIVE_TIMEOUT_MS = 2000,
};

typedef struct rpc_tag rpc_tag;
struct rpc_tag {
    void (*fn)(rpc_tag *tag, bool ok);
    atomic_bool given;
};

/* Before the tag is given to gRPC: what this thread has written is the queue's thread's to read.
 * gRPC orders it as well, but no tool sees into it. */
static inline void rpc_tag_give(rpc_tag *tag)
{
    atomic_store_explicit(&tag->given, true, memory_order_release);
}
static inline void rpc_tag_run(rpc_tag *tag, bool ok)
{
    (void)atomic_load_explicit(&tag->given, memory_order_acquire);
    tag->fn(tag, ok);
}

/* A completion queue and the one thread that serves it. */
typedef struct rpc_queue {
    grpc_completion_queue *cq;
    hdl_thread thread;
} rpc_queue;

struct hdl_rpc_stream {
    rpc_tag open_tag, recv_tag, send_tag, close_tag;
    grpc_call *call; /* owned */
    atomic_uint refs;
    bool is_server;
    hdl_rpc_kind kind;
    hdl_rpc_callbacks callbacks;
    void *user;
    char *peer; /* owned by gRPC's allocator */

    /* rpc thread only */
    grpc_byte_buffer *received;
    bool receiving, close_seen, closed;
    int cancelled; /* server: what gRPC says at the end */
    grpc_metadata_array initial_md, trailing_md;
    grpc_status_code status; /* client: what the server said */
    grpc_slice status_text;

    /* under lock: the sending side */
    pthread_mutex_t lock;
    grpc_byte_buffer *queue[RPC_SEND_QUEUE]; /* ring of what waits; owned */
    uint32_t queue_at, queue_count;
    grpc_byte_buffer *sending_bytes;
    bool sending, md_sent, finish_wanted, finish_sent, dead;
    hdl_err finish_err;
    grpc_slice finish_text;
};

hdl_rpc_stream *rpc_stream_new(bool is_server);
/* Outstanding tag or holder. The last unref frees. */
void rpc_stream_ref(hdl_rpc_stream *stream);
void rpc_stream_unref(hdl_rpc_stream *stream);
/* Starts a batch of operations that completes on tag; takes a reference for it. */
void rpc_stream_batch(hdl_rpc_stream *stream, const grpc_op *ops, size_t n_ops, rpc_tag *tag);
void rpc_stream_receive(hdl_rpc_stream *stream);
/* The close tag has come, or the last receive after it: tells the user once. */
void rpc_stream_maybe_closed(hdl_rpc_stream *stream);

hdl_err rpc_queue_start(rpc_queue *queue, const char *name, hdl_errmsg *why) HDL_MUST_CHECK;
/* When nothing can be posted any more. */
void rpc_queue_stop(rpc_queue *queue);

grpc_byte_buffer *rpc_bytes_from(const void *bytes, size_t len);
gpr_timespec rpc_deadline_in(uint64_t us);
hdl_err rpc_err_of(grpc_status_code status);
grpc_status_code rpc_status_of(hdl_err err);

/* Fills at most 12 channel arguments; returns how many. */
size_t rpc_channel_args(grpc_arg *args, size_t message_bytes_max);

/* Credentials of either side; tls may be NULL or empty, then only for local addresses. */
typedef struct rpc_certs rpc_certs; /* what the server's certificate fetcher looks at */
hdl_err rpc_server_creds(grpc_server_credentials **out, rpc_certs **certs, const char *address,
                         const hdl_rpc_tls *tls, hdl_errmsg *why) HDL_MUST_CHECK;
void rpc_certs_free(rpc_certs *certs);
hdl_err rpc_client_creds(grpc_channel_credentials **out, const char *address,
                         const hdl_rpc_tls *tls, hdl_errmsg *why) HDL_MUST_CHECK;
