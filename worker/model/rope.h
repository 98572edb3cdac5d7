/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary tables of a model. Pure. */
#pragma once

#include <heddle/model.h>

/* Tables of positions [from, to) of [max_len, rope->dim / 2]; several threads may fill parts of
 * one. Frequencies and angles are rounded to f32 as transformers does (modeling_rope_utils.py), so
 * that far positions agree with it. */
typedef struct hdl_rope_part {
    uint32_t from, to;
    float *cos, *sin; /* of position 0 */
} hdl_rope_part;
void hdl_rope_fill(const hdl_rope *rope, hdl_rope_part part);

/* Scales of queries at positions [part.from, part.to) into out [max_len]. */
void hdl_q_temp_fill(const hdl_q_temp *temp, hdl_rope_part part, float *out);
