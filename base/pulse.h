/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a process lives and is ready, in a file: for a supervisor that asks by running a command
 * in the same container (Kubernetes' exec probes) where systemd would be told (notify.h).
 *
 * The file is one line of fixed length, "ready|alive MONOTONIC_US", written in place by the loop
 * that makes progress and by nobody else; a line that is not renewed means a hang. Main thread. The
 * clock is the machine's, so the asking process must run on the same one. */
#pragma once

#include <stdbool.h>

#include "base/clock.h"
#include "heddle/err.h"

#define HDL_PULSE_STALE_US (10 * HDL_SEC_US) /* an older line counts as none */

typedef struct hdl_pulse {
    int fd; /* -1: nobody asks */
    bool ready;
    hdl_time_us write_at_us;
} hdl_pulse;

/* Creates the file or takes over the one of a process that has ended; HDL_BUSY while another writes
 * it. An empty path: every call does nothing. */
hdl_err hdl_pulse_open(hdl_pulse *p, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_pulse_close(hdl_pulse *p);
/* Call it from the loop as long as there is progress: it writes once a second, and at once when
 * ready changes. */
void hdl_pulse_beat(hdl_pulse *p, hdl_time_us now_us, bool ready);

typedef struct hdl_pulse_question {
    bool ready; /* not only alive */
    hdl_time_us now_us;
} hdl_pulse_question;
/* The asking side. HDL_OK: yes; else the message says why not. */
hdl_err hdl_pulse_ask(const char *path, hdl_pulse_question question,
                      hdl_errmsg *why) HDL_MUST_CHECK;
