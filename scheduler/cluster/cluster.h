/* SPDX-License-Identifier: Apache-2.0 */
/* The side of the scheduler that faces the workers: the brain that runs the core, the registry of
 * workers, and the control plane that they dial.
 *
 * Used by scheduler/main.c and, in their own process, by commands such as `heddle generate`. It
 * starts two threads: the brain (owner of the core, of every request and of the registry) and
 * gRPC's. Open, drain and close are for one thread (main); the engine is for any.
 * Not here: worker processes (spawn.h starts them), HTTP (scheduler/front). */
#pragma once

#include <heddle/config.h>
#include <heddle/request.h>

typedef struct hdl_cluster hdl_cluster; /* opaque; heap, cold */

/* Listens for workers at once; requests are answered with AGAIN until the first group is ready.
 * Signals must be blocked (base/thread.h). config is borrowed until close. */
hdl_err hdl_cluster_open(hdl_cluster **out, const hdl_config *config,
                         hdl_errmsg *why) HDL_MUST_CHECK;

/* The brain for the front. Valid until close. */
hdl_engine hdl_cluster_engine(hdl_cluster *cluster);

/* What workers dial: "unix:/path" or "HOST:PORT". */
const char *hdl_cluster_address(const hdl_cluster *cluster);

/* New requests are refused, admitted ones go on. Any thread. */
void hdl_cluster_drain(hdl_cluster *cluster);
/* Nothing is running or waiting. Any thread. */
bool hdl_cluster_idle(hdl_cluster *cluster);
/* Time since the brain's loop last turned; it turns at least at every heartbeat, whatever the load.
 * Any thread. */
uint64_t hdl_cluster_turn_age_us(const hdl_cluster *cluster, uint64_t now_us);

/* Ends what still runs with an error each, tells the workers to go, frees everything. Sinks must
 * still exist. NULL is allowed. */
void hdl_cluster_close(hdl_cluster *cluster);
