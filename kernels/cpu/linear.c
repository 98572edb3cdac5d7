/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu/gemm.h"

enum {
    PACK_CHUNK = 1024,   /* k of one token that a thread converts at a time */
    WORK_ALONE = 1 << 17 /* multiply-adds below which waking the team costs more than it gives */
};

/* One job for each part of a stacked weight. */
typedef struct linear_job {
    const hdl_linear_args *a;
    hdl_gemm_job gemm[HDL_STACK_MAX];
    uint32_t n_jobs;
    hdl_team *team;
} linear_job;

static void pack_share(const linear_job *job, int thread, int n_threads)
{
    const hdl_linear_args *a = job->a;
    uint32_t k = a->w->k, chunks = hdl_div_ceil_u32(k, PACK_CHUNK);
    hdl_team_part part = hdl_team_share((size_t)a->n_tokens * chunks, 1, thread, n_threads);
    for (size_t i = part.from; i < part.to; i++) {
        uint32_t token = (uint32_t)(i / chunks), from = (uint32_t)(i % chunks) * PACK_CHUNK;
        hdl_gemm_pack_token(job->gemm, job->n_jobs, token,
                            (hdl_gemm_piece){.x = a->x + token * a->x_stride,
                                             .from = from,
                                             .to = hdl_min_u32(from + PACK_CHUNK, k),
                                             .ints = a->x_ints});
    }
}

static void linear_thread(void *arg, int thread, int n_threads)
{
    const linear_job *job = arg;
    hdl_gemm_ask(job->gemm, job->n_jobs, thread, n_threads);
    pack_share(job, thread, n_threads);
    if (n_threads > 1)
        hdl_team_barrier(job->team, thread);
    hdl_gemm_run(job->gemm, job->n_jobs, thread, n_threads);
}

void HDL_ISA_NAME(linear)(const hdl_linear_args *a, hdl_stream *stream)
{
    if (a->n_tokens == 0)
        return;
    size_t mark = hdl_stream_mark(stream);
    hdl_gemm_job first = {
        .w = a->w, .y = a->y, .y_stride = a->y_stride, .bias = a->bias, .n_tokens = a->n_tokens};
    linear_job job = {.a = a, .team = stream->team};
    job.n_jobs = hdl_gemm_plan(job.gemm, &first, stream);
    if ((size_t)a->w->n * a->w->k * a->n_tokens < WORK_ALONE)
        linear_thread(&job, 0, 1);
    else
        hdl_team_run(stream->team, linear_thread, &job);
    hdl_stream_release(stream, mark);
}
