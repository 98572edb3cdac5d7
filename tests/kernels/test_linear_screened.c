/* SPDX-License-Identifier: Apache-2.0 */
/* linear_screened: what it computes has the bits of linear, what it leaves out is less than the
 * wanted ones even after a softcap and a division, whatever the numbers; all levels and thread
 * counts agree, and a token alone equals the token in a batch. */
#include <math.h>

#include "kernel_test.h"
#include "kernels/numeric.h"

typedef enum kind {
    RANDOM,
    EQUAL,    /* few different rows, each many times */
    NEAR,     /* rows that differ in their last bits */
    ZERO,     /* of rows and of a token */
    HUGE_W,   /* some rows near the end of the numbers */
    TINY,     /* logits below the smallest normal number */
    SPIKY,    /* a few values of a token tower over the others */
    LARGE,    /* logits that a softcap makes equal */
    HIDDEN_X, /* what rounding the tokens hides decides, and the screen's order is the other one */
    HIDDEN_W, /* likewise of the rows */
    BROKEN,   /* a token that is none, one with an infinity, one too large to be bounded */
} kind;

typedef struct shape {
    kind kind;
    hdl_wformat format;
    uint32_t n, n_rows, k, n_tokens, keep; /* keep: the largest of the tokens' */
    float softcap;
} shape;

#define F32  HDL_WFORMAT_F32
#define BF16 HDL_WFORMAT_BF16
static const shape shapes[] = {
    {RANDOM, BF16, 2048, 2048, 256, 4, 1, 0}, {RANDOM, BF16, 1000, 983, 96, 8, 20, 0},
    {RANDOM, F32, 4099, 4001, 64, 3, 64, 0},  {RANDOM, BF16, 40, 1, 64, 2, 3, 0},
    {RANDOM, BF16, 300, 0, 32, 2, 3, 0},      {RANDOM, BF16, 2048, 2048, 128, 2, 5, 30},
    {EQUAL, BF16, 700, 700, 64, 3, 8, 0},     {EQUAL, F32, 333, 300, 96, 5, 1, 2},
    {NEAR, BF16, 640, 640, 96, 4, 3, 0},      {NEAR, F32, 640, 600, 64, 4, 16, 0.5f},
    {ZERO, BF16, 200, 180, 64, 3, 2, 0},      {HUGE_W, F32, 400, 400, 64, 2, 4, 0},
    {HUGE_W, BF16, 400, 390, 64, 2, 4, 0},    {TINY, F32, 320, 320, 64, 3, 4, 0},
    {SPIKY, BF16, 1024, 1024, 320, 4, 10, 0}, {LARGE, BF16, 800, 800, 128, 4, 6, 0.01f},
    {LARGE, F32, 800, 790, 128, 4, 1, 5},     {HIDDEN_X, BF16, 640, 640, 96, 2, 1, 0},
    {HIDDEN_X, F32, 320, 300, 320, 1, 5, 0},  {HIDDEN_W, BF16, 640, 640, 96, 2, 1, 0},
    {HIDDEN_W, F32, 320, 300, 320, 3, 5, 0},  {BROKEN, BF16, 512, 512, 64, 6, 4, 0},
};

typedef struct input {
    const shape *s;
    hdl_tensor w; /* F32 [n, k] */
    float *x;     /* [n_tokens, stride] */
    size_t x_stride, y_stride;
    uint32_t *keep;
    uint32_t n_tokens;
} input;

static void fill_rows(kt *t, const shape *s, float *w)
{
    static const float scales[] = {[TINY] = 1e-25f, [LARGE] = 3.0f};
    float scale = s->kind < HDL_ARRAY_LEN(scales) && scales[s->kind] > 0 ? scales[s->kind] : 0.1f;
    for (size_t row = 0; row < s->n; row++)
        for (size_t i = 0; i < s->k; i++) {
            float *to = &w[row * s->k + i], from = scale * kt_normal(t);
            if (s->kind == EQUAL && row >= 5)
                from = w[row % 5 * s->k + i];
            if (s->kind == NEAR && row > 0)
                from =
                    w[i] * (1 + (float)kt_range(t, 0, 2) * (s->format == F32 ? 0x1p-22f : 0.004f));
            if (s->kind == ZERO && row % 3 != 1)
                from = 0;
            if (s->kind == HUGE_W && row % 37 == 5)
                from *= 1e37f;
            *to = from;
        }
}

/* Groups begin with 127, so that integers are their own codes. Then pairs: of 50.25 and -49.75 Q8
 * makes 50 and -50, whose sum hides the half. The second number of all is what the screen sees. */
