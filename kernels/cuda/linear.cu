/* SPDX-License-Identifier: Apache-2.0 */
/* y = x W^T (+ bias): x [n_tokens, k], W [n, k], through the matrix engine (matmul.h). */
#include "kernels/cuda/matmul.h"

void hdl_cuda_linear(const hdl_linear_args *a, hdl_stream *stream)
{
    mm_job job;
    memset(&job, 0, sizeof job);
    job.host = a->w;
    job.in.x = a->x;
    job.in.stride = a->x_stride;
    job.in.item_div = 1;
    job.in.ints = a->x_ints;
    job.in.n_rows = a->n_tokens;
    job.in.n_groups = 1;
    job.out.y = a->y;
    job.out.stride = a->y_stride;
    job.out.bias = a->bias;
    mm_run(&job, stream);
}
