/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "kernel_test.h"

static const struct {
    uint32_t n_experts, topk, n_tokens;
    hdl_router_kind kind;
    bool renorm, ties;
} shapes[] = {
    {8, 2, 1, HDL_ROUTER_SOFTMAX_TOPK, true, false},
    {128, 8, 50, HDL_ROUTER_SOFTMAX_TOPK, true, false},
    {60, 4, 7, HDL_ROUTER_SOFTMAX_TOPK, false, false},
    {8, 2, 33, HDL_ROUTER_TOPK_SOFTMAX, false, false},
    {16, 16, 20, HDL_ROUTER_SOFTMAX_TOPK, true, true},
    {13, 5, 20, HDL_ROUTER_TOPK_SOFTMAX, false, true},
};

static void check_meaning(kt *t, int c, const hdl_router_args *a)
{
    bool order = true, sum_ok = true;
    for (uint32_t tok = 0; tok < a->n_tokens; tok++) {
        const float *logits = a->logits + tok * a->n_experts, *w = a->weights + tok * a->topk;
        const uint32_t *ids = a->ids + tok * a->topk;
        double sum = 0;
        for (uint32_t j = 0; j < a->topk; j++) {
            sum += (double)w[j];
            for (uint32_t i = 0; j > 0 && i < 1; i++)
                order = order && (logits[ids[j - 1]] > logits[ids[j]] ||
                                  (w[j - 1] == w[j] && ids[j - 1] < ids[j]));
        }
        bool is_one = a->desc.renorm || a->desc.kind == HDL_ROUTER_TOPK_SOFTMAX;
        sum_ok = sum_ok && (is_one ? fabs(sum - 1) < 1e-5 : sum < 1.00001);
    }
    (void)c;
    kt_check(t, order, "choices descend, ties by the lower id");
    kt_check(t, sum_ok, "weights add up");
}

static void test(kt *t, int c)
{
    size_t n = (size_t)shapes[c].n_tokens * shapes[c].n_experts;
    size_t n_choices = (size_t)shapes[c].n_tokens * shapes[c].topk;
    float *logits = kt_floats(t, n, 2);
    for (size_t i = 0; shapes[c].ties && i < n; i++)
        logits[i] = rintf(logits[i]);
    hdl_router_args a = {.logits = logits,
                         .n_tokens = shapes[c].n_tokens,
                         .n_experts = shapes[c].n_experts,
                         .topk = shapes[c].topk,
                         .desc = {.kind = shapes[c].kind, .renorm = shapes[c].renorm}};
    uint32_t *ids = a.ids = KT_NEW(t, uint32_t, n_choices);
    float *weights = a.weights = KT_NEW(t, float, n_choices);
    t->ref->router(&a, t->streams[0]);
    check_meaning(t, c, &a);
    KT_EACH(t, level, stream)
    {
        a.ids = KT_NEW(t, uint32_t, n_choices);
        a.weights = KT_NEW(t, float, n_choices);
        t->levels[level]->router(&a, t->streams[stream]);
        kt_same_bytes(t, kt_name(t, "expert ids", level, stream), ids, a.ids, n_choices * 4);
        kt_same(t, kt_name(t, "expert weights", level, stream), weights, a.weights, n_choices);
    }
    logits[1] = NAN; /* a broken model must not lead outside of the experts */
    KT_EACH(t, level, stream)
    {
        bool inside = true;
        t->levels[level]->router(&a, t->streams[stream]);
        for (uint32_t j = 0; j < a.topk; j++)
            inside = inside && a.ids[j] < a.n_experts;
        kt_check(t, inside, kt_name(t, "ids of a NaN row", level, stream));
    }
}

const kt_suite kt_router = {"router", HDL_ARRAY_LEN(shapes), test};
