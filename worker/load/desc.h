/* SPDX-License-Identifier: Apache-2.0 */
/* Beginning and end of every description, whatever file it is read from: defaults of the
 * architecture before the first key, checks and consequences after the last. Private to
 * worker/load; pure. */
#pragma once

#include "worker/model/arch.h"

void hdl_desc_begin(hdl_model_desc *desc, const hdl_arch *arch);
/* "lacks <what>": HDL_INVALID. */
hdl_err hdl_desc_lacks(const char *what, hdl_errmsg *why);
hdl_err hdl_desc_complete(hdl_model_desc *desc, hdl_errmsg *why) HDL_MUST_CHECK;

/* hdl_model_desc_load of a GGUF file (gguf_desc.c). */
hdl_err hdl_desc_load_gguf(hdl_model_desc *out, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;
