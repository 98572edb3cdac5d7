/* SPDX-License-Identifier: Apache-2.0 */
/* ggml's K types: 256 values, a scale of 4 to 8 bits per 16 or 32 of them, and an f16 scale of the
 * scales. The product of both has at most 19 bits and times a code at most 24, so that it is exact
 * in f32, and one rounding remains where a minimum is added: what ggml itself computes. */
#include "kernels/codec/codec_ggml.h"

/* Two bits of each of 32 bytes; four units share the bytes, and there are two such sets. */
static uint32_t crumb(const uint8_t *qs, uint32_t unit, uint32_t i)
{
    return (uint32_t)qs[unit / 4 * 32 + i] >> unit % 4 * 2 & 3u;
}

/* 16 bytes of (scale, minimum) halves; 64 bytes of crumbs; d; dmin */
static void unit_q2_k(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    const uint8_t *qs = block + 16;
    float d = hdl_ggml_f16(block + 80), dmin = hdl_ggml_f16(block + 82);
    for (uint32_t g = 0; g < 2; g++) {
        uint32_t both = block[unit * 2 + g];
        out->scales[g] = d * (float)(both & 15);
        out->mins[g] = -(dmin * (float)(both >> 4));
    }
    for (uint32_t i = 0; i < 32; i++)
        out->codes[i] = (int8_t)crumb(qs, unit, i);
}

/* Of sixteen 6-bit scales: low halves in 8 bytes, two high bits each in 4 bytes. */
static int32_t q3_scale(const uint8_t *scales, uint32_t j)
{
    uint32_t low = j < 8 ? scales[j] & 15u : scales[j - 8] >> 4;
    uint32_t high = (uint32_t)scales[8 + j % 4] >> j / 4 * 2 & 3u;
    return (int32_t)(low | high << 4) - 32;
}

/* 32 bytes of third bits (clear: minus 4), one bit per unit; 64 bytes of crumbs; 12 of scales; d */
static void unit_q3_k(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    const uint8_t *qs = block + 32, *scales = block + 96;
    float d = hdl_ggml_f16(block + 108);
    for (uint32_t g = 0; g < 2; g++)
        out->scales[g] = d * (float)q3_scale(scales, unit * 2 + g);
    for (uint32_t i = 0; i < 32; i++)
        out->codes[i] = (int8_t)((int)(crumb(qs, unit, i) | (block[i] >> unit & 1u) << 2) - 4);
}

/* d, dmin, then eight 6-bit scales and minima in 12 bytes: the first four of each plain with two
 * bits to spare, which are the high bits of the last four. Minima are subtracted. */
static hdl_factors factors_45(const uint8_t *block, uint32_t j)
{
    const uint8_t *s = block + 4;
    uint32_t scale, min;
    if (j < 4) {
        scale = s[j] & 63u;
        min = s[j + 4] & 63u;
    } else {
        scale = (s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4;
        min = (uint32_t)(s[j + 4] >> 4) | (uint32_t)(s[j] >> 6) << 4;
    }
    return (hdl_factors){.scale = (uint16_t)hdl_ggml_u16(block),
                         .min = (uint16_t)(hdl_ggml_u16(block + 2) ^ 0x8000u),
                         .scale_ints = {(int8_t)scale},
                         .min_ints = {(int8_t)min}};
}

static void scale_and_min(const uint8_t *block, uint32_t j, const hdl_codes *out)
{
    hdl_factors f = factors_45(block, j);
    out->scales[0] = hdl_f16_to_f32(f.scale) * (float)f.scale_ints[0];
    out->mins[0] = hdl_f16_to_f32(f.min) * (float)f.min_ints[0];
}

/* Low halves of 32 bytes are one unit, high halves the next. */
static uint32_t half(const uint8_t *qs, uint32_t unit, uint32_t i)
{
    return (uint32_t)qs[unit / 2 * 32 + i] >> unit % 2 * 4 & 15u;
}

/* d, dmin, 12 bytes of scales and minima, 128 bytes of halves */
static void unit_q4_k(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    scale_and_min(block, unit, out);
    for (uint32_t i = 0; i < 32; i++)
        out->codes[i] = (int8_t)half(block + 16, unit, i);
}

/* d, dmin, 12 bytes of scales and minima, 32 of fifth bits (one per unit), 128 of halves */
static void unit_q5_k(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    scale_and_min(block, unit, out);
    for (uint32_t i = 0; i < 32; i++)
        out->codes[i] = (int8_t)(half(block + 48, unit, i) | (block[16 + i] >> unit & 1u) << 4);
}

/* 128 bytes of halves, 64 of crumbs above them, 16 int8 scales, d. Per 128 values: units 0 and 1
 * are the low halves of the first and second 32 bytes, 2 and 3 the high ones. */
static void unit_q6_k(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    const uint8_t *low = block + unit / 4 * 64 + unit % 2 * 32;
    uint32_t shift = unit % 4 / 2 * 4;
    float d = hdl_ggml_f16(block + 208);
    for (uint32_t g = 0; g < 2; g++)
        out->scales[g] = d * (float)(int8_t)block[192 + unit * 2 + g];
    for (uint32_t i = 0; i < 32; i++)
        out->codes[i] =
            (int8_t)((int)((low[i] >> shift & 15u) | crumb(block + 128, unit, i) << 4) - 32);
}

static void factors_q4_k(const hdl_source *s, hdl_span at, hdl_factors *out)
{
    uint32_t unit;
    const uint8_t *block = hdl_ggml_unit_at(s, at, 256, &unit);
    *out = factors_45(block, unit);
}

static void factors_q6_k(const hdl_source *s, hdl_span at, hdl_factors *out)
{
    uint32_t unit;
    const uint8_t *block = hdl_ggml_unit_at(s, at, 256, &unit);
    *out = (hdl_factors){.scale = (uint16_t)hdl_ggml_u16(block + 208)};
    memcpy(out->scale_ints, block + 192 + unit * 2, 2);
}

HDL_GGML_CODEC(q2_k, 256, 84, 16, .codebook = hdl_codebook_u4, .has_mins = true);
HDL_GGML_CODEC(q3_k, 256, 110, 16, .codebook = hdl_codebook_s4);
HDL_GGML_CODEC(q4_k, 256, 144, 32, .codebook = hdl_codebook_u4, .has_mins = true,
               .scales = HDL_SCALES_FACTORS, .factors = factors_q4_k);
HDL_GGML_CODEC(q5_k, 256, 176, 32, .has_mins = true);
HDL_GGML_CODEC(q6_k, 256, 210, 16, .bits = 6, .scales = HDL_SCALES_FACTORS,
               .factors = factors_q6_k);
