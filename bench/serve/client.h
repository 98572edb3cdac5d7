/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/1.1 connection that streams completions: sends a request, reads server-sent events,
 * notes when text came. Reused for the next request where the server keeps it open.
 *
 * Owner: the loop's thread. Bytes are read as soon as the loop says so; the time of a piece is
 * taken right before its read. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "bench/serve/load.h"

typedef struct hdl_load_conn hdl_load_conn;

/* What the runner gives to a connection for one request. */
typedef struct hdl_load_job {
    const hdl_load_item *item;
    hdl_load_result *result;
    size_t idx;
} hdl_load_job;

/* What connections share; the runner's. */
typedef struct hdl_load_shared {
    hdl_loop *loop;
    const hdl_load_target *target;
    const struct sockaddr *address;
    unsigned address_len;
    uint64_t start_us;                                      /* of the run, on the clock */
    void (*on_text)(void *arg, size_t idx, uint64_t at_us); /* a piece of text came */
    void (*on_end)(void *arg, hdl_load_conn *c);            /* result is complete; c is free */
    void *arg;
} hdl_load_shared;

struct hdl_load_conn {
    hdl_watch watch; /* fd -1: closed */
    hdl_timer timeout;
    const hdl_load_shared *shared;
    hdl_load_job job;
    int state; /* of client.c */
    hdl_buf out, in, line;
    bool chunked, keep;
    int status;
    uint64_t event_us;   /* first event of the answer; 0: none yet */
    int64_t left;        /* of the chunk or of the body; -1: until the end of the connection */
    hdl_load_conn *next; /* in the runner's list of free ones */
};

void hdl_load_conn_init(hdl_load_conn *c, const hdl_load_shared *shared);
/* Ends with on_end, never before this returns. */
void hdl_load_conn_start(hdl_load_conn *c, hdl_load_job job);
void hdl_load_conn_deinit(hdl_load_conn *c);
