/* SPDX-License-Identifier: Apache-2.0 */
/* latent_prefill: ref is near the formula in double, a device near ref, the same bits in any order
 * of its threads, and both near the absorbed form that the ops of exact make. Levels of the CPU
 * have no such op. */
#include <math.h>
#include <string.h>

#include "kernels/numeric.h"
#include "paged.h"

static const struct {
    kt_step_shape step; /* head_dim = rank + rope_dim */
    uint32_t nope, rope, v;
    hdl_kv_type type;
} shapes[] = {
    {{2, 1, 48, 32, 1, {0}, {1}}, 16, 16, 32, HDL_KV_BF16},
    {{3, 1, 52, 64, 3, {5, 130, 0}, {20, 7, 70}}, 20, 12, 20, HDL_KV_BF16},
    {{2, 1, 576, 32, 2, {30, 0}, {9, 66}}, 128, 64, 128, HDL_KV_BF16},
    {{5, 1, 56, 32, 2, {530, 3}, {70, 1}}, 24, 8, 48, HDL_KV_BF16},
    {{2, 1, 40, 32, 2, {3, 0}, {90, 64}}, 32, 8, 64, HDL_KV_FP8},
    {{1, 1, 576, 64, 1, {100}, {40}}, 128, 64, 128, HDL_KV_FP8},
};

typedef struct heads {
    float *k_b, *v_b; /* [n_heads, rank, nope], [n_heads, v, rank] */
    hdl_weight *k_packed, *v_packed;
} heads;

static heads make_heads(kt *t, const hdl_latent_prefill_args *a)
{
    size_t n_k = (size_t)a->rank * a->nope_dim, n_v = (size_t)a->v_dim * a->rank;
    heads h = {.k_b = kt_floats(t, a->n_heads * n_k, 1 / sqrtf((float)a->rank)),
               .v_b = kt_floats(t, a->n_heads * n_v, 1 / sqrtf((float)a->rank)),
               .k_packed = KT_NEW(t, hdl_weight, a->n_heads),
               .v_packed = KT_NEW(t, hdl_weight, a->n_heads)};
    for (size_t i = 0; i < a->n_heads * n_k; i++)
        h.k_b[i] = hdl_bf16_to_f32(hdl_bf16_from_f32(h.k_b[i]));
    for (size_t i = 0; i < a->n_heads * n_v; i++)
        h.v_b[i] = hdl_bf16_to_f32(hdl_bf16_from_f32(h.v_b[i]));
    return h;
}

static void pack_heads(kt *t, const hdl_ops *ops, hdl_latent_prefill_args *a, const heads *h)
{
    for (uint32_t i = 0; i < a->n_heads; i++) {
        float *k = h->k_b + (size_t)i * a->rank * a->nope_dim;
        float *v = h->v_b + (size_t)i * a->rank * a->v_dim;
        h->k_packed[i] = kt_pack(t, ops, HDL_WFORMAT_BF16,
                                 hdl_tensor_2d(k, HDL_DTYPE_F32, a->rank, a->nope_dim), 1);
        h->v_packed[i] = kt_pack(t, ops, HDL_WFORMAT_BF16,
                                 hdl_tensor_2d(v, HDL_DTYPE_F32, a->v_dim, a->rank), 1);
    }
    a->k_b = h->k_packed;
    a->v_b = h->v_packed;
}

/* The last token's last head by the formula; keys and values are bf16 there, too: 2^-9 of each. */
static void check_exact(kt *t, const hdl_latent_prefill_args *a, const kt_step *step,
                        const heads *h)
{
    uint32_t row = step->n_rows - 1, head = a->n_heads - 1, own = a->nope_dim + a->rope_dim;
    uint32_t end = step->rows[row].pos + step->rows[row].n_tokens;
    size_t token = a->n_tokens - 1;
    const float *q = a->q + token * a->q_stride + (size_t)head * own;
    const float *turned =
        a->q_latent + (token * a->n_heads + head) * (a->rank + a->rope_dim) + a->rank;
    double *want = KT_NEW(t, double, a->v_dim), *bound = KT_NEW(t, double, a->v_dim), sum = 0;
    for (uint32_t pos = 0; pos < end; pos++) {
        kt_place at = {row, pos, 0};
        double dot = 0;
        for (uint32_t i = 0; i < a->nope_dim; i++) {
            double k = 0;
            for (uint32_t r = 0; r < a->rank; r++)
                k += kt_paged_k(step, at, r) *
                     (double)h->k_b[((size_t)head * a->rank + r) * a->nope_dim + i];
            dot += (double)q[i] * k;
        }
        for (uint32_t i = 0; i < a->rope_dim; i++)
            dot += (double)turned[i] * kt_paged_k(step, at, a->rank + i);
        double weight = exp(dot * (double)a->scale);
        sum += weight;
        for (uint32_t i = 0; i < a->v_dim; i++) {
            double v = 0;
            for (uint32_t r = 0; r < a->rank; r++)
                v += (double)h->v_b[((size_t)head * a->v_dim + i) * a->rank + r] *
                     kt_paged_k(step, at, r);
            want[i] += weight * v;
        }
    }
    for (uint32_t i = 0; i < a->v_dim; i++) {
        want[i] /= sum;
        bound[i] = 0x1p-6; /* values of about 1; scores are some 2^-9 sqrt(own) / sqrt(own) off */
    }
    kt_near(t, "ref against the formula", (kt_exact){want, bound, a->v_dim},
            a->out + (token * a->n_heads + head) * a->v_dim);
}

