/* SPDX-License-Identifier: Apache-2.0 */
/* Does the load generator measure what happened? A server of known latency in a thread of its own
 * notes when it writes each piece; the client's times are held against these. */
#pragma once

#include "bench/serve/load.h"

typedef struct hdl_selfcheck {
    size_t n;                          /* pieces compared */
    double p50_ms, p99_ms, max_ms;     /* read by the client after written by the server */
    double ttft_asked_ms, ttft_got_ms; /* median */
    double itl_asked_ms, itl_got_ms;   /* median */
} hdl_selfcheck;

hdl_err hdl_selfcheck_run(hdl_selfcheck *out, uint32_t n_requests, double rate,
                          hdl_errmsg *why) HDL_MUST_CHECK;
