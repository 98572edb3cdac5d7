/* SPDX-License-Identifier: Apache-2.0 */
#include "base/assert.h"
#include "kernels/ref/ref.h"

static void sum_tokens(const void *args, size_t from, size_t to)
{
    const hdl_sumsq_args *a = args;
    uint32_t n = a->dim / a->n_leaves;
    for (size_t t = from; t < to; t++) {
        hdl_leaf_tree tree = {0};
        for (uint32_t at = 0; at < a->dim; at += n)
            hdl_leaf_push(&tree, hdl_square_sum(a->x + t * a->x_stride + at, n));
        a->out[t * a->out_stride] = tree.open[0];
    }
}

void hdl_ref_sumsq(const hdl_sumsq_args *a, hdl_stream *stream)
{
    HDL_ASSERT_EQ(a->dim % a->n_leaves, 0);
    hdl_stream_for(stream, a->n_tokens, 16, sum_tokens, a);
}
