/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP client for talking to a heddle (or any OpenAI-compatible) server: plain requests and
 * server-sent events. The only file with libcurl is http_client.c. One thread per client. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include <heddle/err.h>

#include "base/buf.h"

typedef struct hdl_client hdl_client;

typedef struct hdl_client_opts {
    const char *base_url;      /* "http://127.0.0.1:8080" */
    const char *api_key;       /* NULL: none */
    const atomic_bool *cancel; /* borrowed; set from anywhere (a signal too) to end a request */
    bool is_own_server;        /* our own child: its certificate need not name this address */
} hdl_client_opts;

hdl_err hdl_client_open(hdl_client **out, const hdl_client_opts *opts,
                        hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_client_close(hdl_client *client);

/* One event's data, NUL-terminated; returning false ends the stream. */
typedef bool hdl_client_event_fn(void *arg, const char *data, size_t len);

typedef struct hdl_client_request {
    const char *path;              /* "/v1/models" */
    const char *body;              /* JSON; NULL: GET */
    hdl_client_event_fn *on_event; /* NULL: the whole answer goes to `answer` */
    void *arg;
    hdl_buf *answer; /* caller's; also gets the body of an error */
    long timeout_s;  /* of the whole exchange; 0: none */
} hdl_client_request;

/* *status is the HTTP status. PEER: no connection; CANCELLED: by opts.cancel or by on_event. */
hdl_err hdl_client_send(hdl_client *client, const hdl_client_request *request, long *status,
                        hdl_errmsg *why) HDL_MUST_CHECK;
