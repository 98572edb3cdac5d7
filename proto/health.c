/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/health.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "proto/wire.h"

enum { WATCHERS_MAX = 64 };

struct hdl_health_service {
    const char *service;
    pthread_mutex_t lock;
    bool serving;
    struct {
        hdl_rpc_stream *stream; /* pinned until its close */
        bool known;             /* asked for a name that we have */
    } watchers[WATCHERS_MAX];
};

hdl_err hdl_health_open(hdl_health_service **out, const char *service)
{
    hdl_health_service *health = calloc(1, sizeof *health);
    *out = health;
    if (!health)
        return HDL_NOMEM;
    health->service = service;
    pthread_mutex_init(&health->lock, NULL);
    return HDL_OK;
}

void hdl_health_close(hdl_health_service *health)
{
    if (!health)
        return;
    pthread_mutex_destroy(&health->lock);
    free(health);
}

static void send_health(hdl_rpc_stream *stream, hdl_health state)
{
    unsigned char mem[64];
    hdl_wire_encoder encoder = {.mem = mem, .size = sizeof mem};
    hdl_wire_bytes bytes;
    if (hdl_wire_encode_health(&encoder, state, &bytes) != HDL_OK ||
        hdl_rpc_send(stream, bytes.data, bytes.len) != HDL_OK)
        hdl_rpc_cancel(stream);
}

static hdl_err read_service(const hdl_health_service *health, hdl_wire_bytes bytes, bool *known)
{
    unsigned char mem[4096];
    hdl_arena arena;
    char name[HDL_WIRE_NAME_BYTES];
    hdl_arena_init(&arena, mem, sizeof mem);
    hdl_err err = hdl_wire_decode_health(bytes, &arena, name);
    *known = err == HDL_OK && (name[0] == '\0' || strcmp(name, health->service) == 0);
    return err == HDL_NOTFOUND ? HDL_OK : err;
}

static hdl_health state_of(const hdl_health_service *health)
{
    return health->serving ? HDL_HEALTH_SERVING : HDL_HEALTH_NOT_SERVING;
}

static void on_check(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_health_service *health = arg;
    bool known;
    hdl_err err = read_service(health, (hdl_wire_bytes){bytes, len}, &known);
    if (err != HDL_OK || !known) {
        hdl_rpc_finish(stream, err != HDL_OK ? HDL_INVALID : HDL_NOTFOUND, "no such service");
        return;
    }
    pthread_mutex_lock(&health->lock);
    hdl_health state = state_of(health);
    pthread_mutex_unlock(&health->lock);
    send_health(stream, state);
    hdl_rpc_finish(stream, HDL_OK, "");
}

/* An unknown name is no error of Watch: it says so and stays, in case the name appears. */
static void on_watch(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    hdl_health_service *health = arg;
    bool known;
    if (read_service(health, (hdl_wire_bytes){bytes, len}, &known) != HDL_OK) {
        hdl_rpc_finish(stream, HDL_INVALID, "not a health request");
        return;
    }
    bool taken = false;
    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; i < WATCHERS_MAX && !taken; i++) {
        if (health->watchers[i].stream)
            continue;
        health->watchers[i].stream = hdl_rpc_stream_keep(stream);
        health->watchers[i].known = known;
        taken = true;
    }
    if (taken)
        send_health(stream, known ? state_of(health) : HDL_HEALTH_SERVICE_UNKNOWN);
    pthread_mutex_unlock(&health->lock);
    if (!taken)
        hdl_rpc_finish(stream, HDL_BUSY, "too many watchers");
}

static void on_watch_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)err;
    (void)text;
    hdl_health_service *health = arg;
    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; i < WATCHERS_MAX; i++) {
        if (health->watchers[i].stream != stream)
            continue;
        hdl_rpc_stream_drop(stream);
        health->watchers[i].stream = NULL;
    }
    pthread_mutex_unlock(&health->lock);
}

void hdl_health_methods(hdl_health_service *health, hdl_rpc_method methods[HDL_HEALTH_METHODS])
{
    methods[0] = (hdl_rpc_method){.path = "/grpc.health.v1.Health/Check",
                                  .kind = HDL_RPC_UNARY,
                                  .callbacks = {.on_message = on_check, .arg = health}};
    methods[1] = (hdl_rpc_method){
        .path = "/grpc.health.v1.Health/Watch",
        .kind = HDL_RPC_PUSH,
        .callbacks = {.on_message = on_watch, .on_close = on_watch_close, .arg = health}};
}

void hdl_health_set(hdl_health_service *health, bool serving)
{
    pthread_mutex_lock(&health->lock);
    bool changed = health->serving != serving;
    health->serving = serving;
    for (size_t i = 0; changed && i < WATCHERS_MAX; i++)
        if (health->watchers[i].stream && health->watchers[i].known)
            send_health(health->watchers[i].stream, state_of(health));
    pthread_mutex_unlock(&health->lock);
}
