/* SPDX-License-Identifier: Apache-2.0 */
/* quantization_config of a config.json (and modelopt's hf_quant_config.json) -> desc->quant: how
 * the files store matrices and which ones. Methods that this version does not read are refused by
 * name. Cold; pure but for its log. */
#pragma once

#include "base/json.h"
#include "worker/model/arch.h"

/* desc is complete otherwise: modules are those of its layers. */
hdl_err hdl_quant_config_read(hdl_model_desc *desc, const hdl_jv *config,
                              hdl_errmsg *why) HDL_MUST_CHECK;
