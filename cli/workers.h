/* SPDX-License-Identifier: Apache-2.0 */
/* The worker processes of one machine: how many a layout needs, which CPUs each gets, how they are
 * started. Cold; the thread that owns the hdl_spawn. */
#pragma once

#include <heddle/config.h>
#include <heddle/err.h>
#include <heddle/model.h>

#include "scheduler/cluster/spawn.h"

enum { CLI_WORKERS_MAX = 256 };

/* Checks the model and the layout before anything is started, so that a mistake is one clear line.
 * *n_workers is dp * max(tp, ep). */
hdl_err cli_workers_plan(const hdl_config *config, uint32_t *n_workers,
                         hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct cli_workers_start {
    hdl_spawn *spawn;
    const hdl_config *config;
    const char *config_path; /* file with the same configuration, for the workers to read */
    const char *address;     /* of the scheduler */
    uint32_t n_workers;
    hdl_spawn_fn *on_event; /* of each worker; may be NULL */
    void *arg;
} cli_workers_start;

/* Starts them, each on cores of its own as far as the machine has them. */
hdl_err cli_workers_spawn(const cli_workers_start *start, hdl_errmsg *why) HDL_MUST_CHECK;

/* Whether a worker's end says that a new one would end the same way: it exited by itself with an
 * error. A signal's victim is started again. */
bool cli_workers_gave_up(const hdl_spawn_child *worker);

/* Writes the effective configuration to path. */
hdl_err cli_workers_write_config(const hdl_config *config, const char *path,
                                 hdl_errmsg *why) HDL_MUST_CHECK;
