/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "bench/kernels/bench_op.h"

typedef struct moe_case {
    hdl_moe_experts_args a;
    uint32_t n_experts, turn;
    const uint32_t
        *ids; /* device [TURNS, n_tokens, topk]: other experts at every call, as in a model */
} moe_case;

enum { TURNS = 16 };

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    moe_case *c = args;
    c->a.ids = c->ids + (size_t)(c->turn++ % TURNS) * c->a.n_tokens * c->a.topk;
    ops->moe_experts(&c->a, stream);
}

static const uint32_t *choose(hdl_bench *b, const moe_case *c)
{
    size_t n = (size_t)TURNS * c->a.n_tokens;
    uint32_t *ids = hdl_bench_host(b, n * c->a.topk * sizeof *ids);
    for (size_t i = 0; !b->failed && i < n; i++)
        for (uint32_t j = 0; j < c->a.topk; j++) /* distinct: one of each stride */
            ids[i * c->a.topk + j] =
                (uint32_t)hdl_rng_below(&b->rng, c->n_experts / c->a.topk) * c->a.topk + j;
    return hdl_bench_put(b, ids, n * c->a.topk * sizeof *ids);
}

/* Qwen3-30B-A3B's experts, half of them on a CPU. */
static const struct {
    uint32_t n_experts, topk, hidden, inter, tokens[5]; /* 0 ends */
} of_scale[] = {
    [HDL_BENCH_CPU] = {64, 8, 2048, 768, {1, 512}},
    [HDL_BENCH_GPU] = {128, 8, 2048, 768, {1, 32, 512, 4096}},
    [HDL_BENCH_SHORT] = {4, 2, 64, 64, {1, 9}},
};

/* The experts of one format; rows share them. */
typedef struct experts {
    hdl_weight *up, *down; /* NULL: not made yet */
} experts;

/* As the loader does: FP8 in groups that leaves allow. */
static hdl_wformat fitting(hdl_wformat format, uint32_t leaf_k)
{
    while (hdl_wformat_info_of(format)->group > 0 &&
           leaf_k % hdl_wformat_info_of(format)->group != 0)
        format++;
    return format;
}

static void make(hdl_bench *b, experts *e, hdl_wformat format)
{
    const uint32_t n = of_scale[b->scale].n_experts;
    const uint32_t hidden = of_scale[b->scale].hidden, inter = of_scale[b->scale].inter;
    uint32_t leaves = hdl_leaf_count(inter);
    e->up = hdl_bench_host(b, n * sizeof *e->up);
    e->down = hdl_bench_host(b, n * sizeof *e->down);
    for (uint32_t i = 0; i < n && !b->failed; i++) {
        e->up[i] = hdl_bench_weight(b, fitting(format, hidden), 2 * inter, hidden, 1);
        e->down[i] = hdl_bench_weight(b, fitting(format, inter / leaves), hidden, inter, leaves);
    }
}

static void add(hdl_bench *b, experts *e, hdl_wformat format, uint32_t n_tokens)
{
    const uint32_t n_experts = of_scale[b->scale].n_experts, topk = of_scale[b->scale].topk;
    const uint32_t hidden = of_scale[b->scale].hidden, inter = of_scale[b->scale].inter;
    hdl_bench_row *row =
        hdl_bench_add(b, "moe_experts %s %u tokens", hdl_wformat_info_of(format)->name, n_tokens);
    if (!row)
        return;
    moe_case *c = hdl_bench_host(b, sizeof *c);
    if (!e->up)
        make(b, e, format);
    c->n_experts = n_experts;
    c->a = (hdl_moe_experts_args){
        .x = hdl_bench_floats(b, (size_t)n_tokens * hidden),
        .n_tokens = n_tokens,
        .topk = topk,
        .hidden = hidden,
        .inter = inter,
        .gate_up = e->up,
        .down = e->down,
        .n_local = n_experts,
        .ye = hdl_bench_alloc(b, (size_t)n_tokens * topk * hidden * sizeof(float))};
    if (b->failed)
        return;
    c->ids = choose(b, c);
    double hit = n_experts * (1 - pow(1 - (double)topk / n_experts, n_tokens)); /* expected */
    row->bytes = hit * (double)(e->up[0].bytes + e->down[0].bytes);
    row->flop = 2.0 * 3 * hidden * inter * n_tokens * topk;
    row->arith = hdl_bench_arith(b, format);
    row->call = call;
    row->args = c;
}

void hdl_bench_moe_experts(hdl_bench *b)
{
    const hdl_wformat formats[] = {HDL_WFORMAT_BF16, HDL_WFORMAT_FP8, HDL_WFORMAT_Q8,
                                   HDL_WFORMAT_Q4};
    for (size_t f = 0; f < HDL_ARRAY_LEN(formats); f++) {
        experts e = {0};
        if (formats[f] == HDL_WFORMAT_FP8 &&
            b->scale == HDL_BENCH_CPU) /* as published: FP8 is a GPU's */
            continue;
        for (size_t i = 0; of_scale[b->scale].tokens[i] != 0; i++)
            add(b, &e, formats[f], of_scale[b->scale].tokens[i]);
    }
}
