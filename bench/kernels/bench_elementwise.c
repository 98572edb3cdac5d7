/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that touch each activation once: rms_norm, int8_rows, glu, qkv_rope, router. `bytes` is what
 * they read and write; with few tokens all of it is in the cache. */
#include "bench/kernels/bench_op.h"

static void call_rms_norm(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->rms_norm(args, stream);
}

static void add_rms_norm(hdl_bench *b, uint32_t n_tokens)
{
    const uint32_t dim = 2048;
    hdl_bench_row *row = hdl_bench_add(b, "rms_norm %ux%u", n_tokens, dim);
    if (!row)
        return;
    hdl_rms_norm_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_rms_norm_args){.x = hdl_bench_floats(b, (size_t)n_tokens * dim),
                             .w = hdl_bench_floats(b, dim),
                             .out = hdl_bench_floats(b, (size_t)n_tokens * dim),
                             .n_tokens = n_tokens,
                             .dim = dim,
                             .eps = 1e-6f};
    row->bytes = 8.0 * n_tokens * dim;
    row->call = call_rms_norm;
    row->args = a;
}

static void call_int8_rows(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->int8_rows(args, stream);
}

static void add_int8_rows(hdl_bench *b, uint32_t n_tokens)
{
    const uint32_t dim = 2560;
    hdl_bench_row *row = hdl_bench_add(b, "int8_rows %ux%u", n_tokens, dim);
    if (!row)
        return;
    hdl_int8_rows_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_int8_rows_args){.x = hdl_bench_floats(b, (size_t)n_tokens * dim),
                              .out = hdl_bench_floats(b, (size_t)n_tokens * dim),
                              .absmax = hdl_bench_floats(b, n_tokens),
                              .step = hdl_bench_floats(b, n_tokens),
                              .n_parts = 1,
                              .n_tokens = n_tokens,
                              .dim = dim};
    row->bytes = 8.0 * n_tokens * dim;
    row->call = call_int8_rows;
    row->args = a;
}

static void call_glu(void *args, const hdl_ops *ops, hdl_stream *stream) { ops->glu(args, stream); }

static void add_glu(hdl_bench *b, uint32_t n_tokens)
{
    const uint32_t inter = 5632;
    hdl_bench_row *row = hdl_bench_add(b, "glu %ux%u", n_tokens, inter);
    if (!row)
        return;
    hdl_glu_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_glu_args){.gate_up = hdl_bench_floats(b, (size_t)n_tokens * inter * 2),
                        .out = hdl_bench_floats(b, (size_t)n_tokens * inter),
                        .n_tokens = n_tokens,
                        .inter = inter};
    row->bytes = 12.0 * n_tokens * inter;
    row->call = call_glu;
    row->args = a;
}

static void call_router(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->router(args, stream);
}

static void add_router(hdl_bench *b, uint32_t n_tokens)
{
    const uint32_t n_experts = 128, topk = 8;
    hdl_bench_row *row = hdl_bench_add(b, "router %ux%u top %u", n_tokens, n_experts, topk);
    if (!row)
        return;
    hdl_router_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_router_args){.logits = hdl_bench_floats(b, (size_t)n_tokens * n_experts),
                           .n_tokens = n_tokens,
                           .n_experts = n_experts,
                           .topk = topk,
                           .desc = {.renorm = true},
                           .ids = hdl_bench_alloc(b, (size_t)n_tokens * topk * 4),
                           .weights = hdl_bench_floats(b, (size_t)n_tokens * topk)};
    row->call = call_router;
    row->args = a;
}

static void call_qkv_rope(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->qkv_rope(args, stream);
}

/* 32 query heads and 4 KV heads of 128, normed and rotated by halves. */
static void add_qkv_rope(hdl_bench *b, uint32_t n_tokens)
{
    const uint32_t n_heads = 32, n_kv = 4, dim = 128, block = HDL_BLOCK_TOKENS;
    hdl_bench_row *row = hdl_bench_add(b, "qkv_rope %ux%ux%u", n_tokens, n_heads, dim);
    if (!row)
        return;
    uint32_t n_blocks = hdl_div_ceil_u32(n_tokens, block), width = (n_heads + 2 * n_kv) * dim;
    size_t count = (size_t)n_blocks * n_kv * block * dim;
    uint32_t *table = hdl_bench_host(b, n_blocks * sizeof *table);
    for (uint32_t i = 0; !b->failed && i < n_blocks; i++)
        table[i] = i;
    hdl_attn_row of_row = {.n_tokens = n_tokens,
                           .table = hdl_bench_put(b, table, n_blocks * sizeof *table)};
    hdl_qkv_rope_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_qkv_rope_args){.qkv = hdl_bench_floats(b, (size_t)n_tokens * width),
                             .q_norm = hdl_bench_floats(b, dim),
                             .k_norm = hdl_bench_floats(b, dim),
                             .norm_eps = 1e-6f,
                             .rope_cos = hdl_bench_floats(b, (size_t)n_tokens * dim / 2),
                             .rope_sin = hdl_bench_floats(b, (size_t)n_tokens * dim / 2),
                             .rope_dim = dim,
                             .n_heads = n_heads,
                             .rows = hdl_bench_put(b, &of_row, sizeof of_row),
                             .n_rows = 1,
                             .n_tokens = n_tokens,
                             .kv = {.k = hdl_bench_alloc(b, count * 2),
                                    .v = hdl_bench_alloc(b, count * 2),
                                    .n_blocks = n_blocks,
                                    .n_kv_heads = n_kv,
                                    .block_tokens = block,
                                    .head_dim = dim},
                             .q = hdl_bench_floats(b, (size_t)n_tokens * n_heads * dim)};
    row->bytes = 4.0 * n_tokens * (width + n_heads * dim + n_kv * dim);
    row->call = call_qkv_rope;
    row->args = a;
}

void hdl_bench_elementwise(hdl_bench *b)
{
    const uint32_t tokens[] = {1, b->scale == HDL_BENCH_SHORT ? 2 : 512};
    for (size_t i = 0; i < HDL_ARRAY_LEN(tokens); i++) {
        add_rms_norm(b, tokens[i]);
        add_int8_rows(b, tokens[i]);
        add_glu(b, tokens[i]);
        add_qkv_rope(b, tokens[i]);
        add_router(b, tokens[i]);
    }
}
