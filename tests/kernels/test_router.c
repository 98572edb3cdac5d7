/* SPDX-License-Identifier: Apache-2.0 */
/* router: levels equal ref; ref against the definition in double precision. */
#include <math.h>
#include <string.h>

#include "kernel_test.h"

typedef struct shape {
    uint32_t n_experts, topk, n_tokens;
    hdl_router_desc desc;
    bool ties, corrected;
} shape;

#define SOFT  .kind = HDL_ROUTER_SOFTMAX_TOPK
#define AFTER .kind = HDL_ROUTER_TOPK_SOFTMAX
#define SIGM  .kind = HDL_ROUTER_SIGMOID_TOPK

static const shape shapes[] = {
    {8, 2, 1, {SOFT, .renorm = true}, false, false},
    {128, 8, 50, {SOFT, .renorm = true}, false, false},
    {60, 4, 7, {SOFT}, false, false},
    {8, 2, 33, {AFTER}, false, false},
    {16, 16, 20, {SOFT, .renorm = true}, true, false},
    {13, 5, 20, {AFTER}, true, false},
    {16, 1, 9, {SIGM}, false, false},
    {256, 8, 30, {SIGM, .renorm = true}, false, true},
    {160, 8, 17, {SIGM, .renorm = true, .scale = 2.5f}, false, true},
    {24, 4, 20, {SIGM, .renorm = true, .n_group = 1, .topk_group = 1}, true, true},
    {256, 8, 20, {SIGM, true, true, .n_group = 8, .topk_group = 4, .scale = 2.5f}, false, true},
    {12, 4, 20, {SIGM, true, true, .n_group = 3, .topk_group = 2}, true, true},
    {160, 6, 20, {SOFT, .n_group = 8, .topk_group = 3, .scale = 16}, false, false},
    {20, 3, 20, {SOFT, .renorm = true, .n_group = 5, .topk_group = 1}, true, false},
    {16, 1, 30, {.kind = HDL_ROUTER_TOPK_SIGMOID}, false, false},
    {24, 3, 30, {.kind = HDL_ROUTER_TOPK_SIGMOID, .renorm = true}, true, false},
    {9, 3, 20, {AFTER, .n_group = 3, .topk_group = 2}, false, true},
};

/* In double; NEAR: how far f32 may be off before an order counts as wrong. */
#define NEAR 1e-5
enum { EXPERTS = 256 };

typedef struct exact {
    double score[EXPERTS], by[EXPERTS];
} exact;

static void score(const hdl_router_args *a, const float *logits, exact *x)
{
    double sum = 0;
    for (uint32_t i = 0; i < a->n_experts; i++)
        sum += exp((double)logits[i]);
    for (uint32_t i = 0; i < a->n_experts; i++) {
        double l = (double)logits[i];
        x->score[i] = a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK   ? exp(l) / sum
                      : a->desc.kind == HDL_ROUTER_SIGMOID_TOPK ? 1 / (1 + exp(-l))
                                                                : l;
        x->by[i] = x->score[i] + (a->correction ? (double)a->correction[i] : 0);
    }
}

static double worth(const hdl_router_args *a, const exact *x, uint32_t group)
{
    uint32_t each = a->n_experts / a->desc.n_group;
    double first = -INFINITY, second = -INFINITY;
    for (uint32_t i = group * each; i < (group + 1) * each; i++) {
        double by = x->by[i];
        second = by > first ? first : fmax(second, by);
        first = fmax(first, by);
    }
    return a->desc.group_top2 ? first + second : first;
}

/* Fewer than topk_group groups are clearly better than the expert's. */
static bool may_choose(const hdl_router_args *a, const exact *x, uint32_t expert, double slack)
{
    if (a->desc.n_group <= 1)
        return true;
    double own = worth(a, x, expert / (a->n_experts / a->desc.n_group));
    uint32_t better = 0;
    for (uint32_t g = 0; g < a->desc.n_group; g++)
        better += worth(a, x, g) > own + slack;
    return better < a->desc.topk_group;
}

