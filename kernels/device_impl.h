/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of device.h: what device_cpu.c and device_plugin.c share. The host's team belongs to every
 * device, since loading and sampling run on it. Owner: the step thread. */
#pragma once

#include <heddle/plugin.h>

#include "kernels/stream.h"

struct hdl_device {
    const hdl_ops *ops;
    hdl_stream stream; /* of the host */
    size_t scratch_bytes, thread_bytes;
    struct block *blocks;      /* owned: of hdl_device_alloc, freed at close */
    const hdl_plugin *plugin;  /* NULL: the CPU */
    hdl_plugin_device *remote; /* owned, of the plugin */
};
