/* SPDX-License-Identifier: Apache-2.0 */
/* x *= sigmoid(gate), x [n_tokens, dim], one gate for a token or for each number. Roof: memory, 8
 * to 12 bytes a number. Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) gate(hdl_gate_args a)
{
    size_t n = (size_t)a.n_tokens * a.dim;
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        const float *g = a.gate + i / a.dim * a.gate_stride;
        a.x[i] *= hdl_sigmoid(g[a.gate_dim == 1 ? 0 : i % a.dim]);
    }
}

void hdl_cuda_gate(const hdl_gate_args *a, hdl_stream *stream)
{
    HDL_ASSERT(a->gate_dim == 1 || a->gate_dim == a->dim);
    GPU_LAUNCH(stream, gpu_grid_for((size_t)a->n_tokens * a->dim), gate, *a);
}
