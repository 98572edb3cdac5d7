/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do right now: the read stream of all threads of a device, and the peak of
 * each kind of arithmetic from registers; of a plugin's device its read kernel and its best product
 * (plugin.h), timed by its own events.
 *
 * Memory speed of a shared machine changes from second to second; a speed is therefore reported as
 * a share of a stream measured next to it, never alone. Owner: the device's thread 0. */
#pragma once

#include <heddle/device.h>

typedef struct hdl_probe hdl_probe;

typedef enum hdl_arith {
    HDL_ARITH_NONE,
    HDL_ARITH_F32, /* fma */
    HDL_ARITH_BF16,
    HDL_ARITH_INT8
} hdl_arith;

/* stream_bytes of device memory are read per pass; take several times the last-level cache. A
 * plugin's device takes its own size and knows no isa. */
hdl_err hdl_probe_open(hdl_probe **out, hdl_device *device, hdl_isa isa, size_t stream_bytes,
                       hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_probe_close(hdl_probe *probe);

/* Bytes per second of one pass over the buffer. */
double hdl_probe_stream(hdl_probe *probe);
/* Operations per second of one burst of some milliseconds on all threads; a multiply-add counts
 * two. 0 for NONE, and for what the device has no peak of. */
double hdl_probe_peak(hdl_probe *probe, hdl_arith arith);
/* Whose product the last peak was: "registers", "cuBLASLt", "mma.sync". */
const char *hdl_probe_peak_by(const hdl_probe *probe);

/* Of a plugin's device: microseconds between two events around what `launch` enqueues; negative
 * when it failed. */
double hdl_probe_time_us(hdl_probe *probe, hdl_err (*launch)(void *arg), void *arg);
