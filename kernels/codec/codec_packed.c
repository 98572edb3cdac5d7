/* SPDX-License-Identifier: Apache-2.0 */
/* Encodings whose codes lie along a row, scales in a tensor of their own: FP8, MXFP4, NVFP4, the
 * integers of compressed-tensors, BitNet's ternary weights. */
#include "kernels/codec/codec.h"

static void values_e4m3(const hdl_source *s, hdl_span at, float *out)
{
    uint32_t row = s->row_at + at.row, col = s->col_at + at.col, end = col + at.n;
    const unsigned char *p = hdl_plane_at(&s->codes, row, col);
    while (col < end) {
        float scale = hdl_source_scale(s, row, col);
        uint32_t n = hdl_min_u32(end - col, s->scale_cols - col % s->scale_cols);
        for (uint32_t i = 0; i < n; i++, p += s->codes.col_step)
            *out++ = hdl_e4m3_to_f32(*p) * scale;
        col += n;
    }
}

const hdl_codec hdl_codec_e4m3 = {.block_cols = 1, .block_bytes = 1, .values = values_e4m3};

/* Two columns a byte, the low half first: codes and scales of `group` columns. */
static void read_halves(const hdl_source *s, hdl_span at, const int8_t *codebook, int8_t *out)
{
    const unsigned char *p = hdl_plane_at(&s->codes, s->row_at + at.row, (s->col_at + at.col) / 2);
    for (uint32_t i = 0; i < at.n; i++)
        out[i] = codebook[p[i / 2] >> i % 2 * 4 & 15];
}

static void read_scales(const hdl_source *s, hdl_span at, uint32_t group, float *out)
{
    for (uint32_t i = 0; i < at.n / group; i++)
        out[i] = hdl_source_scale(s, s->row_at + at.row, s->col_at + at.col + i * group);
}

/* The codebook holds E2M1 doubled. Halving a scale is exact: the smallest, 2^-127, becomes a
 * subnormal number. */
static void codes_fp4(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    uint32_t group = hdl_codec_of(s->encoding)->group;
    read_halves(s, at, hdl_codebook_e2m1, out->codes);
    read_scales(s, at, group, out->scales);
    for (uint32_t i = 0; i < at.n / group; i++)
        out->scales[i] *= 0.5f;
}

const hdl_codec hdl_codec_mxfp4 = {.block_cols = 2,
                                   .block_bytes = 1,
                                   .group = 32,
                                   .codebook = hdl_codebook_e2m1,
                                   .codes = codes_fp4};
const hdl_codec hdl_codec_nvfp4 = {.block_cols = 2,
                                   .block_bytes = 1,
                                   .group = 16,
                                   .codebook = hdl_codebook_e2m1,
                                   .codes = codes_fp4};

static void codes_int4(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    read_halves(s, at, hdl_codebook_s4, out->codes);
    read_scales(s, at, HDL_SOURCE_UNIT, out->scales);
}

/* w = (q - z) scale = (q - 8) scale + (8 - z) scale. A scale of 16 bits times an integer of 5 is
 * exact, so the min is. */
static void codes_int4z(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    uint32_t row = s->row_at + at.row;
    codes_int4(s, at, out);
    for (uint32_t i = 0; i < at.n / HDL_SOURCE_UNIT; i++) {
        uint32_t group = (s->col_at + at.col + i * HDL_SOURCE_UNIT) / s->scale_cols;
        uint32_t zero = hdl_plane_word(&s->zeros, row / 8, group) >> row % 8 * 4 & 15;
        out->mins[i] = (float)(8 - (int32_t)zero) * out->scales[i];
    }
}

const hdl_codec hdl_codec_int4 = {.block_cols = 2,
                                  .block_bytes = 1,
                                  .group = HDL_SOURCE_UNIT,
                                  .codebook = hdl_codebook_s4,
                                  .codes = codes_int4};
const hdl_codec hdl_codec_int4z = {.block_cols = 2,
                                   .block_bytes = 1,
                                   .group = HDL_SOURCE_UNIT,
                                   .has_mins = true,
                                   .codebook = hdl_codebook_s4,
                                   .codes = codes_int4z};

/* Tensors of I8 hold two's complement; packed into words (I32) 128 is added first. */
static void codes_int8(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    const unsigned char *p = hdl_plane_at(&s->codes, s->row_at + at.row, s->col_at + at.col);
    unsigned flip = s->codes.dtype == HDL_DTYPE_I8 ? 0 : 0x80;
    for (uint32_t i = 0; i < at.n; i++)
        out->codes[i] = (int8_t)(p[i] ^ flip);
    read_scales(s, at, HDL_SOURCE_UNIT, out->scales);
}

const hdl_codec hdl_codec_int8 = {
    .block_cols = 1, .block_bytes = 1, .group = HDL_SOURCE_UNIT, .codes = codes_int8};

/* Row r lies in byte row r % (rows / 4), at bits 2 * (r / (rows / 4)); 0, 1, 2 mean -1, 0, 1.
 * transformers, integrations/bitnet.py. block_cols tells the density alone. */
static void codes_ternary(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    uint32_t row = s->row_at + at.row, quarter = s->whole_rows / 4;
    const unsigned char *p = hdl_plane_at(&s->codes, row % quarter, s->col_at + at.col);
    for (uint32_t i = 0; i < at.n; i++)
        out->codes[i] = (int8_t)((p[i] >> row / quarter * 2 & 3) - 1);
    read_scales(s, at, HDL_SOURCE_UNIT, out->scales);
}

const hdl_codec hdl_codec_ternary = {.block_cols = 4,
                                     .block_bytes = 1,
                                     .group = HDL_SOURCE_UNIT,
                                     .codebook = hdl_codebook_t2,
                                     .codes = codes_ternary};
