/* SPDX-License-Identifier: Apache-2.0 */
/* What a service tells its supervisor: systemd's sd_notify protocol (sd_notify(3)), datagrams to
 * the socket that NOTIFY_SOCKET names. Without one every call does nothing.
 *
 * NOTIFY_SOCKET and WATCHDOG_USEC are a protocol with the process that started us and no settings
 * of ours, which is why this file alone reads the environment. Main thread. A watchdog is answered
 * from the loop that makes progress, and only while it does: a timer thread would keep a hung
 * service alive. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "heddle/err.h"

typedef struct hdl_notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un to;
    socklen_t to_len;
    hdl_time_us watchdog_us; /* 0: none is set */
    hdl_time_us ping_at_us;
    char status[160]; /* as told last */
} hdl_notify;

/* Reads the environment once. */
void hdl_notify_open(hdl_notify *n);
void hdl_notify_close(hdl_notify *n);

/* The service is up. */
void hdl_notify_ready(hdl_notify *n);
/* One line for `systemctl status`; the same text again is not sent. */
void hdl_notify_status(hdl_notify *n, const char *fmt, ...) HDL_PRINTF(2, 3);
/* It is going down, on purpose; it needs up to so long. */
void hdl_notify_stopping(hdl_notify *n, hdl_time_us needs_us);
/* Call it from the loop as long as there is progress: it pings at a third of the watchdog's time.
 */
void hdl_notify_alive(hdl_notify *n, hdl_time_us now_us);
