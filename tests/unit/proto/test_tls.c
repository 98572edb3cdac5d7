/* SPDX-License-Identifier: Apache-2.0 */
/* TLS with certificates on both sides: who gets in, who does not, and certificates that change
 * while the server runs. The keys in certs/ guard nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <heddle/types.h>

#include "base/fs.h"
#include "proto/rpc.h"

#define CERTS HDL_SOURCE_DIR "/tests/unit/proto/certs/"

static const hdl_rpc_tls scheduler = {
    .ca = CERTS "ca.pem", .cert = CERTS "scheduler.pem", .key = CERTS "scheduler.key"};
static const hdl_rpc_tls worker = {
    .ca = CERTS "ca.pem", .cert = CERTS "worker.pem", .key = CERTS "worker.key"};
/* Signed by another authority, but trusts ours. */
static const hdl_rpc_tls stranger = {
    .ca = CERTS "ca.pem", .cert = CERTS "stranger.pem", .key = CERTS "stranger.key"};

static void echo(void *arg, hdl_rpc_stream *stream, const void *bytes, size_t len)
{
    (void)arg;
    assert_int_equal(hdl_rpc_send(stream, bytes, len), HDL_OK);
    hdl_rpc_finish(stream, HDL_OK, "");
}

static hdl_rpc_server *serve(const hdl_rpc_tls *tls)
{
    hdl_rpc_server *server;
    hdl_errmsg why = {0};
    const hdl_rpc_method method = {
        .path = "/t.T/Echo", .kind = HDL_RPC_UNARY, .callbacks = {.on_message = echo}};
    const hdl_rpc_server_opts opts = {
        .address = "127.0.0.1:0", .tls = tls, .methods = &method, .n_methods = 1};
    assert_int_equal(hdl_rpc_server_open(&server, &opts, &why), HDL_OK);
    return server;
}

/* One call by a client with these files; a handshake that fails never gets through. */
static hdl_err call(const hdl_rpc_server *server, const hdl_rpc_tls *tls, uint64_t timeout_us)
{
    hdl_rpc_client *client;
    hdl_errmsg why = {0};
    void *reply;
    size_t len;
    const hdl_rpc_client_opts opts = {.address = hdl_rpc_server_address(server), .tls = tls};
    assert_int_equal(hdl_rpc_client_open(&client, &opts, &why), HDL_OK);
    const hdl_rpc_request request = {
        .path = "/t.T/Echo", .bytes = "hello", .len = 5, .timeout_us = timeout_us};
    hdl_err err = hdl_rpc_call(client, &request, &reply, &len, &why);
    if (err == HDL_OK)
        assert_memory_equal(reply, "hello", 5);
    free(reply);
    hdl_rpc_client_close(client);
    return err;
}

enum { LONG_US = 20000000, SHORT_US = 300000 };

static void peers_of_one_authority_meet(void **state)
{
    (void)state;
    hdl_rpc_server *server = serve(&scheduler);
    assert_int_equal(call(server, &worker, LONG_US), HDL_OK);
    hdl_rpc_tls named = worker; /* the name in the certificate instead of the address */
    named.server_name = "scheduler.heddle.test";
    assert_int_equal(call(server, &named, LONG_US), HDL_OK);
    hdl_rpc_server_close(server, 0);
}

static void others_stay_outside(void **state)
{
    (void)state;
    hdl_rpc_server *server = serve(&scheduler);
    assert_int_not_equal(call(server, NULL, SHORT_US), HDL_OK); /* in plain text */
    assert_int_not_equal(call(server, &stranger, SHORT_US), HDL_OK);
    hdl_rpc_tls named = worker;
    named.server_name = "somebody.else.test";
    assert_int_not_equal(call(server, &named, SHORT_US), HDL_OK);
    assert_int_equal(call(server, &worker, LONG_US), HDL_OK); /* and it still serves */
    hdl_rpc_server_close(server, 0);
    server = serve(&stranger); /* a false scheduler */
    assert_int_not_equal(call(server, &worker, SHORT_US), HDL_OK);
    hdl_rpc_server_close(server, 0);
}

static void copy(const char *from, const char *to)
{
    char *text;
    size_t len;
    assert_int_equal(hdl_fs_read(from, 1 << 20, &text, &len, NULL), HDL_OK);
    assert_int_equal(hdl_fs_write_atomic(to, (hdl_fs_bytes){.data = text, .len = len}, NULL),
                     HDL_OK);
    free(text);
}

static void certificates_change_while_it_runs(void **state)
{
    (void)state;
    char dir[128], cert[160], key[160];
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof dir, "heddle-tls-", NULL), HDL_OK);
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    copy(stranger.cert, cert);
    copy(stranger.key, key);
    const hdl_rpc_tls files = {.ca = scheduler.ca, .cert = cert, .key = key};
    hdl_rpc_server *server = serve(&files);
    assert_int_not_equal(call(server, &worker, SHORT_US), HDL_OK);
    copy(scheduler.cert, cert);
    copy(scheduler.key, key);
    assert_int_equal(call(server, &worker, LONG_US), HDL_OK);
    assert_int_equal(hdl_fs_write_atomic(cert, (hdl_fs_bytes){.data = "no", .len = 2}, NULL),
                     HDL_OK); /* a broken file leaves the old one in use */
    assert_int_equal(call(server, &worker, LONG_US), HDL_OK);
    hdl_rpc_server_close(server, 0);
    assert_int_equal(hdl_fs_remove_tree(dir), HDL_OK);
}

static void half_a_configuration_is_refused(void **state)
{
    (void)state;
    hdl_rpc_server *server;
    hdl_errmsg why = {0};
    hdl_rpc_tls tls = {.ca = scheduler.ca, .cert = scheduler.cert};
    hdl_rpc_server_opts opts = {.address = "127.0.0.1:0", .tls = &tls};
    assert_int_equal(hdl_rpc_server_open(&server, &opts, &why), HDL_INVALID);
    assert_non_null(strstr(why.text, "rpc.tls_key"));
    tls.key = "/nonexistent/key.pem";
    assert_int_equal(hdl_rpc_server_open(&server, &opts, &why), HDL_NOTFOUND);
    assert_non_null(strstr(why.text, "/nonexistent/key.pem"));
    hdl_rpc_client *client;
    const hdl_rpc_client_opts bare = {.address = "scheduler.example:7070"};
    assert_int_equal(hdl_rpc_client_open(&client, &bare, &why), HDL_DENIED);
    assert_non_null(strstr(why.text, "rpc.tls_ca"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peers_of_one_authority_meet),
        cmocka_unit_test(others_stay_outside),
        cmocka_unit_test(certificates_change_while_it_runs),
        cmocka_unit_test(half_a_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
