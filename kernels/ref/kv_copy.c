/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void copy_blocks(const void *args, size_t from, size_t to)
{
    const hdl_kv_copy_args *a = args;
    unsigned char *memory = a->memory;
    for (size_t i = from; i < to; i++) {
        HDL_ASSERT(a->src[i] < a->n_blocks && a->dst[i] < a->n_blocks);
        memcpy(memory + a->dst[i] * a->block_bytes, memory + a->src[i] * a->block_bytes,
               a->block_bytes);
    }
}

void hdl_ref_kv_copy(const hdl_kv_copy_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 1, copy_blocks, a);
}