/* What exact does: the query into the latents' space, attention there, its result out of it. */
static void check_absorbed(kt *t, const hdl_latent_prefill_args *a, int level, int stream)
{
    const hdl_ops *ops = t->levels[level];
    uint32_t row = a->rank + a->rope_dim, own = a->nope_dim + a->rope_dim;
    size_t n = (size_t)a->n_tokens * a->n_heads;
    float *q_latent = KT_NEW(t, float, n *row), *latent = KT_NEW(t, float, n * a->rank);
    float *out = KT_NEW(t, float, n * a->v_dim);
    memcpy(q_latent, a->q_latent, n * row * sizeof *q_latent);
    ops->linear_heads(&(hdl_linear_heads_args){.x = a->q,
                                               .x_stride = a->q_stride,
                                               .x_head = own,
                                               .w = a->k_b,
                                               .y = q_latent,
                                               .y_stride = (size_t)a->n_heads * row,
                                               .y_head = row,
                                               .n_heads = a->n_heads,
                                               .n_tokens = a->n_tokens},
                      t->streams[stream]);
    ops->attention(&(hdl_attention_args){.q = q_latent,
                                         .rows = a->rows,
                                         .n_rows = a->n_rows,
                                         .n_tokens = a->n_tokens,
                                         .n_heads = a->n_heads,
                                         .scale = a->scale,
                                         .latent = a->rank,
                                         .kv = a->kv,
                                         .out = latent},
                   t->streams[stream]);
    ops->linear_heads(&(hdl_linear_heads_args){.x = latent,
                                               .x_stride = (size_t)a->n_heads * a->rank,
                                               .x_head = a->rank,
                                               .w = a->v_b,
                                               .y = out,
                                               .y_stride = (size_t)a->n_heads * a->v_dim,
                                               .y_head = a->v_dim,
                                               .n_heads = a->n_heads,
                                               .n_tokens = a->n_tokens},
                      t->streams[stream]);
    float most = 0, apart = 0;
    for (size_t i = 0; i < n * a->v_dim; i++) {
        most = fmaxf(most, fabsf(a->out[i]));
        apart = fmaxf(apart, fabsf(a->out[i] - out[i]));
    }
    kt_check(t, apart <= most * 0x1p-6f, kt_name(t, "near the absorbed form", level, stream));
}

static void test(kt *t, int c)
{
    const kt_step_shape *s = &shapes[c].step;
    kt_step step = kt_paged_step(t, s, shapes[c].type);
    kt_paged_fill(t, &step);
    uint32_t own = shapes[c].nope + shapes[c].rope;
    hdl_latent_prefill_args a = {.q_stride = (size_t)s->n_heads * own + 3,
                                 .n_heads = s->n_heads,
                                 .nope_dim = shapes[c].nope,
                                 .rope_dim = shapes[c].rope,
                                 .rank = s->head_dim - shapes[c].rope,
                                 .v_dim = shapes[c].v,
                                 .scale = 1.0f / sqrtf((float)own),
                                 .rows = step.rows,
                                 .n_rows = step.n_rows,
                                 .n_tokens = step.n_tokens,
                                 .kv = step.kv};
    size_t n = (size_t)step.n_tokens * s->n_heads * a.v_dim;
    for (uint32_t r = 0; r < step.n_rows; r++)
        a.n_keys += step.rows[r].pos + step.rows[r].n_tokens;
    a.q = kt_floats(t, step.n_tokens * a.q_stride, 1);
    a.q_latent = kt_floats(t, (size_t)step.n_tokens * s->n_heads * s->head_dim, 1);
    heads h = make_heads(t, &a);
    float *want = a.out = KT_NEW(t, float, n);
    pack_heads(t, t->ref, &a, &h);
    t->ref->latent_prefill(&a, t->streams[0]);
    check_exact(t, &a, &step, &h);
    KT_EACH(t, level, stream)
    {
        if (t->levels[level]->limits.latent_prefill_dim == 0 && t->levels[level] != t->ref)
            continue;
        pack_heads(t, t->levels[level], &a, &h);
        a.out = KT_NEW(t, float, n);
        t->levels[level]->latent_prefill(&a, t->streams[stream]);
        kt_agree(t, kt_name(t, "latent_prefill", level, stream),
                 (kt_pair){want, a.out, n, 0x1p-8f, stream});
        check_absorbed(t, &a, level, stream);
    }
}

const kt_suite kt_latent_prefill = {"latent_prefill", HDL_ARRAY_LEN(shapes), test};
