/* SPDX-License-Identifier: Apache-2.0 */
/* The webhook of autoscaling against a real HTTP server of this process: what it is sent, which
 * answers will do, and what the scaler does after a no. */
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/config_keys.h"
#include "scheduler/cluster/hook.h"
#include "scheduler/cluster/scaler.h"

enum { CALLS_MAX = 4, TEXT_BYTES = 2048 };

/* Comes true or the test's time limit ends it. */
#define AWAIT(condition)                                                                           \
    while (!(condition))                                                                           \
    hdl_clock_sleep_us(500)

/* Answers one connection after the other with the next status; 0: with nothing, until the caller
 * has gone. */
typedef struct server {
    int fd;
    pthread_t thread;
    int statuses[CALLS_MAX];
    char url[64], seen[CALLS_MAX][TEXT_BYTES];
    atomic_uint n_seen;
    atomic_bool held; /* the answer waits */
} server;

static void read_request(int fd, char *out)
{
    size_t len = 0;
    const char *body = NULL;
    out[0] = '\0';
    for (;;) {
        const char *length = strstr(out, "Content-Length: ");
        body = strstr(out, "\r\n\r\n");
        if (body && length && strlen(body + 4) >= strtoul(length + 16, NULL, 10))
            return;
        ssize_t n = recv(fd, out + len, TEXT_BYTES - 1 - len, 0);
        if (n <= 0)
            return;
        len += (size_t)n;
        out[len] = '\0';
    }
}

static void *serve(void *arg)
{
    server *s = arg;
    for (unsigned i = 0; i < CALLS_MAX && s->statuses[i] >= 0; i++) {
        char answer[128];
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            break;
        read_request(fd, s->seen[i]);
        atomic_fetch_add(&s->n_seen, 1);
        AWAIT(!atomic_load(&s->held));
        int n = snprintf(answer, sizeof answer,
                         "HTTP/1.1 %d x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno",
                         s->statuses[i]);
        if (s->statuses[i] > 0)
            (void)!send(fd, answer, (size_t)n, MSG_NOSIGNAL);
        else
            (void)!recv(fd, answer, 1, 0); /* until it hangs up */
        close(fd);
    }
    return NULL;
}

static void start(server *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%u/scale", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->fd);
}

static const char *body_of(const server *s, unsigned i)
{
    const char *body = strstr(s->seen[i], "\r\n\r\n");
    return body ? body + 4 : "";
}

static const hdl_hook_call call = {.desired = 3, .replicas = 1, .reason = "it \"queues\""};

/* -- one call --------------------------------------------------------------------------------- */

static void says_what_is_wanted(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    server s = {.statuses = {204, -1}};
    start(&s);
    assert_int_equal(hdl_hook_post(s.url, &call, &why), HDL_OK);
    stop(&s);
    assert_memory_equal(s.seen[0], "POST /scale HTTP/1.1\r\n", 22);
    assert_non_null(strstr(s.seen[0], "\r\nContent-Type: application/json\r\n"));
    assert_string_equal(body_of(&s, 0),
                        "{\"desired\":3,\"replicas\":1,\"reason\":\"it \\\"queues\\\"\"}");
}

static void other_answers_are_failures(void **state)
{
    (void)state;
    static const char *const words[] = {"status 500", "status 302", "status 404"};
    server s = {.statuses = {500, 302, 404, -1}};
    start(&s);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        hdl_errmsg why = {0};
        assert_int_equal(hdl_hook_post(s.url, &call, &why), HDL_PEER);
        assert_non_null(strstr(why.text, words[i]));
        assert_non_null(strstr(why.text, s.url));
    }
    stop(&s);
    hdl_errmsg why = {0};
    assert_int_equal(hdl_hook_post(s.url, &call, &why), HDL_PEER); /* nobody listens */
}

static void a_server_that_says_nothing_is_left(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    hdl_hook_call hasty = call;
    server s = {.statuses = {0, -1}};
    hasty.timeout_s = 1;
    start(&s);
    assert_int_equal(hdl_hook_post(s.url, &hasty, &why), HDL_PEER);
    assert_non_null(strstr(why.text, "Timeout"));
    assert_int_equal(atomic_load(&s.n_seen), 1);
    stop(&s);
}

static void http_alone_is_spoken(void **state)
{
    (void)state;
    static const char *const urls[] = {"file:///etc/hostname", "ftp://127.0.0.1:1/x",
                                       "gopher://127.0.0.1:1/x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        hdl_errmsg why = {0};
        assert_int_equal(hdl_hook_post(urls[i], &call, &why), HDL_PEER);
        assert_non_null(strstr(why.text, "rotocol"));
    }
}

/* -- the scaler ------------------------------------------------------------------------------- */

static void report(hdl_scaler *scaler, uint32_t n_waiting)
{
    static uint64_t now_us = 1000000000;
    for (int i = 0; i < 3; i++) { /* the policy is looked at ten times a second */
        now_us += 1000000;
        hdl_scaler_report(scaler,
                          &(hdl_scaler_look){.demand = {.waiting = n_waiting}, .now_us = now_us});
    }
}

/* While a call is on its way newer wishes replace each other; one that failed is told again. */
static void the_newest_wish_is_told_until_it_is_heard(void **state)
{
    (void)state;
    hdl_errmsg why = {0};
    hdl_config config;
    hdl_cfg *cfg = NULL;
    hdl_scaler *scaler = NULL;
    server s = {.statuses = {200, 503, 200, -1}, .held = true};
    start(&s);
    assert_int_equal(hdl_cfg_open(&cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                        .keys_count = hdl_config_keys_count,
                                                        .values = &config}),
                     HDL_OK);
    config.dp = 4;
    config.scale_min = 0;
    config.scale_requests = 1;
    config.scale_up_us = 1;
    config.scale_webhook = s.url;
    assert_int_equal(hdl_scaler_open(&scaler, &config, &why), HDL_OK);
    report(scaler, 1);
    AWAIT(atomic_load(&s.n_seen) == 1);
    report(scaler, 2);
    report(scaler, 4);
    struct pollfd second = {.fd = s.fd, .events = POLLIN};
    assert_int_equal(poll(&second, 1, 0), 0); /* one at a time */
    atomic_store(&s.held, false);
    AWAIT(atomic_load(&s.n_seen) == 3);
    pthread_join(s.thread, NULL);
    hdl_scaler_close(scaler);
    close(s.fd);
    hdl_cfg_close(cfg);
    assert_memory_equal(body_of(&s, 0), "{\"desired\":1,", 13);
    assert_memory_equal(body_of(&s, 1), "{\"desired\":4,", 13);
    assert_string_equal(body_of(&s, 2), body_of(&s, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_is_wanted),
        cmocka_unit_test(other_answers_are_failures),
        cmocka_unit_test(a_server_that_says_nothing_is_left),
        cmocka_unit_test(http_alone_is_spoken),
        cmocka_unit_test(the_newest_wish_is_told_until_it_is_heard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
