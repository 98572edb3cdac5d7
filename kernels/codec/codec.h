/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the codecs: one constant per encoding of <heddle/source.h>, and what they share.
 * Readers are called with spans that codec.c has checked; they are pure and run on any thread. */
#pragma once

#include <heddle/source.h>

#include "kernels/numeric.h"

extern const hdl_codec hdl_codec_f32, hdl_codec_f16, hdl_codec_bf16;
extern const hdl_codec hdl_codec_ggml_q4_0, hdl_codec_ggml_q4_1, hdl_codec_ggml_q5_0,
    hdl_codec_ggml_q5_1, hdl_codec_ggml_q8_0, hdl_codec_ggml_q2_k, hdl_codec_ggml_q3_k,
    hdl_codec_ggml_q4_k, hdl_codec_ggml_q5_k, hdl_codec_ggml_q6_k, hdl_codec_ggml_iq4_nl,
    hdl_codec_ggml_iq4_xs, hdl_codec_ggml_iq2_xxs, hdl_codec_ggml_iq3_xxs, hdl_codec_ggml_tq1_0,
    hdl_codec_ggml_tq2_0, hdl_codec_ggml_mxfp4;

/* Of ggml's grids: +-{8, 25, 43} and +-{4, 12, 20, 28, 36, 44, 52, 62}. */
extern const int8_t hdl_codebook_iq2xxs[16], hdl_codebook_iq3xxs[16];

/* Longest piece for which a reader may keep codes and scales on its stack. */
enum { HDL_CODEC_PIECE = 256 };

/* Byte of a plane at steps (row, col). */
static inline const unsigned char *hdl_plane_at(const hdl_plane *p, uint32_t row, uint32_t col)
{
    return (const unsigned char *)p->data + row * p->row_step + col * p->col_step;
}
