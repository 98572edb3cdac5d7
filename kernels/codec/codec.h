/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the codecs: one constant per encoding of <heddle/source.h>, and what they share.
 * Readers are called with spans that codec.c has checked; they are pure and run on any thread. */
#pragma once

#include <heddle/source.h>

#include "kernels/numeric.h"

extern const hdl_codec hdl_codec_f32, hdl_codec_f16, hdl_codec_bf16, hdl_codec_e4m3;
extern const hdl_codec hdl_codec_mxfp4, hdl_codec_nvfp4, hdl_codec_int4, hdl_codec_int4z,
    hdl_codec_int8, hdl_codec_ternary;
extern const hdl_codec hdl_codec_awq4, hdl_codec_gptq4, hdl_codec_gptq4z, hdl_codec_gptq4g,
    hdl_codec_gptq8, hdl_codec_gptq8z, hdl_codec_gptq8g;
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

/* A scale (or zero point's word) as it is stored: no multiplier. */
static inline float hdl_plane_float(const hdl_plane *p, uint32_t row, uint32_t col)
{
    const unsigned char *at = hdl_plane_at(p, row, col);
    uint16_t h;
    float f;
    switch (p->dtype) {
    case HDL_DTYPE_E4M3: return hdl_e4m3_to_f32(*at);
    case HDL_DTYPE_U8: /* gpt-oss calls them so */
    case HDL_DTYPE_E8M0: return hdl_e8m0_to_f32(*at);
    case HDL_DTYPE_F32: memcpy(&f, at, sizeof f); return f;
    default: memcpy(&h, at, sizeof h);
    }
    return p->dtype == HDL_DTYPE_F16 ? hdl_f16_to_f32(h) : hdl_bf16_to_f32(h);
}

/* The scale of element (row, col) of the whole matrix. */
static inline float hdl_source_scale(const hdl_source *s, uint32_t row, uint32_t col)
{
    return hdl_plane_float(&s->scales, row / s->scale_rows, col / s->scale_cols) * s->scale_mul /
           s->scale_div;
}

static inline uint32_t hdl_plane_word(const hdl_plane *p, uint32_t row, uint32_t col)
{
    uint32_t word;
    memcpy(&word, hdl_plane_at(p, row, col), sizeof word);
    return word;
}
