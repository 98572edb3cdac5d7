/* SPDX-License-Identifier: Apache-2.0 */
/* out = act(gate) * up: [n_tokens, 2 inter] -> [n_tokens, inter]. Roof: memory, 12 bytes an output.
 * Bits: as ref. */
#include "kernels/cuda/cuda.h"

GPU_KERNEL(256) glu(hdl_glu_args a)
{
    size_t n = (size_t)a.n_tokens * a.inter;
    hdl_glu_act act = {a.kind, a.limit, a.alpha};
    for (size_t i = gpu_index(); i < n; i += gpu_indices()) {
        const float *row = a.gate_up + i / a.inter * 2 * a.inter;
        size_t col = i % a.inter;
        a.out[i] = hdl_glu(act, row[col], row[a.inter + col]);
    }
}

void hdl_cuda_glu(const hdl_glu_args *a, hdl_stream *stream)
{
    GPU_LAUNCH(stream, gpu_grid_for((size_t)a->n_tokens * a->inter), glu, *a);
}
