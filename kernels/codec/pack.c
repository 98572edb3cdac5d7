/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/codec/pack.h"

#include "base/assert.h"
#include "kernels/codec/codec.h"

bool hdl_kind_keeps(hdl_enc encoding, hdl_wkind kind)
{
    const hdl_wformat_info *info = hdl_wformat_info_of(kind.format);
    const hdl_codec *c = hdl_codec_of(encoding);
    switch (kind.format) {
    case HDL_WFORMAT_F32: return true;
    case HDL_WFORMAT_BF16: return encoding == HDL_ENC_BF16;
    case HDL_WFORMAT_FP8:
    case HDL_WFORMAT_FP8_64:
    case HDL_WFORMAT_FP8_32: return encoding == HDL_ENC_E4M3;
    default:
        return c->group == info->group && c->has_mins == info->has_mins &&
               (info->scales == HDL_SCALES_F32 || info->scales == c->scales) &&
               (info->bits == 8 || (info->bits == 6 && c->bits == 6) ||
                (c->codebook && c->codebook == kind.codebook));
    }
}

static void quantize(const float *x, hdl_wkind kind, hdl_pack_piece *out)
{
    bool q8 = kind.format == HDL_WFORMAT_Q8;
    HDL_ASSERT(q8 || (kind.format == HDL_WFORMAT_Q4 && kind.codebook == hdl_codebook_s4));
    out->scales[0] = q8 ? hdl_q8_scale(x) : hdl_q4_scale(x);
    for (int i = 0; i < HDL_SOURCE_UNIT; i++)
        out->codes[i] =
            q8 ? hdl_q8_round(x[i], out->scales[0]) : hdl_q4_round(x[i], out->scales[0]);
}

void hdl_pack_ints(const hdl_source *s, hdl_span at, hdl_wkind kind, hdl_pack_piece *out)
{
    float x[HDL_SOURCE_UNIT];
    HDL_ASSERT_EQ(at.n, HDL_SOURCE_UNIT);
    if (hdl_kind_keeps(s->encoding, kind)) {
        hdl_codes to = {.codes = out->codes, .scales = out->scales, .mins = out->mins};
        hdl_source_codes(s, at, &to);
        if (hdl_wformat_info_of(kind.format)->scales == HDL_SCALES_FACTORS)
            out->factors = hdl_source_factors(s, at);
        return;
    }
    hdl_source_values(s, at, x);
    quantize(x, kind, out);
}

float hdl_pack_fp8(const hdl_source *s, hdl_span at, uint8_t *codes)
{
    uint32_t row = s->row_at + at.row, col = s->col_at + at.col;
    const unsigned char *p = hdl_plane_at(&s->codes, row, col);
    float scale = hdl_source_scale(s, row, col) * 256.0f;
    for (uint32_t i = 0; i < at.n; i++, p += s->codes.col_step) {
        codes[i] = *p;
        if ((*p & 0x7f) == 0x7f)
            scale = hdl_f32_from_bits(0x7fc00000u);
    }
    return scale;
}
