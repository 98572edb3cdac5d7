/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/router.h"

#include "kernels/cpu/cpu.h"

/* x[i] = exp(x[i] - max x), x padded to a multiple of 16; returns the lane sum. */
static float exp_all(float *x, uint32_t n)
{
    uint32_t i = 0, whole = n / HDL_LANES * HDL_LANES, rest = n - whole;
    v16 lowest = v16_set1(-INFINITY), max = lowest, sum = v16_zero();
    if (rest > 0) /* exp(-inf) = 0: the padding adds nothing */
        v16_store(x + whole, v16_where_lanes(0, rest, v16_load(x + whole), lowest));
    for (i = 0; i < n; i += HDL_LANES)
        max = v16_max(v16_load(x + i), max);
    max = v16_set1(v16_fold_max(max));
    for (i = 0; i < n; i += HDL_LANES) {
        v16 e = v16_exp(v16_sub(v16_load(x + i), max));
        v16_store(x + i, e);
        sum = v16_add(sum, e);
    }
    return v16_fold(sum);
}

static void divide_all(float *x, uint32_t n, float by)
{
    for (uint32_t i = 0; i < n; i += HDL_LANES)
        v16_store(x + i, v16_div(v16_load(x + i), v16_set1(by)));
}

/* The topk largest, descending; a later one overtakes only when it is larger. */
static void choose(const float *x, uint32_t n, uint32_t topk, uint32_t *ids, float *values)
{
    uint32_t n_held = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (n_held == topk && !(x[i] > values[topk - 1]))
            continue;
        uint32_t at = n_held < topk ? n_held++ : topk - 1;
        for (; at > 0 && x[i] > values[at - 1]; at--) {
            ids[at] = ids[at - 1];
            values[at] = values[at - 1];
        }
        ids[at] = i;
        values[at] = x[i];
    }
}

/* x becomes -inf outside of the topk_group best groups. */
static void keep_groups(const hdl_router_args *a, float *x)
{
    uint32_t n_group = a->desc.n_group, each = a->n_experts / n_group, ids[HDL_EXPERTS_MAX];
    float worth[HDL_EXPERTS_MAX], best[HDL_EXPERTS_MAX];
    for (uint32_t g = 0; g < n_group; g++) {
        choose(x + (size_t)g * each, each, a->desc.group_top2 ? 2 : 1, ids, best);
        worth[g] = a->desc.group_top2 ? best[0] + best[1] : best[0];
    }
    choose(worth, n_group, a->desc.topk_group, ids, best);
    bool kept[HDL_EXPERTS_MAX] = {false};
    for (uint32_t j = 0; j < a->desc.topk_group; j++)
        kept[ids[j]] = true;
    for (uint32_t i = 0; i < a->n_experts; i++)
        if (!kept[i / each])
            x[i] = -INFINITY;
}

/* score: the logits on entry, the scores on return; padded to a multiple of 16. */
static void score_all(const hdl_router_args *a, float *score)
{
    if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK) {
        divide_all(score, a->n_experts, exp_all(score, a->n_experts));
        return;
    }
    for (uint32_t i = 0; i < a->n_experts && a->desc.kind == HDL_ROUTER_SIGMOID_TOPK;
         i += HDL_LANES)
        v16_store(score + i, v16_sigmoid(v16_load(score + i)));
}

/* weights: the scores of the chosen on entry, padded to a multiple of 16. */
static void weigh(const hdl_router_args *a, float *weights)
{
    for (uint32_t j = 0; j < a->topk && a->desc.kind == HDL_ROUTER_TOPK_SIGMOID; j += HDL_LANES)
        v16_store(weights + j, v16_sigmoid(v16_load(weights + j)));
    if (a->desc.kind == HDL_ROUTER_TOPK_SOFTMAX) {
        divide_all(weights, a->topk, exp_all(weights, a->topk));
    } else if (a->desc.renorm) {
        float sum = 0;
        for (uint32_t j = 0; j < a->topk; j++)
            sum += weights[j];
        divide_all(weights, a->topk, sum + HDL_ROUTER_TINY);
    }
    for (uint32_t j = 0; j < a->topk && a->desc.scale != 0; j++)
        weights[j] *= a->desc.scale;
}

static void route_tokens(const void *args, size_t from, size_t to)
{
    const hdl_router_args *a = args;
    float score[HDL_EXPERTS_MAX + HDL_LANES], sums[HDL_EXPERTS_MAX];
    float best[HDL_TOPK_MAX], weights[HDL_TOPK_MAX + HDL_LANES];
    bool apart = a->correction || a->desc.n_group > 1; /* what chooses is not the score */
    for (size_t t = from; t < to; t++) {
        if (hdl_router_skips(a, t))
            continue;
        uint32_t *ids = a->ids + t * a->topk;
        float *by = apart ? sums : score;
        memcpy(score, a->logits + t * a->n_experts, a->n_experts * sizeof *score);
        score_all(a, score);
        for (uint32_t i = 0; i < a->n_experts && apart; i++)
            by[i] = a->correction ? score[i] + a->correction[i] : score[i];
        if (a->desc.n_group > 1)
            keep_groups(a, by);
        choose(by, a->n_experts, a->topk, ids, best);
        for (uint32_t j = 0; j < a->topk; j++)
            weights[j] = score[ids[j]];
        weigh(a, weights);
        memcpy(a->weights + t * a->topk, weights, a->topk * sizeof *weights);
    }
}

void HDL_ISA_NAME(router)(const hdl_router_args *a, hdl_stream *stream)
{
    hdl_router_check(a);
    hdl_stream_for(stream, a->n_tokens, 16, route_tokens, a);
}