static void hide(const input *in, float *w)
{
    const shape *s = in->s;
    bool of_x = s->kind == HIDDEN_X;
    for (uint32_t row = 0; row < s->n; row++)
        for (uint32_t i = 0; i < s->k; i++) {
            uint32_t place = i % HDL_Q8_GROUP, level = row * 40 / s->n;
            float *to = &w[(size_t)row * s->k + i];
            if (place == 0)
                *to = 127;
            else if (place == 1)
                *to = i == 1 ? 40 - (float)level : 0;
            else if (of_x)
                *to = (float)level;
            else
                *to = (i % 2 == 0 ? 50 : -50) + (i / 2 % 40 < level ? 0.25f : 0);
        }
    for (uint32_t tok = 0; tok < s->n_tokens; tok++)
        for (uint32_t i = 0; i < s->k; i++) {
            float *x = &in->x[tok * in->x_stride + i], pair = i % 2 == 0 ? 50.25f : -49.75f;
            uint32_t place = i % HDL_Q8_GROUP;
            *x = place == 0 ? 127 : place == 1 ? 1 : of_x ? pair : 4;
        }
}

static void fill_tokens(kt *t, const input *in)
{
    const shape *s = in->s;
    for (size_t tok = 0; tok < s->n_tokens; tok++) {
        float *x = in->x + tok * in->x_stride;
        uint32_t at = kt_range(t, 0, s->k - 1);
        if (s->kind == ZERO && tok == 1)
            memset(x, 0, s->k * sizeof *x);
        if (s->kind == SPIKY)
            x[at] *= 300;
        for (size_t i = 0; s->kind == TINY && i < s->k; i++)
            x[i] *= 1e-15f;
        if (s->kind == BROKEN && tok % 2 == 1)
            x[at] = tok == 1 ? NAN : tok == 3 ? INFINITY : 1e20f;
    }
}

/* A matrix, its copy and its norms, as `ops` holds them. */
typedef struct packed {
    hdl_weight w, q8;
    hdl_screen_norms norms;
} packed;

static packed pack(kt *t, const input *in, const hdl_ops *ops)
{
    const shape *s = in->s;
    size_t rows = (s->n + HDL_SCREEN_TILE - 1) / HDL_SCREEN_TILE * HDL_SCREEN_TILE;
    packed p = {.w = kt_pack(t, ops, s->format, in->w, 1),
                .q8 = kt_pack(t, ops, HDL_WFORMAT_Q8, in->w, 1),
                .norms = {.err = KT_NEW(t, float, rows), .size = KT_NEW(t, float, rows)}};
    hdl_source src = hdl_source_of_tensor(&in->w);
    uint32_t half = s->n / 2;
    hdl_source lower = hdl_source_part(&src, (hdl_window){half, s->n - half, 0, s->k});
    src = hdl_source_part(&src, (hdl_window){0, half, 0, s->k});
    hdl_screen_norms_fill(
        &(hdl_screen_norms_args){.src = &src, .exact = (int)s->format, .out = p.norms});
    hdl_screen_norms_fill(&(hdl_screen_norms_args){
        .src = &lower, .exact = (int)s->format, .out = p.norms, .at = half});
    return p;
}

static hdl_linear_args linear_of(const input *in, const packed *p, float *y)
{
    return (hdl_linear_args){.x = in->x,
                             .x_stride = in->x_stride,
                             .w = &p->w,
                             .y = y,
                             .y_stride = in->y_stride,
                             .n_tokens = in->n_tokens};
}

/* Tiles that were computed. */
static uint64_t run(kt *t, const input *in, const hdl_ops *ops, hdl_stream *stream, float *y)
{
    packed p = pack(t, in, ops);
    hdl_linear_args linear = linear_of(in, &p, y);
    uint64_t n_tiles = 0;
    ops->linear_screened(&(hdl_linear_screened_args){.linear = &linear,
                                                     .q8 = &p.q8,
                                                     .norms = p.norms,
                                                     .keep = in->keep,
                                                     .n_rows = in->s->n_rows,
                                                     .softcap = in->s->softcap,
                                                     .n_tiles = &n_tiles},
                         stream);
    return n_tiles;
}

/* What the sampler sees of an output. */
static float seen(const shape *s, float y, float temperature)
{
    return (s->softcap > 0 ? hdl_softcap(y, s->softcap) : y) / temperature;
}

static float kth_of(kt *t, const shape *s, const float *full, uint32_t keep)
{
    float *best = KT_NEW(t, float, keep + 1);
    for (uint32_t i = 0; i < keep; i++)
        best[i] = -INFINITY;
    for (uint32_t row = 0; row < s->n_rows; row++)
        for (uint32_t i = 0, v = row; i < keep && v == row; i++)
            if (full[row] > best[i]) {
                memmove(best + i + 1, best + i, (keep - i) * sizeof *best);
                best[i] = full[row];
                v = row + 1; /* it has its place */
            }
    return best[keep - 1];
}

