/* SPDX-License-Identifier: Apache-2.0 */
/* moe_experts: ref equals its parts (linear, glu, linear); levels and threads equal ref; a token
 * alone equals the token in the step; entries of experts that are not local stay untouched. */
#include <string.h>

#include "kernel_test.h"

#define PLAIN false, false, HDL_GLU_SILU
static const struct {
    hdl_wformat format;
    uint32_t n_experts, expert_lo, n_local, topk, hidden, inter, n_leaves, n_tokens;
    bool biased, weighted; /* a bias of gate and up; weights that multiply x */
    hdl_glu_kind glu;
} shapes[] = {
    {HDL_WFORMAT_BF16, 8, 0, 8, 2, 64, 32, 1, 1, PLAIN},
    {HDL_WFORMAT_BF16, 8, 0, 8, 2, 128, 64, 2, 40, PLAIN},
    {HDL_WFORMAT_BF16, 16, 8, 4, 4, 96, 160, 1, 30, PLAIN},
    {HDL_WFORMAT_Q8, 8, 4, 4, 2, 64, 64, 2, 25, PLAIN},
    {HDL_WFORMAT_Q8, 4, 0, 4, 4, 160, 96, 1, 3, PLAIN},
    {HDL_WFORMAT_F32, 4, 2, 2, 1, 64, 32, 1, 11, PLAIN},
    {HDL_WFORMAT_BF16, 4, 0, 1, 1, 64, 32, 1, 100, PLAIN},
    {HDL_WFORMAT_BF16, 8, 0, 8, 2, 640, 544, 1, 6, PLAIN},
    {HDL_WFORMAT_BF16, 8, 2, 4, 2, 96, 64, 2, 17, true, false, HDL_GLU_OAI},
    {HDL_WFORMAT_BF16, 16, 0, 16, 1, 544, 64, 1, 20, false, true, HDL_GLU_SILU},
    {HDL_WFORMAT_Q8, 4, 0, 4, 2, 64, 96, 1, 5, true, true, HDL_GLU_OAI},
    {HDL_WFORMAT_F32, 4, 1, 3, 2, 40, 56, 1, 9, true, true, HDL_GLU_SILU},
    {HDL_WFORMAT_F32, 4, 0, 4, 1, 40, 24, 1, 9, false, false, HDL_GLU_GELU},
};

/* One matrix of every local expert. */
typedef struct matrices {
    float *rows; /* [n_local, n, k] */
    uint32_t n, k, n_leaves;
} matrices;

static hdl_weight *pack_all(kt *t, const hdl_ops *ops, int c, matrices m)
{
    hdl_weight *w = KT_NEW(t, hdl_weight, shapes[c].n_local);
    for (uint32_t e = 0; e < shapes[c].n_local; e++)
        w[e] = kt_pack(t, ops, shapes[c].format,
                       hdl_tensor_2d(m.rows + (size_t)e * m.n * m.k, HDL_DTYPE_F32, m.n, m.k),
                       m.n_leaves);
    return w;
}

/* One choice by the reference's other ops. */
static void by_parts(kt *t, const hdl_moe_experts_args *a, size_t item, float *y)
{
    uint32_t e = a->ids[item] - a->expert_lo;
    float *x = KT_NEW(t, float, a->hidden), *act = KT_NEW(t, float, a->inter);
    float *gate_up = KT_NEW(t, float, (size_t)2 * a->inter);
    for (uint32_t i = 0; i < a->hidden; i++)
        x[i] = a->x[item / a->topk * a->hidden + i] * (a->x_weights ? a->x_weights[item] : 1);
    hdl_linear_args up = {.x = x,
                          .x_stride = a->hidden,
                          .w = &a->gate_up[e],
                          .y = gate_up,
                          .y_stride = (size_t)2 * a->inter,
                          .n_tokens = 1};
    if (a->gate_up_bias)
        up.bias = a->gate_up_bias + (size_t)e * 2 * a->inter;
    t->ref->linear(&up, t->streams[0]);
    t->ref->glu(&(hdl_glu_args){.gate_up = gate_up,
                                .out = act,
                                .n_tokens = 1,
                                .inter = a->inter,
                                .kind = a->glu,
                                .limit = a->glu_limit,
                                .alpha = a->glu_alpha},
                t->streams[0]);
    t->ref->linear(&(hdl_linear_args){.x = act,
                                      .x_stride = a->inter,
                                      .w = &a->down[e],
                                      .y = y,
                                      .y_stride = a->hidden,
                                      .n_tokens = 1},
                   t->streams[0]);
}

