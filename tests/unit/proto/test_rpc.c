/* SPDX-License-Identifier: Apache-2.0 */
/* proto/rpc.h over real sockets: messages both ways, ends of every kind, shutdown in order. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <heddle/types.h>

#include "base/fs.h"
#include "base/ring.h"
#include "proto/rpc.h"

/* What callbacks saw, awaited by the test's thread. */
typedef struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t messages, closes, opens;
    char last[64];
    size_t last_len;
    hdl_err close_err;
    char close_text[128];
    hdl_rpc_stream *kept;
} seen;

static void seen_init(seen *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
}

static void seen_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)stream;
    seen *s = arg;
    pthread_mutex_lock(&s->lock);
    s->messages++;
    s->last_len = len;
    memcpy(s->last, bytes, hdl_min_size(len, sizeof s->last));
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void seen_close(void *arg, hdl_rpc_stream *stream, hdl_err err, const char *text)
{
    (void)stream;
    seen *s = arg;
    pthread_mutex_lock(&s->lock);
    s->closes++;
    s->close_err = err;
    snprintf(s->close_text, sizeof s->close_text, "%s", text);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void seen_open(void *arg, hdl_rpc_stream *stream)
{
    seen *s = arg;
    pthread_mutex_lock(&s->lock);
    s->opens++;
    if (!s->kept)
        s->kept = hdl_rpc_stream_keep(stream);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* Fails the test's run by its timeout when it never comes true. */
static void await(seen *s, const uint32_t *counter, uint32_t at_least)
{
    pthread_mutex_lock(&s->lock);
    while (*counter < at_least)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void echo_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    seen_message(arg, stream, bytes, len);
    assert_int_equal(hdl_rpc_send(stream, bytes, len), HDL_OK);
}

static void shout_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)arg;
    char text[64];
    size_t n = hdl_min_size(len, sizeof text);
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(((const char *)bytes)[i] - 32);
    assert_int_equal(hdl_rpc_send(stream, text, n), HDL_OK);
    hdl_rpc_finish(stream, HDL_OK, "");
}

static void refuse_message(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)arg;
    (void)bytes;
    (void)len;
    hdl_rpc_finish(stream, HDL_DENIED, "not you");
}

typedef struct fixture {
    seen server_seen, client_seen;
    hdl_rpc_server *server;
    hdl_rpc_client *client;
    hdl_errmsg why;
} fixture;

static void start(fixture *f, const char *address)
{
    seen_init(&f->server_seen);
    seen_init(&f->client_seen);
    const hdl_rpc_callbacks echo = {.on_open = seen_open,
                                    .on_message = echo_message,
                                    .on_close = seen_close,
                                    .arg = &f->server_seen};
    const hdl_rpc_method methods[] = {
        {.path = "/t.T/Echo", .kind = HDL_RPC_BIDI, .callbacks = echo},
        {.path = "/t.T/Shout", .kind = HDL_RPC_UNARY, .callbacks = {.on_message = shout_message}},
        {.path = "/t.T/Refuse", .kind = HDL_RPC_UNARY, .callbacks = {.on_message = refuse_message}},
    };
    const hdl_rpc_server_opts opts = {
        .address = address, .methods = methods, .n_methods = 3, .message_bytes_max = 1 << 20};
    assert_int_equal(hdl_rpc_server_open(&f->server, &opts, &f->why), HDL_OK);
    assert_int_equal(
        hdl_rpc_client_open(&f->client,
                            &(hdl_rpc_client_opts){.address = hdl_rpc_server_address(f->server)},
                            &f->why),
        HDL_OK);
}

static hdl_rpc_stream *open_echo(fixture *f)
{
    hdl_rpc_stream *stream;
    const hdl_rpc_callbacks callbacks = {
        .on_message = seen_message, .on_close = seen_close, .arg = &f->client_seen};
    assert_int_equal(hdl_rpc_stream_open(&stream, f->client, "/t.T/Echo", &callbacks), HDL_OK);
    return stream;
}

static void stop(fixture *f)
{
    hdl_rpc_client_close(f->client);
    hdl_rpc_server_close(f->server, 0);
    hdl_rpc_stream_drop(f->server_seen.kept); /* written by the server's thread, which has ended */
}

