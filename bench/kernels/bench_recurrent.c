/* SPDX-License-Identifier: Apache-2.0 */
/* Gated DeltaNet, and the small product per head of latent attention, at the shapes of Qwen3.5-397B
 * and DeepSeek-V3 on 4 and 8 ranks. `bytes` of the recurrence is its states, read and written. */
#include "bench/kernels/bench_op.h"

enum { N_K_HEADS = 4, N_V_HEADS = 16, DIM = 128, TAPS = 4 };
enum { CHANNELS = (2 * N_K_HEADS + N_V_HEADS) * DIM };

static void call_delta(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->gated_delta(args, stream);
}

static void call_conv(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->gdn_conv(args, stream);
}

static void call_heads(void *args, const hdl_ops *ops, hdl_stream *stream)
{
    ops->linear_heads(args, stream);
}

/* Rows that go on from position 1. */
static const hdl_attn_row *make_rows(hdl_bench *b, uint32_t n_rows, uint32_t n_tokens)
{
    hdl_attn_row *rows = hdl_bench_host(b, n_rows * sizeof *rows);
    uint32_t *entries = hdl_bench_host(b, n_rows * sizeof *entries);
    for (uint32_t r = 0; r < n_rows && !b->failed; r++)
        entries[r] = r;
    const uint32_t *there = hdl_bench_put(b, entries, n_rows * sizeof *entries);
    for (uint32_t r = 0; r < n_rows && !b->failed; r++)
        rows[r] = (hdl_attn_row){
            .token_at = r * n_tokens, .n_tokens = n_tokens, .pos = 1, .table = there + r};
    return hdl_bench_put(b, rows, n_rows * sizeof *rows);
}

static void add_delta(hdl_bench *b, uint32_t n_rows, uint32_t n_tokens)
{
    hdl_bench_row *row = hdl_bench_add(b, "gated_delta %u rows, %u tokens", n_rows, n_tokens);
    if (!row)
        return;
    size_t total = (size_t)n_rows * n_tokens, state = (size_t)N_V_HEADS * DIM * DIM;
    hdl_gated_delta_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_gated_delta_args){.qkv = hdl_bench_floats(b, total * CHANNELS),
                                .z = hdl_bench_floats(b, total * N_V_HEADS * DIM),
                                .z_stride = N_V_HEADS * DIM,
                                .ba = hdl_bench_floats(b, total * 2 * N_V_HEADS),
                                .a_log = hdl_bench_floats(b, N_V_HEADS),
                                .dt_bias = hdl_bench_floats(b, N_V_HEADS),
                                .norm = hdl_bench_floats(b, DIM),
                                .norm_eps = 1e-6f,
                                .n_k_heads = N_K_HEADS,
                                .n_v_heads = N_V_HEADS,
                                .k_dim = DIM,
                                .v_dim = DIM,
                                .rows = make_rows(b, n_rows, n_tokens),
                                .n_rows = n_rows,
                                .n_tokens = (uint32_t)total,
                                .state = {hdl_bench_floats(b, n_rows * state), n_rows, state},
                                .out = hdl_bench_floats(b, total * N_V_HEADS * DIM)};
    row->bytes = 8.0 * (double)(n_rows * state);
    row->flop = 8.0 * (double)(total * state);
    row->arith = HDL_ARITH_F32; /* a GPU has no probe of it */
    row->call = call_delta;
    row->args = a;
}

static void add_conv(hdl_bench *b, uint32_t n_rows, uint32_t n_tokens)
{
    hdl_bench_row *row = hdl_bench_add(b, "gdn_conv %u rows, %u tokens", n_rows, n_tokens);
    if (!row)
        return;
    size_t total = (size_t)n_rows * n_tokens, entry = (size_t)(TAPS - 1) * CHANNELS;
    hdl_gdn_conv_args *a = hdl_bench_host(b, sizeof *a);
    *a = (hdl_gdn_conv_args){.x = hdl_bench_floats(b, total * CHANNELS),
                             .x_stride = CHANNELS,
                             .w = hdl_bench_floats(b, (size_t)TAPS * CHANNELS),
                             .taps = TAPS,
                             .n_k_heads = N_K_HEADS,
                             .n_v_heads = N_V_HEADS,
                             .k_dim = DIM,
                             .v_dim = DIM,
                             .rows = make_rows(b, n_rows, n_tokens),
                             .n_rows = n_rows,
                             .n_tokens = (uint32_t)total,
                             .state = {hdl_bench_floats(b, n_rows * entry), n_rows, entry},
                             .y = hdl_bench_floats(b, total * CHANNELS)};
    row->bytes = 8.0 * (double)(total * CHANNELS);
    row->call = call_conv;
    row->args = a;
}

static void add_heads(hdl_bench *b, uint32_t n, uint32_t k, uint32_t n_tokens)
{
    const uint32_t n_heads = 16;
    hdl_bench_row *row =
        hdl_bench_add(b, "linear_heads bf16 %u x %ux%ux%u", n_heads, n_tokens, n, k);
    if (!row)
        return;
    hdl_linear_heads_args *a = hdl_bench_host(b, sizeof *a);
    hdl_weight *w = hdl_bench_host(b, n_heads * sizeof *w);
    *a = (hdl_linear_heads_args){.x = hdl_bench_floats(b, (size_t)n_tokens * n_heads * k),
                                 .x_stride = (size_t)n_heads * k,
                                 .x_head = k,
                                 .w = w,
                                 .y = hdl_bench_floats(b, (size_t)n_tokens * n_heads * n),
                                 .y_stride = (size_t)n_heads * n,
                                 .y_head = n,
                                 .n_heads = n_heads,
                                 .n_tokens = n_tokens};
    for (uint32_t h = 0; h < n_heads && !b->failed; h++)
        w[h] = hdl_bench_weight(b, HDL_WFORMAT_BF16, n, k, 1);
    row->bytes = 2.0 * n_heads * n * k;
    row->flop = 2.0 * n_heads * n * k * n_tokens;
    row->arith = HDL_ARITH_BF16;
    row->call = call_heads;
    row->args = a;
}

void hdl_bench_recurrent(hdl_bench *b)
{
    if (b->scale == HDL_BENCH_SHORT) {
        add_conv(b, 1, 2);
        add_delta(b, 1, 2);
        return;
    }
    add_conv(b, 1, 512);
    add_delta(b, 32, 1);
    add_delta(b, 1, 512);
    add_heads(b, 512, 128, 1);
    add_heads(b, 512, 128, 512);
    add_heads(b, 128, 512, 512);
}
