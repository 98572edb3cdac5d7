/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/cpu.h"

enum { SPAN = 256 }; /* outputs of an item: one token is work for many */

static void expand_span(const hdl_lora *l, const float *h, uint32_t n, uint32_t at, float *y)
{
    uint32_t end = hdl_min_u32(at + SPAN, n), i = at;
    const v16 scale = v16_set1(l->scale);
    for (; i + HDL_LANES <= end; i += HDL_LANES) {
        v16 sum = v16_set1(0);
        for (uint32_t r = 0; r < l->rank; r++)
            sum = v16_fma(v16_load_bf16(l->b + (size_t)r * n + i), v16_set1(h[r]), sum);
        v16_store(y + i, v16_fma(scale, sum, v16_load(y + i)));
    }
    for (; i < end; i++) {
        float sum = 0;
        for (uint32_t r = 0; r < l->rank; r++)
            sum = fmaf(hdl_bf16_to_f32(l->b[(size_t)r * n + i]), h[r], sum);
        y[i] = fmaf(l->scale, sum, y[i]);
    }
}

static void expand_spans(const void *args, size_t from, size_t to)
{
    const hdl_lora_expand_args *a = args;
    uint32_t spans = hdl_div_ceil_u32(a->n, SPAN);
    for (size_t item = from; item < to; item++) {
        size_t t = item / spans;
        uint32_t which = a->rows.of_row[t];
        if (which != HDL_NONE_U32)
            expand_span(&a->rows.adapters[which], a->h + t * a->rank_max, a->n,
                        (uint32_t)(item % spans) * SPAN, a->y + t * a->y_stride);
    }
}

void HDL_ISA_NAME(lora_expand)(const hdl_lora_expand_args *a, hdl_stream *stream)
{
    size_t items = (size_t)a->rows.n_tokens * hdl_div_ceil_u32(a->n, SPAN);
    hdl_stream_for(stream, items, 2, expand_spans, a);
}
