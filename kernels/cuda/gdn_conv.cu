/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution of each channel over time, silu, L2 norm of the heads of q and k; then what a
 * sequence keeps of its inputs.
 *
 * Half a warp takes a head of a token (of q, k or v): channels lane % 16, + 16, ..., so that the
 * norm is summed in lane order. Entries are read by that launch and written by the next one, which
 * takes a thread for each channel of a row. Limits: taps <= HDL_GDN_TAPS_MAX. Roof: memory,
 * 8 bytes a channel of a token; the taps - 1 inputs before it come from cache. Bits: ref's. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.h"

enum { THREADS = 256, HEADS = THREADS / HDL_LANES }; /* of a block */

GPU_DEVICE uint32_t channels_of(const hdl_gdn_conv_args *a)
{
    return 2 * a->n_k_heads * a->k_dim + a->n_v_heads * a->v_dim;
}

GPU_DEVICE float *tail_of(const hdl_gdn_conv_args *a, const hdl_attn_row *row)
{
    return a->state.data + row->table[0] * a->state.entry_floats + a->state_at;
}

/* Input of a channel, `back` tokens before the row's token idx. */
GPU_DEVICE float input_at(const hdl_gdn_conv_args *a, const hdl_attn_row *row, uint32_t idx,
                          uint32_t back, uint32_t channel)
{
    if (back <= idx)
        return a->x[(row->token_at + idx - back) * a->x_stride + channel];
    if (row->pos == 0)
        return 0.0f;
    return tail_of(a, row)[(a->taps - 1 - (back - idx)) * channels_of(a) + channel];
}

/* The channels of one head. */
struct head_span {
    uint32_t from, width;
    bool is_q, is_key; /* is_key: q or k, with a norm */
};

GPU_DEVICE head_span span_of(const hdl_gdn_conv_args *a, uint32_t head)
{
    uint32_t keys = 2 * a->n_k_heads;
    if (head < keys)
        return {head * a->k_dim, a->k_dim, head < a->n_k_heads, true};
    if (head < keys + a->n_v_heads)
        return {keys * a->k_dim + (head - keys) * a->v_dim, a->v_dim, false, false};
    return {0, 0, false, false};
}

GPU_KERNEL(THREADS) gdn_conv(hdl_gdn_conv_args a)
{
    uint32_t token = gpu_block_x(), lane = gpu_thread() % HDL_LANES, channels = channels_of(&a);
    head_span s = span_of(&a, gpu_block_y() * HEADS + gpu_thread() / HDL_LANES);
    const hdl_attn_row *row = row_of_token(a.rows, a.n_rows, token);
    if (row->n_tokens == 0)
        return; /* padding */
    float *y = a.y + (size_t)token * channels, squares = 0;
    for (uint32_t ch = s.from + lane; ch < s.from + s.width; ch += HDL_LANES) {
        float sum = 0;
        for (uint32_t i = 0; i < a.taps; i++)
            sum = fmaf(a.w[i * channels + ch],
                       input_at(&a, row, token - row->token_at, a.taps - 1 - i, ch), sum);
        y[ch] = sum = hdl_silu(sum);
        squares += sum * sum;
    }
    for (uint32_t half = HDL_LANES / 2; half > 0; half /= 2) /* hdl_lanes_fold */
        squares += gpu_shfl_xor(squares, half);
    if (!s.is_key)
        return;
    float scale = 1.0f / sqrtf(squares + HDL_GDN_L2_EPS); /* hdl_l2_scale */
    if (s.is_q)
        scale /= sqrtf((float)a.k_dim);
    for (uint32_t ch = s.from + lane; ch < s.from + s.width; ch += HDL_LANES)
        y[ch] *= scale; /* a thread's own */
}

GPU_KERNEL(THREADS) gdn_keep(hdl_gdn_conv_args a)
{
    const hdl_attn_row *row = &a.rows[gpu_block_y()];
    uint32_t channels = channels_of(&a);
    float *tail = tail_of(&a, row);
    size_t ch = gpu_index();
    if (ch >= channels || row->n_tokens == 0)
        return;
    /* Ascending: what moves comes from a later place. */
    for (uint32_t i = 0; i + 1 < a.taps; i++)
        tail[i * channels + ch] =
            input_at(&a, row, row->n_tokens - 1, a.taps - 2 - i, (uint32_t)ch);
}

void hdl_cuda_gdn_conv(const hdl_gdn_conv_args *a, hdl_stream *stream)
{
    gpu_grid g;
    HDL_ASSERT(a->taps >= 2 && a->taps <= HDL_GDN_TAPS_MAX);
    g.x = a->n_tokens;
    g.y = gpu_div_up(2 * a->n_k_heads + a->n_v_heads, HEADS);
    g.threads = THREADS;
    GPU_LAUNCH(stream, g, gdn_conv, *a);
    g.x = gpu_div_up(2 * a->n_k_heads * a->k_dim + a->n_v_heads * a->v_dim, THREADS);
    g.y = a->n_rows;
    GPU_LAUNCH(stream, g, gdn_keep, *a);
}
