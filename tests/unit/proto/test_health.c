/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1: Check, Watch, names that we do not have. Requests are bytes as any client sends
 * them: field 1, the service's name. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/health.h"

static const unsigned char ours[] = "\x0a\x11heddle.v1.Control", other[] = "\x0a\x05other";

typedef struct fixture {
    hdl_health_service *health;
    hdl_rpc_server *server;
    hdl_rpc_client *client;
    hdl_errmsg why;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned char seen[8]; /* states that Watch sent */
    unsigned n_seen;
} fixture;

static void start(fixture *f)
{
    hdl_rpc_method methods[HDL_HEALTH_METHODS];
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    assert_int_equal(hdl_health_open(&f->health, "heddle.v1.Control"), HDL_OK);
    hdl_health_methods(f->health, methods);
    assert_int_equal(hdl_rpc_server_open(&f->server,
                                         &(hdl_rpc_server_opts){.address = "127.0.0.1:0",
                                                                .methods = methods,
                                                                .n_methods = HDL_HEALTH_METHODS},
                                         &f->why),
                     HDL_OK);
    assert_int_equal(
        hdl_rpc_client_open(&f->client,
                            &(hdl_rpc_client_opts){.address = hdl_rpc_server_address(f->server)},
                            &f->why),
        HDL_OK);
}

static void stop(fixture *f)
{
    hdl_rpc_client_close(f->client);
    hdl_rpc_server_close(f->server, 0);
    hdl_health_close(f->health);
}

/* The state of a reply: field 1 as a varint; absent means 0. */
static unsigned char state_of(const void *bytes, size_t len)
{
    const unsigned char *b = bytes;
    assert_true(len == 0 || (len == 2 && b[0] == 8));
    return len ? b[1] : 0;
}

static hdl_err check(fixture *f, const unsigned char *request, size_t len, unsigned char *out)
{
    void *reply;
    size_t reply_len;
    hdl_err err = hdl_rpc_call(f->client,
                               &(hdl_rpc_request){.path = "/grpc.health.v1.Health/Check",
                                                  .bytes = request,
                                                  .len = len,
                                                  .timeout_us = 10000000},
                               &reply, &reply_len, &f->why);
    if (err == HDL_OK)
        *out = state_of(reply, reply_len);
    free(reply);
    return err;
}

static void check_says_what_is(void **state)
{
    (void)state;
    fixture f;
    unsigned char health = 0;
    start(&f);
    assert_int_equal(check(&f, ours, 0, &health), HDL_OK);
    assert_int_equal(health, 2); /* NOT_SERVING */
    hdl_health_set(f.health, true);
    assert_int_equal(check(&f, ours, 0, &health), HDL_OK);
    assert_int_equal(health, 1); /* SERVING */
    assert_int_equal(check(&f, ours, sizeof ours - 1, &health), HDL_OK);
    assert_int_equal(health, 1);
    assert_int_equal(check(&f, other, sizeof other - 1, &health), HDL_NOTFOUND);
    assert_int_equal(check(&f, ours, 5, &health), HDL_INVALID); /* cut short */
    stop(&f);
}

static void on_state(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)stream;
    fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    assert_true(f->n_seen < sizeof f->seen);
    f->seen[f->n_seen++] = state_of(bytes, len);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static unsigned char await_state(fixture *f, unsigned nth)
{
    pthread_mutex_lock(&f->lock);
    while (f->n_seen <= nth)
        pthread_cond_wait(&f->changed, &f->lock);
    unsigned char out = f->seen[nth];
    pthread_mutex_unlock(&f->lock);
    return out;
}

static void watch(fixture *f, const unsigned char *request, size_t len)
{
    hdl_rpc_stream *stream;
    const hdl_rpc_callbacks callbacks = {.on_message = on_state, .arg = f};
    assert_int_equal(
        hdl_rpc_stream_open(&stream, f->client, "/grpc.health.v1.Health/Watch", &callbacks),
        HDL_OK);
    assert_int_equal(hdl_rpc_send(stream, request, len), HDL_OK);
    hdl_rpc_finish(stream, HDL_OK, "");
    hdl_rpc_stream_drop(stream);
}

static void watch_says_what_becomes(void **state)
{
    (void)state;
    fixture f;
    start(&f);
    watch(&f, ours, sizeof ours - 1);
    assert_int_equal(await_state(&f, 0), 2);
    hdl_health_set(f.health, true);
    assert_int_equal(await_state(&f, 1), 1);
    hdl_health_set(f.health, true); /* nothing new, nothing said */
    hdl_health_set(f.health, false);
    assert_int_equal(await_state(&f, 2), 2);
    watch(&f, other, sizeof other - 1);
    assert_int_equal(await_state(&f, 3), 3); /* SERVICE_UNKNOWN, and the stream stays */
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_says_what_is),
        cmocka_unit_test(watch_says_what_becomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
