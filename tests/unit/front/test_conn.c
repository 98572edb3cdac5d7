/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: deadlines, slow readers, clients that leave, pipelining, keys. No test measures
 * time: where a deadline must strike, the test waits for what it does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/metrics.h"
#include "rig.h"
#include "scheduler/front/http.h"
#include "scheduler/front/route.h"
#include "unit.h"

#define H "Host: x\r\n"

static const hdl_front_opts quick = {.header_timeout_us = 50000,
                                     .body_timeout_us = 50000,
                                     .idle_timeout_us = 50000,
                                     .write_timeout_us = 100000,
                                     .ping_us = 20000};

#define STREAM "{\"model\":\"fake\",\"prompt\":[500,501,502],\"max_tokens\":4000,\"stream\":true}"
#define WHOLE  "{\"model\":\"fake\",\"prompt\":[500,501,502],\"max_tokens\":4000}"

static void send_post(client *c, const char *json)
{
    char head[256];
    (void)snprintf(head, sizeof head,
                   "POST /v1/completions HTTP/1.1\r\n" H "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   strlen(json));
    client_puts(c, head);
    client_puts(c, json);
}

static void expect_408_and_close(client *c)
{
    answer a;
    client_answer(c, &a);
    assert_int_equal(a.status, 408);
    assert_string_equal(answer_header(&a, "connection"), "close");
    answer_free(&a);
    assert_false(client_read(c));
}

/* A byte now and then does not move the deadline of a head: the answer comes while the client still
 * sends. */
static void test_slowloris(void **state)
{
    (void)state;
    static const char head[] = "GET /version HTTP/1.1\r\nHost: x\r\nA: ";
    rig r;
    client c;
    rig_open(&r, &quick);
    client_open(&c, &r);
    client_send(&c, head, sizeof head - 1);
    char answered;
    do {
        client_send(&c, "a", 1);
        usleep(1000);
    } while (recv(c.fd, &answered, 1, MSG_PEEK | MSG_DONTWAIT) != 1);
    expect_408_and_close(&c);
    client_close(&c);
    rig_close(&r);
}

static void test_slow_body(void **state)
{
    (void)state;
    rig r;
    client c;
    rig_open(&r, &quick);
    client_open(&c, &r);
    client_puts(&c, "POST /v1/completions HTTP/1.1\r\n" H
                    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
    expect_408_and_close(&c);
    client_close(&c);
    rig_close(&r);
}

/* Nearly whole bodies of many clients: beyond some, the next is refused, and small ones go on. */
static void test_bodies_bounded(void **state)
{
    (void)state;
    enum { CLIENTS = 9, BODY = 200000 };
    static char part[BODY - 1];
    rig r;
    client c[CLIENTS];
    answer a;
    rig_open(&r, &(hdl_front_opts){.body_bytes_max = BODY});
    memset(part, ' ', sizeof part);
    for (int i = 0; i < CLIENTS; i++) {
        client_open(&c[i], &r);
        client_puts(&c[i], "POST /v1/completions HTTP/1.1\r\n" H
                           "Content-Type: application/json\r\nContent-Length: 200000\r\n"
                           "Expect: 100-continue\r\n\r\n");
        assert_true(client_wait_for(&c[i], "100 Continue\r\n\r\n"));
        hdl_buf_clear(&c[i].in);
        client_send(&c[i], part, sizeof part);
    }
    int n_refused = 0;
    for (char first; n_refused == 0; usleep(1000))
        for (int i = 0; i < CLIENTS; i++)
            n_refused += recv(c[i].fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    rig_post(&r, "/v1/completions", WHOLE, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    for (int i = 0; i < CLIENTS; i++)
        client_close(&c[i]);
    rig_close(&r);
}

static void test_idle(void **state)
{
    (void)state;
    rig r;
    client c;
    answer a;
    rig_open(&r, &quick);
    client_open(&c, &r); /* says nothing at all */
    assert_false(client_read(&c));
    client_close(&c);
    client_open(&c, &r); /* keeps the connection after an answer */
    client_puts(&c, "GET /version HTTP/1.1\r\n" H "\r\n");
    client_answer(&c, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    assert_false(client_read(&c));
    client_close(&c);
    rig_close(&r);
}

static void test_pings(void **state)
{
    (void)state;
    rig r;
    client c;
    rig_open(&r, &quick);
    fake_engine_allow(r.engine, 0);
    client_open(&c, &r);
    send_post(&c, STREAM);
    assert_true(client_wait_for(&c, "HTTP/1.1 200 OK\r\n"));
    assert_true(client_wait_for(&c, "\r\n: ping\n\n\r\n"));
    hdl_buf_clear(&c.in);
    assert_true(client_wait_for(&c, ": ping\n\n"));
    fake_engine_allow(r.engine, UINT32_MAX);
    assert_true(client_wait_for(&c, "data: [DONE]\n\n"));
    client_close(&c);
    rig_close(&r);
}

static void leave(bool stream, bool half)
{
    rig r;
    client c;
    rig_open(&r, NULL);
    fake_engine_allow(r.engine, 3);
    client_open(&c, &r);
    send_post(&c, stream ? STREAM : WHOLE);
    assert_true(fake_engine_wait_live(r.engine, 1));
    if (stream)
        assert_true(client_wait_for(&c, "data: {"));
    if (half)
        shutdown(c.fd, SHUT_WR);
    else
        client_close(&c);
    assert_true(fake_engine_wait_cancelled(r.engine, 1));
    assert_true(fake_engine_wait_live(r.engine, 0));
    if (half) {
        while (client_read(&c))
            continue;
        client_close(&c);
    }
    while (hdl_front_busy(r.front) > 0)
        usleep(1000);
    rig_close(&r);
}

static void test_leaving_cancels(void **state)
{
    (void)state;
    leave(true, false);
    leave(false, false);
    leave(true, true);
    leave(false, true);
}

/* A client that has said all it wants and closed its side still gets the answer that is ready. */
static void test_half_closed_get(void **state)
{
    (void)state;
    rig r;
    client c;
    answer a;
    rig_open(&r, NULL);
    client_open(&c, &r);
    client_puts(&c, "GET /version HTTP/1.1\r\n" H "\r\n");
    shutdown(c.fd, SHUT_WR);
    client_answer(&c, &a);
    assert_int_equal(a.status, 200);
    answer_free(&a);
    assert_false(client_read(&c));
    client_close(&c);
    rig_close(&r);
}

static void test_slow_reader(void **state)
{
    (void)state;
    rig r;
    client c;
    int small = 4096;
    uint64_t before = (uint64_t)hdl_metric_get(HDL_METRIC_SLOW_READERS, 0);
    hdl_front_opts opts = {.write_timeout_us = 3600 * HDL_SEC_US};
    rig_open(&r, &opts);
    client_open(&c, &r);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    /* About 25 MB of events, which nobody reads. No token before all choices are there: the first
     * ones would fit into the ring whole, end, and never be cancelled. */
    fake_engine_allow(r.engine, 0);
    send_post(&c, "{\"model\":\"fake\",\"prompt\":[500],\"max_tokens\":4000,\"stream\":true,"
                  "\"n\":16,\"logprobs\":1}");
    assert_true(fake_engine_wait_live(r.engine, 16));
    fake_engine_allow(r.engine, UINT32_MAX);
    assert_true(fake_engine_wait_cancelled(r.engine, 16));
    assert_int_equal(hdl_metric_get(HDL_METRIC_SLOW_READERS, 0), before + 1);
    client_close(&c);
    rig_close(&r);
}

static void test_write_timeout(void **state)
{
    (void)state;
    rig r;
    client c;
    int small = 4096;
    hdl_front_opts opts = {.write_timeout_us = 50000};
    int64_t before = hdl_metric_get(HDL_METRIC_SLOW_READERS, 0);
    rig_open(&r, &opts);
    client_open(&c, &r);
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    /* One answer, no stream: larger than any socket buffer, taken by nobody. */
    send_post(&c, "{\"model\":\"fake\",\"prompt\":[500],\"max_tokens\":4000,\"n\":16,"
                  "\"logprobs\":5}");
    while (hdl_metric_get(HDL_METRIC_SLOW_READERS, 0) == before)
        usleep(1000);
    client_close(&c);
    rig_close(&r);
}

static void test_pipelined(void **state)
{
    (void)state;
    rig r;
    client c;
    answer a;
    rig_open(&r, NULL);
    fake_engine_allow(r.engine, 0);
    client_open(&c, &r);
    send_post(&c, "{\"model\":\"fake\",\"prompt\":[500],\"max_tokens\":2,\"stream\":true}");
    for (int i = 0; i < 20; i++)
        client_puts(&c, "GET /version HTTP/1.1\r\n" H "\r\n");
    send_post(&c, "{\"model\":\"fake\",\"prompt\":[500],\"max_tokens\":2}");
    assert_true(fake_engine_wait_live(r.engine, 1));
    fake_engine_allow(r.engine, UINT32_MAX);
    client_answer(&c, &a);
    assert_non_null(strstr(hdl_buf_cstr(&a.body), "[DONE]"));
    answer_free(&a);
    for (int i = 0; i < 20; i++) {
        client_answer(&c, &a);
        assert_non_null(strstr(hdl_buf_cstr(&a.body), "\"version\""));
        answer_free(&a);
    }
    client_answer(&c, &a);
    assert_non_null(strstr(hdl_buf_cstr(&a.body), "\"text_completion\""));
    answer_free(&a);
    client_close(&c);
    rig_close(&r);
}

static void test_early_answers(void **state)
{
    (void)state;
    static const struct {
        const char *request;
        int status;
    } rows[] = {
        {"POST /nowhere HTTP/1.1\r\n" H "Content-Length: 1000000\r\n\r\n", 404},
        {"POST /v1/completions HTTP/1.1\r\n" H "Content-Type: text/plain\r\nContent-Length: "
         "10\r\nExpect: 100-continue\r\n\r\n",
         415},
        {"POST /v1/completions HTTP/1.1\r\n" H
         "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n",
         415},
        {"POST /v1/completions HTTP/1.1\r\n" H "Content-Type: application/json\r\n\r\n", 411},
        {"POST /v1/completions HTTP/1.1\r\n" H "Content-Length: 33554433\r\n\r\n", 413},
    };
    rig r;
    rig_open(&r, NULL);
    for (size_t i = 0; i < HDL_ARRAY_LEN(rows); i++) {
        client c;
        answer a;
        client_open(&c, &r);
        client_puts(&c, rows[i].request);
        client_answer(&c, &a);
        assert_int_equal(a.status, rows[i].status);
        if (i != 3) { /* that one has no body to come */
            assert_string_equal(answer_header(&a, "connection"), "close");
            assert_false(client_read(&c));
        }
        answer_free(&a);
        client_close(&c);
    }
    rig_close(&r);
}

/* A third one is turned away while both are in a request, and takes the place of an idle one. */
static void test_max_connections(void **state)
{
    (void)state;
    rig r;
    client a, b, c;
    answer ans;
    hdl_front_opts opts = {.max_connections = 2, .n_threads = 1};
    rig_open(&r, &opts);
    client_open(&a, &r);
    client_puts(&a, "GET /version HTTP/1.1\r\n");
    client_open(&b, &r);
    client_puts(&b, "GET /version HTTP/1.1\r\n");
    client_open(&c, &r);
    client_answer(&c, &ans);
    assert_int_equal(ans.status, 503);
    hdl_json *doc;
    assert_int_equal(
        hdl_json_parse((const char *)hdl_buf_data(&ans.body), ans.body.len, 0, &doc, NULL), HDL_OK);
    hdl_json_close(doc);
    answer_free(&ans);
    client_close(&c);
    client_puts(&a, H "\r\n");
    client_answer(&a, &ans);
    assert_int_equal(ans.status, 200);
    answer_free(&ans);
    client_open(&c, &r);
    client_puts(&c, "GET /livez HTTP/1.1\r\n" H "\r\n");
    client_answer(&c, &ans);
    assert_int_equal(ans.status, 200);
    answer_free(&ans);
    assert_false(client_read(&a));
    client_puts(&b, H "\r\n");
    client_answer(&b, &ans);
    assert_int_equal(ans.status, 200);
    answer_free(&ans);
    client_close(&c);
    client_close(&a);
    client_close(&b);
    rig_close(&r);
}

/* ---- keys ---- */

static int status_with(const rig *r, const hdl_route *route, const char *header)
{
    client c;
    answer a;
    char text[512];
    bool post = route->methods & HDL_HTTP_POST;
    (void)snprintf(text, sizeof text,
                   "%s %s%s HTTP/1.1\r\n" H "Content-Type: application/json\r\n"
                   "Content-Length: 2\r\n%s\r\n{}",
                   post ? "POST" : "GET", route->path, route->prefix ? "fake" : "", header);
    client_open(&c, r);
    client_puts(&c, text);
    client_answer(&c, &a);
    client_close(&c);
    answer_free(&a);
    return a.status;
}

/* Every row of the table, without a key, with a wrong one, with a right one in both places. */
static void test_keys_everywhere(void **state)
{
    (void)state;
    rig r;
    uint32_t n;
    char dir[128], path[160];
    hdl_errmsg why = {0};
    static const char file[] =
        "# keys\n\nalice:alice-secret-key\r\n bob-secret-key-2 \nalice:second-key-of-alice\n";
    assert_int_equal(hdl_fs_mkdtemp(dir, sizeof dir, "front", &why), HDL_OK);
    (void)snprintf(path, sizeof path, "%s/keys", dir);
    assert_int_equal(hdl_fs_write_atomic(path, (hdl_fs_bytes){file, sizeof file - 1}, &why),
                     HDL_OK);
    hdl_front_opts opts = {.api_key_file = path, .metrics_need_key = true};
    rig_open(&r, &opts);
    const hdl_route *routes = hdl_routes(&n);
    for (uint32_t i = 0; i < n; i++) {
        bool open = routes[i].auth == HDL_AUTH_PUBLIC;
        static const char *const wrong[] = {"",
                                            "Authorization: Bearer alice-secret-kez\r\n",
                                            "Authorization: Bearer \r\n",
                                            "Authorization: alice-secret-key\r\n",
                                            "Authorization: Basic alice-secret-key\r\n",
                                            "x-api-key: alice\r\n"};
        static const char *const right[] = {"Authorization: Bearer alice-secret-key\r\n",
                                            "authorization: bearer bob-secret-key-2\r\n",
                                            "X-API-Key: second-key-of-alice\r\n"};
        for (size_t w = 0; w < HDL_ARRAY_LEN(wrong); w++)
            if ((status_with(&r, &routes[i], wrong[w]) == 401) == open)
                fail_msg("%s with `%s`", routes[i].path, wrong[w]);
        for (size_t k = 0; k < HDL_ARRAY_LEN(right); k++)
            assert_int_not_equal(status_with(&r, &routes[i], right[k]), 401);
    }
    static const char fresh[] = "carol:carols-fresh-key\n";
    assert_int_equal(hdl_fs_write_atomic(path, (hdl_fs_bytes){fresh, sizeof fresh - 1}, &why),
                     HDL_OK);
    assert_int_equal(hdl_front_reload(r.front, &why), HDL_OK);
    assert_int_equal(status_with(&r, &routes[0], "x-api-key: alice-secret-key\r\n"), 401);
    assert_int_not_equal(status_with(&r, &routes[0], "x-api-key: carols-fresh-key\r\n"), 401);
    /* A file that cannot be used leaves what was there. */
    assert_int_equal(hdl_fs_write_atomic(path, (hdl_fs_bytes){"short\n", 6}, &why), HDL_OK);
    assert_int_equal(hdl_front_reload(r.front, &why), HDL_INVALID);
    assert_non_null(strstr(why.text, "line 1: the key is too short"));
    assert_int_not_equal(status_with(&r, &routes[0], "x-api-key: carols-fresh-key\r\n"), 401);
    rig_close(&r);
    assert_int_equal(hdl_fs_remove_tree(dir), HDL_OK);
}

static void test_close_under_load(void **state)
{
    (void)state;
    rig r;
    client c[20];
    hdl_front_opts opts = {.n_threads = 3};
    rig_open(&r, &opts);
    for (int i = 0; i < 20; i++) {
        client_open(&c[i], &r);
        send_post(&c[i], i % 2 ? STREAM : WHOLE);
    }
    assert_true(client_wait_for(&c[1], "data: {"));
    rig_close(&r);
    for (int i = 0; i < 20; i++)
        client_close(&c[i]);
}

/* A stop cuts nobody off without a word. */
static void test_stop_tells(void **state)
{
    (void)state;
    rig r;
    client stream, whole;
    answer a;
    rig_open(&r, NULL);
    fake_engine_allow(r.engine, 3);
    client_open(&stream, &r);
    send_post(&stream, STREAM);
    assert_true(client_wait_for(&stream, "data: {"));
    client_open(&whole, &r);
    send_post(&whole, WHOLE);
    assert_true(fake_engine_wait_live(r.engine, 2));
    hdl_front_stop(r.front);
    assert_true(fake_engine_wait_live(r.engine, 0));
    client_answer(&stream, &a);
    assert_non_null(strstr(hdl_buf_cstr(&a.body), "data: {\"error\":{\"message\":\"the service is "
                                                  "shutting down"));
    answer_free(&a);
    client_answer(&whole, &a);
    assert_int_equal(a.status, 503);
    answer_free(&a);
    client_close(&stream);
    client_close(&whole);
    rig_close(&r);
}

static void send_long(client *c, const char *path, size_t words)
{
    hdl_buf body;
    char head[256];
    hdl_buf_init(&body, 16 << 20);
    hdl_buf_puts(&body, "{\"model\":\"fake\",\"prompt\":\"");
    for (size_t i = 0; i < words; i++)
        hdl_buf_puts(&body, "word ");
    hdl_buf_puts(&body, "\"}");
    (void)snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\n" H "Content-Type: application/json\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   path, body.len);
    client_puts(c, head);
    client_send(c, (const char *)hdl_buf_data(&body), body.len);
    hdl_buf_deinit(&body);
}

/* Long texts go through the text thread: answered in order of each connection, dropped when their
 * client leaves, and ended when the front closes. */
static void test_long_texts(void **state)
{
    (void)state;
    enum { CLIENTS = 8, WORDS = 20000 };
    rig r;
    client c[CLIENTS];
    answer a;
    hdl_front_opts opts = {.n_threads = 2};
    rig_open(&r, &opts);
    for (int i = 0; i < CLIENTS; i++) {
        client_open(&c[i], &r);
        send_long(&c[i], i % 2 ? "/tokenize" : "/v1/completions", WORDS);
        client_puts(&c[i], "GET /version HTTP/1.1\r\n" H "\r\n");
        if (i % 4 >= 2)
            client_close(&c[i]);
    }
    for (int i = 0; i < CLIENTS; i++) {
        if (i % 4 >= 2)
            continue;
        client_answer(&c[i], &a);
        assert_int_equal(a.status, i % 2 ? 200 : 400);
        const char *part = i % 2 ? "{\"count\":" : "context_length_exceeded";
        assert_non_null(strstr(hdl_buf_cstr(&a.body), part));
        answer_free(&a);
        client_answer(&c[i], &a);
        assert_non_null(strstr(hdl_buf_cstr(&a.body), "\"version\""));
        answer_free(&a);
    }
    while (hdl_front_busy(r.front) > 0)
        usleep(1000);
    for (int i = 0; i < CLIENTS; i++)
        if (i % 4 < 2)
            send_long(&c[i], "/tokenize", 10 * WORDS);
    rig_close(&r);
    for (int i = 0; i < CLIENTS; i++)
        if (i % 4 < 2)
            client_close(&c[i]);
}

static void test_port_taken(void **state)
{
    (void)state;
    rig r;
    hdl_front *second = NULL;
    hdl_errmsg why = {0};
    rig_open(&r, NULL);
    hdl_front_opts opts = {.model = &r.model, .port = hdl_front_port(r.front)};
    assert_int_equal(hdl_front_open(&second, &opts, &why), HDL_IO);
    assert_non_null(strstr(why.text, "Address already in use"));
    assert_null(second);
    opts = (hdl_front_opts){.model = &r.model, .tls_cert = "x"};
    assert_int_equal(hdl_front_open(&second, &opts, &why), HDL_INVALID);
    opts = (hdl_front_opts){.model = &r.model, .host = "no.such.host.invalid"};
    assert_int_equal(hdl_front_open(&second, &opts, &why), HDL_INVALID);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slowloris),       cmocka_unit_test(test_slow_body),
        cmocka_unit_test(test_bodies_bounded),  cmocka_unit_test(test_idle),
        cmocka_unit_test(test_pings),           cmocka_unit_test(test_leaving_cancels),
        cmocka_unit_test(test_half_closed_get), cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_write_timeout),   cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_early_answers),   cmocka_unit_test(test_max_connections),
        cmocka_unit_test(test_keys_everywhere), cmocka_unit_test(test_close_under_load),
        cmocka_unit_test(test_stop_tells),      cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_port_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
