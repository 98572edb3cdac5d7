/* SPDX-License-Identifier: Apache-2.0 */
/* x[t] *= factor[t], x [n_tokens, dim]. Roof: memory, 8 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) scale_rows(hdl_scale_rows_args a)
{
    size_t n = (size_t)a.n_tokens * a.dim;
    for (size_t i = gpu_index(); i < n; i += gpu_indices())
        a.x[i] *= a.factor[i / a.dim];
}

void hdl_cuda_scale_rows(const hdl_scale_rows_args *a, hdl_stream *stream)
{
    GPU_LAUNCH(stream, gpu_grid_for((size_t)a->n_tokens * a->dim), scale_rows, *a);
}
