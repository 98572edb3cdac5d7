/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
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
static const heads kinds_gpu[] = {
    {"attention", 32, 8, 128, 0, HDL_KV_BF16}, /* Llama-3.1-8B */
    {"attention of 4 heads", 32, 4, 128, 0, HDL_KV_BF16},
    {"latent attention", 16, 1, 576, 512, HDL_KV_BF16},
};
static const heads kinds_short[] = {{"attention", 2, 1, 32, 0, HDL_KV_BF16},
                                    {"latent attention", 2, 1, 96, 64, HDL_KV_BF16}};

/* n_rows sequences of n_tokens new tokens each, after `context` cached ones; with `longest` from
 * the one to the other, each longer than the last by the same factor. */
typedef struct step {
    uint32_t n_rows, n_tokens, context, longest;
} step;

static uint32_t context_of(step at, uint32_t row)
{
    if (!at.longest)
        return at.context;
    double share = at.n_rows > 1 ? (double)row / (at.n_rows - 1) : 0;
    return (uint32_t)(at.context * pow((double)at.longest / at.context, share));
}

/* Numbers of both types: codes, scales around 1 / 127; NaNs would not be faster or slower. The
 * memory of one tile of keys, which is the pattern of all. */
static void *make_cache(hdl_bench *b, heads of, size_t tokens)
{
    size_t per_token = (size_t)hdl_kv_bytes(of.type, of.dim), n = per_token * HDL_ATTN_TILE;
    unsigned char *tile = hdl_bench_host(b, n);
    if (b->failed)
        return NULL;
    for (size_t i = 0; i < n / 2; i++) {
        uint16_t value = (uint16_t)(0x3f00 | (hdl_rng_u64(&b->rng) & 0x807f));
        memcpy(tile + i * sizeof value, &value, sizeof value);
    }
    for (size_t i = 0; of.type == HDL_KV_INT8 && i < HDL_ATTN_TILE; i++) {
        const float scale = 0.007f;
        memcpy(tile + hdl_kv8_scale_at(of.dim, 0) + i * sizeof scale, &scale, sizeof scale);
    }
    return hdl_bench_repeat(b, tokens * per_token, tile, n);
}

/* Rows of which each has blocks of its own. -> their number */
static uint32_t make_rows(hdl_bench *b, step at, const hdl_attn_row **out)
{
    uint32_t n_blocks = 0;
    for (uint32_t r = 0; r < at.n_rows; r++)
        n_blocks += hdl_div_ceil_u32(context_of(at, r) + at.n_tokens, HDL_BLOCK_TOKENS);
    hdl_attn_row *rows = hdl_bench_host(b, at.n_rows * sizeof *rows);
    uint32_t *table = hdl_bench_host(b, n_blocks * sizeof *table);
    if (b->failed)
        return 0;
    for (uint32_t i = 0; i < n_blocks; i++)
        table[i] = i;
    const uint32_t *there = hdl_bench_put(b, table, n_blocks * sizeof *table);
    for (uint32_t r = 0; r < at.n_rows; r++) {
        uint32_t context = context_of(at, r);
        rows[r] = (hdl_attn_row){
            .token_at = r * at.n_tokens, .n_tokens = at.n_tokens, .pos = context, .table = there};
        there += hdl_div_ceil_u32(context + at.n_tokens, HDL_BLOCK_TOKENS);
    }
    *out = hdl_bench_put(b, rows, at.n_rows * sizeof *rows);
    return n_blocks;
}

static hdl_bench_row *add_row(hdl_bench *b, heads of, step at)
{
    if (at.longest)
        return hdl_bench_add(b, "%s %u rows, %u tokens at %u to %u", of.name, at.n_rows,
                             at.n_tokens, at.context, at.longest);
    return hdl_bench_add(b, "%s %u rows, %u tokens at %u", of.name, at.n_rows, at.n_tokens,
                         at.context);
}

static void add(hdl_bench *b, heads of, step at)
{
    uint32_t n_tokens = at.n_tokens, total = at.n_rows * n_tokens;
    uint32_t value_dim = of.latent ? of.latent : of.dim;
    hdl_bench_row *row = add_row(b, of, at);
    if (!row)
        return;
    const hdl_attn_row *rows = NULL;
    uint32_t n_blocks = make_rows(b, at, &rows);
    size_t tokens = (size_t)n_blocks * HDL_BLOCK_TOKENS * of.n_kv;
    void *k = make_cache(b, of, tokens), *v = of.latent ? k : make_cache(b, of, tokens);
    hdl_attention_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_attention_args){
        .q = hdl_bench_floats(b, (size_t)total * of.n * of.dim),
        .rows = rows,
        .n_rows = at.n_rows,
        .n_tokens = total,
        .n_heads = of.n,
        .latent = of.latent,
        .scale = 0.088f,
        .kv = {.type = of.type,
               .k = k,
               .v = v,
               .k8 = k,
               .v8 = v,
               .n_blocks = n_blocks,
               .n_kv_heads = of.n_kv,
               .block_tokens = HDL_BLOCK_TOKENS,
               .head_dim = of.dim},
        .out = hdl_bench_alloc(b, (size_t)total * of.n * value_dim * sizeof(float))};
    double keys = 0, cached = 0;
    for (uint32_t r = 0; r < at.n_rows; r++) {
        keys += (double)n_tokens * context_of(at, r) + 0.5 * n_tokens * (n_tokens + 1.0);
        cached += context_of(at, r) + n_tokens;
    }
    row->bytes = cached * of.n_kv * (of.latent ? 1 : 2) * (double)hdl_kv_bytes(of.type, of.dim);
    row->flop = 2.0 * keys * of.n * (of.dim + value_dim);
    row->arith = hdl_device_is_host(b->device) ? HDL_ARITH_F32 : HDL_ARITH_BF16;
    row->call = call;
    row->args = a;
}

void hdl_bench_attention(hdl_bench *b)
{
    static const step steps[] = {
        {1, 1, 128, 0}, {1, 1, 16384, 0}, {32, 1, 2048, 0}, {1, 512, 0, 0}, {1, 512, 4096, 0}};
    static const step steps_gpu[] = {{64, 1, 1024, 65536},
                                     {1, 1, 16384, 0},
                                     {32, 1, 2048, 0},
                                     {1, 2048, 0, 0},
                                     {1, 2048, 6144, 0}};
    static const step steps_short[] = {{4, 1, 16, 96}, {1, 9, 8, 0}};
    for (size_t k = 0; b->scale == HDL_BENCH_CPU && k < HDL_ARRAY_LEN(kinds); k++)
        for (size_t i = kinds[k].latent ? 1 : 0; i < HDL_ARRAY_LEN(steps); i++)
            add(b, kinds[k], steps[i]);
    for (size_t k = 0; b->scale == HDL_BENCH_GPU && k < HDL_ARRAY_LEN(kinds_gpu); k++)
        for (size_t i = 0; i < HDL_ARRAY_LEN(steps_gpu); i++)
            add(b, kinds_gpu[k], steps_gpu[i]);
    for (size_t k = 0; b->scale == HDL_BENCH_SHORT && k < HDL_ARRAY_LEN(kinds_short); k++)
        for (size_t i = 0; i < HDL_ARRAY_LEN(steps_short); i++)
            add(b, kinds_short[k], steps_short[i]);
}
