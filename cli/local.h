/* SPDX-License-Identifier: Apache-2.0 */
/* A cluster of one machine for the length of a command: the scheduler's brain in this process, its
 * workers as children, optionally the HTTP API in front. Used by run, generate and logits; `heddle
 * serve` runs the same parts as processes of their own.
 *
 * Main thread. Close stops the workers; they also end when this process dies. */
#pragma once

#include <heddle/config.h>
#include <heddle/request.h>

#include "cli/cli.h"

typedef struct hdl_local hdl_local;

/* Starts everything and waits until the model is ready, with a progress line on a terminal.
 * `config` is borrowed until close; its model_path is set. */
hdl_err hdl_local_open(hdl_local **out, const hdl_config *config, hdl_errmsg *why) HDL_MUST_CHECK;

/* The same with the HTTP API on a free port of loopback, from a command's engine options. */
hdl_err hdl_local_serve(hdl_local **out, const hdl_args *args, const char *model_path,
                        hdl_errmsg *why) HDL_MUST_CHECK;
uint16_t hdl_local_port(const hdl_local *local);

void hdl_local_info(hdl_local *local, hdl_engine_info *out);

/* Takes the request (and its prompt) in any case. */
hdl_err hdl_local_submit(hdl_local *local, hdl_request *req, hdl_errmsg *why) HDL_MUST_CHECK;

/* Next emit of any submitted request, in order. TIMEOUT: the workers hang or do not come back.
 * CANCELLED, here and from open: Ctrl-C or SIGTERM. */
hdl_err hdl_local_next(hdl_local *local, hdl_emit *emit, hdl_errmsg *why) HDL_MUST_CHECK;

void hdl_local_close(hdl_local *local);
