/* SPDX-License-Identifier: Apache-2.0 */
/* Autoscaling: what the scheduler tells those who start and stop replicas. KEDA asks over gRPC
 * (externalscaler.ExternalScaler, push included), Prometheus reads gauges, and on bare metal a
 * command or a webhook is called at every change. Each decision is logged with its reason.
 *
 * The brain reports demand every turn; nothing here waits on its thread. Hooks run on a thread of
 * their own, one at a time, the newest wish last; a hook that fails is tried again. */
#pragma once

#include <heddle/config.h>

#include "proto/rpc.h"
#include "scheduler/cluster/scale_policy.h"

typedef struct hdl_scaler hdl_scaler; /* opaque; heap, cold */

enum { HDL_SCALER_METHODS = 4 };

hdl_err hdl_scaler_open(hdl_scaler **out, const hdl_config *config, hdl_errmsg *why) HDL_MUST_CHECK;
/* After the server whose methods it gave is closed. NULL is allowed. */
void hdl_scaler_close(hdl_scaler *scaler);
void hdl_scaler_methods(hdl_scaler *scaler, hdl_rpc_method methods[HDL_SCALER_METHODS]);

typedef struct hdl_scaler_look {
    hdl_scale_demand demand;
    uint64_t kv_tokens_held;
    uint32_t replicas; /* groups that are up */
    uint64_t now_us;
} hdl_scaler_look;
/* Brain thread, every turn: cheap when nothing has changed. */
void hdl_scaler_report(hdl_scaler *scaler, const hdl_scaler_look *look);
/* Any thread: a request was refused since no replica has ever been ready. */
void hdl_scaler_refused(hdl_scaler *scaler);
/* Was there such a request in the last minute, and no replica since? Any thread. */
bool hdl_scaler_has_refused(const hdl_scaler *scaler, uint64_t now_us);
