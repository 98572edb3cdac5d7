/* SPDX-License-Identifier: Apache-2.0 */
/* gated_delta: levels and threads equal ref; two chunks equal the whole, in outputs and states; a
 * row at position 0 does not see its entry (NaN here); ref stays near the recurrence in double. */
#include <math.h>
#include <string.h>

#include "paged.h"

enum { ROWS = 3 };
static const struct {
    uint32_t n_k_heads, n_v_heads, k_dim, v_dim;
    uint32_t pos[ROWS], n_tokens[ROWS];
} shapes[] = {
    {1, 1, 16, 16, {0, 5, 0}, {1, 1, 9}},   {2, 4, 32, 48, {7, 0, 100}, {2, 3, 40}},
    {2, 6, 24, 40, {1, 0, 3}, {5, 2, 2}},   {4, 8, 128, 128, {0, 3, 64}, {70, 1, 2}},
    {1, 3, 20, 112, {4, 0, 8}, {1, 17, 3}},
};

typedef struct delta {
    hdl_gated_delta_args a;
    hdl_attn_row *rows; /* [ROWS] */
    uint32_t *entries;  /* [ROWS] */
    size_t state_floats, n_out;
    float *state; /* before the call */
} delta;

static float *unit_heads(kt *t, size_t n_tokens, const delta *d)
{
    size_t keys = 2 * (size_t)d->a.n_k_heads, channels = keys * d->a.k_dim;
    channels += (size_t)d->a.n_v_heads * d->a.v_dim;
    float *x = kt_floats(t, n_tokens * channels, 1);
    for (size_t tok = 0; tok < n_tokens; tok++)
        for (size_t h = 0; h < keys; h++) {
            float *head = x + tok * channels + h * d->a.k_dim, sum = 0;
            for (uint32_t i = 0; i < d->a.k_dim; i++)
                sum += head[i] * head[i];
            for (uint32_t i = 0; i < d->a.k_dim; i++)
                head[i] /= sqrtf(sum);
        }
    return x;
}

static delta make(kt *t, int c)
{
    static const uint32_t entries[ROWS] = {2, 0, 3};
    delta d = {.rows = KT_NEW(t, hdl_attn_row, ROWS), .entries = KT_NEW(t, uint32_t, ROWS)};
    memcpy(d.entries, entries, sizeof entries);
    uint32_t n_tokens = 0, heads = shapes[c].n_v_heads;
    size_t floats = (size_t)heads * shapes[c].k_dim * shapes[c].v_dim, entry = floats + 7;
    d.state_floats = 4 * entry;
    d.state = kt_floats(t, d.state_floats, 1);
    for (uint32_t r = 0; r < ROWS; r++) {
        d.rows[r] = (hdl_attn_row){
            .token_at = n_tokens, .n_tokens = shapes[c].n_tokens[r], .pos = shapes[c].pos[r]};
        n_tokens += shapes[c].n_tokens[r];
        for (size_t i = 0; shapes[c].pos[r] == 0 && i < floats; i++)
            d.state[d.entries[r] * entry + i] = NAN;
    }
    d.n_out = (size_t)n_tokens * heads * shapes[c].v_dim;
    d.a = (hdl_gated_delta_args){.z_stride = (size_t)heads * shapes[c].v_dim + 5,
                                 .ba = kt_floats(t, (size_t)n_tokens * 2 * heads, 2),
                                 .a_log = kt_floats(t, heads, 1),
                                 .dt_bias = kt_floats(t, heads, 1),
                                 .norm = kt_floats(t, shapes[c].v_dim, 1),
                                 .norm_eps = 1e-6f,
                                 .n_k_heads = shapes[c].n_k_heads,
                                 .n_v_heads = heads,
                                 .k_dim = shapes[c].k_dim,
                                 .v_dim = shapes[c].v_dim,
                                 .n_rows = ROWS,
                                 .n_tokens = n_tokens,
                                 .state = {.n_entries = 4, .entry_floats = entry}};
    d.a.z = kt_floats(t, n_tokens * d.a.z_stride, 1);
    d.a.qkv = unit_heads(t, n_tokens, &d);
    return d;
}

typedef struct result {
    float *out, *state;
} result;

static result run(kt *t, delta *d, const hdl_ops *ops, hdl_stream *stream)
{
    result r = {.out = KT_NEW(t, float, d->n_out), .state = KT_NEW(t, float, d->state_floats)};
    memcpy(r.state, d->state, d->state_floats * sizeof *r.state);
    for (uint32_t i = 0; i < ROWS; i++)
        d->rows[i].table = &d->entries[i];
    hdl_gated_delta_args a = d->a;
    a.rows = d->rows;
    a.out = r.out;
    a.state.data = r.state;
    ops->gated_delta(&a, stream);
    return r;
}

