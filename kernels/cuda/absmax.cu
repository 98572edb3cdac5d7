/* SPDX-License-Identifier: Apache-2.0 */
/* out[t] = max |x[t]|, a NaN larger than all: a block for each token. Magnitudes compare as
 * integers, where NaN > infinity > numbers. Roof: memory, 4 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) absmax(hdl_absmax_args a)
{
    size_t t = gpu_block_x();
    const float *x = a.x + t * a.x_stride;
    uint32_t *part = gpu_shared<uint32_t>();
    float max = 0;
    for (uint32_t i = gpu_thread(); i < a.dim; i += gpu_threads())
        max = hdl_absmax(max, x[i]);
    for (uint32_t mask = GPU_WARP / 2; mask > 0; mask /= 2)
        max = hdl_absmax(max, gpu_shfl_xor(max, mask));
    if (gpu_lane() == 0)
        part[gpu_warp()] = hdl_f32_bits(max);
    gpu_sync();
    if (gpu_thread() != 0)
        return;
    for (uint32_t w = 0; w < gpu_threads() / GPU_WARP; w++)
        max = hdl_absmax(max, hdl_f32_from_bits(part[w]));
    a.out[t] = max;
}

void hdl_cuda_absmax(const hdl_absmax_args *a, hdl_stream *stream)
{
    gpu_grid g;
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->dim);
    g.shared = g.threads / GPU_WARP * sizeof(uint32_t);
    GPU_LAUNCH(stream, g, absmax, *a);
}