static void messages_cross_in_order(void **state)
{
    (void)state;
    fixture f;
    start(&f, "127.0.0.1:0");
    hdl_rpc_stream *stream = open_echo(&f);
    for (uint32_t i = 0; i < 200; i++) /* more than may be on the way: they queue */
        assert_int_equal(hdl_rpc_send(stream, &i, sizeof i), HDL_OK);
    await(&f.client_seen, &f.client_seen.messages, 200);
    uint32_t last;
    memcpy(&last, f.client_seen.last, sizeof last);
    assert_int_equal(last, 199);
    hdl_rpc_finish(stream, HDL_OK, "");
    await(&f.client_seen, &f.client_seen.closes, 1);
    assert_int_equal(f.client_seen.close_err, HDL_OK);
    assert_int_equal(hdl_rpc_send(stream, "x", 1), HDL_PEER);
    hdl_rpc_stream_drop(stream);
    stop(&f);
    assert_int_equal(f.server_seen.closes, 1);
    assert_int_equal(f.server_seen.close_err, HDL_OK);
}

static void unix_socket_and_empty_message(void **state)
{
    (void)state;
    fixture f;
    char dir[128], address[192];
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-rpc-", NULL), HDL_OK);
    snprintf(address, sizeof address, "unix:%s/s", dir);
    start(&f, address);
    assert_string_equal(hdl_rpc_server_address(f.server), address);
    hdl_rpc_stream *stream = open_echo(&f);
    assert_int_equal(hdl_rpc_send(stream, "", 0), HDL_OK);
    await(&f.client_seen, &f.client_seen.messages, 1);
    assert_int_equal(f.client_seen.last_len, 0);
    hdl_rpc_stream_drop(stream);
    stop(&f);
    assert_int_equal(hdl_fs_remove_tree(dir), HDL_OK);
}

static void simple_calls(void **state)
{
    (void)state;
    fixture f;
    void *reply;
    size_t len;
    start(&f, "127.0.0.1:0");
    hdl_rpc_request request = {
        .path = "/t.T/Shout", .bytes = "hello", .len = 5, .timeout_us = 5000000};
    assert_int_equal(hdl_rpc_call(f.client, &request, &reply, &len, &f.why), HDL_OK);
    assert_int_equal(len, 5);
    assert_memory_equal(reply, "HELLO", 5);
    free(reply);
    request.path = "/t.T/Refuse";
    assert_int_equal(hdl_rpc_call(f.client, &request, &reply, &len, &f.why), HDL_DENIED);
    assert_non_null(strstr(f.why.text, "not you"));
    request.path = "/t.T/Nothing";
    assert_int_equal(hdl_rpc_call(f.client, &request, &reply, &len, &f.why), HDL_UNSUPPORTED);
    stop(&f);
}

static void deadline_of_a_call(void **state)
{
    (void)state;
    hdl_rpc_client *client;
    hdl_errmsg why;
    void *reply;
    size_t len;
    /* Nobody listens there; the call waits for a server until its deadline. */
    const hdl_rpc_client_opts opts = {.address = "unix:/nonexistent/heddle.sock"};
    assert_int_equal(hdl_rpc_client_open(&client, &opts, &why), HDL_OK);
    const hdl_rpc_request request = {.path = "/t.T/Shout", .bytes = "", .timeout_us = 20000};
    assert_int_equal(hdl_rpc_call(client, &request, &reply, &len, &why), HDL_TIMEOUT);
    const hdl_rpc_request hasty = {
        .path = "/t.T/Shout", .bytes = "", .timeout_us = 600000000, .hasty = true};
    assert_int_equal(hdl_rpc_call(client, &hasty, &reply, &len, &why), HDL_PEER);
    hdl_rpc_client_close(client);
}

static void no_server_ends_the_stream(void **state)
{
    (void)state;
    hdl_rpc_client *client;
    hdl_errmsg why;
    seen s;
    seen_init(&s);
    const hdl_rpc_client_opts opts = {.address = "unix:/nonexistent/heddle.sock"};
    assert_int_equal(hdl_rpc_client_open(&client, &opts, &why), HDL_OK);
    hdl_rpc_stream *stream;
    const hdl_rpc_callbacks callbacks = {
        .on_message = seen_message, .on_close = seen_close, .arg = &s};
    assert_int_equal(hdl_rpc_stream_open(&stream, client, "/t.T/Echo", &callbacks), HDL_OK);
    await(&s, &s.closes, 1);
    assert_int_equal(s.close_err, HDL_PEER);
    hdl_rpc_stream_drop(stream);
    hdl_rpc_client_close(client);
}

