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

static inline void hdl_source_row(const hdl_source *s, hdl_span at, float *out)
{
    bool plain =
        s->encoding == HDL_ENC_F32 || s->encoding == HDL_ENC_F16 || s->encoding == HDL_ENC_BF16;
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
