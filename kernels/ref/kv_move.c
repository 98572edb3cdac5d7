/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void move_blocks(const void *args, size_t from, size_t to)
{
    const hdl_kv_move_args *a = args;
    for (size_t i = from; i < to; i++) {
        HDL_ASSERT(a->blocks[i] < a->n_blocks);
        unsigned char *block = (unsigned char *)a->memory + a->blocks[i] * a->block_bytes;
        unsigned char *host = (unsigned char *)a->host + i * a->block_bytes;
        memcpy(a->to_host ? host : block, a->to_host ? block : host, a->block_bytes);
    }
}

void hdl_ref_kv_move(const hdl_kv_move_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 1, move_blocks, a);
}