static void cancel_is_seen_by_the_server(void **state)
{
    (void)state;
    fixture f;
    start(&f, "127.0.0.1:0");
    hdl_rpc_stream *stream = open_echo(&f);
    assert_int_equal(hdl_rpc_send(stream, "a", 1), HDL_OK);
    await(&f.client_seen, &f.client_seen.messages, 1);
    hdl_rpc_cancel(stream);
    await(&f.server_seen, &f.server_seen.closes, 1);
    assert_int_equal(f.server_seen.close_err, HDL_PEER);
    await(&f.client_seen, &f.client_seen.closes, 1);
    assert_int_equal(f.client_seen.close_err, HDL_CANCELLED);
    hdl_rpc_stream_drop(stream);
    stop(&f);
}

static void server_close_ends_streams(void **state)
{
    (void)state;
    fixture f;
    start(&f, "127.0.0.1:0");
    hdl_rpc_stream *stream = open_echo(&f);
    assert_int_equal(hdl_rpc_send(stream, "a", 1), HDL_OK);
    await(&f.server_seen, &f.server_seen.messages, 1);
    hdl_rpc_server_close(f.server, 0);
    f.server = NULL;
    assert_int_equal(f.server_seen.closes, 1);
    /* A stream kept beyond its server's end refuses, and nothing more. */
    assert_int_equal(hdl_rpc_send(f.server_seen.kept, "b", 1), HDL_PEER);
    await(&f.client_seen, &f.client_seen.closes, 1);
    hdl_rpc_stream_drop(stream);
    stop(&f);
}

static void server_finishes_with_a_status(void **state)
{
    (void)state;
    fixture f;
    start(&f, "127.0.0.1:0");
    hdl_rpc_stream *stream = open_echo(&f);
    await(&f.server_seen, &f.server_seen.opens, 1);
    assert_int_equal(hdl_rpc_send(f.server_seen.kept, "last", 4), HDL_OK);
    hdl_rpc_finish(f.server_seen.kept, HDL_BUSY, "come back later");
    await(&f.client_seen, &f.client_seen.closes, 1);
    assert_int_equal(f.client_seen.messages, 1);
    assert_int_equal(f.client_seen.close_err, HDL_BUSY);
    assert_string_equal(f.client_seen.close_text, "come back later");
    hdl_rpc_stream_drop(stream);
    stop(&f);
}

static void too_large_a_message_is_refused(void **state)
{
    (void)state;
    fixture f;
    start(&f, "127.0.0.1:0");
    hdl_rpc_stream *stream = open_echo(&f);
    size_t len = (1 << 20) + 1;
    char *bytes = calloc(1, len);
    assert_int_equal(hdl_rpc_send(stream, bytes, len), HDL_OK);
    await(&f.client_seen, &f.client_seen.closes, 1);
    assert_int_equal(f.client_seen.close_err, HDL_BUSY);
    assert_int_equal(f.server_seen.messages, 0);
    free(bytes);
    hdl_rpc_stream_drop(stream);
    stop(&f);
}

static void addresses(void **state)
{
    (void)state;
    fixture f;
    hdl_rpc_server *second;
    assert_true(hdl_rpc_address_is_local("unix:/run/heddle.sock"));
    assert_true(hdl_rpc_address_is_local("127.0.0.1:50"));
    assert_true(hdl_rpc_address_is_local("[::1]:50"));
    assert_false(hdl_rpc_address_is_local("0.0.0.0:50"));
    assert_false(hdl_rpc_address_is_local("[::]:50"));
    assert_false(hdl_rpc_address_is_local("10.0.0.1:50"));
    assert_false(hdl_rpc_address_is_local("127.evil.example:50"));
    start(&f, "127.0.0.1:0");
    hdl_rpc_server_opts opts = {.address = "0.0.0.0:0"};
    assert_int_equal(hdl_rpc_server_open(&second, &opts, &f.why), HDL_DENIED);
    assert_non_null(strstr(f.why.text, "rpc.tls_ca"));
    opts.address = hdl_rpc_server_address(f.server); /* no two daemons on one port */
    assert_int_equal(hdl_rpc_server_open(&second, &opts, &f.why), HDL_IO);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_cross_in_order),
        cmocka_unit_test(unix_socket_and_empty_message),
        cmocka_unit_test(simple_calls),
        cmocka_unit_test(deadline_of_a_call),
        cmocka_unit_test(no_server_ends_the_stream),
        cmocka_unit_test(cancel_is_seen_by_the_server),
        cmocka_unit_test(server_close_ends_streams),
        cmocka_unit_test(server_finishes_with_a_status),
        cmocka_unit_test(too_large_a_message_is_refused),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
