/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that reads a clock.
 *
 * Time is read once per loop turn and passed down as a value (now_us); below the loop nobody
 * asks for it. Monotonic microseconds are for deadlines and durations, wall-clock microseconds
 * for people. Any thread; no state. */
#pragma once

#include <stdint.h>

typedef uint64_t hdl_time_us; /* microseconds */

#define HDL_MS_US  ((hdl_time_us)1000)
#define HDL_SEC_US ((hdl_time_us)1000000)

/* Monotonic, never 0, comparable between processes of one machine. */
hdl_time_us hdl_clock_now_us(void);
/* Monotonic nanoseconds, for benchmarks. */
uint64_t hdl_clock_now_ns(void);
/* Since 1970-01-01 UTC. */
hdl_time_us hdl_clock_wall_us(void);

/* RFC 3339 in UTC with microseconds, "2026-11-21T07:09:36.123456Z", 27 characters and NUL. */
enum { HDL_CLOCK_TEXT_BYTES = 28 };
void hdl_clock_format(hdl_time_us wall_us, char out[HDL_CLOCK_TEXT_BYTES]);

/* Blocks the calling thread; for supervisors' back-off only, never on a loop or a step. */
void hdl_clock_sleep_us(hdl_time_us us);
