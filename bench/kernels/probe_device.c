/* SPDX-License-Identifier: Apache-2.0 */
/* The probe of a device that a plugin drives: its own read kernel and its best product, timed by
 * its own events. */
#include <stdlib.h>

#include "bench/kernels/probe_impl.h"

enum { READS = 4 };
static const size_t BYTES_GPU = (size_t)1 << 30, BYTES_FIBERS = (size_t)1 << 18;

/* Of a GPU some gigabytes may be taken; fibers take a second for a megabyte. */
hdl_err hdl_probe_open_device(hdl_probe *p, hdl_errmsg *why)
{
    const hdl_plugin *plugin = hdl_device_plugin(p->device);
    hdl_plugin_device *remote = hdl_device_remote(p->device);
    hdl_plugin_info info;
    HDL_TRY(plugin->info(remote, &info));
    p->bytes = info.major == 0 ? BYTES_FIBERS : BYTES_GPU;
    while (p->bytes > BYTES_FIBERS && p->bytes > info.memory_free / 4)
        p->bytes /= 2;
    p->mem = hdl_device_alloc(p->device, p->bytes);
    for (int i = 0; i < 2; i++)
        p->marks[i] = plugin->event_new_timed(remote);
    if (!p->mem || !p->marks[0] || !p->marks[1])
        return hdl_fail(HDL_NOMEM, why,
                        "cannot measure; no %zu bytes of the device for the stream; lower "
                        "--kv-bytes",
                        p->bytes);
    return plugin->roofs->open(&p->roof, remote, why);
}

void hdl_probe_close_device(hdl_probe *p)
{
    const hdl_plugin *plugin = hdl_device_plugin(p->device);
    plugin->roofs->close(p->roof);
    for (int i = 0; i < 2; i++)
        if (p->marks[i])
            plugin->event_free(p->marks[i]);
}

double hdl_probe_time_us(hdl_probe *p, hdl_err (*launch)(void *arg), void *arg)
{
    const hdl_plugin *plugin = hdl_device_plugin(p->device);
    double us = 0;
    hdl_err err = plugin->event_record(p->marks[0]);
    if (err == HDL_OK)
        err = launch(arg);
    if (err == HDL_OK)
        err = plugin->event_record(p->marks[1]);
    if (err == HDL_OK)
        err = plugin->event_wait(p->marks[1]);
    if (err == HDL_OK)
        err = plugin->event_elapsed(p->marks[0], p->marks[1], &us);
    return err == HDL_OK ? us : -1;
}

static hdl_err read_all(void *arg)
{
    hdl_probe *p = arg;
    for (int i = 0; i < READS; i++)
        HDL_TRY(hdl_device_plugin(p->device)->roofs->read(p->roof, p->mem, p->bytes));
    return HDL_OK;
}

double hdl_probe_stream_device(hdl_probe *p)
{
    double us = hdl_probe_time_us(p, read_all, p);
    return us > 0 ? READS * (double)p->bytes * 1e6 / us : 0;
}

typedef struct product {
    hdl_probe *probe;
    hdl_plugin_arith arith;
    double flop;
} product;

static hdl_err multiply(void *arg)
{
    product *x = arg;
    const hdl_plugin_roofs *roofs = hdl_device_plugin(x->probe->device)->roofs;
    return roofs->matmul(x->probe->roof, x->arith, &x->flop, &x->probe->peak_by);
}

double hdl_probe_peak_device(hdl_probe *p, hdl_arith arith)
{
    if (arith != HDL_ARITH_BF16 && arith != HDL_ARITH_INT8)
        return 0;
    product x = {.probe = p, .arith = arith == HDL_ARITH_INT8 ? HDL_PLUGIN_INT8 : HDL_PLUGIN_BF16};
    if (!p->has_peak[arith] && multiply(&x) != HDL_OK) /* the first one chooses: not timed */
        return 0;
    p->has_peak[arith] = true;
    double us = hdl_probe_time_us(p, multiply, &x);
    return us > 0 ? x.flop * 1e6 / us : 0;
}
