/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary tables of a model. Pure. */
#pragma once

#include <heddle/model.h>

/* cos, sin: [max_len, rope->dim / 2]. Frequencies and angles are rounded to f32 as transformers
 * does (modeling_rope_utils.py), so that far positions agree with it. */
void hdl_rope_tables(const hdl_rope *rope, uint32_t max_len, float *cos_out, float *sin_out);
