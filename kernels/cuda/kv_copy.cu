/* SPDX-License-Identifier: Apache-2.0 */
/* Block src[i] over block dst[i], whatever blocks hold: 16 bytes a thread where blocks allow it.
 * memory [n_blocks, block_bytes]. Roof: memory, twice the bytes. Bits: a move. */
#include "kernels/cuda/cuda.h"

template <class T> GPU_KERNEL(256) kv_copy(hdl_kv_copy_args a)
{
    uint32_t pair = gpu_block_y();
    size_t n = a.block_bytes / sizeof(T);
    const T *from = (const T *)a.memory + a.src[pair] * n;
    T *to = (T *)a.memory + a.dst[pair] * n;
    for (size_t i = gpu_index(); i < n; i += gpu_indices())
        to[i] = from[i];
}

void hdl_cuda_kv_copy(const hdl_kv_copy_args *a, hdl_stream *stream)
{
    enum { PAIRS_MAX = 65535 }; /* of one launch */
    bool wide = a->block_bytes % sizeof(gpu_u4) == 0 && (uintptr_t)a->memory % sizeof(gpu_u4) == 0;
    for (uint32_t at = 0; at < a->n; at += PAIRS_MAX) {
        hdl_kv_copy_args b = *a;
        b.src += at;
        b.dst += at;
        gpu_grid g = gpu_grid_for(a->block_bytes / (wide ? sizeof(gpu_u4) : 1));
        g.y = hdl_min_u32(PAIRS_MAX, a->n - at);
        if (wide)
            GPU_LAUNCH(stream, g, kv_copy<gpu_u4>, b);
        else
            GPU_LAUNCH(stream, g, kv_copy<unsigned char>, b);
    }
}
