/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void copy_blocks(const void *args, size_t from, size_t to)
{
    const hdl_kv_copy_args *a = args;
    size_t count = (size_t)a->kv.n_kv_heads * a->kv.block_tokens * a->kv.head_dim;
    for (size_t i = from; i < to; i++) {
        HDL_ASSERT(a->src[i] < a->kv.n_blocks && a->dst[i] < a->kv.n_blocks);
        memcpy(a->kv.k + a->dst[i] * count, a->kv.k + a->src[i] * count, count * sizeof *a->kv.k);
        memcpy(a->kv.v + a->dst[i] * count, a->kv.v + a->src[i] * count, count * sizeof *a->kv.v);
    }
}

void hdl_ref_kv_copy(const hdl_kv_copy_args *a, hdl_stream *stream)
{
    hdl_stream_for(stream, a->n, 1, copy_blocks, a);
}
