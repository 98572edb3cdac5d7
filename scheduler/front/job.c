/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/job.h"

#include <stdlib.h>

#include "base/log.h"
#include "scheduler/front/reply.h"

enum {
    INLINE_BYTES = 32768, /* about 6 ms */
    JOBS_MAX = 1024,      /* waiting for the text thread */
};
_Static_assert((int)JOBS_MAX < (int)HDL_JOBS_BACK, "all jobs may come back to one thread");

struct hdl_text_thread {
    hdl_thread thread;
    hdl_loop *loop; /* owned */
    hdl_ring *jobs; /* owned; hdl_job *, from the front threads */
    hdl_tok_scratch *scratch;
};

static void on_turn(hdl_loop *loop, void *arg)
{
    hdl_text_thread *text = arg;
    hdl_job *job;
    (void)loop;
    do
        while (hdl_ring_pop(text->jobs, &job)) {
            job->work(job, text->scratch);
            hdl_err err = hdl_ring_push(job->home->finished, &job);
            HDL_ASSERT_EQ(err, HDL_OK); /* it has room for all jobs that there can be */
        }
    while (!hdl_ring_arm(text->jobs));
}

static void text_main(void *arg)
{
    hdl_text_thread *text = arg;
    hdl_loop_wake(text->loop); /* the first turn arms the ring */
    if (hdl_loop_run(text->loop) != HDL_OK)
        HDL_LOG(ERROR, FRONT, "text_loop_failed");
}

static hdl_err open_parts(hdl_text_thread *text, hdl_errmsg *why)
{
    HDL_TRY(hdl_loop_open(&text->loop, why));
    HDL_TRY(hdl_tok_scratch_new(&text->scratch));
    HDL_TRY(hdl_ring_open(&text->jobs, &(hdl_ring_opts){.kind = HDL_RING_MPSC,
                                                        .item_bytes = sizeof(hdl_job *),
                                                        .count = JOBS_MAX,
                                                        .wake = HDL_RING_WAKE_SHARED,
                                                        .wake_fd = hdl_loop_wake_fd(text->loop)}));
    hdl_loop_on_turn(text->loop, on_turn, text);
    return hdl_thread_start(
        &text->thread,
        &(hdl_thread_opts){
            .name = "front-text", .role = HDL_ROLE_TEXT, .fn = text_main, .arg = text},
        why);
}

hdl_err hdl_text_thread_open(hdl_text_thread **out, hdl_errmsg *why)
{
    hdl_text_thread *text = calloc(1, sizeof *text);
    if (!text)
        return HDL_NOMEM;
    hdl_err err = open_parts(text, why);
    if (err != HDL_OK) {
        hdl_text_thread_close(text);
        return err;
    }
    *out = text;
    return HDL_OK;
}

void hdl_text_thread_close(hdl_text_thread *text)
{
    hdl_job *job;
    if (!text)
        return;
    if (text->thread.started) {
        hdl_loop_stop(text->loop);
        hdl_thread_join(&text->thread);
    }
    while (text->jobs && hdl_ring_pop(text->jobs, &job))
        job->done(job, NULL);
    hdl_ring_close(text->jobs);
    hdl_loop_close(text->loop);
    hdl_tok_scratch_free(text->scratch);
    free(text);
}

/* The thread's, made at its first use; NULL: out of memory. */
static hdl_tok_scratch *scratch_of(hdl_front_thread *thread)
{
    if (!thread->scratch && hdl_tok_scratch_new(&thread->scratch) != HDL_OK)
        return NULL;
    return thread->scratch;
}

static void refuse(hdl_conn *conn, hdl_job *job, int status, const char *reason)
{
    hdl_api_error err;
    job->done(job, NULL);
    (void)hdl_api_fail(&err, status, NULL, "%s", reason);
    err.retry_after_ms = 1000;
    hdl_reply_error(conn, &err);
}

void hdl_job_start(hdl_conn *conn, hdl_job *job, size_t bytes)
{
    hdl_front_thread *thread = conn->thread;
    job->home = thread;
    job->conn = conn;
    if (bytes <= INLINE_BYTES) {
        hdl_tok_scratch *scratch = scratch_of(thread);
        if (!scratch) {
            refuse(conn, job, 503, "out of memory");
            return;
        }
        job->work(job, scratch);
        job->done(job, conn);
        return;
    }
    conn->job = job;
    if (hdl_ring_push(thread->front->text->jobs, &job) != HDL_OK) {
        conn->job = NULL;
        refuse(conn, job, 429, "too many long texts are waiting to be tokenised; try again");
        return;
    }
    atomic_fetch_add_explicit(&thread->front->n_calls, 1, memory_order_relaxed);
    hdl_conn_answer_later(conn, NULL);
}

void hdl_jobs_finish(hdl_front_thread *thread)
{
    hdl_job *job;
    while (hdl_ring_pop(thread->finished, &job)) {
        hdl_conn *conn = job->conn;
        atomic_fetch_sub_explicit(&thread->front->n_calls, 1, memory_order_relaxed);
        if (conn)
            conn->job = NULL;
        job->done(job, conn);
    }
}
