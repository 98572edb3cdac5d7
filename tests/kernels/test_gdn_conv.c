/* SPDX-License-Identifier: Apache-2.0 */
/* gdn_conv: levels and threads equal ref; two chunks equal the whole, in outputs and in what is
 * kept; a row at position 0 does not see its entry (NaN here); ref equals the formula in double. */
#include <math.h>
#include <string.h>

#include "paged.h"

enum { ROWS = 3 };
static const struct {
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim, taps;
    uint32_t pos[ROWS], n_tokens[ROWS];
} shapes[] = {
    {1, 1, 16, 16, 4, {0, 5, 0}, {1, 1, 9}},     {2, 4, 32, 16, 4, {7, 0, 100}, {2, 3, 40}},
    {2, 6, 24, 40, 2, {1, 0, 3}, {5, 2, 1}},     {1, 3, 7, 19, 5, {0, 2, 9}, {3, 4, 2}},
    {4, 8, 128, 128, 4, {0, 3, 64}, {70, 1, 2}},
};

typedef struct conv {
    hdl_gdn_conv_args a;
    hdl_attn_row *rows; /* [ROWS] */
    uint32_t *entries;  /* [ROWS] */
    uint32_t channels;
    size_t state_floats;
    float *state; /* before the call */
} conv;

static conv make(kt *t, int c)
{
    static const uint32_t entries[ROWS] = {2, 0, 3};
    conv v = {.rows = KT_NEW(t, hdl_attn_row, ROWS), .entries = KT_NEW(t, uint32_t, ROWS)};
    memcpy(v.entries, entries, sizeof entries);
    uint32_t n_tokens = 0;
    v.channels = 2 * shapes[c].n_k_heads * shapes[c].k_dim + shapes[c].n_v_heads * shapes[c].v_dim;
    size_t at = 11, entry = at + (size_t)(shapes[c].taps - 1) * v.channels + 5;
    v.state_floats = 4 * entry;
    v.state = kt_floats(t, v.state_floats, 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        v.rows[r] = (hdl_attn_row){
            .token_at = n_tokens, .n_tokens = shapes[c].n_tokens[r], .pos = shapes[c].pos[r]};
        n_tokens += shapes[c].n_tokens[r];
        for (size_t i = 0; shapes[c].pos[r] == 0 && i < entry - at; i++)
            v.state[v.entries[r] * entry + at + i] = NAN;
    }
    v.a = (hdl_gdn_conv_args){.x = kt_floats(t, (size_t)n_tokens * (v.channels + 3), 1),
                              .x_stride = v.channels + 3,
                              .w = kt_floats(t, (size_t)shapes[c].taps * v.channels, 0.5f),
                              .taps = shapes[c].taps,
                              .n_k_heads = shapes[c].n_k_heads,
                              .n_v_heads = shapes[c].n_v_heads,
                              .k_dim = shapes[c].k_dim,
                              .v_dim = shapes[c].v_dim,
                              .n_rows = ROWS,
                              .n_tokens = n_tokens,
                              .state = {.n_entries = 4, .entry_floats = entry},
                              .state_at = at};
    return v;
}

/* Outputs and states of a call that starts from v->state. */
typedef struct result {
    float *y, *state;
} result;

static result run(kt *t, conv *v, const hdl_ops *ops, hdl_stream *stream)
{
    result r = {.y = KT_NEW(t, float, (size_t)v->a.n_tokens * v->channels),
                .state = KT_NEW(t, float, v->state_floats)};
    memcpy(r.state, v->state, v->state_floats * sizeof *r.state);
    for (uint32_t i = 0; i < ROWS; i++)
        v->rows[i].table = &v->entries[i];
    hdl_gdn_conv_args a = v->a;
    a.rows = v->rows;
    a.y = r.y;
    a.state.data = r.state;
    ops->gdn_conv(&a, stream);
    return r;
}

