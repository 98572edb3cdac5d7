/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step;
    uint32_t rope_dim;
    bool norm, interleaved, l2_after, q_scale;
    uint32_t pad; /* between tokens of qkv */
    hdl_kv_type type;
} shapes[] = {
    {{4, 2, 32, 32, 1, {0}, {1}}, 32, true, false, false, false, 0, HDL_KV_BF16},
    {{4, 4, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}, 64, true, false, false, false, 0, HDL_KV_BF16},
    {{8, 2, 128, 64, 2, {100, 31}, {2, 1}}, 128, false, false, false, false, 0, HDL_KV_BF16},
    {{3, 1, 80, 16, 2, {3, 9}, {20, 5}}, 80, true, false, false, false, 0, HDL_KV_BF16},
    {{2, 1, 36, 32, 2, {3, 9}, {20, 5}}, 10, true, false, false, false, 0, HDL_KV_BF16},
    {{4, 2, 64, 32, 2, {3, 9}, {20, 5}}, 64, false, true, true, true, 0, HDL_KV_BF16},
    {{4, 2, 64, 32, 2, {0, 9}, {20, 5}}, 0, true, false, false, true, 128, HDL_KV_BF16},
    {{4, 1, 80, 16, 2, {3, 9}, {20, 5}}, 72, true, true, false, false, 16, HDL_KV_BF16},
    {{3, 1, 40, 16, 1, {200}, {3}}, 36, false, true, false, true, 0, HDL_KV_BF16},
    {{2, 2, 128, 32, 1, {7}, {9}}, 64, false, false, true, false, 0, HDL_KV_BF16},
    {{4, 2, 32, 32, 1, {0}, {1}}, 32, true, false, false, false, 0, HDL_KV_INT8},
    {{4, 4, 64, 32, 3, {5, 40, 0}, {1, 7, 33}}, 64, true, false, false, false, 0, HDL_KV_INT8},
    {{8, 2, 128, 64, 2, {100, 31}, {2, 1}}, 128, false, false, false, false, 0, HDL_KV_INT8},
    {{2, 1, 36, 32, 2, {3, 9}, {20, 5}}, 10, true, false, false, false, 8, HDL_KV_INT8},
    {{4, 2, 64, 96, 2, {3, 90}, {20, 15}}, 64, false, true, true, true, 0, HDL_KV_INT8},
    {{4, 2, 32, 32, 1, {0}, {1}}, 32, true, false, false, false, 0, HDL_KV_FP8},
    {{8, 2, 128, 64, 2, {100, 31}, {2, 1}}, 128, false, false, false, false, 0, HDL_KV_FP8},
    {{2, 1, 37, 32, 2, {3, 9}, {20, 5}}, 10, true, false, false, false, 8, HDL_KV_FP8},
    {{4, 2, 64, 96, 2, {3, 90}, {20, 15}}, 64, false, true, true, true, 0, HDL_KV_FP8},
};
enum { MAX_LEN = 256 };

