/* SPDX-License-Identifier: Apache-2.0 */
/* How long a device waits for the host: a plugin's table around another one, which marks in the
 * stream where work begins after the host had waited, and where it ended before the host waits.
 *
 * The gap between an end and the next beginning, by the device's own clock, is time in which it had
 * nothing to do. With a next step under way while the host waits for the last one there is none.
 * What is not seen is waiting between two launches of a step. One at a time in a process; owner:
 * the step thread. */
#pragma once

#include <heddle/plugin.h>

/* The table to give to a worker; of the library that real is from, process lifetime. */
const hdl_plugin *hdl_idle_wrap(const hdl_plugin *real);

/* From now on marks are made. */
void hdl_idle_begin(void);
/* What the device waited for the host, in how many gaps, of the time from the first work to the
 * last. */
typedef struct hdl_idle_sum {
    double idle_us, all_us;
    uint32_t n_gaps;
} hdl_idle_sum;
/* Ends it, waits for the device and adds to the sum. HDL_NOMEM: there were more marks than room;
 * nothing is added. */
hdl_err hdl_idle_end(hdl_idle_sum *sum) HDL_MUST_CHECK;
/* Frees the marks: before the device is closed. */
void hdl_idle_close(void);
