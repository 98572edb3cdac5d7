/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/notify.h"

static int supervisor; /* the socket that a service manager would hold */

/* Binds an abstract name, so that nothing is left behind. */
static void listen_as(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(name);
    memcpy(at.sun_path + 1, name, len);
    supervisor = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    assert_int_equal(bind(supervisor, (struct sockaddr *)&at, size), 0);
}

static void expect(const char *text)
{
    char got[256] = {0};
    ssize_t n = recv(supervisor, got, sizeof(got) - 1, 0);
    if (!text) {
        assert_true(n < 0);
        return;
    }
    assert_true(n > 0);
    assert_string_equal(got, text);
}

static void test_protocol(void **state)
{
    char name[64], path[80];
    hdl_notify n;
    (void)state;
    snprintf(name, sizeof(name), "heddle-notify-%d", (int)getpid());
    snprintf(path, sizeof(path), "@%s", name);
    listen_as(name);
    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    hdl_notify_open(&n);
    hdl_notify_ready(&n);
    expect("READY=1");
    hdl_notify_status(&n, "loading %d of %d bytes", 3, 9);
    expect("STATUS=loading 3 of 9 bytes");
    hdl_notify_status(&n, "loading %d of %d bytes", 3, 9); /* nothing new */
    expect(NULL);
    hdl_notify_alive(&n, 1000000);
    expect("WATCHDOG=1");
    hdl_notify_alive(&n, 1999999); /* a third of the time is not over */
    expect(NULL);
    hdl_notify_alive(&n, 2000000);
    expect("WATCHDOG=1");
    hdl_notify_stopping(&n, 30000000);
    expect("STOPPING=1");
    expect("EXTEND_TIMEOUT_USEC=30000000");
    hdl_notify_close(&n);
    close(supervisor);
}

/* The watchdog of another process (a shell that started us) is none of ours. */
static void test_others_watchdog(void **state)
{
    hdl_notify n;
    (void)state;
    setenv("NOTIFY_SOCKET", "@heddle-nobody", 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    hdl_notify_open(&n);
    assert_int_equal(n.watchdog_us, 0);
    hdl_notify_ready(&n); /* nobody listens: nothing happens */
    hdl_notify_close(&n);
    unsetenv("WATCHDOG_PID");
}

static void test_nobody(void **state)
{
    hdl_notify n;
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    hdl_notify_open(&n);
    assert_int_equal(n.fd, -1);
    hdl_notify_ready(&n);
    hdl_notify_status(&n, "x");
    hdl_notify_alive(&n, 1);
    setenv("NOTIFY_SOCKET", "relative/path", 1);
    hdl_notify_open(&n);
    assert_int_equal(n.fd, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_protocol),
                                       cmocka_unit_test(test_others_watchdog),
                                       cmocka_unit_test(test_nobody)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
