/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a list to pinned memory of the host, one after the other, or back.
 *
 * The kernel itself reads and writes the host's memory, which the driver maps where the host has
 * it: one launch for a list, where copies would be one call for each block. memory [n_blocks,
 * block_bytes], host [n, block_bytes]. Roof: the link. Bits: a move. */
#include "kernels/cuda/cuda.h"

template <class T> GPU_KERNEL(256) kv_move(hdl_kv_move_args a)
{
    uint32_t i = gpu_block_y();
    size_t n = a.block_bytes / sizeof(T);
    T *block = (T *)a.memory + a.blocks[i] * n, *host = (T *)a.host + i * n;
    const T *from = a.to_host ? block : host;
    T *to = a.to_host ? host : block;
    for (size_t at = gpu_index(); at < n; at += gpu_indices())
        to[at] = from[at];
}

void hdl_cuda_kv_move(const hdl_kv_move_args *a, hdl_stream *stream)
{
    enum { BLOCKS_MAX = 65535 }; /* of one launch */
    bool wide = a->block_bytes % sizeof(gpu_u4) == 0 &&
                ((uintptr_t)a->memory | (uintptr_t)a->host) % sizeof(gpu_u4) == 0;
    for (uint32_t at = 0; at < a->n; at += BLOCKS_MAX) {
        hdl_kv_move_args b = *a;
        b.blocks += at;
        b.host = (unsigned char *)b.host + at * b.block_bytes;
        gpu_grid g = gpu_grid_for(a->block_bytes / (wide ? sizeof(gpu_u4) : 1));
        g.y = hdl_min_u32(BLOCKS_MAX, a->n - at);
        if (wide)
            GPU_LAUNCH(stream, g, kv_move<gpu_u4>, b);
        else
            GPU_LAUNCH(stream, g, kv_move<unsigned char>, b);
    }
}