/* The cache's bytes, whatever its type. */
#define KV(args, part)                                                                             \
    ((args).kv.type == HDL_KV_BF16 ? (void *)(args).kv.part : (void *)(args).kv.part##8)

/* How far a number may be from its code, where the largest beside it is `max`: half a step, and
 * roundings of f32. FP8 has 4 bits, but at the small end, whose step is 2^-9 of a 224th of max. */
static double code_bound(hdl_kv_type type, double x, double max)
{
    return type == HDL_KV_FP8 ? fabs(x) / 16 * 1.001 + max / 224 * 0x1p-10 : max / 127 * 0.501;
}

/* One head by the formula, in double: norm, rotation of pair j by pos * 10000^(-2 j / rope_dim),
 * norm, scale. */
static void head_exact(const hdl_qkv_rope_args *a, const float *x, uint32_t pos, double *out)
{
    uint32_t dim = a->kv.head_dim, half = a->rope_dim / 2;
    double sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += pow((double)x[i], 2);
    double scale = 1 / sqrt(sum / dim + (double)a->norm_eps);
    for (uint32_t i = 0; i < dim; i++)
        out[i] = (double)x[i] * (a->q_norm ? scale * (double)a->q_norm[i] : 1);
    for (uint32_t j = 0; j < half; j++) {
        double *lo = out + (a->interleaved ? 2 * j : j), *hi = lo + (a->interleaved ? 1 : half);
        double angle = pos * pow(10000, -2.0 * j / a->rope_dim), was = *lo;
        *lo = was * cos(angle) - *hi * sin(angle);
        *hi = *hi * cos(angle) + was * sin(angle);
    }
    sum = 0;
    for (uint32_t i = 0; i < dim; i++)
        sum += pow(out[i], 2);
    scale = a->l2_after ? 1 / sqrt(sum / dim + (double)a->norm_eps) : 1;
    for (uint32_t i = 0; i < dim; i++)
        out[i] *= scale * (a->q_scale ? (double)a->q_scale[pos] : 1);
}

static void check_exact(kt *t, const hdl_qkv_rope_args *a, const kt_step *step, size_t stride)
{
    uint32_t dim = a->kv.head_dim, row = step->n_rows - 1;
    uint32_t token = step->rows[row].token_at, pos = step->rows[row].pos;
    const float *x = a->qkv + token * stride;
    double *want = KT_NEW(t, double, dim), *bound = KT_NEW(t, double, dim);
    head_exact(a, x, pos, want);
    for (uint32_t i = 0; i < dim; i++)
        bound[i] = 1e-4; /* values of about 1 to 10, some ten roundings of f32 */
    kt_near(t, "ref against the formula", (kt_exact){want, bound, dim},
            a->q + (size_t)token * a->n_heads * dim);
    const float *v = x + (size_t)(a->n_heads + a->kv.n_kv_heads) * dim;
    if (a->kv.type == HDL_KV_BF16) {
        double got = kt_paged_v(step, (kt_place){row, pos, 0}, 0);
        kt_check(t, got == (double)hdl_bf16_to_f32(hdl_bf16_from_f32(v[0])), "v is stored");
        return;
    }
    float max = 0, *got = KT_NEW(t, float, dim);
    for (uint32_t i = 0; i < dim; i++)
        max = fmaxf(max, fabsf(v[i]));
    for (uint32_t i = 0; i < dim; i++) {
        got[i] = (float)kt_paged_v(step, (kt_place){row, pos, 0}, i);
        want[i] = (double)v[i];
        bound[i] = code_bound(a->kv.type, want[i], (double)max);
    }
    kt_near(t, "v as codes", (kt_exact){want, bound, dim}, got);
    head_exact(&(hdl_qkv_rope_args){.q_norm = a->k_norm,
                                    .l2_after = a->l2_after,
                                    .norm_eps = a->norm_eps,
                                    .interleaved = a->interleaved,
                                    .rope_dim = a->rope_dim,
                                    .kv = a->kv},
               x + (size_t)a->n_heads * dim, pos, want);
    double most = 0;
    for (uint32_t i = 0; i < dim; i++)
        most = fmax(most, fabs(want[i]));
    for (uint32_t i = 0; i < dim; i++) {
        got[i] = (float)kt_paged_k(step, (kt_place){row, pos, 0}, i);
        bound[i] = code_bound(a->kv.type, want[i], most) + 1e-4;
    }
    kt_near(t, "k as codes", (kt_exact){want, bound, dim}, got);
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
    kt_step step = kt_paged_step(t, s, shapes[c].type);
    size_t width = (size_t)(s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    size_t stride = width + shapes[c].pad;
    size_t n_q = (size_t)step.n_tokens * s->n_heads * s->head_dim;
    hdl_qkv_rope_args a = {.qkv = kt_floats(t, step.n_tokens * stride, 1),
                           .l2_after = shapes[c].l2_after,
                           .norm_eps = 1e-6f,
                           .interleaved = shapes[c].interleaved,
                           .qkv_stride = shapes[c].pad ? stride : 0,
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
    if (shapes[c].q_scale)
        a.q_scale = kt_floats(t, MAX_LEN, 1);
    if (a.rope_dim > 0)
        make_tables(t, &a);
    float *q = a.q = KT_NEW(t, float, n_q);
    t->ref->qkv_rope(&a, t->streams[0]);
    check_exact(t, &a, &step, stride);
    KT_EACH(t, level, stream)
    {
        hdl_qkv_rope_args b = a;
        b.q = KT_NEW(t, float, n_q);
        kt_paged_clear(t, &step, &b.kv); /* as kt_paged_step left it */
        t->levels[level]->qkv_rope(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "q", level, stream), q, b.q, n_q);
        kt_same_bytes(t, kt_name(t, "k cache", level, stream), KV(a, k), KV(b, k), step.kv_bytes);
        kt_same_bytes(t, kt_name(t, "v cache", level, stream), KV(a, v), KV(b, v), step.kv_bytes);
    }
}

const kt_suite kt_qkv_rope = {"qkv_rope", HDL_ARRAY_LEN(shapes), test};
