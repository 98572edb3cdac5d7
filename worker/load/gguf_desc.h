/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of a GGUF file -> hdl_model_desc: by the tables of worker/model/arch_gguf.h. Cold; any
 * thread. */
#pragma once

#include <heddle/model.h>

#include "worker/model/arch_gguf.h"

/* UNSUPPORTED with the reason for an architecture or a key that would change the mathematics,
 * INVALID for a value that cannot be. */
hdl_err hdl_desc_of_gguf(hdl_model_desc *out, const hdl_gguf *gguf, hdl_errmsg *why) HDL_MUST_CHECK;

/* ropes[0] from the rope.scaling keys and the factors of rope_freqs.weight (gguf_rope.c). */
hdl_err hdl_gguf_rope(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why) HDL_MUST_CHECK;
