/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary tables of a model. Pure. */
#pragma once

#include <heddle/model.h>

/* Tables of positions [from, to) of [max_len, rope->dim / 2]; several threads may fill parts of
 * one. Frequencies and angles are rounded to f32 as transformers does (modeling_rope_utils.py), so
 * that far positions agree with it.
 *
 * LongRoPE has two sets of frequencies, for sequences up to the length of pre-training and for
 * longer ones. transformers changes the set when a sequence grows past that length, and all the
 * keys it has cached are then of the wrong one; a sequence would also get other tokens alone than
 * in a batch. Here max_len decides, once: a model that serves more than the length of pre-training
 * has the long set at every position, one that is held below it (model.max_len) has the short set.
 */
typedef struct hdl_rope_part {
    uint32_t max_len; /* longest sequence of the running model */
    uint32_t from, to;
    float *cos, *sin; /* of position 0 */
} hdl_rope_part;
void hdl_rope_fill(const hdl_rope *rope, hdl_rope_part part);

/* Scales of queries at positions [part.from, part.to) into out [max_len]. */
void hdl_q_temp_fill(const hdl_q_temp *temp, hdl_rope_part part, float *out);