/* One token's outputs against linear's. */
static void check_token(kt *t, const input *in, const float *full, const float *y, uint32_t tok)
{
    static const float temperatures[] = {1, 0.7f, 3.3f, 1e6f, 1e-4f};
    const shape *s = in->s;
    float kth = kth_of(t, s, full, in->keep[tok]);
    bool same = true, whole = true, less = true;
    uint32_t n_computed = 0;
    for (uint32_t row = 0; row < s->n; row++) {
        bool screened = y[row] == HDL_SCREENED;
        n_computed += !screened;
        same = same && (screened || memcmp(&y[row], &full[row], sizeof *y) == 0);
        whole = whole && (row % HDL_SCREEN_TILE == 0 || screened == (y[row - 1] == HDL_SCREENED));
        for (size_t i = 0; screened && row < s->n_rows && i < HDL_ARRAY_LEN(temperatures); i++) {
            float floor = seen(s, kth, temperatures[i]);
            less = less && seen(s, full[row], temperatures[i]) < floor &&
                   seen(s, HDL_SCREENED, temperatures[i]) < floor;
        }
    }
    kt_check(t, same, "computed outputs have linear's bits");
    kt_check(t, whole, "whole tiles are computed");
    kt_check(t, less, "what is left out is less than the wanted ones");
    kt_check(t, s->n_rows == 0 || n_computed > 0, "something is computed");
}

static void check(kt *t, const input *in, const float *y, uint64_t n_tiles)
{
    const shape *s = in->s;
    packed p = pack(t, in, t->ref);
    float *full = KT_NEW(t, float, in->n_tokens * in->y_stride);
    hdl_linear_args linear = linear_of(in, &p, full);
    t->ref->linear(&linear, t->streams[0]);
    uint64_t all = (uint64_t)in->n_tokens * ((s->n + HDL_SCREEN_TILE - 1) / HDL_SCREEN_TILE);
    for (uint32_t tok = 0; tok < in->n_tokens; tok++) {
        const float *got = y + tok * in->y_stride;
        bool broken = s->kind == BROKEN && tok % 2 == 1, any = false;
        if (!broken)
            check_token(t, in, full + tok * in->y_stride, got, tok);
        for (uint32_t row = 0; row < s->n; row++)
            any = any || got[row] == HDL_SCREENED;
        kt_check(t, !broken || !any, "of a token without bounds all is computed");
    }
    if (s->kind == RANDOM && s->k >= 128)
        kt_check(t, n_tiles < all / 2, "most tiles of random numbers are left out");
    kt_check(t, n_tiles <= all, "no tile is computed twice");
}

static void check_alone(kt *t, const input *in, const float *y, int level, int stream)
{
    input alone = *in;
    uint32_t token = kt_range(t, 0, in->n_tokens - 1);
    float *got = KT_NEW(t, float, in->y_stride);
    alone.n_tokens = 1;
    alone.x = in->x + token * in->x_stride;
    alone.keep = in->keep + token;
    run(t, &alone, t->levels[level], t->streams[stream], got);
    if (in->s->kind != BROKEN)
        kt_same(t, kt_name(t, "a token alone", level, stream), y + token * in->y_stride, got,
                in->s->n);
}

static void test(kt *t, int case_idx)
{
    const shape *s = &shapes[case_idx];
    input in = {.s = s,
                .n_tokens = s->n_tokens,
                .x_stride = s->k + kt_range(t, 0, 3),
                .y_stride = s->n + kt_range(t, 0, 3)};
    float *w = KT_NEW(t, float, (size_t)s->n * s->k);
    fill_rows(t, s, w);
    in.w = hdl_tensor_2d(w, HDL_DTYPE_F32, s->n, s->k);
    in.x = kt_floats(t, s->n_tokens * in.x_stride, 1.0f);
    fill_tokens(t, &in);
    if (s->kind == HIDDEN_X || s->kind == HIDDEN_W)
        hide(&in, w);
    in.keep = KT_NEW(t, uint32_t, s->n_tokens);
    for (uint32_t i = 0; i < s->n_tokens; i++)
        in.keep[i] = i == 0 ? s->keep : kt_range(t, 1, s->keep);
    size_t count = s->n_tokens * in.y_stride;
    float *want = KT_NEW(t, float, count);
    check(t, &in, want, run(t, &in, t->ref, t->streams[0], want));
    KT_EACH(t, level, stream)
    {
        float *got = KT_NEW(t, float, count);
        uint64_t n_tiles = run(t, &in, t->levels[level], t->streams[stream], got);
        if (s->kind == BROKEN) {
            check(t, &in, got, n_tiles);
            continue;
        }
        kt_same(t, kt_name(t, "linear_screened", level, stream), want, got, count);
        check_alone(t, &in, got, level, stream);
    }
}

const kt_suite kt_linear_screened = {"linear_screened", HDL_ARRAY_LEN(shapes), test};
