/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

/* A token's choices on this rank, in order of expert id. */
typedef struct choices {
    uint32_t n;
    uint32_t id[HDL_TOPK_MAX];
    v16 weight[HDL_TOPK_MAX];
    const float *ye[HDL_TOPK_MAX];   /* [hidden] */
    const float *bias[HDL_TOPK_MAX]; /* [hidden] where the experts have one */
} choices;

static void sort_choices(const hdl_moe_combine_args *a, size_t token, choices *c)
{
    c->n = 0;
    for (uint32_t j = 0; j < a->topk; j++) {
        size_t item = token * a->topk + j;
        if (a->ids[item] - a->expert_lo >= a->n_local) /* wraps for ids below */
            continue;
        uint32_t at = c->n++;
        for (; at > 0 && c->id[at - 1] > a->ids[item]; at--) {
            c->id[at] = c->id[at - 1];
            c->weight[at] = c->weight[at - 1];
            c->ye[at] = c->ye[at - 1];
            c->bias[at] = c->bias[at - 1];
        }
        c->id[at] = a->ids[item];
        c->weight[at] = v16_set1(a->weights ? a->weights[item] : 1.0f);
        c->ye[at] = a->ye + item * a->hidden;
        c->bias[at] =
            a->down_bias ? a->down_bias + (size_t)(a->ids[item] - a->expert_lo) * a->hidden : NULL;
    }
}

/* The leaf tree over 16 (or `part`) elements from i. */
static v16 combine(const hdl_moe_combine_args *a, const choices *c, size_t i, uint32_t part)
{
    v16 open[HDL_TREE_DEPTH];
    uint32_t n_open = 0, at = 0, group = a->n_experts / a->n_leaves;
    for (uint32_t leaf = 0; leaf < a->n_local / group; leaf++) {
        uint32_t end = a->expert_lo + (leaf + 1) * group;
        v16 sum = v16_zero();
        for (; at < c->n && c->id[at] < end; at++) {
            v16 y = v16_load_part(c->ye[at] + i, part);
            if (c->bias[at])
                y = v16_add(y, v16_load_part(c->bias[at] + i, part));
            sum = v16_add(sum, v16_mul(c->weight[at], y));
        }
        for (uint32_t carry = leaf; carry & 1u; carry >>= 1)
            sum = v16_add(open[--n_open], sum);
        open[n_open++] = sum;
    }
    return open[0];
}

static void combine_tokens(const void *args, size_t from, size_t to)
{
    const hdl_moe_combine_args *a = args;
    choices c;
    for (size_t t = from; t < to; t++) {
        sort_choices(a, t, &c);
        for (size_t i = 0; i < a->hidden; i += HDL_LANES) {
            uint32_t part = (uint32_t)hdl_min_size(a->hidden - i, HDL_LANES);
            v16_store_part(a->y + t * a->hidden + i, combine(a, &c, i, part), part);
        }
    }
}

void HDL_ISA_NAME(moe_combine)(const hdl_moe_combine_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->n_experts % a->n_leaves == 0 && a->topk <= HDL_TOPK_MAX);
    HDL_ASSERT(a->n_local > 0 && a->n_local % (a->n_experts / a->n_leaves) == 0);
    hdl_stream_for(stream, a->n_tokens, 8192 / (a->hidden * a->topk) + 1, combine_tokens, a);
}
