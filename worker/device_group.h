/* SPDX-License-Identifier: Apache-2.0 */
/* Communicators between the devices of a group, beside those of its hosts, which carry their id and
 * agree on whether there are any: all ranks have them, or none. Owner: the worker, on its step
 * thread; abort may be called by any. */
#pragma once

#include "worker/model/forward.h"

typedef struct hdl_device_group_opts {
    hdl_device *device;
    const hdl_shard *shard;
    bool required; /* an error where there can be none */
    uint64_t timeout_us;
    const volatile uint32_t *cancel;
} hdl_device_group_opts;

/* Fills the device part of the groups, whose host part is open; all ranks call. Without it (one
 * rank, a CPU, no library, one device for several ranks) the part stays empty, and the reason is in
 * the log. */
hdl_err hdl_device_group_open(hdl_groups *groups, const hdl_device_group_opts *opts,
                              hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_device_group_close(hdl_groups *groups);
