/* SPDX-License-Identifier: Apache-2.0 */
/* hdl_source_values with vectors for what most files hold: contiguous F32, F16 and BF16. Same
 * values; any thread. */
#pragma once

#include "kernels/cpu/cpu.h"

V16_FN v16 hdl_source_load(const unsigned char *row, hdl_enc encoding, uint32_t i)
{
    if (encoding == HDL_ENC_F32)
        return v16_load((const float *)(const void *)row + i);
    const uint16_t *h = (const uint16_t *)(const void *)row + i;
    return encoding == HDL_ENC_F16 ? v16_load_f16(h) : v16_load_bf16(h);
}

static inline bool hdl_source_is_plain(const hdl_source *s)
{
    return (s->encoding == HDL_ENC_F32 || s->encoding == HDL_ENC_F16 ||
            s->encoding == HDL_ENC_BF16) &&
           s->tiles.each == 0;
}

static inline void hdl_source_row(const hdl_source *s, hdl_span at, float *out)
{
    bool plain = hdl_source_is_plain(s);
    uint32_t whole = at.n / HDL_LANES * HDL_LANES, size = s->encoding == HDL_ENC_F32 ? 4 : 2;
    if (plain && s->codes.col_step == size && whole > 0) {
        const unsigned char *row = (const unsigned char *)s->codes.data +
                                   (s->row_at + at.row) * s->codes.row_step +
                                   (s->col_at + at.col) * (int64_t)size;
        for (uint32_t i = 0; i < whole; i += HDL_LANES)
            v16_store(out + i, hdl_source_load(row, s->encoding, i));
        at.col += whole;
        at.n -= whole;
        out += whole;
    }
    if (at.n > 0)
        hdl_source_values(s, at, out);
}

/* Transposed: neighbours in a row lie far apart, those in a column beside each other. */
static inline bool hdl_source_is_strided(const hdl_source *s)
{
    return hdl_source_is_plain(s) && s->codes.col_step > 2 * s->codes.row_step;
}

/* n_rows rows of such a source from at.row on, HDL_SOURCE_PIECE floats apart in out: each cache
 * line is read once. Row by row, packing a [5120, 16384] matrix of experts took 12 ns a value
 * instead of 5. */
enum { HDL_SOURCE_PIECE = 256 };
static inline void hdl_source_strip(const hdl_source *s, hdl_span at, uint32_t n_rows, float *out)
{
    const unsigned char *col = (const unsigned char *)s->codes.data +
                               (s->row_at + at.row) * s->codes.row_step +
                               (s->col_at + at.col) * s->codes.col_step;
    for (uint32_t c = 0; c < at.n; c++, col += s->codes.col_step) {
        const unsigned char *p = col;
        for (uint32_t r = 0; r < n_rows; r++, p += s->codes.row_step) {
            float *to = out + (size_t)r * HDL_SOURCE_PIECE + c;
            uint16_t h;
            if (s->encoding == HDL_ENC_F32) {
                memcpy(to, p, sizeof *to);
                continue;
            }
            memcpy(&h, p, sizeof h);
            *to = s->encoding == HDL_ENC_F16 ? hdl_f16_to_f32(h) : hdl_bf16_to_f32(h);
        }
    }
}
