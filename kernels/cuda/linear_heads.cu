/* SPDX-License-Identifier: Apache-2.0 */
/* y[t, i] = x[t, i] W[i]^T, a matrix for each head: heads are the groups of the matrix engine. */
#include "kernels/cuda/matmul.h"

void hdl_cuda_linear_heads(const hdl_linear_heads_args *a, hdl_stream *stream)
{
    mm_job job;
    size_t mark = stream->scratch_at;
    memset(&job, 0, sizeof job);
    for (uint32_t i = 1; i < a->n_heads; i++)
        HDL_ASSERT(a->w[i].format == a->w->format && a->w[i].n == a->w->n && a->w[i].k == a->w->k &&
                   a->w[i].codebook == a->w->codebook);
    job.host = a->w;
    job.device = (const hdl_weight *)gpu_upload(stream, a->w, a->n_heads * sizeof *a->w);
    job.in.x = a->x;
    job.in.stride = a->x_stride;
    job.in.group_stride = a->x_head;
    job.in.item_div = 1;
    job.in.n_rows = a->n_tokens;
    job.in.n_groups = a->n_heads;
    job.out.y = a->y;
    job.out.stride = a->y_stride;
    job.out.group_stride = a->y_head;
    mm_run(&job, stream);
    stream->scratch_at = mark;
}
