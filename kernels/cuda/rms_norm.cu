/* SPDX-License-Identifier: Apache-2.0 */
/* out = x / sqrt(mean(x^2) + eps) * w: a block for each token, x [n_tokens, dim].
 *
 * A thread squares every blockDim-th number; sums meet by gpu_block_add, in an order that dim alone
 * fixes. Roof: memory, 8 bytes a number (the second read of x comes from cache). Bits: ref adds in
 * another order; the scale differs by at most dim * 2^-24 of itself, given sumsq not at all. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) rms_norm(hdl_rms_norm_args a)
{
    size_t t = gpu_block_x();
    const float *x = a.x + t * a.x_stride;
    float *out = a.out + t * a.out_stride, scale;
    if (a.sumsq) {
        scale = hdl_rms_scale_of(a.sumsq[t * a.sumsq_stride], a.whole_dim, a.eps);
    } else {
        float sum = 0;
        for (uint32_t i = gpu_thread(); i < a.dim; i += gpu_threads())
            sum = fmaf(x[i], x[i], sum);
        scale = hdl_rms_scale_of(gpu_block_add(sum, gpu_shared<float>()), a.dim, a.eps);
    }
    for (uint32_t i = gpu_thread(); i < a.dim; i += gpu_threads())
        out[i] = a.w ? x[i] * scale * a.w[i] : x[i] * scale;
}

void hdl_cuda_rms_norm(const hdl_rms_norm_args *a, hdl_stream *stream)
{
    hdl_rms_norm_args b = *a;
    gpu_grid g;
    b.x_stride = a->x_stride ? a->x_stride : a->dim;
    b.out_stride = a->out_stride ? a->out_stride : a->dim;
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->dim);
    g.shared = g.threads / GPU_WARP * sizeof(float);
    GPU_LAUNCH(stream, g, rms_norm, b);
}
