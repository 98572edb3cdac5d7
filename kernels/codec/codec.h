/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the codecs: one constant per encoding of <heddle/source.h>, and what they share.
 * Readers are called with spans that codec.c has checked; they are pure and run on any thread. */
#pragma once

#include <heddle/source.h>

#include "kernels/numeric.h"

extern const hdl_codec hdl_codec_f32, hdl_codec_f16, hdl_codec_bf16;

/* Longest piece for which a reader may keep codes and scales on its stack. */
enum { HDL_CODEC_PIECE = 256 };

/* Byte of a plane at steps (row, col). */
static inline const unsigned char *hdl_plane_at(const hdl_plane *p, uint32_t row, uint32_t col)
{
    return (const unsigned char *)p->data + row * p->row_step + col * p->col_step;
}
