/* SPDX-License-Identifier: Apache-2.0 */
/* x = cap * tanh(x / cap) over n floats. Roof: memory, 8 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) softcap(hdl_softcap_args a)
{
    for (size_t i = gpu_index(); i < a.n; i += gpu_indices())
        a.x[i] = hdl_softcap(a.x[i], a.cap);
}

void hdl_cuda_softcap(const hdl_softcap_args *a, hdl_stream *stream)
{
    GPU_LAUNCH(stream, gpu_grid_for(a->n), softcap, *a);
}
