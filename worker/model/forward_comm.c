/* SPDX-License-Identifier: Apache-2.0 */
/* Collectives of the forward pass, wherever its numbers lie. On devices they are the plugin's
 * (NCCL) where there are some. Those of hosts (shm, ucx) read and write host memory: what lies on a
 * device goes through pinned memory, piece by piece, and the sum is the same tree. That is the way
 * for devices without a library of their own, and for several workers that share one. */
#include "base/assert.h"
#include "worker/model/forward.h"

static bool in_place(const hdl_forward *f, const hdl_coll *coll)
{
    return hdl_coll_size(coll) == 1 || hdl_device_is_host(f->device);
}

/* The communicator of devices with the same ranks, or NULL. */
static hdl_plugin_coll *on_devices(const hdl_forward *f, const hdl_coll *coll)
{
    const hdl_groups *g = &f->groups;
    if (coll == g->tp)
        return g->dev_tp;
    if (coll == g->moe_tp)
        return g->dev_moe_tp;
    return coll == g->ep ? g->dev_ep : NULL;
}

static hdl_err fetch(hdl_forward *f, float *to, const float *from, size_t n)
{
    HDL_TRY(hdl_device_read(f->device, to, from, n * sizeof *to));
    return hdl_device_sync(f->device);
}

hdl_err hdl_forward_all_reduce(hdl_forward *f, hdl_coll *coll, float *buf, size_t n)
{
    if (in_place(f, coll))
        return hdl_coll_all_reduce(coll, buf, n);
    hdl_plugin_coll *devices = on_devices(f, coll);
    if (devices)
        return f->groups.colls->all_reduce(devices, buf, n);
    for (size_t at = 0, piece; at < n; at += piece) {
        piece = n - at < HDL_BOUNCE_FLOATS ? n - at : HDL_BOUNCE_FLOATS;
        HDL_TRY(fetch(f, f->bounce, buf + at, piece));
        HDL_TRY(hdl_coll_all_reduce(coll, f->bounce, piece));
        HDL_TRY(hdl_device_write(f->device, buf + at, f->bounce, piece * sizeof *buf));
        HDL_TRY(hdl_device_sync(f->device)); /* the next piece goes through the same memory */
    }
    return HDL_OK;
}

hdl_err hdl_forward_all_gather(hdl_forward *f, hdl_coll *coll, float *out, size_t n)
{
    float *own = out + hdl_coll_rank(coll) * n;
    if (in_place(f, coll))
        return hdl_coll_all_gather(coll, own, out, n * sizeof *out);
    hdl_plugin_coll *devices = on_devices(f, coll);
    if (devices)
        return f->groups.colls->all_gather(devices, out, n * sizeof *out);
    size_t all = n * hdl_coll_size(coll), rank = hdl_coll_rank(coll);
    HDL_ASSERT_LE(all, (size_t)HDL_BOUNCE_FLOATS);
    HDL_TRY(fetch(f, f->bounce + rank * n, own, n));
    HDL_TRY(hdl_coll_all_gather(coll, f->bounce + rank * n, f->bounce, n * sizeof *out));
    HDL_TRY(hdl_device_write(f->device, out, f->bounce, all * sizeof *out));
    return hdl_device_sync(f->device);
}
