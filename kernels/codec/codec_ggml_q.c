/* SPDX-License-Identifier: Apache-2.0 */
/* ggml's plain types: 32 values with one scale, the "_1" types with a minimum too; and MXFP4 as
 * GGUF stores it. Sixteen bytes of halves hold values 0..15 low and 16..31 high. */
#include "kernels/codec/codec_ggml.h"

static void halves(const uint8_t *qs, int8_t *codes, int offset)
{
    for (int i = 0; i < 16; i++) {
        codes[i] = (int8_t)((qs[i] & 15) + offset);
        codes[i + 16] = (int8_t)((qs[i] >> 4) + offset);
    }
}

/* qh: bit i is the fifth bit of value i. */
static void halves_and_bits(const uint8_t *qs, uint32_t qh, const hdl_codes *out, int offset)
{
    halves(qs, out->codes, offset);
    for (int i = 0; i < 32; i++)
        out->codes[i] = (int8_t)(out->codes[i] + (int)(qh >> i & 1) * 16);
}

/* d, 16 bytes */
static void unit_q4_0(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    halves(block + 2, out->codes, -8);
}

/* d, m, 16 bytes */
static void unit_q4_1(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    out->mins[0] = hdl_ggml_f16(block + 2);
    halves(block + 4, out->codes, 0);
}

/* d, u32 of fifth bits, 16 bytes */
static void unit_q5_0(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    halves_and_bits(block + 6, hdl_ggml_u32(block + 2), out, -16);
}

/* d, m, u32 of fifth bits, 16 bytes */
static void unit_q5_1(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    out->mins[0] = hdl_ggml_f16(block + 2);
    halves_and_bits(block + 8, hdl_ggml_u32(block + 4), out, 0);
}

/* d, 32 int8 */
static void unit_q8_0(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    memcpy(out->codes, block + 2, 32);
}

/* d, 16 bytes of halves that index a codebook */
static void unit_iq4_nl(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    (void)unit;
    out->scales[0] = hdl_ggml_f16(block);
    for (int i = 0; i < 16; i++) {
        out->codes[i] = hdl_codebook_iq4nl[block[2 + i] & 15];
        out->codes[i + 16] = hdl_codebook_iq4nl[block[2 + i] >> 4];
    }
}

/* E8M0 exponent, 16 bytes of E2M1. The codes are doubled, so the scale is half of 2^(e - 127); ggml
 * gives 255, which OCP calls NaN, no special meaning. */
static void unit_mxfp4(const uint8_t *block, uint32_t unit, const hdl_codes *out)
{
    uint32_t e = block[0];
    (void)unit;
    out->scales[0] = hdl_f32_from_bits(e < 2 ? UINT32_C(0x00200000) << e : (e - 1) << 23);
    for (int i = 0; i < 16; i++) {
        out->codes[i] = hdl_codebook_e2m1[block[1 + i] & 15];
        out->codes[i + 16] = hdl_codebook_e2m1[block[1 + i] >> 4];
    }
}

HDL_GGML_CODEC(q4_0, 32, 18, 32, .codebook = hdl_codebook_s4, .scales = HDL_SCALES_F16);
HDL_GGML_CODEC(q4_1, 32, 20, 32, .codebook = hdl_codebook_u4, .has_mins = true);
HDL_GGML_CODEC(q5_0, 32, 22, 32, .scales = HDL_SCALES_F16);
HDL_GGML_CODEC(q5_1, 32, 24, 32, .has_mins = true);
HDL_GGML_CODEC(q8_0, 32, 34, 32, .scales = HDL_SCALES_F16);
HDL_GGML_CODEC(iq4_nl, 32, 18, 32, .codebook = hdl_codebook_iq4nl, .scales = HDL_SCALES_F16);
HDL_GGML_CODEC(mxfp4, 32, 17, 32, .codebook = hdl_codebook_e2m1);
