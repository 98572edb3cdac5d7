/* SPDX-License-Identifier: Apache-2.0 */
#include "base/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void tell(const hdl_notify *n, const char *text)
{
    if (n->fd >= 0) /* a supervisor that does not listen is not our trouble */
        (void)!sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                      (const struct sockaddr *)&n->to, n->to_len);
}

/* A path, or @name for the abstract namespace. */
static bool address(hdl_notify *n, const char *path)
{
    size_t len = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(n->to.sun_path))
        return false;
    n->to.sun_family = AF_UNIX;
    memcpy(n->to.sun_path, path, len);
    if (path[0] == '@')
        n->to.sun_path[0] = '\0';
    n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

void hdl_notify_open(hdl_notify *n)
{
    *n = (hdl_notify){.fd = -1};
    const char *path = secure_getenv("NOTIFY_SOCKET"), *watchdog = secure_getenv("WATCHDOG_USEC");
    const char *pid = secure_getenv("WATCHDOG_PID");
    if (!path || !address(n, path))
        return;
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (watchdog && (!pid || strtol(pid, NULL, 10) == (long)getpid()))
        n->watchdog_us = strtoull(watchdog, NULL, 10);
}

void hdl_notify_close(hdl_notify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

void hdl_notify_ready(hdl_notify *n) { tell(n, "READY=1"); }

void hdl_notify_status(hdl_notify *n, const char *fmt, ...)
{
    char text[sizeof(n->status)], line[sizeof(n->status) + 8];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (strcmp(text, n->status) == 0)
        return;
    memcpy(n->status, text, sizeof(text));
    snprintf(line, sizeof(line), "STATUS=%s", text);
    tell(n, line);
}

void hdl_notify_stopping(hdl_notify *n, hdl_time_us needs_us)
{
    char text[64];
    tell(n, "STOPPING=1");
    snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)needs_us);
    tell(n, text);
}

void hdl_notify_alive(hdl_notify *n, hdl_time_us now_us)
{
    if (n->watchdog_us == 0 || now_us < n->ping_at_us)
        return;
    n->ping_at_us = now_us + n->watchdog_us / 3;
    tell(n, "WATCHDOG=1");
}
