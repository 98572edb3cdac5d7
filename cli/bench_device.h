/* SPDX-License-Identifier: Apache-2.0 */
/* The device that a bench measures: options of its command line, and the plugin behind them. Main
 * thread. */
#pragma once

#include <heddle/config.h>
#include <heddle/device.h>

#include "cli/engine_options.h"

#define CLI_DEVICE_OPTIONS                                                                         \
    {.name = "device", .value = "KIND", .config = "worker.device", .doc = "cpu, cuda or cuda:N"},  \
        {.name = "numerics",                                                                       \
         .value = "MODE",                                                                          \
         .config = "worker.numerics",                                                              \
         .doc = "of a GPU: exact or fast"},                                                        \
    {                                                                                              \
        .name = "config", .letter = 'c', .value = "F",                                             \
        .doc = "configuration file, which may name the plugin; options win over it"                \
    }

/* NULL for the CPU. */
static inline hdl_err cli_bench_plugin(const hdl_plugin **plugin, const hdl_config *config,
                                       hdl_errmsg *why)
{
    *plugin = NULL;
    if (config->device == HDL_DEVICE_CPU)
        return HDL_OK;
    return hdl_plugin_load(plugin, config->cuda_plugin, why);
}
