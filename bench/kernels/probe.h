/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine can do right now: the read stream of all threads of a device, and the peak of
 * each kind of arithmetic from registers.
 *
 * Memory speed of a shared machine changes from second to second; a speed is therefore reported as
 * a share of a stream measured next to it, never alone. Owner: the device's thread 0. */
#pragma once

#include <heddle/device.h>

typedef struct hdl_probe hdl_probe;

typedef struct hdl_peaks {
    double f32_flop_per_s; /* fma */
    double bf16_flop_per_s;
    double int8_op_per_s;
} hdl_peaks;

/* stream_bytes of device memory are read per pass; take several times the last-level cache. */
hdl_err hdl_probe_open(hdl_probe **out, hdl_device *device, hdl_isa isa, size_t stream_bytes,
                       hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_probe_close(hdl_probe *probe);

/* Bytes per second of one pass over the buffer. */
double hdl_probe_stream(hdl_probe *probe);
/* Best of a few bursts of some milliseconds. */
hdl_peaks hdl_probe_peaks(hdl_probe *probe);
