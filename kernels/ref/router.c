/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
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

/* The topk largest of x[n], descending, ties by the lower index. A NaN is never larger. */
static void choose(const float *x, uint32_t n, uint32_t topk, uint32_t *ids, float *values)
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
        values[j] = x[best];
    }
}

static void softmax_then_choose(const hdl_router_args *a, const float *logits, uint32_t *ids,
                                float *weights)
{
    float p[HDL_EXPERTS_MAX], chosen = 0;
    memcpy(p, logits, a->n_experts * sizeof *p);
    float sum = exp_all(p, a->n_experts);
    for (uint32_t i = 0; i < a->n_experts; i++)
        p[i] /= sum;
    choose(p, a->n_experts, a->topk, ids, weights);
    for (uint32_t j = 0; j < a->topk; j++)
        chosen += weights[j];
    for (uint32_t j = 0; a->desc.renorm && j < a->topk; j++)
        weights[j] /= chosen;
}

static void route_tokens(const void *args, size_t from, size_t to)
{
    const hdl_router_args *a = args;
    for (size_t t = from; t < to; t++) {
        const float *logits = a->logits + t * a->n_experts;
        uint32_t *ids = a->ids + t * a->topk;
        float *weights = a->weights + t * a->topk;
        if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK) {
            softmax_then_choose(a, logits, ids, weights);
            continue;
        }
        choose(logits, a->n_experts, a->topk, ids, weights);
        float sum = exp_all(weights, a->topk);
        for (uint32_t j = 0; j < a->topk; j++)
            weights[j] /= sum;
    }
}

void hdl_ref_router(const hdl_router_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->topk >= 1 && a->topk <= hdl_min_u32(a->n_experts, HDL_TOPK_MAX));
    HDL_ASSERT_LE(a->n_experts, HDL_EXPERTS_MAX);
    hdl_stream_for(stream, a->n_tokens, 8, route_tokens, a);
}
