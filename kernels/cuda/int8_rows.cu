/* SPDX-License-Identifier: Apache-2.0 */
/* Activations as int8 with one step for a token, x [n_tokens, dim], the largest of n_parts lists of
 * maxima: a block for each token. Roof: memory, 8 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) int8_rows(hdl_int8_rows_args a)
{
    size_t t = gpu_block_x();
    float max = 0;
    for (uint32_t p = 0; p < a.n_parts; p++)
        max = hdl_absmax(max, a.absmax[(size_t)p * a.n_tokens + t]);
    float steps = hdl_int8_steps(max);
    for (uint32_t i = gpu_thread(); i < a.dim; i += gpu_threads())
        a.out[t * a.dim + i] = hdl_int8_round(a.x[t * a.dim + i], steps);
    if (gpu_thread() == 0)
        a.step[t] = 1.0f / steps;
}

void hdl_cuda_int8_rows(const hdl_int8_rows_args *a, hdl_stream *stream)
{
    gpu_grid g;
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->dim);
    GPU_LAUNCH(stream, g, int8_rows, *a);
}
