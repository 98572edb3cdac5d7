/* SPDX-License-Identifier: Apache-2.0 */
/* latent_rope: levels and threads equal ref; ref equals the formula in double; nothing outside of
 * what the contract names is written. */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step; /* head_dim = rank + rope_dim */
    uint32_t nope_dim, rope_dim;
    bool interleaved, scaled;
    hdl_kv_type type;
} shapes[] = {
    {{4, 1, 48, 32, 1, {0}, {1}}, 16, 16, true, false, HDL_KV_BF16},
    {{3, 1, 576, 32, 3, {5, 40, 0}, {1, 7, 33}}, 128, 64, true, false, HDL_KV_BF16},
    {{2, 1, 48, 64, 2, {100, 31}, {2, 1}}, 24, 16, false, true, HDL_KV_BF16},
    {{5, 1, 43, 32, 2, {3, 9}, {20, 5}}, 7, 6, true, true, HDL_KV_BF16},
    {{3, 1, 576, 32, 3, {5, 40, 0}, {1, 7, 33}}, 128, 64, true, false, HDL_KV_FP8},
    {{5, 1, 43, 64, 2, {3, 90}, {20, 5}}, 7, 6, false, true, HDL_KV_FP8},
};
enum { MAX_LEN = 256 };

/* The last token's key and its last head's query: pair 1. */
static void check_exact(kt *t, const hdl_latent_rope_args *a, const kt_step *step, const float *q)
{
    uint32_t row = step->n_rows - 1, idx = step->rows[row].n_tokens - 1;
    uint32_t token = step->rows[row].token_at + idx, pos = step->rows[row].pos + idx;
    uint32_t half = a->rope_dim / 2, dim = a->nope_dim + a->rope_dim;
    uint32_t lo = a->interleaved ? 2 : 1, hi = a->interleaved ? 3 : 1 + half;
    double angle = pos * pow(10000, -2.0 / a->rope_dim), sum = 0;
    double factor = a->q_scale ? (double)a->q_scale[pos] : 1;
    const float *kv = a->kv + token * a->kv_stride;
    const float *x = q + token * a->q_stride + (size_t)(a->n_heads - 1) * dim + a->nope_dim;
    const float *y = a->q_latent +
                     ((size_t)token * a->n_heads + a->n_heads - 1) * a->kv_cache.head_dim + a->rank;
    for (uint32_t i = 0; i < a->rank; i++)
        sum += (double)kv[i] * (double)kv[i];
    double norm = (double)kv[1] / sqrt(sum / a->rank + (double)a->norm_eps) * (double)a->kv_norm[1];
    double turned[2] = {(double)x[lo] * cos(angle) - (double)x[hi] * sin(angle),
                        (double)x[hi] * cos(angle) + (double)x[lo] * sin(angle)};
    const float *k = kv + a->rank;
    double key = (double)k[lo] * cos(angle) - (double)k[hi] * sin(angle);
    kt_place at = {row, pos, 0};
    double want[] = {turned[0] * factor, turned[1] * factor, norm, key};
    float got[] = {y[lo], y[hi], (float)kt_paged_k(step, at, 1),
                   (float)kt_paged_k(step, at, a->rank + lo)};
    /* f32 tables of angles up to 256; bf16 keeps 8 bits of what is stored, FP8 4. */
    double part = a->kv_cache.type == HDL_KV_FP8 ? 16 : 256;
    double bound[] = {1e-4, 1e-4, fabs(norm) / part + 1e-4, fabs(key) / part + 1e-4};
    kt_near(t, "ref against the formula", (kt_exact){want, bound, 4}, got);
}

static void make_tables(kt *t, hdl_latent_rope_args *a, bool scaled)
{
    uint32_t half = a->rope_dim / 2;
    float *c = KT_NEW(t, float, MAX_LEN *half), *s = KT_NEW(t, float, MAX_LEN *half);
    float *scale = KT_NEW(t, float, MAX_LEN);
    for (uint32_t pos = 0; pos < MAX_LEN; pos++) {
        scale[pos] = 1.0f + 0.01f * (float)pos;
        for (uint32_t i = 0; i < half; i++) {
            double angle = pos * pow(10000, -2.0 * i / a->rope_dim);
            c[pos * half + i] = (float)cos(angle);
            s[pos * half + i] = (float)sin(angle);
        }
    }
    a->rope_cos = c;
    a->rope_sin = s;
    a->q_scale = scaled ? scale : NULL;
}

static void test(kt *t, int c)
{
    const kt_step_shape *s = &shapes[c].step;
    kt_step step = kt_paged_step(t, s, shapes[c].type);
    uint32_t dim = shapes[c].nope_dim + shapes[c].rope_dim, rank = s->head_dim - shapes[c].rope_dim;
    size_t q_stride = (size_t)s->n_heads * dim + 5, kv_stride = s->head_dim + 3;
    size_t n_q = step.n_tokens * q_stride;
    size_t n_latent = (size_t)step.n_tokens * s->n_heads * s->head_dim;
    float *q = kt_floats(t, n_q, 1);
    hdl_latent_rope_args a = {.kv = kt_floats(t, step.n_tokens * kv_stride, 1),
                              .kv_stride = kv_stride,
                              .kv_norm = kt_floats(t, rank, 1),
                              .norm_eps = 1e-6f,
                              .q_stride = q_stride,
                              .interleaved = shapes[c].interleaved,
                              .n_heads = s->n_heads,
                              .nope_dim = shapes[c].nope_dim,
                              .rope_dim = shapes[c].rope_dim,
                              .rank = rank,
                              .rows = step.rows,
                              .n_rows = step.n_rows,
                              .n_tokens = step.n_tokens,
                              .kv_cache = step.kv};
    make_tables(t, &a, shapes[c].scaled);
    a.q = KT_NEW(t, float, n_q);
    memcpy(a.q, q, n_q * sizeof *q);
    a.q_latent = KT_NEW(t, float, n_latent);
    t->ref->latent_rope(&a, t->streams[0]);
    check_exact(t, &a, &step, q);
    KT_EACH(t, level, stream)
    {
        hdl_latent_rope_args b = a;
        b.q = KT_NEW(t, float, n_q);
        memcpy(b.q, q, n_q * sizeof *q);
        b.q_latent = KT_NEW(t, float, n_latent);
        kt_paged_clear(t, &step, &b.kv_cache); /* as kt_paged_step left it */
        t->levels[level]->latent_rope(&b, t->streams[stream]);
        kt_same(t, kt_name(t, "q", level, stream), a.q, b.q, n_q);
        kt_same(t, kt_name(t, "q_latent", level, stream), a.q_latent, b.q_latent, n_latent);
        bool is_fp8 = a.kv_cache.type == HDL_KV_FP8;
        kt_same_bytes(t, kt_name(t, "cache", level, stream),
                      is_fp8 ? (void *)a.kv_cache.k8 : a.kv_cache.k,
                      is_fp8 ? (void *)b.kv_cache.k8 : b.kv_cache.k, step.kv_bytes);
    }
}

const kt_suite kt_latent_rope = {"latent_rope", HDL_ARRAY_LEN(shapes), test};
