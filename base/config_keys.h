/* SPDX-License-Identifier: Apache-2.0 */
/* heddle's own key table (include/heddle/config.h) in the form that base/config.h reads. Constant
 * data, any thread. */
#pragma once

#include "base/config.h"

extern const hdl_cfg_key hdl_config_keys[];
extern const size_t hdl_config_keys_count;
