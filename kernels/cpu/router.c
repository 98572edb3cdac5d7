/* SPDX-License-Identifier: Apache-2.0 */
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

static void route_tokens(const void *args, size_t from, size_t to)
{
    const hdl_router_args *a = args;
    float p[HDL_EXPERTS_MAX + HDL_LANES], best[HDL_TOPK_MAX + HDL_LANES];
    for (size_t t = from; t < to; t++) {
        uint32_t *ids = a->ids + t * a->topk;
        float sum = 1;
        memcpy(p, a->logits + t * a->n_experts, a->n_experts * sizeof *p);
        if (a->desc.kind == HDL_ROUTER_SOFTMAX_TOPK) {
            divide_all(p, a->n_experts, exp_all(p, a->n_experts));
            choose(p, a->n_experts, a->topk, ids, best);
            if (a->desc.renorm) {
                sum = 0;
                for (uint32_t j = 0; j < a->topk; j++)
                    sum += best[j];
            }
        } else {
            choose(p, a->n_experts, a->topk, ids, best);
            sum = exp_all(best, a->topk);
        }
        divide_all(best, a->topk, sum);
        memcpy(a->weights + t * a->topk, best, a->topk * sizeof *best);
    }
}

void HDL_ISA_NAME(router)(const hdl_router_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->topk >= 1 && a->topk <= hdl_min_u32(a->n_experts, HDL_TOPK_MAX));
    HDL_ASSERT_LE(a->n_experts, HDL_EXPERTS_MAX);
    hdl_stream_for(stream, a->n_tokens, 16, route_tokens, a);
}
