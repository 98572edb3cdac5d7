/* SPDX-License-Identifier: Apache-2.0 */
/* AWQ and GPTQ: words of several outputs or inputs, stored input by input, so that a row of ours
 * is a column of theirs. Values are (q - zero) * scale; as codes around the middle of the range and
 * a min = (middle - zero) * scale, which is exact: scales have 16 bits. */
#include "kernels/codec/codec.h"

/* Element (n, k) of a GPTQ tensor and its zero point's word: bits of a code, and codes per word. */
static int32_t gptq_code(const hdl_source *s, uint32_t bits, uint32_t n, uint32_t k)
{
    uint32_t per = 32 / bits, mask = (1u << bits) - 1;
    return (int32_t)(hdl_plane_word(&s->codes, n, k / per) >> k % per * bits & mask);
}

static int32_t gptq_zero(const hdl_source *s, uint32_t bits, uint32_t n, uint32_t group)
{
    uint32_t per = 32 / bits, mask = (1u << bits) - 1;
    uint32_t z = hdl_plane_word(&s->zeros, n / per, group) >> n % per * bits & mask;
    return (int32_t)z + s->zero_add;
}

static void gptq_codes(const hdl_source *s, hdl_span at, const hdl_codes *out, uint32_t bits)
{
    uint32_t n = s->row_at + at.row, k = s->col_at + at.col;
    int32_t middle = 1 << (bits - 1);
    for (uint32_t i = 0; i < at.n; i++)
        out->codes[i] = (int8_t)(gptq_code(s, bits, n, k + i) - middle);
    for (uint32_t i = 0; i < at.n / HDL_SOURCE_UNIT; i++)
        out->scales[i] = hdl_source_scale(s, n, k + i * HDL_SOURCE_UNIT);
    if (!hdl_codec_of(s->encoding)->has_mins)
        return;
    for (uint32_t i = 0; i < at.n / HDL_SOURCE_UNIT; i++) {
        uint32_t group = (k + i * HDL_SOURCE_UNIT) / s->scale_cols;
        out->mins[i] = (float)(middle - gptq_zero(s, bits, n, group)) * out->scales[i];
    }
}

static void codes_gptq4(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    gptq_codes(s, at, out, 4);
}

static void codes_gptq8(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    gptq_codes(s, at, out, 8);
}

/* Columns in the order of their importance (desc_act): neighbours belong to different groups. */
static void gptq_values(const hdl_source *s, hdl_span at, float *out, uint32_t bits)
{
    uint32_t n = s->row_at + at.row, k = s->col_at + at.col;
    for (uint32_t i = 0; i < at.n; i++) {
        uint32_t group = (uint32_t)s->col_group[k + i];
        float scale = hdl_plane_float(&s->scales, n, group) * s->scale_mul / s->scale_div;
        out[i] = (float)(gptq_code(s, bits, n, k + i) - gptq_zero(s, bits, n, group)) * scale;
    }
}

static void values_gptq4g(const hdl_source *s, hdl_span at, float *out)
{
    gptq_values(s, at, out, 4);
}

static void values_gptq8g(const hdl_source *s, hdl_span at, float *out)
{
    gptq_values(s, at, out, 8);
}

/* Output 8 j + i of a word lies at half i / 2 of its evens or odds: 0 2 4 6 1 3 5 7. */
static uint32_t awq_shift(uint32_t n) { return (n % 2 * 4 + n % 8 / 2) * 4; }

static void codes_awq4(const hdl_source *s, hdl_span at, const hdl_codes *out)
{
    uint32_t n = s->row_at + at.row, k = s->col_at + at.col, shift = awq_shift(n);
    for (uint32_t i = 0; i < at.n; i++)
        out->codes[i] = (int8_t)((int)(hdl_plane_word(&s->codes, n / 8, k + i) >> shift & 15) - 8);
    for (uint32_t i = 0; i < at.n / HDL_SOURCE_UNIT; i++) {
        uint32_t col = k + i * HDL_SOURCE_UNIT;
        int zero = (int)(hdl_plane_word(&s->zeros, n / 8, col / s->scale_cols) >> shift & 15);
        out->scales[i] = hdl_source_scale(s, n, col);
        out->mins[i] = (float)(8 - zero) * out->scales[i];
    }
}

/* block_cols and block_bytes tell the density alone: a row's codes are not neighbours. */
#define CODEC4 .block_cols = 2, .block_bytes = 1, .group = HDL_SOURCE_UNIT
#define CODEC8 .block_cols = 1, .block_bytes = 1, .group = HDL_SOURCE_UNIT
const hdl_codec hdl_codec_awq4 = {CODEC4, .has_mins = true, .codebook = hdl_codebook_s4,
                                  .codes = codes_awq4};
const hdl_codec hdl_codec_gptq4 = {CODEC4, .codebook = hdl_codebook_s4, .codes = codes_gptq4};
const hdl_codec hdl_codec_gptq4z = {CODEC4, .has_mins = true, .codebook = hdl_codebook_s4,
                                    .codes = codes_gptq4};
const hdl_codec hdl_codec_gptq8 = {CODEC8, .codes = codes_gptq8};
const hdl_codec hdl_codec_gptq8z = {CODEC8, .has_mins = true, .codes = codes_gptq8};
const hdl_codec hdl_codec_gptq4g = {.block_cols = 2, .block_bytes = 1, .values = values_gptq4g};
const hdl_codec hdl_codec_gptq8g = {.block_cols = 1, .block_bytes = 1, .values = values_gptq8g};