/* Every chosen one may be chosen, in falling order; no better one was left out. */
static bool choices_right(const hdl_router_args *a, const exact *x, const uint32_t *ids)
{
    bool chosen[EXPERTS] = {false};
    double last = x->by[ids[a->topk - 1]];
    for (uint32_t j = 0; j < a->topk; j++) {
        if (chosen[ids[j]] || !may_choose(a, x, ids[j], NEAR))
            return false;
        chosen[ids[j]] = true;
        if (j > 0 && x->by[ids[j - 1]] < x->by[ids[j]] - NEAR)
            return false;
        if (j > 0 && x->by[ids[j - 1]] == x->by[ids[j]] && ids[j - 1] > ids[j])
            return false;
    }
    for (uint32_t i = 0; i < a->n_experts; i++)
        if (!chosen[i] && may_choose(a, x, i, -NEAR) && x->by[i] > last + NEAR)
            return false;
    return true;
}

/* What a chosen expert's weight is made of. */
static double raw_weight(const hdl_router_args *a, double score)
{
    switch (a->desc.kind) {
    case HDL_ROUTER_TOPK_SOFTMAX: return exp(score);
    case HDL_ROUTER_TOPK_SIGMOID: return 1 / (1 + exp(-score));
    default: return score;
    }
}

/* The sum of a softmax's chosen ones may be small: the bound is relative. */
static bool weights_right(const hdl_router_args *a, const exact *x, const uint32_t *ids,
                          const float *weights)
{
    bool divided = a->desc.kind == HDL_ROUTER_TOPK_SOFTMAX || a->desc.renorm;
    double sum = divided ? 0 : 1;
    for (uint32_t j = 0; j < a->topk && divided; j++)
        sum += raw_weight(a, x->score[ids[j]]);
    for (uint32_t j = 0; j < a->topk; j++) {
        double want = raw_weight(a, x->score[ids[j]]) / sum;
        want *= a->desc.scale != 0 ? (double)a->desc.scale : 1;
        if (!(fabs(want - (double)weights[j]) <= NEAR * want))
            return false;
    }
    return true;
}

static void check_meaning(kt *t, const hdl_router_args *a)
{
    bool ids_ok = true, weights_ok = true;
    for (uint32_t tok = 0; tok < a->n_tokens; tok++) {
        exact x;
        const uint32_t *ids = a->ids + tok * a->topk;
        score(a, a->logits + tok * a->n_experts, &x);
        ids_ok = ids_ok && choices_right(a, &x, ids);
        weights_ok = weights_ok && weights_right(a, &x, ids, a->weights + tok * a->topk);
    }
    kt_check(t, ids_ok, "the best are chosen, in falling order");
    kt_check(t, weights_ok, "weights of the definition");
}

static void test(kt *t, int c)
{
    const shape *s = &shapes[c];
    size_t n = (size_t)s->n_tokens * s->n_experts, n_choices = (size_t)s->n_tokens * s->topk;
    float *logits = kt_floats(t, n, 2), *correction = kt_floats(t, s->n_experts, 0.3f);
    for (size_t i = 0; s->ties && i < n; i++)
        logits[i] = rintf(logits[i]);
    for (size_t i = 0; s->ties && i < s->n_experts; i++)
        correction[i] = 0.25f;
    hdl_router_args a = {.logits = logits,
                         .correction = s->corrected ? correction : NULL,
                         .n_tokens = s->n_tokens,
                         .n_experts = s->n_experts,
                         .topk = s->topk,
                         .desc = s->desc};
    uint32_t *ids = a.ids = KT_NEW(t, uint32_t, n_choices);
    float *weights = a.weights = KT_NEW(t, float, n_choices);
    t->ref->router(&a, t->streams[0]);
    check_meaning(t, &a);
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
