/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/ref/ref.h"

void hdl_ref_linear_heads(const hdl_linear_heads_args *a, hdl_stream *stream)
{
    for (uint32_t h = 0; h < a->n_heads; h++)
        hdl_ref_linear(&(hdl_linear_args){.x = a->x + h * a->x_head,
                                          .x_stride = a->x_stride,
                                          .w = &a->w[h],
                                          .y = a->y + h * a->y_head,
                                          .y_stride = a->y_stride,
                                          .n_tokens = a->n_tokens},
                       stream);
}