static void check_parts(kt *t, const hdl_moe_experts_args *a)
{
    size_t n_choices = (size_t)a->n_tokens * a->topk;
    float *want = KT_NEW(t, float, n_choices * a->hidden);
    for (size_t item = 0; item < n_choices; item++)
        if (a->ids[item] - a->expert_lo < a->n_local)
            by_parts(t, a, item, want + item * a->hidden);
    kt_same(t, "linear, glu, linear", want, a->ye, n_choices * a->hidden);
}

/* Activations between the products that differ in their last bits may round to other bf16 numbers:
 * half a step of 2^-8 each, most of which cancels. */
static float bound_of(hdl_wformat format, uint32_t k)
{
    return format == HDL_WFORMAT_BF16 ? 0x1p-9f : kt_sum_bound(format, k);
}

static void test(kt *t, int c)
{
    uint32_t hidden = shapes[c].hidden, inter = shapes[c].inter, topk = shapes[c].topk;
    size_t n_choices = (size_t)shapes[c].n_tokens * topk, n = n_choices * hidden;
    size_t n_weights = (size_t)shapes[c].n_local * inter * hidden;
    matrices up = {kt_floats(t, 2 * n_weights, 0.1f), 2 * inter, hidden, 1};
    matrices down = {kt_floats(t, n_weights, 0.1f), hidden, inter, shapes[c].n_leaves};
    uint32_t *ids = KT_NEW(t, uint32_t, n_choices);
    for (size_t i = 0; i < n_choices; i++) /* choices of a token differ, some experts are popular */
        ids[i] =
            (uint32_t)((i / topk * (kt_chance(t, 30) ? 0 : 7) + i % topk) % shapes[c].n_experts);
    hdl_moe_experts_args a = {.x = kt_floats(t, (size_t)shapes[c].n_tokens * hidden, 1),
                              .ids = ids,
                              .n_tokens = shapes[c].n_tokens,
                              .topk = topk,
                              .hidden = hidden,
                              .inter = inter,
                              .glu = shapes[c].glu,
                              .glu_limit = 0.75f,
                              .glu_alpha = 1.702f,
                              .expert_lo = shapes[c].expert_lo,
                              .n_local = shapes[c].n_local};
    if (shapes[c].biased)
        a.gate_up_bias = kt_floats(t, (size_t)a.n_local * 2 * inter, 1);
    if (shapes[c].weighted)
        a.x_weights = kt_floats(t, n_choices, 1);
    hdl_moe_experts_args r = a;
    r.gate_up = pack_all(t, t->ref, c, up);
    r.down = pack_all(t, t->ref, c, down);
    float *want = r.ye = KT_NEW(t, float, n);
    t->ref->moe_experts(&r, t->streams[0]);
    check_parts(t, &r);
    KT_EACH(t, level, stream)
    {
        a.gate_up = pack_all(t, t->levels[level], c, up);
        a.down = pack_all(t, t->levels[level], c, down);
        a.ye = KT_NEW(t, float, n);
        t->levels[level]->moe_experts(&a, t->streams[stream]);
        kt_agree(t, kt_name(t, "moe_experts", level, stream),
                 (kt_pair){want, a.ye, n, bound_of(shapes[c].format, hidden + inter), stream});

        hdl_moe_experts_args one = a;
        uint32_t token = kt_range(t, 0, a.n_tokens - 1);
        one.n_tokens = 1;
        one.x = a.x + (size_t)token * hidden;
        one.ids = ids + (size_t)token * topk;
        if (a.x_weights)
            one.x_weights = a.x_weights + (size_t)token * topk;
        one.ye = KT_NEW(t, float, (size_t)topk *hidden);
        t->levels[level]->moe_experts(&one, t->streams[stream]);
        kt_same(t, kt_name(t, "a token alone", level, stream), a.ye + (size_t)token * topk * hidden,
                one.ye, (size_t)topk * hidden);
    }
}

const kt_suite kt_moe_experts = {"moe_experts", HDL_ARRAY_LEN(shapes), test};
