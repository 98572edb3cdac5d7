/* SPDX-License-Identifier: Apache-2.0 */
/* The embedding of a model whose device cannot read the mapped file: a copy in the device's memory.
 * Cold; the opening thread calls, the host's threads help. */
#pragma once

#include "worker/load/place.h"

/* model->embed becomes a source over device memory, owned by the model: F32, F16 and BF16 as they
 * are, everything else as F32 (a line in the log says what that costs). Nothing to do where the
 * host's memory is the device's. */
hdl_err hdl_embed_table_load(hdl_model *model, hdl_errmsg *why) HDL_MUST_CHECK;
