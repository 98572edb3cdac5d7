/* SPDX-License-Identifier: Apache-2.0 */
/* Norms of a matrix and of its copy as Q8, for op linear_screened. Cold; any thread. */
#include "kernels/screen.h"

#include "kernels/codec/pack.h"

void hdl_screen_norms_fill(const hdl_screen_norms_args *a)
{
    const hdl_wkind q8 = {HDL_WFORMAT_Q8, NULL};
    for (uint32_t row = 0; row < a->src->n_rows; row++) {
        double off = 0, square = 0;
        for (uint32_t at = 0; at < a->src->n_cols; at += HDL_SOURCE_UNIT) {
            const hdl_span span = {row, at, HDL_SOURCE_UNIT};
            float w[HDL_SOURCE_UNIT];
            hdl_pack_piece piece;
            hdl_source_values(a->src, span, w);
            hdl_pack_ints(a->src, span, q8, &piece);
            for (uint32_t i = 0; i < HDL_SOURCE_UNIT; i++) {
                if (a->exact == HDL_WFORMAT_BF16)
                    w[i] = hdl_bf16_to_f32(hdl_bf16_from_f32(w[i]));
                double v = (double)piece.scales[0] * piece.codes[i], d = (double)w[i] - v;
                off += d * d;
                square += v * v;
            }
        }
        a->out.err[a->at + row] = hdl_screen_norm(off);
        a->out.size[a->at + row] = hdl_screen_norm(square);
    }
}
