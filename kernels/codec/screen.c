/* SPDX-License-Identifier: Apache-2.0 */
/* Norms of a matrix and of its copy as Q8, for op linear_screened. Cold, but a head has hundreds of
 * millions of numbers: loops over 32 of them that compilers make vectors of. Any thread. */
#include "kernels/screen.h"

#include "kernels/codec/pack.h"

enum { UNIT = HDL_SOURCE_UNIT, LANES = 4, PIECE = 8 * UNIT };

/* 32 numbers as Q8 has them. */
typedef struct copied {
    float scale, codes[UNIT];
} copied;

/* hdl_q8_round without its clamps: codes are at most 127 but for subnormal scales, whose numbers
 * are lost in the slack of the bound. 1.5 * 2^23 leaves no place behind the point. */
static void quantize(const float *w, copied *out)
{
    const float scale = hdl_q8_scale(w), round = 12582912.0f, by = scale == 0.0f ? 1 : scale;
    out->scale = scale;
    for (int i = 0; i < UNIT; i++)
        out->codes[i] = w[i] / by + round - round;
}

static void copy(const hdl_source *src, hdl_span at, const float *w, copied *out)
{
    const hdl_wkind q8 = {HDL_WFORMAT_Q8, NULL};
    hdl_pack_piece piece;
    if (!hdl_kind_keeps(src->encoding, q8)) {
        quantize(w, out);
        return;
    }
    hdl_pack_ints(src, at, q8, &piece);
    out->scale = piece.scales[0];
    for (int i = 0; i < UNIT; i++)
        out->codes[i] = piece.codes[i];
}

/* Sums of squares in lanes. */
typedef struct squares {
    double off[LANES], size[LANES];
} squares;

static void add(const float *w, const copied *c, squares *s)
{
    const double scale = (double)c->scale;
    for (int i = 0; i < UNIT; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double v = scale * (double)c->codes[i + lane], d = (double)w[i + lane] - v;
            s->off[lane] += d * d;
            s->size[lane] += v * v;
        }
}

static float norm_of(const double sums[LANES])
{
    return hdl_screen_norm((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Columns [at.col, at.col + at.n) of a row. */
static void add_piece(const hdl_screen_norms_args *a, hdl_span at, squares *s)
{
    float values[PIECE];
    hdl_source_values(a->src, at, values);
    for (uint32_t from = 0; from < at.n; from += UNIT) {
        float *w = values + from;
        copied c;
        copy(a->src, (hdl_span){at.row, at.col + from, UNIT}, w, &c);
        for (int i = 0; a->exact == HDL_WFORMAT_BF16 && i < UNIT; i++)
            w[i] = hdl_bf16_to_f32(hdl_bf16_from_f32(w[i]));
        add(w, &c, s);
    }
}

void hdl_screen_norms_fill(const hdl_screen_norms_args *a)
{
    const uint32_t n = a->src->n_cols;
    for (uint32_t row = 0; row < a->src->n_rows; row++) {
        squares s = {{0}, {0}};
        for (uint32_t at = 0; at < n; at += PIECE)
            add_piece(a, (hdl_span){row, at, hdl_min_u32(PIECE, n - at)}, &s);
        a->out.err[a->at + row] = norm_of(s.off);
        a->out.size[a->at + row] = norm_of(s.size);
    }
}
