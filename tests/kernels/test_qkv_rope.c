/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step;
    uint32_t rope_dim;
    bool norm;
} shapes[] = {
    {{4, 2, 32, 32, 1, {0}, {1}}, 32, true},
    {{4, 4, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}, 64, true},
    {{8, 2, 128, 64, 2, {100, 31}, {2, 1}}, 128, false},
    {{3, 1, 80, 16, 2, {3, 9}, {20, 5}}, 80, true},
    {{2, 1, 36, 32, 2, {3, 9}, {20, 5}}, 10, true},
};
enum { MAX_LEN = 256 };

/* One pair of one head against the formula in double: rotation of (x_i, x_{i + half}) by
 * pos * 10000^(-2 i / rope_dim), after a norm. */
static void check_exact(kt *t, const hdl_qkv_rope_args *a, const kt_step *step)
{
    uint32_t dim = a->kv.head_dim, half = a->rope_dim / 2, row = step->n_rows - 1;
    uint32_t token = step->rows[row].token_at, pos = step->rows[row].pos;
    const float *x =
        a->qkv + (size_t)token * (a->n_heads + 2 * a->kv.n_kv_heads) * dim; /* head 0 of q */
    double sum = 0, want[2], bound[2] = {1e-4, 1e-4};
    for (uint32_t i = 0; i < dim; i++)
        sum += (double)x[i] * (double)x[i];
    double scale = a->q_norm ? 1 / sqrt(sum / dim + (double)a->norm_eps) : 1;
    double lo = (double)x[1] * scale * (a->q_norm ? (double)a->q_norm[1] : 1);
    double hi = (double)x[1 + half] * scale * (a->q_norm ? (double)a->q_norm[1 + half] : 1);
    double angle = pos * pow(10000, -2.0 / a->rope_dim);
    want[0] = lo * cos(angle) - hi * sin(angle);
    want[1] = hi * cos(angle) + lo * sin(angle);
    const float *q = a->q + (size_t)token * a->n_heads * dim;
    float got[2] = {q[1], q[1 + half]};
    kt_near(t, "ref against the formula", (kt_exact){want, bound, 2}, got);
    const float *v = x + (size_t)(a->n_heads + a->kv.n_kv_heads) * dim;
    kt_check(t, a->kv.v[kt_paged_at(step, row, pos, 0)] == hdl_bf16_from_f32(v[0]), "v is stored");
}

static void make_tables(kt *t, hdl_qkv_rope_args *a)
{
    uint32_t half = a->rope_dim / 2;
    float *c = KT_NEW(t, float, MAX_LEN *half), *s = KT_NEW(t, float, MAX_LEN *half);
    for (uint32_t pos = 0; pos < MAX_LEN; pos++)
        for (uint32_t i = 0; i < half; i++) {
            double angle = pos * pow(10000, -2.0 * i / a->rope_dim);
            c[pos * half + i] = (float)cos(angle);
            s[pos * half + i] = (float)sin(angle);
        }
    a->rope_cos = c;
    a->rope_sin = s;
}

static void test(kt *t, int c)
{
    const kt_step_shape *s = &shapes[c].step;
    kt_step step = kt_paged_step(t, s);
    size_t n_qkv = (size_t)step.n_tokens * (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    size_t n_q = (size_t)step.n_tokens * s->n_heads * s->head_dim;
    hdl_qkv_rope_args a = {.qkv = kt_floats(t, n_qkv, 1),
                           .norm_eps = 1e-6f,
                           .rope_dim = shapes[c].rope_dim,
                           .n_heads = s->n_heads,
                           .rows = step.rows,
                           .n_rows = step.n_rows,
                           .n_tokens = step.n_tokens,
                           .kv = step.kv};
    if (shapes[c].norm) {
        a.q_norm = kt_floats(t, s->head_dim, 1);
        a.k_norm = kt_floats(t, s->head_dim, 1);
    }
    make_tables(t, &a);
    float *q = a.q = KT_NEW(t, float, n_q);
    t->ref->qkv_rope(&a, t->streams[0]);
    check_exact(t, &a, &step);
    KT_EACH(t, level, stream)
    {
        hdl_qkv_rope_args b = a;
        b.q = KT_NEW(t, float, n_q);
        b.kv.k = KT_NEW(t, uint16_t, step.kv_count);
        b.kv.v = KT_NEW(t, uint16_t, step.kv_count);
        for (size_t i = 0; i < step.kv_count; i++)
            b.kv.k[i] = b.kv.v[i] = 0x7fc0; /* as kt_paged_step left it */
        t->levels[level]->qkv_rope(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "q", level, stream), q, b.q, n_q);
        kt_same_bytes(t, kt_name(t, "k cache", level, stream), a.kv.k, b.kv.k, step.kv_count * 2);
        kt_same_bytes(t, kt_name(t, "v cache", level, stream), a.kv.v, b.kv.v, step.kv_count * 2);
    }
}

const kt_suite kt_qkv_rope = {"qkv_rope", HDL_ARRAY_LEN(shapes), test};
