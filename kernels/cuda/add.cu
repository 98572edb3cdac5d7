/* SPDX-License-Identifier: Apache-2.0 */
/* x += y over n floats. Roof: memory, 12 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) add(hdl_add_args a)
{
    for (size_t i = gpu_index(); i < a.n; i += gpu_indices())
        a.x[i] += a.y[i];
}

void hdl_cuda_add(const hdl_add_args *a, hdl_stream *stream)
{
    GPU_LAUNCH(stream, gpu_grid_for(a->n), add, *a);
}
