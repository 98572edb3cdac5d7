/* SPDX-License-Identifier: Apache-2.0 */
/* moe_combine: levels equal ref; expert-parallel ranks' results, added as a balanced tree, equal
 * the whole; ref is the weighted sum in double. */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t n_experts, topk, hidden, n_tokens;
    bool plain_sum, biased; /* no weights; a bias of each expert */
} shapes[] = {{8, 2, 64, 1, false, false},     {16, 4, 100, 9, false, false},
              {128, 8, 256, 20, false, false}, {12, 3, 33, 5, false, false},
              {7, 7, 16, 3, false, false},     {16, 1, 40, 9, true, false},
              {32, 4, 50, 9, false, true},     {8, 3, 33, 6, true, true}};

/* Distinct experts of each token. */
static void choose(kt *t, uint32_t *ids, float *weights, int c)
{
    for (uint32_t tok = 0; tok < shapes[c].n_tokens; tok++)
        for (uint32_t j = 0; j < shapes[c].topk; j++) {
            uint32_t *mine = ids + (size_t)tok * shapes[c].topk;
            bool fresh = false;
            while (!fresh) {
                fresh = true;
                mine[j] = kt_range(t, 0, shapes[c].n_experts - 1);
                for (uint32_t i = 0; i < j; i++)
                    fresh = fresh && mine[i] != mine[j];
            }
            weights[(size_t)tok * shapes[c].topk + j] = fabsf(kt_normal(t));
        }
}

/* f32 rounds each of at most 3 * topk + 8 operations. */
static void check_meaning(kt *t, const hdl_moe_combine_args *a)
{
    size_t n = (size_t)a->n_tokens * a->hidden;
    double *want = KT_NEW(t, double, n), *bound = KT_NEW(t, double, n);
    for (size_t i = 0; i < n; i++) {
        double size = 0;
        for (uint32_t j = 0; j < a->topk; j++) {
            size_t item = i / a->hidden * a->topk + j, at = i % a->hidden;
            double y = (double)a->ye[item * a->hidden + at];
            double b = a->down_bias ? (double)a->down_bias[a->ids[item] * a->hidden + at] : 0;
            double w = a->weights ? (double)a->weights[item] : 1;
            want[i] += w * (y + b);
            size += w * (fabs(y) + fabs(b));
        }
        bound[i] = (3 * a->topk + 8) * 0x1p-24 * size;
    }
    kt_near(t, "the weighted sum", (kt_exact){want, bound, n}, a->y);
}

static void test(kt *t, int c)
{
    size_t n_choices = (size_t)shapes[c].n_tokens * shapes[c].topk;
    size_t n = (size_t)shapes[c].n_tokens * shapes[c].hidden;
    uint32_t *ids = KT_NEW(t, uint32_t, n_choices);
    float *weights = KT_NEW(t, float, n_choices);
    choose(t, ids, weights, c);
    hdl_moe_combine_args a = {.ye = kt_floats(t, n_choices * shapes[c].hidden, 1),
                              .ids = ids,
                              .weights = shapes[c].plain_sum ? NULL : weights,
                              .n_tokens = shapes[c].n_tokens,
                              .topk = shapes[c].topk,
                              .hidden = shapes[c].hidden,
                              .n_experts = shapes[c].n_experts,
                              .n_leaves = hdl_expert_leaf_count(shapes[c].n_experts),
                              .n_local = shapes[c].n_experts};
    if (shapes[c].biased)
        a.down_bias = kt_floats(t, (size_t)a.n_experts * a.hidden, 1);
    float *want = a.y = KT_NEW(t, float, n);
    t->ref->moe_combine(&a, t->streams[0]);
    check_meaning(t, &a);
    KT_EACH(t, level, stream)
    {
        a.y = KT_NEW(t, float, n);
        t->levels[level]->moe_combine(&a, t->streams[stream]);
        kt_same(t, kt_name(t, "moe_combine", level, stream), want, a.y, n);
        for (uint32_t ranks = 2; ranks <= a.n_leaves; ranks *= 2) {
            float *part[HDL_LEAVES_MAX] = {0};
            for (uint32_t r = 0; r < ranks; r++) {
                hdl_moe_combine_args b = a;
                b.n_local = a.n_experts / ranks;
                b.expert_lo = r * b.n_local;
                if (a.down_bias)
                    b.down_bias = a.down_bias + (size_t)b.expert_lo * a.hidden;
                part[r] = b.y = KT_NEW(t, float, n);
                t->levels[level]->moe_combine(&b, t->streams[stream]);
            }
            for (uint32_t width = ranks; width > 1; width /= 2)
                for (uint32_t r = 0; r < width / 2; r++)
                    for (size_t i = 0; i < n; i++)
                        part[r][i] = part[2 * r][i] + part[2 * r + 1][i];
            kt_same(t, kt_name(t, "tree over expert ranks", level, stream), want, part[0], n);
        }
    }
}

const kt_suite kt_moe_combine = {"moe_combine", HDL_ARRAY_LEN(shapes), test};
