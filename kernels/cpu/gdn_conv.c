/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs and outputs lie apart and entries are written last, so all heads of all tokens are
 * computed side by side. */
#include "kernels/cpu/rowwise.h"

enum { HEADS_EACH = 8, TAIL_EACH = 2048 };

static const float zeros[HDL_HEAD_DIM_MAX];

static uint32_t channels_of(const hdl_gdn_conv_args *a)
{
    return 2 * a->n_k_heads * a->k_dim + a->n_v_heads * a->v_dim;
}

static float *tail_of(const hdl_gdn_conv_args *a, const hdl_attn_row *row)
{
    HDL_ASSERT_LT(row->table[0], a->state.n_entries);
    return a->state.data + row->table[0] * a->state.entry_floats + a->state_at;
}

/* Inputs of a row from some channel on, `back` tokens before its token idx. */
static const float *input(const hdl_gdn_conv_args *a, const hdl_attn_row *row, uint32_t idx,
                          uint32_t back)
{
    if (back <= idx)
        return a->x + (size_t)(row->token_at + idx - back) * a->x_stride;
    return tail_of(a, row) + (size_t)(a->taps - 1 - (back - idx)) * channels_of(a);
}

typedef struct head_at {
    uint32_t channel, dim;
    bool is_q, is_k;
} head_at;

static head_at head_of(const hdl_gdn_conv_args *a, uint32_t head)
{
    uint32_t keys = 2 * a->n_k_heads;
    if (head < keys)
        return (head_at){.channel = head * a->k_dim,
                         .dim = a->k_dim,
                         .is_q = head < a->n_k_heads,
                         .is_k = head >= a->n_k_heads};
    return (head_at){.channel = keys * a->k_dim + (head - keys) * a->v_dim, .dim = a->v_dim};
}

static void one_head(const hdl_gdn_conv_args *a, const hdl_attn_row *row, uint32_t idx,
                     head_at head)
{
    uint32_t channels = channels_of(a);
    const float *x[HDL_GDN_TAPS_MAX], *w = a->w + head.channel;
    float *y = a->y + (size_t)(row->token_at + idx) * channels + head.channel;
    for (uint32_t i = 0; i < a->taps; i++) {
        uint32_t back = a->taps - 1 - i;
        x[i] = back > idx && row->pos == 0 ? zeros : input(a, row, idx, back) + head.channel;
    }
    for (uint32_t c = 0; c < head.dim; c += HDL_LANES) {
        uint32_t part = hdl_min_u32(head.dim - c, HDL_LANES);
        v16 sum = v16_zero();
        for (uint32_t i = 0; i < a->taps; i++)
            sum = v16_fma(v16_load_part(w + (size_t)i * channels + c, part),
                          v16_load_part(x[i] + c, part), sum);
        v16_store_part(y + c, v16_silu(sum), part);
    }
    if (!head.is_q && !head.is_k)
        return;
    float scale = 1.0f / sqrtf(v16_square_sum(y, head.dim) + HDL_GDN_L2_EPS);
    if (head.is_q)
        scale /= sqrtf((float)a->k_dim);
    hdl_scale_span(y, scale, y, head.dim);
}

/* Items: heads of tokens, counted through the rows in their order. */
static void conv_heads(const void *args, size_t from, size_t to)
{
    const hdl_gdn_conv_args *a = args;
    uint32_t n_heads = 2 * a->n_k_heads + a->n_v_heads;
    size_t before = 0;
    for (uint32_t r = 0; r < a->n_rows && before < to; r++) {
        const hdl_attn_row *row = &a->rows[r];
        size_t end = before + (size_t)row->n_tokens * n_heads;
        for (size_t i = from > before ? from : before; i < hdl_min_size(end, to); i++) {
            size_t item = i - before;
            one_head(a, row, (uint32_t)(item / n_heads), head_of(a, (uint32_t)(item % n_heads)));
        }
        before = end;
    }
}

/* Items: some channels of a row's tail. In ascending order what moves comes from a later place. */
static void store_tails(const void *args, size_t from, size_t to)
{
    const hdl_gdn_conv_args *a = args;
    uint32_t channels = channels_of(a), parts = hdl_div_ceil_u32(channels, TAIL_EACH);
    for (size_t item = from; item < to; item++) {
        const hdl_attn_row *row = &a->rows[item / parts];
        uint32_t at = (uint32_t)(item % parts) * TAIL_EACH, last = row->n_tokens - 1;
        size_t bytes = hdl_min_u32(TAIL_EACH, channels - at) * sizeof(float);
        float *tail = tail_of(a, row) + at;
        for (uint32_t i = 0; i + 1 < a->taps; i++) {
            uint32_t back = a->taps - 2 - i;
            if (back > last && row->pos == 0)
                memset(tail + (size_t)i * channels, 0, bytes);
            else
                memmove(tail + (size_t)i * channels, input(a, row, last, back) + at, bytes);
        }
    }
}

void HDL_ISA_NAME(gdn_conv)(const hdl_gdn_conv_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->taps >= 2 && a->taps <= HDL_GDN_TAPS_MAX);
    HDL_ASSERT(a->k_dim <= HDL_HEAD_DIM_MAX && a->v_dim <= HDL_HEAD_DIM_MAX);
    size_t n_heads = 2 * (size_t)a->n_k_heads + a->n_v_heads;
    hdl_stream_for(stream, a->n_tokens * n_heads, HEADS_EACH, conv_heads, a);
    hdl_stream_for(stream, (size_t)a->n_rows * hdl_div_ceil_u32(channels_of(a), TAIL_EACH), 4,
                   store_tails, a);
}
