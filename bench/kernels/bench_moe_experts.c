/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/bench_op.h"

typedef struct moe_case {
    hdl_moe_experts_args a;
    uint32_t n_experts, turn;
    uint32_t *ids; /* [TURNS, n_tokens, topk]: other experts at every call, as in a model */
} moe_case;

enum { TURNS = 16 };

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    moe_case *c = args;
    c->a.ids = c->ids + (size_t)(c->turn++ % TURNS) * c->a.n_tokens * c->a.topk;
    ops->moe_experts(&c->a, stream);
}

static void choose(hdl_bench *b, const moe_case *c)
{
    for (size_t i = 0; i < (size_t)TURNS * c->a.n_tokens; i++)
        for (uint32_t j = 0; j < c->a.topk; j++) /* distinct: one of each stride */
            c->ids[i * c->a.topk + j] =
                (uint32_t)hdl_rng_below(&b->rng, c->n_experts / c->a.topk) * c->a.topk + j;
}

/* 64 experts of Qwen3-30B-A3B's size, 8 chosen. */
static void add(hdl_bench *b, hdl_wformat format, uint32_t n_tokens)
{
    const uint32_t n_experts = 64, topk = 8, hidden = 2048, inter = 768;
    hdl_bench_row *row =
        hdl_bench_add(b, "moe_experts %s %u tokens", hdl_wformat_info_of(format)->name, n_tokens);
    if (!row)
        return;
    moe_case *c = hdl_bench_alloc(b, sizeof *c);
    hdl_weight *up = hdl_bench_alloc(b, n_experts * sizeof *up);
    hdl_weight *down = hdl_bench_alloc(b, n_experts * sizeof *down);
    for (uint32_t e = 0; e < n_experts && !b->failed; e++) {
        up[e] = hdl_bench_weight(b, format, 2 * inter, hidden, 1);
        down[e] = hdl_bench_weight(b, format, hidden, inter, hdl_leaf_count(inter));
    }
    c->n_experts = n_experts;
    c->ids = hdl_bench_alloc(b, (size_t)TURNS * n_tokens * topk * sizeof *c->ids);
    c->a = (hdl_moe_experts_args){.x = hdl_bench_floats(b, (size_t)n_tokens * hidden),
                                  .n_tokens = n_tokens,
                                  .topk = topk,
                                  .hidden = hidden,
                                  .inter = inter,
                                  .gate_up = up,
                                  .down = down,
                                  .n_local = n_experts,
                                  .ye = hdl_bench_floats(b, (size_t)n_tokens * topk * hidden)};
    if (b->failed)
        return;
    choose(b, c);
    double experts = n_tokens * topk < n_experts ? n_tokens * topk : n_experts; /* about */
    row->bytes = experts * (double)(up[0].bytes + down[0].bytes);
    row->flop = 2.0 * 3 * hidden * inter * n_tokens * topk;
    row->arith = hdl_wformat_is_int(format) ? HDL_ARITH_INT8 : HDL_ARITH_BF16;
    row->call = call;
    row->args = c;
}

void hdl_bench_moe_experts(hdl_bench *b)
{
    add(b, HDL_WFORMAT_BF16, 1);
    add(b, HDL_WFORMAT_BF16, 512);
    add(b, HDL_WFORMAT_Q8, 1);
    add(b, HDL_WFORMAT_Q8, 512);
    add(b, HDL_WFORMAT_Q4, 1);
    add(b, HDL_WFORMAT_Q4, 512);
}
