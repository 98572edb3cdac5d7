/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

void hdl_ref_moe_experts(const hdl_moe_experts_args *a, hdl_stream *stream)
{
    size_t mark = hdl_stream_mark(stream);
    float *gate_up = hdl_stream_take(stream, 2 * (size_t)a->inter, sizeof *gate_up);
    float *act = hdl_stream_take(stream, a->inter, sizeof *act);
    float *scaled = hdl_stream_take(stream, a->hidden, sizeof *scaled);
    for (size_t item = 0; item < (size_t)a->n_tokens * a->topk; item++) {
        uint32_t expert = a->ids[item] - a->expert_lo; /* wraps for ids below */
        if (expert >= a->n_local)
            continue;
        const float *x = a->x + item / a->topk * a->hidden;
        for (uint32_t i = 0; i < a->hidden && a->x_weights; i++)
            scaled[i] = x[i] * a->x_weights[item];
        hdl_ref_linear(
            &(hdl_linear_args){
                .x = a->x_weights ? scaled : x,
                .x_stride = a->hidden,
                .w = &a->gate_up[expert],
                .bias = a->gate_up_bias ? a->gate_up_bias + (size_t)expert * 2 * a->inter : NULL,
                .y = gate_up,
                .y_stride = 2 * (size_t)a->inter,
                .n_tokens = 1},
            stream);
        hdl_ref_glu(&(hdl_glu_args){.gate_up = gate_up,
                                    .out = act,
                                    .n_tokens = 1,
                                    .inter = a->inter,
                                    .kind = a->glu,
                                    .limit = a->glu_limit,
                                    .alpha = a->glu_alpha},
                    stream);
        hdl_ref_linear(&(hdl_linear_args){.x = act,
                                          .x_stride = a->inter,
                                          .w = &a->down[expert],
                                          .y = a->ye + item * a->hidden,
                                          .y_stride = a->hidden,
                                          .n_tokens = 1},
                       stream);
    }
    hdl_stream_release(stream, mark);
}
