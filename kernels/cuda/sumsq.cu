/* SPDX-License-Identifier: Apache-2.0 */
/* out[t] = sum of x[t]^2 as the balanced tree over n_leaves parts of dim: a block for each token,
 * the leaves one after the other, each summed by gpu_block_add in an order that its length fixes.
 *
 * Roof: memory, 4 bytes a number. Bits: any rank count agrees; ref adds inside a leaf in another
 * order, at most dim * 2^-24 of the sum apart. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) sumsq(hdl_sumsq_args a)
{
    size_t t = gpu_block_x();
    uint32_t n = a.dim / a.n_leaves;
    hdl_leaf_tree tree = {};
    for (uint32_t leaf = 0; leaf < a.n_leaves; leaf++) {
        const float *x = a.x + t * a.x_stride + leaf * n;
        float sum = 0;
        for (uint32_t i = gpu_thread(); i < n; i += gpu_threads())
            sum = fmaf(x[i], x[i], sum);
        hdl_leaf_push(&tree, gpu_block_add(sum, gpu_shared<float>()));
        gpu_sync(); /* the next leaf writes the same shared sums */
    }
    if (gpu_thread() == 0)
        a.out[t * a.out_stride] = tree.open[0];
}

void hdl_cuda_sumsq(const hdl_sumsq_args *a, hdl_stream *stream)
{
    gpu_grid g;
    HDL_ASSERT_EQ(a->dim % a->n_leaves, 0);
    g.x = a->n_tokens;
    g.threads = gpu_threads_for(a->dim / a->n_leaves);
    g.shared = g.threads / GPU_WARP * sizeof(float);
    GPU_LAUNCH(stream, g, sumsq, *a);
}
