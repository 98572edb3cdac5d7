/* SPDX-License-Identifier: Apache-2.0 */
/* What the GPU of a server on this machine did while it was loaded: how quickly it reads right
 * before and right after a run, when the server has nothing to do, and what it drew in between. The
 * figures are the GPU's, whoever else uses it. Main thread. */
#pragma once

#include <heddle/plugin.h>

typedef struct hdl_load_device hdl_load_device;

typedef struct hdl_load_drawn {
    char name[96];
    double read_before, read_after; /* bytes per second of the read kernel */
    double joule;                   /* of the run, idle power included */
    bool has_energy;                /* NVML counted it */
} hdl_load_drawn;

/* Takes a part of the memory that the server has left. */
hdl_err hdl_load_device_open(hdl_load_device **out, const hdl_plugin *plugin, uint32_t gpu,
                             hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_load_device_close(hdl_load_device *device); /* NULL is fine, as below */
void hdl_load_device_begin(hdl_load_device *device);
/* NULL when there is no device. */
const hdl_load_drawn *hdl_load_device_end(hdl_load_device *device);
