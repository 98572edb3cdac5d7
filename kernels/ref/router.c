/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/router.h"

#include "kernels/ref/ref.h"

/* exp(x[i] - max x) in place; returns the lane sum. */
static float exp_all(float *x, uint32_t n)
{
    float max = x[0], lane[HDL_LANES] = {0};
    for (uint32_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++) {
        x[i] = hdl_exp(x[i] - max);
        lane[i % HDL_LANES] += x[i];
    }
    return hdl_lanes_fold(lane);
}

/* The indices of the topk largest of x[n], descending, ties by the lower index. A NaN is never
 * larger. */
static void choose(const float *x, uint32_t n, uint32_t topk, uint32_t *ids)
{
    for (uint32_t j = 0; j < topk; j++) {
        uint32_t best = HDL_NONE_U32;
        for (uint32_t i = 0; i < n; i++) {
            bool taken = false;
            for (uint32_t seen = 0; seen < j; seen++)
                taken = taken || ids[seen] == i;
            if (!taken && (best == HDL_NONE_U32 || x[i] > x[best]))
                best = i;
        }
        ids[j] = best;
    }
}

/* x becomes -inf outside of the topk_group best groups. */
static void keep_groups(const hdl_router_args *a, float *x)
{
    uint32_t each = a->n_experts / a->desc.n_group, ids[HDL_EXPERTS_MAX];
    float worth[HDL_EXPERTS_MAX];
    for (uint32_t g = 0; g < a->desc.n_group; g++) {
        const float *group = x + (size_t)g * each;
        uint32_t two[2];
        choose(group, each, a->desc.group_top2 ? 2 : 1, two);
        worth[g] = a->desc.group_top2 ? group[two[0]] + group[two[1]] : group[two[0]];
    }
    choose(worth, a->desc.n_group, a->desc.topk_group, ids);
    for (uint32_t g = 0; g < a->desc.n_group; g++) {
        bool kept = false;
        for (uint32_t j = 0; j < a->desc.topk_group; j++)
            kept = kept || ids[j] == g;
        for (uint32_t i = 0; i < each && !kept; i++)
            x[(size_t)g * each + i] = -INFINITY;
    }
}

/* score: the logits on entry, the scores on return. */
static void score_all(const hdl_router_args *a, float *score)
{
    if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK) {
        float sum = exp_all(score, a->n_experts);
        for (uint32_t i = 0; i < a->n_experts; i++)
            score[i] /= sum;
    } else if (a->desc.kind == HDL_ROUTER_SIGMOID_TOPK) {
        for (uint32_t i = 0; i < a->n_experts; i++)
            score[i] = hdl_sigmoid(score[i]);
    }
}

static void route(const hdl_router_args *a, const float *logits, uint32_t *ids, float *weights)
{
    float score[HDL_EXPERTS_MAX], by[HDL_EXPERTS_MAX], sum = 1;
    memcpy(score, logits, a->n_experts * sizeof *score);
    score_all(a, score);
    for (uint32_t i = 0; i < a->n_experts; i++)
        by[i] = a->correction ? score[i] + a->correction[i] : score[i];
    if (a->desc.n_group > 1)
        keep_groups(a, by);
    choose(by, a->n_experts, a->topk, ids);
    for (uint32_t j = 0; j < a->topk; j++)
        weights[j] = score[ids[j]];
    for (uint32_t j = 0; j < a->topk && a->desc.kind == HDL_ROUTER_TOPK_SIGMOID; j++)
        weights[j] = hdl_sigmoid(weights[j]);
    if (a->desc.kind == HDL_ROUTER_TOPK_SOFTMAX) {
        sum = exp_all(weights, a->topk);
    } else if (a->desc.renorm) {
        sum = 0;
        for (uint32_t j = 0; j < a->topk; j++)
            sum += weights[j];
        sum += HDL_ROUTER_TINY;
    }
    for (uint32_t j = 0; j < a->topk; j++) {
        weights[j] /= sum;
        if (a->desc.scale != 0)
            weights[j] *= a->desc.scale;
    }
}

static void route_tokens(const void *args, size_t from, size_t to)
{
    const hdl_router_args *a = args;
    for (size_t t = from; t < to; t++) {
        if (hdl_router_skips(a, t))
            continue;
        route(a, a->logits + t * a->n_experts, a->ids + t * a->topk, a->weights + t * a->topk);
    }
}

void hdl_ref_router(const hdl_router_args *a, hdl_stream *stream)
{
    hdl_router_check(a);
    hdl_stream_for(stream, a->n_tokens, 8, route_tokens, a);
}
