/* SPDX-License-Identifier: Apache-2.0 */
/* F32, F16, BF16 with any steps: row-major, transposed, every second row. */
#include "kernels/codec/codec.h"

static const unsigned char *start(const hdl_source *s, hdl_span at)
{
    return hdl_plane_at(&s->codes, s->row_at + at.row, s->col_at + at.col);
}

static uint16_t half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

static void values_f32(const hdl_source *s, hdl_span at, float *out)
{
    const unsigned char *p = start(s, at);
    if (s->codes.col_step == sizeof *out) {
        memcpy(out, p, at.n * sizeof *out);
        return;
    }
    for (uint32_t i = 0; i < at.n; i++, p += s->codes.col_step)
        memcpy(&out[i], p, sizeof *out);
}

static void values_f16(const hdl_source *s, hdl_span at, float *out)
{
    const unsigned char *p = start(s, at);
    for (uint32_t i = 0; i < at.n; i++, p += s->codes.col_step)
        out[i] = hdl_f16_to_f32(half_at(p));
}

static void values_bf16(const hdl_source *s, hdl_span at, float *out)
{
    const unsigned char *p = start(s, at);
    for (uint32_t i = 0; i < at.n; i++, p += s->codes.col_step)
        out[i] = hdl_bf16_to_f32(half_at(p));
}

const hdl_codec hdl_codec_f32 = {.block_cols = 1, .block_bytes = 4, .values = values_f32};
const hdl_codec hdl_codec_f16 = {.block_cols = 1, .block_bytes = 2, .values = values_f16};
const hdl_codec hdl_codec_bf16 = {.block_cols = 1, .block_bytes = 2, .values = values_bf16};
