/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

static void expand_tokens(const void *args, size_t from, size_t to)
{
    const hdl_lora_expand_args *a = args;
    for (size_t t = from; t < to; t++) {
        if (a->rows.of_row[t] == HDL_NONE_U32)
            continue;
        const hdl_lora *l = &a->rows.adapters[a->rows.of_row[t]];
        float *y = a->y + t * a->y_stride;
        for (uint32_t i = 0; i < a->n; i++) {
            float sum = 0;
            for (uint32_t r = 0; r < l->rank; r++)
                sum = fmaf(hdl_bf16_to_f32(l->b[(size_t)r * a->n + i]), a->h[t * a->rank_max + r],
                           sum);
            y[i] = fmaf(l->scale, sum, y[i]);
        }
    }
}

void hdl_ref_lora_expand(const hdl_lora_expand_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->rows.n_tokens, 1, expand_tokens, a);
}
