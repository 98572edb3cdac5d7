/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/kernels/bench_op.h"

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->attention(args, stream);
}

/* n_rows sequences of n_tokens new tokens each, after `context` cached ones. */
static void add(hdl_bench *b, uint32_t n_rows, uint32_t n_tokens, uint32_t context)
{
    const uint32_t n_heads = 32, n_kv_heads = 4, head_dim = 128, block = HDL_BLOCK_TOKENS;
    hdl_bench_row *row =
        hdl_bench_add(b, "attention %u rows, %u tokens at %u", n_rows, n_tokens, context);
    if (!row)
        return;
    uint32_t per_row = hdl_div_ceil_u32(context + n_tokens, block), total = n_rows * n_tokens;
    hdl_attn_row *rows = hdl_bench_alloc(b, n_rows * sizeof *rows);
    uint32_t *table = hdl_bench_alloc(b, (size_t)n_rows * per_row * sizeof *table);
    size_t count = (size_t)n_rows * per_row * n_kv_heads * block * head_dim;
    hdl_attention_args *a = hdl_bench_alloc(b, sizeof *a);
    *a = (hdl_attention_args){.q = hdl_bench_floats(b, (size_t)total * n_heads * head_dim),
                              .rows = rows,
                              .n_rows = n_rows,
                              .n_tokens = total,
                              .n_heads = n_heads,
                              .scale = 0.088f,
                              .kv = {.k = hdl_bench_alloc(b, count * 2),
                                     .v = hdl_bench_alloc(b, count * 2),
                                     .n_blocks = n_rows * per_row,
                                     .n_kv_heads = n_kv_heads,
                                     .block_tokens = block,
                                     .head_dim = head_dim},
                              .out = hdl_bench_floats(b, (size_t)total * n_heads * head_dim)};
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
    row->bytes = (double)n_rows * (context + n_tokens) * n_kv_heads * head_dim * 4;
    row->flop = 4.0 * keys * n_heads * head_dim;
    row->arith = HDL_ARITH_F32;
    row->call = call;
    row->args = a;
}

void hdl_bench_attention(hdl_bench *b)
{
    add(b, 1, 1, 128);
    add(b, 1, 1, 16384);
    add(b, 32, 1, 2048);
    add(b, 1, 512, 0);
    add(b, 1, 512, 4096);
}
