/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of probe.h: the probe of the CPU (probe.c) and of a plugin's device (probe_device.c). */
#pragma once

#include "bench/kernels/probe.h"
#include "bench/kernels/probe_isa.h"

struct hdl_probe {
    hdl_device *device; /* borrowed: until close */
    unsigned char *mem;
    size_t bytes;
    /* The CPU. */
    const hdl_probe_loops *loops;
    double (*loop)(uint64_t rounds); /* of the burst that runs */
    double ops;                      /* done by thread 0 */
    _Atomic uint64_t sink;           /* what was read; keeps the reads */
    /* A plugin. */
    hdl_plugin_roof *roof;
    hdl_plugin_event *marks[2];
    bool has_peak[HDL_ARITH_INT8 + 1];
    const char *peak_by;
};

hdl_err hdl_probe_open_device(hdl_probe *probe, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_probe_close_device(hdl_probe *probe);
double hdl_probe_stream_device(hdl_probe *probe);
double hdl_probe_peak_device(hdl_probe *probe, hdl_arith arith);
