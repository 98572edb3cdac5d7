/* SPDX-License-Identifier: Apache-2.0 */
/* Remote calls: messages of bytes over gRPC. What the bytes mean is the business of wire.h.
 *
 * A server answers methods by path; a client dials one address. Both give streams: one call with
 * messages in either direction. Each server and each client owns one thread (role RPC) on which
 * all callbacks of its streams run; callbacks never wait. Sending, finishing and cancelling are
 * callable from any thread, copy what they are given and never wait.
 *
 * Life of a stream: open, messages, one on_close, no callback afterwards. A stream's pointer is
 * valid until on_close returns; who needs it longer (another thread that sends) takes a reference
 * with hdl_rpc_stream_keep and drops it with hdl_rpc_stream_drop. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <heddle/err.h>

typedef struct hdl_rpc_server hdl_rpc_server;
typedef struct hdl_rpc_client hdl_rpc_client;
typedef struct hdl_rpc_stream hdl_rpc_stream;

/* Files of PEM text for TLS with certificates on both sides. All three, or none: then the address
 * must be a unix socket or loopback. Read again when a file changes: by a server at the next
 * handshake, by a client when it is opened. Borrowed for the life of the server or client. */
typedef struct hdl_rpc_tls {
    const char *ca, *cert, *key;
    const char *server_name; /* client: name in the server's certificate if not the dialled one */
} hdl_rpc_tls;

typedef struct hdl_rpc_callbacks {
    void (*on_open)(void *arg, hdl_rpc_stream *stream); /* server only, may be NULL */
    void (*on_message)(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len);
    /* err: HDL_OK when the call ended in good order. text is for logs, borrowed for the call. */
    void (*on_close)(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text);
    void *arg;
} hdl_rpc_callbacks;

typedef enum hdl_rpc_kind {
    HDL_RPC_UNARY, /* one message in; the handler sends one and finishes */
    HDL_RPC_PUSH,  /* one message in, any number out */
    HDL_RPC_BIDI   /* any number both ways; finished when the client has no more to say */
} hdl_rpc_kind;

typedef struct hdl_rpc_method {
    const char *path; /* "/heddle.v1.Control/Attach" */
    hdl_rpc_kind kind;
    hdl_rpc_callbacks callbacks;
} hdl_rpc_method;

typedef struct hdl_rpc_server_opts {
    const char *address; /* "unix:/path" or "HOST:PORT"; port 0: any free one */
    const hdl_rpc_tls *tls;
    const hdl_rpc_method *methods; /* copied */
    size_t n_methods;
    size_t message_bytes_max; /* of one received message; 0: HDL_RPC_MESSAGE_BYTES_MAX */
} hdl_rpc_server_opts;

/* Keeps gRPC's own threads alive between one client and the next; counted, optional. */
void hdl_rpc_hold(void);
void hdl_rpc_unhold(void);

/* Listens at once. Signals must be blocked before: gRPC starts threads of its own. */
hdl_err hdl_rpc_server_open(hdl_rpc_server **out, const hdl_rpc_server_opts *opts,
                            hdl_errmsg *why) HDL_MUST_CHECK;
/* Takes no new calls, gives running ones grace_us to end, cancels the rest, waits for their
 * on_close and ends the thread. Not from a callback. NULL is allowed. */
void hdl_rpc_server_close(hdl_rpc_server *server, uint64_t grace_us);
/* What a client dials: the address with the real port. */
const char *hdl_rpc_server_address(const hdl_rpc_server *server);

typedef struct hdl_rpc_client_opts {
    const char *address;
    const hdl_rpc_tls *tls;
    size_t message_bytes_max;
} hdl_rpc_client_opts;

/* Does not connect yet: a stream to a server that is not there ends with HDL_PEER. */
hdl_err hdl_rpc_client_open(hdl_rpc_client **out, const hdl_rpc_client_opts *opts,
                            hdl_errmsg *why) HDL_MUST_CHECK;
/* Cancels all streams, waits for their on_close, ends the thread. Not from a callback. */
void hdl_rpc_client_close(hdl_rpc_client *client);

/* Starts a bidirectional call. The caller gets a reference and drops it. */
hdl_err hdl_rpc_stream_open(hdl_rpc_stream **out, hdl_rpc_client *client, const char *path,
                            const hdl_rpc_callbacks *callbacks) HDL_MUST_CHECK;

/* One request, one answer (owned: free()); waits, at most timeout_us. Any thread but the rpc's. */
typedef struct hdl_rpc_request {
    const char *path;
    const void *bytes;
    size_t len;
    uint64_t timeout_us;
    bool hasty; /* HDL_PEER at once when there is no server; else the call waits for one */
} hdl_rpc_request;
hdl_err hdl_rpc_call(hdl_rpc_client *client, const hdl_rpc_request *request, void **reply,
                     size_t *reply_len, hdl_errmsg *why) HDL_MUST_CHECK;

/* The socket is written on the calling thread, which saves a wake-up; gRPC allocates meanwhile, so
 * a frozen thread (base/alloc.h) thaws around the call. HDL_PEER: the stream has ended. HDL_BUSY:
 * the other side does not read, the queue is full. */
hdl_err hdl_rpc_send(hdl_rpc_stream *stream, const void *bytes, size_t len) HDL_MUST_CHECK;
/* Ends this side in good order after what is queued. Server: with a status for the client. */
void hdl_rpc_finish(hdl_rpc_stream *stream, hdl_err err, const char *text);
/* Ends the call now. */
void hdl_rpc_cancel(hdl_rpc_stream *stream);

hdl_rpc_stream *hdl_rpc_stream_keep(hdl_rpc_stream *stream);
void hdl_rpc_stream_drop(hdl_rpc_stream *stream); /* NULL is allowed */
/* A word of the user's beside the stream, for callbacks. Rpc thread. */
void hdl_rpc_stream_set_user(hdl_rpc_stream *stream, void *user);
void *hdl_rpc_stream_user(const hdl_rpc_stream *stream);
/* "ipv4:127.0.0.1:41234" or the like, for logs; lives as long as the stream. */
const char *hdl_rpc_stream_peer(const hdl_rpc_stream *stream);

/* A unix socket or a loopback address: the only ones that may go without TLS. */
bool hdl_rpc_address_is_local(const char *address);
