/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses experts: a warp for each token, [n_tokens, n_experts] logits -> [n_tokens, topk] ids and
 * weights.
 *
 * Expert i is lane i % 32's; which of its experts a lane has given away is a bit of a word. The
 * largest is found topk times. Roof: the launch; n_experts * topk / 32 comparisons a lane. Limits:
 * n_experts <= HDL_EXPERTS_MAX = 32 * 32, topk <= HDL_TOPK_MAX. Bits: as ref, NaN included. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

extern "C" {
#include "kernels/router.h"
}

static_assert(HDL_EXPERTS_MAX <= GPU_WARP * 32, "a bit for each expert of a lane");

/* Shared memory: score and what chooses, of all experts; the topk; worth of groups. */
struct route_memory {
    float score[HDL_EXPERTS_MAX], by[HDL_EXPERTS_MAX], worth[HDL_EXPERTS_MAX];
    float weights[HDL_TOPK_MAX];
    uint32_t ids[HDL_EXPERTS_MAX]; /* of experts, or of groups */
};

/* exp(x[i] - max x) in place; returns the lane sum. */
GPU_DEVICE float exp_all(float *x, uint32_t n)
{
    float max = x[0], sum = 0;
    for (uint32_t i = gpu_lane(); i < n; i += GPU_WARP)
        max = x[i] > max ? x[i] : max;
    max = gpu_max(max);
    gpu_warp_sync();
    for (uint32_t i = gpu_lane(); i < n; i += GPU_WARP)
        x[i] = hdl_exp(x[i] - max);
    gpu_warp_sync();
    if (gpu_lane() < HDL_LANES)
        for (uint32_t i = gpu_lane(); i < n; i += HDL_LANES)
            sum += x[i];
    return warp_lanes_fold(sum);
}

/* ids[0..topk): the largest of x[n], descending, ties by the lower index. The first that is left
 * wins when it is NaN, since nothing is larger than it. All in shared memory. */
GPU_DEVICE void choose(const float *x, uint32_t n, uint32_t topk, uint32_t *ids)
{
    uint32_t taken = 0; /* bit k: of expert 32 k + lane */
    for (uint32_t j = 0; j < topk; j++) {
        uint32_t first = HDL_NONE_U32, best = HDL_NONE_U32;
        for (uint32_t i = gpu_lane(); i < n; i += GPU_WARP) {
            if (taken >> i / GPU_WARP & 1)
                continue;
            first = first == HDL_NONE_U32 ? i : first;
            if (!isnan(x[i]) && (best == HDL_NONE_U32 || x[i] > x[best]))
                best = i;
        }
        for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2) {
            uint32_t other = gpu_shfl_xor(best, mask);
            first = hdl_min_u32(first, gpu_shfl_xor(first, mask));
            if (other != HDL_NONE_U32 && (best == HDL_NONE_U32 || x[other] > x[best] ||
                                          (x[other] == x[best] && other < best)))
                best = other;
        }
        if (isnan(x[first]))
            best = first;
        if (best % GPU_WARP == gpu_lane()) {
            taken |= 1u << best / GPU_WARP;
            ids[j] = best;
        }
    }
    gpu_warp_sync();
}

/* by becomes -inf outside of the topk_group best groups. */
GPU_DEVICE void keep_groups(const hdl_router_args *a, route_memory *m)
{
    uint32_t each = a->n_experts / a->desc.n_group;
    for (uint32_t g = 0; g < a->desc.n_group; g++) {
        const float *group = m->by + g * each;
        choose(group, each, a->desc.group_top2 ? 2 : 1, m->ids);
        if (gpu_lane() == 0)
            m->worth[g] =
                a->desc.group_top2 ? group[m->ids[0]] + group[m->ids[1]] : group[m->ids[0]];
        gpu_warp_sync();
    }
    choose(m->worth, a->desc.n_group, a->desc.topk_group, m->ids);
    for (uint32_t i = gpu_lane(); i < a->n_experts; i += GPU_WARP) {
        bool kept = false;
        for (uint32_t j = 0; j < a->desc.topk_group; j++)
            kept = kept || m->ids[j] == i / each;
        m->by[i] = kept ? m->by[i] : -INFINITY;
    }
    gpu_warp_sync();
}

/* The logits become scores, and what chooses beside them. */
GPU_DEVICE void score_all(const hdl_router_args *a, const float *logits, route_memory *m)
{
    uint32_t lane = gpu_lane();
    for (uint32_t i = lane; i < a->n_experts; i += GPU_WARP)
        m->score[i] = a->desc.kind == HDL_ROUTER_SIGMOID_TOPK ? hdl_sigmoid(logits[i]) : logits[i];
    gpu_warp_sync();
    float sum = 1;
    if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK)
        sum = exp_all(m->score, a->n_experts);
    for (uint32_t i = lane; i < a->n_experts; i += GPU_WARP) {
        if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK)
            m->score[i] /= sum;
        m->by[i] = a->correction ? m->score[i] + a->correction[i] : m->score[i];
    }
    gpu_warp_sync();
}

/* What the chosen weights are divided by. */
GPU_DEVICE float weight_sum(const hdl_router_args *a, route_memory *m)
{
    if (a->desc.kind == HDL_ROUTER_TOPK_SOFTMAX)
        return exp_all(m->weights, a->topk);
    if (!a->desc.renorm)
        return 1;
    float sum = 0;
    for (uint32_t j = 0; j < a->topk; j++)
        sum += m->weights[j];
    return sum + HDL_ROUTER_TINY;
}

GPU_KERNEL(32) router(hdl_router_args a)
{
    size_t t = gpu_block_x();
    route_memory *m = gpu_shared<route_memory>();
    if (a.n_live && t >= *a.n_live) {
        for (uint32_t j = gpu_lane(); j < a.topk; j += GPU_WARP) {
            a.ids[t * a.topk + j] = HDL_NONE_U32;
            a.weights[t * a.topk + j] = 0;
        }
        return;
    }
    score_all(&a, a.logits + t * a.n_experts, m);
    if (a.desc.n_group > 1)
        keep_groups(&a, m);
    choose(m->by, a.n_experts, a.topk, m->ids);
    for (uint32_t j = gpu_lane(); j < a.topk; j += GPU_WARP) {
        float weight = m->score[m->ids[j]];
        m->weights[j] = a.desc.kind == HDL_ROUTER_TOPK_SIGMOID ? hdl_sigmoid(weight) : weight;
    }
    gpu_warp_sync();
    float sum = weight_sum(&a, m);
    gpu_warp_sync();
    for (uint32_t j = gpu_lane(); j < a.topk; j += GPU_WARP) {
        float weight = m->weights[j] / sum;
        a.ids[t * a.topk + j] = m->ids[j];
        a.weights[t * a.topk + j] = a.desc.scale != 0 ? weight * a.desc.scale : weight;
    }
}

void hdl_cuda_router(const hdl_router_args *a, hdl_stream *stream)
{
    gpu_grid g;
    hdl_router_check(a);
    g.x = a->n_tokens;
    g.threads = GPU_WARP;
    g.shared = sizeof(route_memory);
    GPU_LAUNCH(stream, g, router, *a);
}
