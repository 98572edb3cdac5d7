/* SPDX-License-Identifier: Apache-2.0 */
/* The screen, then linear over those tiles of rows that may hold one of the largest outputs. */
#include "base/assert.h"
#include "kernels/ref/ref.h"
#include "kernels/screen.h"

typedef struct screen {
    const hdl_linear_screened_args *a;
    hdl_stream *stream;
    hdl_screen_token token;
    uint32_t token_idx;
    float *y; /* of the token: the screen's outputs, then the result */
} screen;

static hdl_screen_range range_at(const screen *s, uint32_t row)
{
    const hdl_screen_norms *n = &s->a->norms;
    return hdl_screen_range_of(s->y[row], (hdl_screen_token){n->err[row], n->size[row]}, s->token);
}

/* Rows from `row` on of one tile, as linear has them. */
static void compute(const screen *s, uint32_t row, uint32_t n)
{
    const hdl_linear_args *l = s->a->linear;
    hdl_weight part = *l->w;
    size_t row_bytes = (size_t)part.k * (part.format == HDL_WFORMAT_F32 ? 4 : 2);
    part.data = (unsigned char *)l->w->data + row * row_bytes;
    part.bytes = n * row_bytes;
    part.n = n;
    hdl_linear_args args = *l;
    args.x += s->token_idx * l->x_stride;
    args.w = &part;
    args.y = s->y + row;
    args.n_tokens = 1;
    hdl_ref_linear(&args, s->stream);
    if (s->a->n_tiles)
        ++*s->a->n_tiles;
}

static void run_token(const screen *s)
{
    uint32_t n = s->a->linear->w->n, n_rows = s->a->n_rows;
    hdl_screen_best best;
    hdl_screen_best_open(&best, s->a->keep[s->token_idx]);
    for (uint32_t row = 0; row < n_rows; row++)
        hdl_screen_best_add(&best, range_at(s, row).low);
    float floor = hdl_screen_floor(hdl_screen_least(&best), s->a->softcap);
    for (uint32_t at = 0; at < n; at += HDL_SCREEN_TILE) {
        uint32_t end = hdl_min_u32(n, at + HDL_SCREEN_TILE);
        bool wanted = false;
        for (uint32_t row = at; row < hdl_min_u32(end, n_rows); row++)
            wanted = wanted || range_at(s, row).high >= floor;
        if (wanted)
            compute(s, at, end - at);
        for (uint32_t row = at; row < end && !wanted; row++)
            s->y[row] = HDL_SCREENED;
    }
}

void hdl_ref_linear_screened(const hdl_linear_screened_args *a, hdl_stream *stream)
{
    const hdl_linear_args *l = a->linear;
    HDL_ASSERT_LE(l->n_tokens, HDL_SCREEN_TOKENS_MAX);
    HDL_ASSERT_LE(a->n_rows, l->w->n);
    HDL_ASSERT(!l->w->more && !l->bias && !l->x_ints);
    HDL_ASSERT(l->w->format == HDL_WFORMAT_F32 || l->w->format == HDL_WFORMAT_BF16);
    hdl_linear_args approximate = *l;
    approximate.w = a->q8;
    hdl_ref_linear(&approximate, stream);
    for (uint32_t t = 0; t < l->n_tokens; t++) {
        HDL_ASSERT(a->keep[t] > 0 && a->keep[t] <= HDL_SCREEN_KEEP_MAX);
        screen s = {.a = a,
                    .stream = stream,
                    .token = hdl_screen_token_of(l->x + t * l->x_stride, l->w->k, l->w->format),
                    .token_idx = t,
                    .y = l->y + t * l->y_stride};
        run_token(&s);
    }
}
