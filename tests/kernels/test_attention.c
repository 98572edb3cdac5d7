/* SPDX-License-Identifier: Apache-2.0 */
/* attention: levels and threads equal ref; a chunk equals its tokens one by one; ref stays near the
 * plain softmax in double; places of the cache beyond a row's end (NaN here) are never used. */
#include <math.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step;
    uint32_t window;
} shapes[] = {
    {{4, 2, 32, 32, 1, {0}, {1}}, 0},
    {{4, 1, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}, 0},
    {{8, 2, 128, 64, 4, {100, 31, 511, 0}, {2, 1, 3, 65}}, 0},
    {{6, 2, 48, 16, 2, {3, 600}, {20, 5}}, 0},
    {{2, 1, 36, 32, 2, {3, 9}, {20, 5}}, 0},
    {{4, 2, 64, 32, 2, {1100, 7}, {1, 1}}, 0},
    {{4, 4, 32, 32, 1, {500}, {40}}, 0},
    {{4, 2, 32, 32, 2, {500, 2}, {40, 70}}, 100},
    {{4, 2, 64, 32, 1, {1600}, {1}}, 520},
    {{80, 1, 32, 32, 2, {30, 0}, {3, 1}}, 0},
    {{4, 1, 32, 32, 1, {990}, {60}}, 17},
};

static void check_exact(kt *t, const hdl_attention_args *a, const kt_step *step)
{
    uint32_t dim = a->kv.head_dim, row = step->n_rows - 1, group = a->n_heads / a->kv.n_kv_heads;
    uint32_t idx = step->rows[row].n_tokens - 1, head = a->n_heads - 1;
    uint32_t end = step->rows[row].pos + idx + 1;
    uint32_t first = a->window && end > a->window ? end - a->window : 0;
    size_t at = ((step->rows[row].token_at + idx) * (size_t)a->n_heads + head) * dim;
    double *want = KT_NEW(t, double, dim), *bound = KT_NEW(t, double, dim), sum = 0;
    for (uint32_t pos = first; pos < end; pos++) {
        size_t kv = kt_paged_at(step, row, pos, head / group);
        double dot = 0;
        for (uint32_t i = 0; i < dim; i++)
            dot += (double)a->q[at + i] * (double)hdl_bf16_to_f32(a->kv.k[kv + i]);
        double weight = exp(dot * (double)a->scale);
        sum += weight;
        for (uint32_t i = 0; i < dim; i++)
            want[i] += weight * (double)hdl_bf16_to_f32(a->kv.v[kv + i]);
    }
    for (uint32_t i = 0; i < dim; i++) {
        want[i] /= sum;
        bound[i] = 2e-5; /* f32 sums of up to some thousand terms of size about 1 */
    }
    kt_near(t, "ref against softmax in double", (kt_exact){want, bound, dim}, a->out + at);
}

/* One row whose tokens come one by one (or in two chunks) gives the same. */
static void check_chunks(kt *t, const hdl_attention_args *a, int level, int stream)
{
    uint32_t dim = a->kv.head_dim, width = a->n_heads * dim;
    const hdl_attn_row *row = &a->rows[a->n_rows - 1];
    uint32_t cut = kt_range(t, 0, row->n_tokens - 1);
    const uint32_t from[] = {0, cut}, to[] = {cut, row->n_tokens};
    for (int part = 0; part < 2; part++) {
        hdl_attn_row chunk = *row;
        chunk.token_at = 0;
        chunk.pos = row->pos + from[part];
        chunk.n_tokens = to[part] - from[part];
        if (chunk.n_tokens == 0)
            continue;
        size_t at = (row->token_at + from[part]) * (size_t)width;
        hdl_attention_args b = *a;
        b.q = a->q + at;
        b.rows = &chunk;
        b.n_rows = 1;
        b.n_tokens = chunk.n_tokens;
        b.out = KT_NEW(t, float, (size_t)chunk.n_tokens *width);
        t->levels[level]->attention(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "a chunk", level, stream), a->out + at, b.out,
                (size_t)chunk.n_tokens * width);
    }
}

/* A broken last token of the last row: nobody before it may look at it. */
static void check_nan(kt *t, const hdl_attention_args *a, const kt_step *step, int level)
{
    const hdl_attn_row *row = &a->rows[a->n_rows - 1];
    uint32_t last = row->token_at + row->n_tokens - 1, width = a->n_heads * a->kv.head_dim;
    uint16_t keep[2] = {0};
    size_t at = kt_paged_at(step, a->n_rows - 1, row->pos + row->n_tokens - 1, 0);
    hdl_attention_args b = *a;
    b.out = KT_NEW(t, float, (size_t)a->n_tokens *width);
    keep[0] = a->kv.k[at];
    keep[1] = a->kv.v[at];
    a->kv.k[at] = a->kv.v[at] = 0x7fc0;
    t->levels[level]->attention(&b, t->streams[1]);
    a->kv.k[at] = keep[0];
    a->kv.v[at] = keep[1];
    kt_check(t, isnan(b.out[(size_t)last * width]), kt_name(t, "a NaN shows", level, 1));
    kt_same(t, kt_name(t, "before a NaN", level, 1), a->out, b.out, (size_t)last * width);
}

static void test(kt *t, int c)
{
    const kt_step_shape *s = &shapes[c].step;
    kt_step step = kt_paged_step(t, s);
    kt_paged_fill(t, &step);
    size_t n = (size_t)step.n_tokens * s->n_heads * s->head_dim;
    hdl_attention_args a = {.q = kt_floats(t, n, 1),
                            .rows = step.rows,
                            .n_rows = step.n_rows,
                            .n_tokens = step.n_tokens,
                            .n_heads = s->n_heads,
                            .scale = 1.0f / sqrtf((float)s->head_dim),
                            .window = shapes[c].window,
                            .kv = step.kv};
    float *want = a.out = KT_NEW(t, float, n);
    t->ref->attention(&a, t->streams[0]);
    check_exact(t, &a, &step);
    KT_EACH(t, level, stream)
    {
        a.out = KT_NEW(t, float, n);
        t->levels[level]->attention(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "attention", level, stream), want, a.out, n);
        check_chunks(t, &a, level, stream);
        if (stream == 1)
            check_nan(t, &a, &step, level);
    }
}

const kt_suite kt_attention = {"attention", HDL_ARRAY_LEN(shapes), test};
