/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/stream.h"

#include "base/assert.h"

void *hdl_stream_take(hdl_stream *stream, size_t count, size_t item_bytes)
{
    HDL_ASSERT(item_bytes == 0 || count <= SIZE_MAX / item_bytes);
    void *mem = hdl_arena_alloc(&stream->scratch, count * item_bytes, HDL_STREAM_ALIGN);
    HDL_ASSERT(mem != NULL); /* ops->scratch_bytes is no upper bound */
    return mem;
}

typedef struct range_job {
    hdl_range_fn *fn;
    const void *args;
    size_t total, grain;
} range_job;

static void run_share(void *arg, int thread, int n_threads)
{
    const range_job *job = arg;
    hdl_team_part part = hdl_team_share(job->total, job->grain, thread, n_threads);
    if (part.from < part.to)
        job->fn(job->args, part.from, part.to);
}

void hdl_stream_for(hdl_stream *stream, size_t total, size_t grain, hdl_range_fn *fn,
                    const void *args)
{
    if (total == 0)
        return;
    if (total <= grain || stream->n_threads == 1) {
        fn(args, 0, total);
        return;
    }
    range_job job = {.fn = fn, .args = args, .total = total, .grain = grain};
    hdl_team_run(stream->team, run_share, &job);
}

typedef struct stream_run {
    void (*fn)(void *arg, uint32_t thread, uint32_t n_threads);
    void *arg;
} stream_run;

static void run_user(void *arg, int thread, int n_threads)
{
    const stream_run *run = arg;
    run->fn(run->arg, (uint32_t)thread, (uint32_t)n_threads);
}

void hdl_stream_run(hdl_stream *stream, void (*fn)(void *arg, uint32_t thread, uint32_t n_threads),
                    void *arg)
{
    stream_run run = {.fn = fn, .arg = arg};
    hdl_team_run(stream->team, run_user, &run);
}