/* The last token of the last row: a value of v, and one of k with its norm. */
static void check_exact(kt *t, const conv *v, const float *y)
{
    const hdl_gdn_conv_args *a = &v->a;
    const hdl_attn_row *row = &v->rows[ROWS - 1];
    uint32_t keys = a->n_k_heads * a->k_dim;
    double *raw = KT_NEW(t, double, v->channels), norm = 0;
    for (uint32_t ch = 0; ch < v->channels; ch++) {
        double sum = 0;
        for (uint32_t i = 0; i < a->taps; i++) {
            int32_t idx = (int32_t)(row->n_tokens - 1 + i) - (int32_t)(a->taps - 1);
            double x = 0;
            if (idx >= 0)
                x = (double)a->x[(row->token_at + (uint32_t)idx) * a->x_stride + ch];
            else if (row->pos > 0)
                x = (double)v->state[v->entries[ROWS - 1] * a->state.entry_floats + a->state_at +
                                     (uint32_t)(idx + (int32_t)a->taps - 1) * v->channels + ch];
            sum += (double)a->w[i * v->channels + ch] * x;
        }
        raw[ch] = sum / (1 + exp(-sum));
    }
    for (uint32_t i = 0; i < a->k_dim; i++)
        norm += raw[keys + i] * raw[keys + i];
    double want[] = {raw[2 * keys + 3], raw[keys + 1] / sqrt(norm + 1e-6)}, bound[] = {1e-5, 1e-5};
    const float *last = y + (size_t)(row->token_at + row->n_tokens - 1) * v->channels;
    float got[] = {last[2 * keys + 3], last[keys + 1]};
    kt_near(t, "ref against the formula", (kt_exact){want, bound, 2}, got);
}

/* The longest row cut in two: a step up to the cut, and one from there. */
static void check_chunks(kt *t, conv *v, result whole, int level)
{
    const uint32_t r = v->rows[0].n_tokens > v->rows[ROWS - 1].n_tokens ? 0 : ROWS - 1;
    hdl_attn_row *row = KT_NEW(t, hdl_attn_row, 1);
    uint32_t cut = kt_range(t, 1, v->rows[r].n_tokens - 1);
    size_t at = v->rows[r].token_at;
    *row = v->rows[r];
    float *state = KT_NEW(t, float, v->state_floats);
    float *y = KT_NEW(t, float, (size_t)v->a.n_tokens * v->channels);
    memcpy(state, v->state, v->state_floats * sizeof *state);
    hdl_gdn_conv_args a = v->a;
    a.rows = row;
    a.n_rows = 1;
    a.state.data = state;
    row->token_at = 0; /* a step of these tokens alone */
    for (uint32_t from = 0, to = cut; from < v->rows[r].n_tokens;
         from = to, to = v->rows[r].n_tokens) {
        row->pos = v->rows[r].pos + from;
        a.n_tokens = row->n_tokens = to - from;
        a.x = v->a.x + (at + from) * a.x_stride;
        a.y = y + (at + from) * v->channels;
        t->levels[level]->gdn_conv(&a, t->streams[1]);
    }
    kt_same(t, kt_name(t, "two chunks", level, 1), whole.y + at * v->channels, y + at * v->channels,
            (size_t)v->rows[r].n_tokens * v->channels);
    size_t entry = v->entries[r] * a.state.entry_floats;
    kt_same(t, kt_name(t, "entry after two chunks", level, 1), whole.state + entry, state + entry,
            a.state.entry_floats);
}

static void test(kt *t, int c)
{
    conv v = make(t, c);
    result want = run(t, &v, t->ref, t->streams[0]);
    check_exact(t, &v, want.y);
    KT_EACH(t, level, stream)
    {
        result got = run(t, &v, t->levels[level], t->streams[stream]);
        kt_same(t, kt_name(t, "gdn_conv", level, stream), want.y, got.y,
                (size_t)v.a.n_tokens * v.channels);
        kt_same(t, kt_name(t, "states", level, stream), want.state, got.state, v.state_floats);
        if (stream == 1)
            check_chunks(t, &v, want, level);
    }
}

const kt_suite kt_gdn_conv = {"gdn_conv", HDL_ARRAY_LEN(shapes), test};
