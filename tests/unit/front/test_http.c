/* SPDX-License-Identifier: Apache-2.0 */
/* Framing: what must be refused is, with its status, whole and byte by byte; what must be taken is,
 * and nothing behind it is touched. */
#include "scheduler/front/http.h"

#include "unit.h"
#include <stdlib.h>
#include <string.h>

#define H "Host: x\r\n"
#define G "GET / HTTP/1.1\r\n" H
#define P "POST /p HTTP/1.1\r\n" H

enum { BODY_MAX = 1000 };

static const struct {
    const char *name;
    int status;
    size_t len; /* 0: strlen */
    const char *bytes;
} refused[] = {
    {"Content-Length with Transfer-Encoding", 400, 0,
     P "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"Transfer-Encoding with Content-Length", 400, 0,
     P "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
    {"two different Content-Length", 400, 0, P "Content-Length: 3\r\nContent-Length: 4\r\n\r\n"},
    {"the same Content-Length twice", 400, 0, P "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"},
    {"a list of lengths", 400, 0, P "Content-Length: 3, 3\r\n\r\n"},
    {"length with a plus", 400, 0, P "Content-Length: +7\r\n\r\n"},
    {"length below zero", 400, 0, P "Content-Length: -1\r\n\r\n"},
    {"length in hexadecimal", 400, 0, P "Content-Length: 0x7\r\n\r\n"},
    {"length with a blank inside", 400, 0, P "Content-Length: 1 0\r\n\r\n"},
    {"empty length", 400, 0, P "Content-Length: \r\n\r\n"},
    {"length of 2^64", 400, 0, P "Content-Length: 18446744073709551616\r\n\r\n"},
    {"length beyond the limit", 413, 0, P "Content-Length: 1001\r\n\r\n"},
    {"Transfer-Encoding: xchunked", 400, 0, P "Transfer-Encoding: xchunked\r\n\r\n"},
    {"Transfer-Encoding: gzip, chunked", 400, 0, P "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {"Transfer-Encoding: identity", 400, 0, P "Transfer-Encoding: identity\r\n\r\n"},
    {"chunked twice", 400, 0, P "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {"chunked in HTTP/1.0", 400, 0,
     "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"chunk size 0x7", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n0x7\r\n"},
    {"chunk size with a sign", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n+7\r\n"},
    {"chunk size with a blank", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n7 \r\n"},
    {"chunk size empty", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n\r\n"},
    {"chunk size of nine digits", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n000000001\r\n"},
    {"chunk extension", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n"},
    {"chunk size line ends in LF", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n"},
    {"chunk longer than its size", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"},
    {"chunk ends in LF", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"},
    {"trailer", 400, 0, P "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n"},
    {"chunks beyond the limit", 413, 0, P "Transfer-Encoding: chunked\r\n\r\n3e9\r\n"},
    {"blank before the colon", 400, 0, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"},
    {"blank in a name", 400, 0, G "A b: c\r\n\r\n"},
    {"no colon", 400, 0, G "Abc\r\n\r\n"},
    {"empty name", 400, 0, G ": c\r\n\r\n"},
    {"NUL in a value", 400, sizeof(G "A: b\0c\r\n\r\n") - 1, G "A: b\0c\r\n\r\n"},
    {"NUL in a name", 400, sizeof(G "A\0b: c\r\n\r\n") - 1, G "A\0b: c\r\n\r\n"},
    {"control byte in a value", 400, 0, G "A: b\x01\r\n\r\n"},
    {"DEL in a value", 400, 0, G "A: b\x7f\r\n\r\n"},
    {"bare LF after the request line", 400, 0, "GET / HTTP/1.1\nHost: x\r\n\r\n"},
    {"bare LF after a header", 400, 0, "GET / HTTP/1.1\r\nHost: x\n\r\n"},
    {"bare LF for the empty line", 400, 0, G "\n"},
    {"CR alone", 400, 0, G "A: b\rc\r\n\r\n"},
    {"CR CR LF", 400, 0, G "A: b\r\r\n\r\n"},
    {"folded header", 400, 0, G "A: b\r\n c\r\n\r\n"},
    {"folded by a tab", 400, 0, G "A: b\r\n\tc\r\n\r\n"},
    {"first header line starts with a blank", 400, 0, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"},
    {"no Host", 400, 0, "GET / HTTP/1.1\r\n\r\n"},
    {"two Hosts", 400, 0, G "Host: y\r\n\r\n"},
    {"two Authorizations", 400, 0, G "Authorization: a\r\nAuthorization: b\r\n\r\n"},
    {"empty first line", 400, 0, "\r\n" G "\r\n"},
    {"no version", 400, 0, "GET /\r\n" H "\r\n"},
    {"HTTP/0.9", 505, 0, "GET / HTTP/0.9\r\n" H "\r\n"},
    {"HTTP/2.0", 505, 0, "GET / HTTP/2.0\r\n" H "\r\n"},
    {"HTTP/1.2", 505, 0, "GET / HTTP/1.2\r\n" H "\r\n"},
    {"http/1.1", 400, 0, "GET / http/1.1\r\n" H "\r\n"},
    {"two blanks in the request line", 400, 0, "GET  / HTTP/1.1\r\n" H "\r\n"},
    {"blank in the target", 400, 0, "GET /a b HTTP/1.1\r\n" H "\r\n"},
    {"tab in the request line", 400, 0, "GET\t/ HTTP/1.1\r\n" H "\r\n"},
    {"byte above ASCII in the target", 400, 0, "GET /\xe9 HTTP/1.1\r\n" H "\r\n"},
    {"target without a slash", 400, 0, "GET a HTTP/1.1\r\n" H "\r\n"},
    {"fragment", 400, 0, "GET /a#b HTTP/1.1\r\n" H "\r\n"},
    {"CONNECT", 400, 0, "CONNECT x:1 HTTP/1.1\r\n" H "\r\n"},
    {"unknown method", 501, 0, "GRAB / HTTP/1.1\r\n" H "\r\n"},
    {"method in lower case", 501, 0, "get / HTTP/1.1\r\n" H "\r\n"},
    {"method with a bad character", 400, 0, "G(T / HTTP/1.1\r\n" H "\r\n"},
    {"another expectation", 417, 0, P "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"},
    {"HTTP/2 preface", 505, 0, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {"TLS on the plain port", 400, 0, "\x16\x03\x01\x02\r\n\r\n"},
};

static void check_refused(const char *name, const char *bytes, size_t len, int status, size_t step)
{
    hdl_http http;
    hdl_http_init(&http, BODY_MAX);
    for (size_t at = 0; at < len && http.state != HDL_HTTP_ST_REFUSED; at += step)
        (void)hdl_http_feed(&http, bytes + at, at + step < len ? step : len - at);
    if (http.state != HDL_HTTP_ST_REFUSED || http.status != status)
        fail_msg("%s (%zu bytes at a time): state %d, status %d instead of %d", name, step,
                 (int)http.state, http.status, status);
    assert_non_null(http.reason);
    assert_string_not_equal(hdl_http_status_text(http.status), "Unknown");
    assert_int_equal(hdl_http_feed(&http, "GET", 3), 0);
    hdl_http_deinit(&http);
}

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < HDL_ARRAY_LEN(refused); i++) {
        size_t len = refused[i].len ? refused[i].len : strlen(refused[i].bytes);
        check_refused(refused[i].name, refused[i].bytes, len, refused[i].status, len);
        check_refused(refused[i].name, refused[i].bytes, len, refused[i].status, 1);
    }
}

static char *filled(const char *before, size_t n, const char *after, size_t *len)
{
    *len = strlen(before) + n + strlen(after);
    char *text = malloc(*len + 1);
    assert_non_null(text);
    strcpy(text, before);
    memset(text + strlen(before), 'a', n);
    strcpy(text + strlen(before) + n, after);
    return text;
}

static void test_limits(void **state)
{
    (void)state;
    size_t len;
    char *text = filled("GET /", HDL_HTTP_LINE_BYTES_MAX, " HTTP/1.1\r\n" H "\r\n", &len);
    check_refused("long request line", text, len, 414, len);
    free(text);
    text = filled(G "A: ", HDL_HTTP_LINE_BYTES_MAX, "\r\n\r\n", &len);
    check_refused("long header line", text, len, 431, len);
    free(text);
    hdl_buf many;
    hdl_buf_init(&many, 1 << 20);
    hdl_buf_puts(&many, G);
    for (int i = 0; i < HDL_HTTP_HEADERS_MAX; i++)
        hdl_buf_puts(&many, "A: b\r\n");
    hdl_buf_puts(&many, "\r\n");
    check_refused("many headers", (const char *)hdl_buf_data(&many), many.len, 431, many.len);
    hdl_buf_clear(&many);
    hdl_buf_puts(&many, G);
    while (many.len < HDL_HTTP_HEADER_BYTES_MAX + 10)
        hdl_buf_printf(&many, "A: %01000d\r\n", 1);
    check_refused("long head", (const char *)hdl_buf_data(&many), many.len, 431, 999);
    hdl_buf_clear(&many);
    hdl_buf_puts(&many, P "Transfer-Encoding: chunked\r\n\r\n");
    size_t head = many.len;
    while (many.len < head + 6 * (BODY_MAX + 1))
        hdl_buf_puts(&many, "1\r\na\r\n");
    check_refused("many small chunks", (const char *)hdl_buf_data(&many), many.len, 413, 7);
    hdl_buf_deinit(&many);
}

static void take(hdl_http *http, const char *bytes, size_t step)
{
    size_t len = strlen(bytes), at = 0;
    hdl_http_init(http, BODY_MAX);
    while (at < len && http->state != HDL_HTTP_ST_DONE) {
        size_t n = at + step < len ? step : len - at;
        size_t used = hdl_http_feed(http, bytes + at, n);
        if (http->state == HDL_HTTP_ST_REFUSED)
            fail_msg("%s: refused: %s", bytes, http->reason);
        assert_true(used == n || http->state == HDL_HTTP_ST_DONE);
        at += used;
    }
    assert_int_equal(http->state, HDL_HTTP_ST_DONE);
    assert_string_equal(bytes + at, "NEXT");
}

static void assert_text(hdl_http_text text, const char *want)
{
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.at, want, text.len);
}

static void test_taken(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 3, 100000};
    for (size_t i = 0; i < HDL_ARRAY_LEN(steps); i++) {
        hdl_http http;
        take(&http, "GET /a/b?c=d HTTP/1.1\r\nhost:x\r\nX-API-Key: \t k k \t\r\n\r\nNEXT",
             steps[i]);
        assert_int_equal(http.req.method, HDL_HTTP_GET);
        assert_text(http.req.path, "/a/b");
        assert_text(http.req.target, "/a/b?c=d");
        assert_text(http.req.header[HDL_HTTP_X_API_KEY], "k k");
        assert_true(http.req.keep_alive && !http.req.framed);
        hdl_http_deinit(&http);

        take(&http, P "Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhelloNEXT", steps[i]);
        assert_int_equal(http.req.method, HDL_HTTP_POST);
        assert_true(http.req.expect_continue && http.req.framed);
        assert_string_equal(hdl_buf_cstr(&http.body), "hello");
        hdl_http_deinit(&http);

        take(&http,
             P "Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0A\r\n, world...\r\n0\r\n\r\nNEXT",
             steps[i]);
        assert_string_equal(hdl_buf_cstr(&http.body), "hello, world...");
        hdl_http_deinit(&http);

        take(&http, G "Connection: close\r\n\r\nNEXT", steps[i]);
        assert_false(http.req.keep_alive);
        hdl_http_deinit(&http);
        take(&http, "GET / HTTP/1.0\r\n\r\nNEXT", steps[i]);
        assert_false(http.req.keep_alive);
        hdl_http_deinit(&http);
        take(&http, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nNEXT", steps[i]);
        assert_true(http.req.keep_alive);
        hdl_http_deinit(&http);
        take(&http, "GET http://x/y?z HTTP/1.1\r\n" H "\r\nNEXT", steps[i]);
        assert_text(http.req.path, "/y");
        hdl_http_deinit(&http);
        take(&http, "GET http://x HTTP/1.1\r\n" H "\r\nNEXT", steps[i]);
        assert_text(http.req.path, "/");
        hdl_http_deinit(&http);
        take(&http, "DELETE /v1/models/x HTTP/1.1\r\n" H "\r\nNEXT", steps[i]);
        assert_int_equal(http.req.method, HDL_HTTP_OTHER);
        hdl_http_deinit(&http);
        /* Offers of another protocol are not taken up; what follows is HTTP/1.1 as before. */
        take(&http,
             P "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: "
               "2\r\n\r\nokNEXT",
             steps[i]);
        assert_string_equal(hdl_buf_cstr(&http.body), "ok");
        hdl_http_deinit(&http);
    }
}

static void test_reset(void **state)
{
    (void)state;
    hdl_http http;
    take(&http, P "Content-Length: 2\r\n\r\nokNEXT", 100);
    hdl_http_reset(&http);
    assert_true(hdl_http_idle(&http));
    assert_int_equal(hdl_http_feed(&http, G "\r\n", strlen(G "\r\n")), strlen(G "\r\n"));
    assert_int_equal(http.state, HDL_HTTP_ST_DONE);
    assert_int_equal(http.body.len, 0);
    assert_int_equal(http.req.method, HDL_HTTP_GET);
    hdl_http_deinit(&http);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