/* The last head of the last row, all its tokens. */
static void check_exact(kt *t, const delta *d, const float *out)
{
    const hdl_gated_delta_args *a = &d->a;
    const hdl_attn_row *row = &d->rows[ROWS - 1];
    uint32_t head = a->n_v_heads - 1, kd = a->k_dim, vd = a->v_dim, keys = a->n_k_heads * kd;
    uint32_t k_head = head / (a->n_v_heads / a->n_k_heads);
    double *s = KT_NEW(t, double, kd *vd), *o = KT_NEW(t, double, vd);
    double *want = KT_NEW(t, double, vd), *bound = KT_NEW(t, double, vd);
    const float *before =
        d->state + d->entries[ROWS - 1] * a->state.entry_floats + (size_t)head * kd * vd;
    for (uint32_t i = 0; i < kd * vd; i++)
        s[i] = row->pos == 0 ? 0 : (double)before[i];
    for (uint32_t tok = row->token_at; tok < row->token_at + row->n_tokens; tok++) {
        const float *q = a->qkv + (size_t)tok * (2 * keys + a->n_v_heads * vd) + k_head * kd;
        const float *k = q + keys, *v = q - k_head * kd + 2 * keys + head * vd;
        const float *ba = a->ba + (size_t)tok * 2 * a->n_v_heads;
        double x = (double)(ba[a->n_v_heads + head] + a->dt_bias[head]), square = 0;
        double decay = exp(-exp((double)a->a_log[head]) * log1p(exp(x)));
        double beta = 1 / (1 + exp(-(double)ba[head]));
        for (uint32_t j = 0; j < vd; j++) {
            double seen = 0;
            o[j] = 0;
            for (uint32_t i = 0; i < kd; i++)
                seen += (s[i * vd + j] *= decay) * (double)k[i];
            for (uint32_t i = 0; i < kd; i++) {
                s[i * vd + j] += (double)k[i] * ((double)v[j] - seen) * beta;
                o[j] += s[i * vd + j] * (double)q[i];
            }
            square += o[j] * o[j];
        }
        for (uint32_t j = 0; j < vd; j++) {
            double z = (double)a->z[tok * a->z_stride + head * vd + j];
            want[j] = o[j] / sqrt(square / vd + (double)a->norm_eps) * (double)a->norm[j] * z /
                      (1 + exp(-z));
            bound[j] = 2e-5 + 2e-5 * fabs(want[j]); /* f32 sums of 128 terms of size about 1 */
        }
    }
    size_t last = (size_t)(row->token_at + row->n_tokens - 1) * a->n_v_heads + head;
    kt_near(t, "ref against the recurrence in double", (kt_exact){want, bound, vd},
            out + last * vd);
}

static void check_chunks(kt *t, delta *d, result whole, int level)
{
    const uint32_t r = d->rows[0].n_tokens > d->rows[1].n_tokens ? 0 : 1;
    hdl_attn_row *row = KT_NEW(t, hdl_attn_row, 1);
    size_t width = (size_t)d->a.n_v_heads * d->a.v_dim, at = d->rows[r].token_at;
    size_t channels = 2 * d->a.n_k_heads * d->a.k_dim + width;
    uint32_t cut = kt_range(t, 1, hdl_max_u32(d->rows[r].n_tokens - 1, 1));
    *row = d->rows[r];
    float *state = KT_NEW(t, float, d->state_floats), *out = KT_NEW(t, float, d->n_out);
    memcpy(state, d->state, d->state_floats * sizeof *state);
    hdl_gated_delta_args a = d->a;
    a.rows = row;
    a.n_rows = 1;
    a.state.data = state;
    row->token_at = 0; /* a step of these tokens alone */
    for (uint32_t from = 0, to = cut; from < d->rows[r].n_tokens;
         from = to, to = d->rows[r].n_tokens) {
        row->pos = d->rows[r].pos + from;
        a.n_tokens = row->n_tokens = to - from;
        a.qkv = d->a.qkv + (at + from) * channels;
        a.z = d->a.z + (at + from) * a.z_stride;
        a.ba = d->a.ba + (at + from) * 2 * a.n_v_heads;
        a.out = out + (at + from) * width;
        t->levels[level]->gated_delta(&a, t->streams[1]);
    }
    size_t entry = d->entries[r] * a.state.entry_floats;
    kt_same(t, kt_name(t, "two chunks", level, 1), whole.out + at * width, out + at * width,
            d->rows[r].n_tokens * width);
    kt_same(t, kt_name(t, "entry after two chunks", level, 1), whole.state + entry, state + entry,
            a.state.entry_floats);
}

static void test(kt *t, int c)
{
    delta d = make(t, c);
    result want = run(t, &d, t->ref, t->streams[0]);
    check_exact(t, &d, want.out);
    KT_EACH(t, level, stream)
    {
        result got = run(t, &d, t->levels[level], t->streams[stream]);
        kt_same(t, kt_name(t, "gated_delta", level, stream), want.out, got.out, d.n_out);
        kt_same(t, kt_name(t, "states", level, stream), want.state, got.state, d.state_floats);
        if (stream == 1)
            check_chunks(t, &d, want, level);
    }
}

const kt_suite kt_gated_delta = {"gated_delta", HDL_ARRAY_LEN(shapes), test};
