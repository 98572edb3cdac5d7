/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/bench_op.h"

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->attention(args, stream);
}

typedef struct heads {
    const char *name;
    uint32_t n, n_kv, dim, latent;
} heads;
static const heads grouped = {"attention", 32, 4, 128, 0};
static const heads latent = {"latent attention", 16, 1, 576, 512}; /* DeepSeek-V3 on 8 ranks */

/* n_rows sequences of n_tokens new tokens each, after `context` cached ones. */
typedef struct step {
    uint32_t n_rows, n_tokens, context;
} step;

static void add(hdl_bench *b, heads of, step at)
{
    const uint32_t block = HDL_BLOCK_TOKENS;
    uint32_t n_rows = at.n_rows, n_tokens = at.n_tokens, context = at.context;
    uint32_t value_dim = of.latent ? of.latent : of.dim;
    hdl_bench_row *row =
        hdl_bench_add(b, "%s %u rows, %u tokens at %u", of.name, n_rows, n_tokens, context);
    if (!row)
        return;
    uint32_t per_row = hdl_div_ceil_u32(context + n_tokens, block), total = n_rows * n_tokens;
    hdl_attn_row *rows = hdl_bench_alloc(b, n_rows * sizeof *rows);
    uint32_t *table = hdl_bench_alloc(b, (size_t)n_rows * per_row * sizeof *table);
    size_t count = (size_t)n_rows * per_row * of.n_kv * block * of.dim;
    hdl_attention_args *a = hdl_bench_alloc(b, sizeof *a);
    *a = (hdl_attention_args){.q = hdl_bench_floats(b, (size_t)total * of.n * of.dim),
                              .rows = rows,
                              .n_rows = n_rows,
                              .n_tokens = total,
                              .n_heads = of.n,
                              .latent = of.latent,
                              .scale = 0.088f,
                              .kv = {.k = hdl_bench_alloc(b, count * 2),
                                     .v = hdl_bench_alloc(b, count * 2),
                                     .n_blocks = n_rows * per_row,
                                     .n_kv_heads = of.n_kv,
                                     .block_tokens = block,
                                     .head_dim = of.dim},
                              .out = hdl_bench_floats(b, (size_t)total * of.n * value_dim)};
    if (b->failed)
        return;
    for (uint32_t i = 0; i < n_rows * per_row; i++)
        table[i] = i;
    for (uint32_t r = 0; r < n_rows; r++)
        rows[r] = (hdl_attn_row){.token_at = r * n_tokens,
                                 .n_tokens = n_tokens,
                                 .pos = context,
                                 .table = table + (size_t)r * per_row};
    for (size_t i = 0; i < count; i++)
        a->kv.k[i] = a->kv.v[i] = (uint16_t)(0x3f00 + i % 97);
    double keys = n_rows * ((double)n_tokens * context + 0.5 * n_tokens * (n_tokens + 1.0));
    row->bytes = (double)n_rows * (context + n_tokens) * of.n_kv * of.dim * (of.latent ? 2 : 4);
    row->flop = 2.0 * keys * of.n * (of.dim + value_dim);
    row->arith = HDL_ARITH_F32;
    row->call = call;
    row->args = a;
}

void hdl_bench_attention(hdl_bench *b)
{
    static const step steps[] = {
        {1, 1, 128}, {1, 1, 16384}, {32, 1, 2048}, {1, 512, 0}, {1, 512, 4096}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(steps); i++)
        add(b, grouped, steps[i]);
    for (size_t i = 1; i < HDL_ARRAY_LEN(steps); i++)
        add(b, latent, steps[i]);
}
