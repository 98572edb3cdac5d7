/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a change of the wanted replicas to a command and to a webhook. Waits for both: the scaler's
 * hook thread alone calls it. The only file of the scheduler with libcurl. */
#pragma once

#include <heddle/err.h>
#include <stdint.h>

enum { HDL_HOOK_TIMEOUT_S = 30 };

typedef struct hdl_hook_call {
    uint32_t desired, replicas; /* wanted, and up now */
    const char *reason;
    uint32_t timeout_s; /* of a POST; 0: HDL_HOOK_TIMEOUT_S */
} hdl_hook_call;

/* Runs `command DESIRED REPLICAS REASON` (no shell; killed after 30 s). Exit status 0, or an error.
 */
hdl_err hdl_hook_exec(const char *command, const hdl_hook_call *call,
                      hdl_errmsg *why) HDL_MUST_CHECK;
/* POSTs {"desired":..,"replicas":..,"reason":".."}; any 2xx will do. */
hdl_err hdl_hook_post(const char *url, const hdl_hook_call *call, hdl_errmsg *why) HDL_MUST_CHECK;
