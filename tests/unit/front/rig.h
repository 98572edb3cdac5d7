/* SPDX-License-Identifier: Apache-2.0 */
/* A front with a fake engine and the bundled model's tokenizer on a free port, and a client that
 * speaks in whole answers. Main thread of a test. */
#pragma once

#include "base/json.h"
#include "fake_engine.h"
#include "scheduler/front/front.h"

typedef struct rig {
    fake_engine *engine;
    hdl_tokenizer *tokenizer;
    hdl_template *chat;
    hdl_front_model model;
    hdl_front *front;
} rig;

/* opts.model is filled in; NULL: defaults. Fails the test when something cannot be opened. */
void rig_open(rig *r, const hdl_front_opts *opts);
void rig_close(rig *r);

/* One TCP connection. */
typedef struct client {
    int fd;
    hdl_buf in;  /* received, not yet looked at */
    bool closed; /* the server has ended the connection */
} client;

void client_open(client *c, const rig *r);
void client_close(client *c);
void client_send(client *c, const char *text, size_t len);
void client_puts(client *c, const char *text);
/* Reads once, waiting at most ten seconds; false: end of the connection. */
bool client_read(client *c);
/* Until text stands in what was received; false: the connection ended before. */
bool client_wait_for(client *c, const char *text);

typedef struct answer {
    int status; /* 0: the connection ended without an answer */
    char head[4096];
    hdl_buf body; /* of a stream: what the chunks carried */
} answer;

/* The next answer, chunks put together. */
void client_answer(client *c, answer *a);
void answer_free(answer *a);
/* Value of a header, "" when absent; valid until the next call. */
const char *answer_header(const answer *a, const char *name);

/* POST of a JSON body on a connection of its own. */
void rig_post(const rig *r, const char *path, const char *json, answer *a);
void rig_get(const rig *r, const char *path, answer *a);
