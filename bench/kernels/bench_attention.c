/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/kernels/bench_op.h"

static void call(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->attention(args, stream);
}

typedef struct heads {
    const char *name;
    uint32_t n, n_kv, dim, latent;
    hdl_kv_type type;
} heads;
static const heads kinds[] = {
    {"attention", 32, 4, 128, 0, HDL_KV_BF16},
    {"int8 attention", 32, 4, 128, 0, HDL_KV_INT8},
    {"latent attention", 16, 1, 576, 512, HDL_KV_BF16}, /* DeepSeek-V3 on 8 ranks */
};

/* n_rows sequences of n_tokens new tokens each, after `context` cached ones. */
typedef struct step {
    uint32_t n_rows, n_tokens, context;
} step;

/* Numbers of both types: codes, scales around 1 / 127; NaNs would not be faster or slower. */
static void fill(hdl_kv_view *kv, size_t tokens)
{
    size_t n = tokens * (size_t)hdl_kv_bytes(kv->type, kv->head_dim);
    if (kv->type == HDL_KV_BF16) {
        for (size_t i = 0; i < n / 2; i++)
            kv->k[i] = kv->v[i] = (uint16_t)(0x3f00 + i % 97);
        return;
    }
    size_t tile = n / tokens * HDL_ATTN_TILE, codes = hdl_kv8_scale_at(kv->head_dim, 0);
    for (size_t i = 0; i < n; i++)
        kv->k8[i] = kv->v8[i] = (unsigned char)(i % 97);
    for (size_t at = codes; at < n; at += tile)
        for (size_t i = 0; i < HDL_ATTN_TILE; i++) {
            const float scale = 0.007f;
            memcpy(kv->k8 + at + i * sizeof scale, &scale, sizeof scale);
            memcpy(kv->v8 + at + i * sizeof scale, &scale, sizeof scale);
        }
}

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
    size_t tokens = (size_t)n_rows * per_row * of.n_kv * block;
    size_t bytes = tokens * (size_t)hdl_kv_bytes(of.type, of.dim);
    unsigned char *k = hdl_bench_alloc(b, bytes), *v = hdl_bench_alloc(b, bytes);
    hdl_attention_args *a = hdl_bench_alloc(b, sizeof *a);
    *a = (hdl_attention_args){.q = hdl_bench_floats(b, (size_t)total * of.n * of.dim),
                              .rows = rows,
                              .n_rows = n_rows,
                              .n_tokens = total,
                              .n_heads = of.n,
                              .latent = of.latent,
                              .scale = 0.088f,
                              .kv = {.type = of.type,
                                     .k = (uint16_t *)(void *)k,
                                     .v = (uint16_t *)(void *)v,
                                     .k8 = k,
                                     .v8 = v,
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
    fill(&a->kv, tokens);
    double keys = n_rows * ((double)n_tokens * context + 0.5 * n_tokens * (n_tokens + 1.0));
    row->bytes = (double)n_rows * (context + n_tokens) * of.n_kv * (of.latent ? 1 : 2) *
                 (double)hdl_kv_bytes(of.type, of.dim);
    row->flop = 2.0 * keys * of.n * (of.dim + value_dim);
    row->arith = HDL_ARITH_F32;
    row->call = call;
    row->args = a;
}

void hdl_bench_attention(hdl_bench *b)
{
    static const step steps[] = {
        {1, 1, 128}, {1, 1, 16384}, {32, 1, 2048}, {1, 512, 0}, {1, 512, 4096}};
    for (size_t k = 0; k < HDL_ARRAY_LEN(kinds); k++)
        for (size_t i = kinds[k].latent ? 1 : 0; i < HDL_ARRAY_LEN(steps); i++)
            add(b, kinds[k], steps[i]);
}
