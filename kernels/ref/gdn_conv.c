/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

/* One sequence's tokens: its inputs of before, in its entry, and those of the step. */
typedef struct conv_row {
    const hdl_gdn_conv_args *a;
    const hdl_attn_row *row;
    uint32_t channels;
    float *tail; /* [taps - 1, channels] */
} conv_row;

static conv_row row_at(const hdl_gdn_conv_args *a, size_t r)
{
    uint32_t entry = a->rows[r].table[0];
    HDL_ASSERT_LT(entry, a->state.n_entries);
    return (conv_row){.a = a,
                      .row = &a->rows[r],
                      .channels = 2 * a->n_k_heads * a->k_dim + a->n_v_heads * a->v_dim,
                      .tail = a->state.data + entry * a->state.entry_floats + a->state_at};
}

/* Input of a channel, `back` tokens before the row's token idx. */
static float input(const conv_row *c, uint32_t idx, uint32_t back, uint32_t channel)
{
    if (back <= idx)
        return c->a->x[(c->row->token_at + idx - back) * c->a->x_stride + channel];
    uint32_t before = back - idx; /* 1: the last one of the tail */
    return c->row->pos == 0 ? 0.0f : c->tail[(c->a->taps - 1 - before) * c->channels + channel];
}

static void norm_heads(const hdl_gdn_conv_args *a, float *y)
{
    uint32_t n_heads = 2 * a->n_k_heads;
    for (uint32_t h = 0; h < n_heads; h++, y += a->k_dim) {
        float scale = hdl_l2_scale(y, a->k_dim, HDL_GDN_L2_EPS);
        if (h < a->n_k_heads)
            scale /= sqrtf((float)a->k_dim);
        for (uint32_t i = 0; i < a->k_dim; i++)
            y[i] *= scale;
    }
}

static void conv_rows(const void *args, size_t from, size_t to)
{
    const hdl_gdn_conv_args *a = args;
    for (size_t r = from; r < to; r++) {
        conv_row c = row_at(a, r);
        for (uint32_t t = 0; t < c.row->n_tokens; t++) {
            float *y = a->y + (size_t)(c.row->token_at + t) * c.channels;
            for (uint32_t ch = 0; ch < c.channels; ch++) {
                float sum = 0;
                for (uint32_t i = 0; i < a->taps; i++)
                    sum = fmaf(a->w[i * c.channels + ch], input(&c, t, a->taps - 1 - i, ch), sum);
                y[ch] = hdl_silu(sum);
            }
            norm_heads(a, y);
        }
        /* Ascending: what moves comes from a later place. */
        for (uint32_t i = 0; i + 1 < a->taps; i++)
            for (uint32_t ch = 0; ch < c.channels; ch++)
                c.tail[i * c.channels + ch] = input(&c, c.row->n_tokens - 1, a->taps - 2 - i, ch);
    }
}

void hdl_ref_gdn_conv(const hdl_gdn_conv_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->taps >= 2 && a->taps <= HDL_GDN_TAPS_MAX);
    hdl_stream_for(stream, a->n_rows, 1, conv_rows, a);
}
