/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/on_device.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/kernels/energy.h"
#include "bench/kernels/probe.h"

enum { SCRATCH_BYTES = 4096 }; /* no op runs */

struct hdl_load_device {
    hdl_device *device;
    hdl_probe *probe;
    hdl_energy *energy; /* NULL: unmeasured */
    hdl_load_drawn drawn;
};

hdl_err hdl_load_device_open(hdl_load_device **out, const hdl_plugin *plugin, uint32_t gpu,
                             hdl_errmsg *why)
{
    hdl_load_device *d = calloc(1, sizeof *d);
    hdl_plugin_info info = {0};
    hdl_plugin_device_opts opts = {.plugin = plugin,
                                   .device = {.index = gpu, .scratch_bytes = SCRATCH_BYTES},
                                   .host = {.n_threads = 1}};
    *out = NULL;
    if (!d)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    hdl_err err = hdl_device_open_plugin(&d->device, &opts, why);
    if (err == HDL_OK)
        err = hdl_probe_open(&d->probe, d->device, HDL_ISA_AUTO, 0, why);
    if (err == HDL_OK)
        err = plugin->info(hdl_device_remote(d->device), &info);
    if (err != HDL_OK) {
        hdl_load_device_close(d);
        return err;
    }
    snprintf(d->drawn.name, sizeof d->drawn.name, "%s", info.name);
    d->energy = hdl_energy_open(NULL, info.bus_id);
    *out = d;
    return HDL_OK;
}

void hdl_load_device_close(hdl_load_device *d)
{
    if (!d)
        return;
    hdl_energy_close(d->energy);
    hdl_probe_close(d->probe);
    hdl_device_close(d->device);
    free(d);
}

void hdl_load_device_begin(hdl_load_device *d)
{
    if (!d)
        return;
    d->drawn.read_before = hdl_probe_stream(d->probe);
    d->drawn.has_energy = hdl_energy_read(d->energy, &d->drawn.joule);
}

const hdl_load_drawn *hdl_load_device_end(hdl_load_device *d)
{
    double now = 0;
    if (!d)
        return NULL;
    d->drawn.has_energy = d->drawn.has_energy && hdl_energy_read(d->energy, &now);
    d->drawn.joule = d->drawn.has_energy ? now - d->drawn.joule : 0;
    d->drawn.read_after = hdl_probe_stream(d->probe);
    return &d->drawn;
}
