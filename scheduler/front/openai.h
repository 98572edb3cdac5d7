/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of the API share: is there a service, is it this model, messages to prompt.
 * Front threads. */
#pragma once

#include "scheduler/front/api.h"
#include "scheduler/front/conn.h"

/* Fills info; false: draining, or no model is ready yet. */
bool hdl_openai_service(hdl_conn *conn, hdl_engine_info *info, hdl_api_error *err) HDL_MUST_CHECK;
/* 404 model_not_found unless name is the model's or an alias. */
bool hdl_openai_check_model(const hdl_front_model *model, const char *name,
                            hdl_api_error *err) HDL_MUST_CHECK;
/* The chat's messages through the model's template, appended to out. */
bool hdl_openai_render(hdl_conn *conn, const hdl_api_params *p, hdl_buf *out,
                       hdl_api_error *err) HDL_MUST_CHECK;
/* The thread's, made at its first use; NULL: out of memory. */
hdl_tok_scratch *hdl_openai_scratch(hdl_front_thread *thread);
