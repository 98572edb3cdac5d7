/* SPDX-License-Identifier: Apache-2.0 */
/* Work on a request's text that takes long: a megabyte of prompt is a fifth of a second of parsing
 * and tokenising, in which a loop thread would leave all its streams waiting. Short bodies are
 * worked on at once, long ones by the text thread.
 *
 * A job is made on the thread of its connection (its home), worked on by one thread, and ends at
 * home, also when the client has left meanwhile. It is embedded at the start of what it works on.
 */
#pragma once

#include "scheduler/front/conn.h"

typedef struct hdl_job hdl_job;
struct hdl_job {
    /* Any thread; touches nothing but the job's own. */
    void (*work)(hdl_job *job, hdl_tok_scratch *scratch);
    /* Home: answers on conn, or starts a call there; NULL: the client has left. Frees the job. */
    void (*done)(hdl_job *job, hdl_conn *conn);
    /* private */
    hdl_front_thread *home;
    hdl_conn *conn; /* home's alone */
};

/* Takes the job over. bytes: how much text it is about. The connection's request is answered by
 * done, perhaps before this returns. */
void hdl_job_start(hdl_conn *conn, hdl_job *job, size_t bytes);
/* Home, at the end of a turn: jobs that have come back. */
void hdl_jobs_finish(hdl_front_thread *thread);

typedef struct hdl_text_thread hdl_text_thread; /* heap, cold */
hdl_err hdl_text_thread_open(hdl_text_thread **out, hdl_errmsg *why) HDL_MUST_CHECK;
/* After the front threads have stopped: ends the jobs that are left. NULL is allowed. */
void hdl_text_thread_close(hdl_text_thread *text);
