/* SPDX-License-Identifier: Apache-2.0 */
/* A small matrix per head: each head is a job of the matrix engine, and all threads walk the jobs
 * together. Heads are taken in groups whose panels fit in HDL_LINEAR_HEADS_BYTES, because those of
 * a long prefill would fill the scratch of a far larger matrix. */
#include "kernels/cpu/gemm.h"

enum { WORK_ALONE = 1 << 17 /* multiply-adds below which the team stays asleep */ };

typedef struct heads_job {
    const hdl_linear_heads_args *a;
    hdl_gemm_job *jobs; /* [n_heads] of the group */
    hdl_team *team;
    uint32_t first, n_heads;
} heads_job;

static void pack_share(const heads_job *job, int thread, int n_threads)
{
    const hdl_linear_heads_args *a = job->a;
    size_t n_items = (size_t)job->n_heads * a->n_tokens;
    hdl_team_part part = hdl_team_share(n_items, 1, thread, n_threads);
    for (size_t i = part.from; i < part.to; i++) {
        uint32_t head = (uint32_t)(i / a->n_tokens), token = (uint32_t)(i % a->n_tokens);
        const float *x = a->x + token * a->x_stride + (job->first + head) * a->x_head;
        hdl_gemm_pack_token(&job->jobs[head], 1, token,
                            (hdl_gemm_piece){.x = x, .from = 0, .to = a->w->k});
    }
}

static void heads_thread(void *arg, int thread, int n_threads)
{
    const heads_job *job = arg;
    hdl_gemm_ask(job->jobs, job->n_heads, thread, n_threads);
    pack_share(job, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(job->team, thread);
    hdl_gemm_run(job->jobs, job->n_heads, thread, n_threads);
}

static void run_group(heads_job *job, hdl_stream *stream)
{
    const hdl_linear_heads_args *a = job->a;
    for (uint32_t i = 0; i < job->n_heads; i++) {
        const hdl_weight *w = &a->w[job->first + i];
        HDL_ASSERT(w->format == a->w->format && w->n == a->w->n && w->k == a->w->k && !w->more);
        HDL_ASSERT_EQ(w->n_leaves, 1);
        hdl_gemm_job head = {.w = w,
                             .y = a->y + (job->first + i) * a->y_head,
                             .y_stride = a->y_stride,
                             .n_tokens = a->n_tokens};
        (void)hdl_gemm_plan(&job->jobs[i], &head, stream);
    }
    if ((size_t)a->w->n * a->w->k * a->n_tokens * job->n_heads < WORK_ALONE)
        heads_thread(job, 0, 1);
    else
        hdl_team_run(stream->team, heads_thread, job);
}

void HDL_ISA_NAME(linear_heads)(const hdl_linear_heads_args *a, hdl_stream *stream)
{
    if (a->n_tokens == 0)
        return;
    size_t one = hdl_panel_bytes_max(a->n_tokens, 1, a->w->k);
    uint32_t each = (uint32_t)hdl_min_size(HDL_LINEAR_HEADS_BYTES / one, a->n_heads);
    each = hdl_max_u32(each, 1);
    size_t mark = hdl_stream_mark(stream);
    heads_job job = {.a = a, .team = stream->team};
    job.jobs = hdl_stream_take(stream, each, sizeof *job.jobs);
    for (; job.first < a->n_heads; job.first += each) {
        size_t group = hdl_stream_mark(stream);
        job.n_heads = hdl_min_u32(each, a->n_heads - job.first);
        run_group(&job, stream);
        hdl_stream_release(stream, group);
    }
    hdl_stream_release(stream, mark);
}
