/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of an FP8 cache (kv.h): the scale of a token and head, codes to and from bf16. Scalar, the
 * same on CPU and GPU; any thread. */
#pragma once

#include "kernels/numeric.h"

/* A power of two, and its inverse. */
typedef struct hdl_fp8_scale {
    float to, from;
} hdl_fp8_scale;

/* max: bits of the largest |x|. 448 is 1.75 * 2^8: what lies above 1.75 goes to the next power. Not
 * below 2^-100, so that inverses and products stay normal numbers. Of what is not finite the scale
 * is NaN, and so is all of the row. */
HDL_INLINE hdl_fp8_scale hdl_fp8_scale_of(uint32_t max)
{
    uint32_t exponent = max < 35u << 23 ? 27u : ((max + 0x1fffffu) >> 23) - 8u;
    hdl_fp8_scale scale = {hdl_f32_from_bits((254u - exponent) << 23),
                           hdl_f32_from_bits(exponent << 23)};
    if (max >= 0x7f800000u)
        scale.to = scale.from = hdl_f32_from_bits(0x7fc00000u);
    return scale;
}

/* code * scale, exact: the bits of a code, as those of an f32, are 2^-120 of its number. */
HDL_INLINE uint16_t hdl_fp8_to_bf16(uint8_t code, float scale)
{
    uint32_t bits = ((uint32_t)code & 0x80u) << 24 | ((uint32_t)code & 0x7fu) << 20;
    return (uint16_t)(hdl_f32_bits(hdl_f32_from_bits(bits) * 0x1p120f * scale) >> 16);
}

/* x [dim] of token `at` into the tile, and the row back. */
static inline void hdl_fp8_store_row(unsigned char *tile, uint32_t dim, uint32_t at, const float *x)
{
    uint32_t max = 0;
    for (uint32_t i = 0; i < dim; i++)
        max = hdl_max_u32(max, hdl_f32_bits(x[i]) & 0x7fffffffu);
    hdl_fp8_scale scale = hdl_fp8_scale_of(max);
    unsigned char *to = tile + hdl_kv8_row_at(dim, at);
    for (uint32_t i = 0; i < dim; i++)
        to[i] = hdl_e4m3_from_f32(x[i] * scale.to);
    memcpy(tile + hdl_kv8_scale_at(dim, at), &scale.from, sizeof scale.from);
}

static inline void hdl_fp8_load_row(const unsigned char *tile, uint32_t dim, uint32_t at,
                                    uint16_t *out)
{
    float scale;
    const unsigned char *from = tile + hdl_kv8_row_at(dim, at);
    memcpy(&scale, tile + hdl_kv8_scale_at(dim, at), sizeof scale);
    for (uint32_t i = 0; i < dim; i++)
        out[i] = hdl_fp8_to_bf16(from[i], scale);
}
