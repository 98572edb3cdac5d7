/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.health.v1 as two methods of a hdl_rpc_server: what probes of Kubernetes and load balancers
 * ask. Knows one thing: whether this process serves. Check and Watch run on the rpc thread,
 * hdl_health_set may be called by any. It outlives the server whose methods it gives. */
#pragma once

#include "proto/rpc.h"

typedef struct hdl_health_service hdl_health_service; /* opaque; heap, cold */

enum { HDL_HEALTH_METHODS = 2 };

/* service: the name beside "" that is known, "heddle.v1.Control". Borrowed. */
hdl_err hdl_health_open(hdl_health_service **out, const char *service) HDL_MUST_CHECK;
/* After the server is closed. NULL is allowed. */
void hdl_health_close(hdl_health_service *health);
/* Fills the rows of the server's table. */
void hdl_health_methods(hdl_health_service *health, hdl_rpc_method methods[HDL_HEALTH_METHODS]);
void hdl_health_set(hdl_health_service *health, bool serving);
