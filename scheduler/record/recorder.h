/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder: every event that the core is given, in a file that `heddle replay` runs
 * again.
 *
 * Ids and sizes, never text (scheduler/core/journal.h). The file starts with the core's birth,
 * because a replay must; when it has grown to its cap the recorder says so once and stops, and what
 * came before stays replayable. Owner: the brain thread. Writing is one buffered write() now and
 * then; a failing disk stops the recorder and never the scheduler. */
#pragma once

#include "scheduler/core/sched.h"

typedef struct hdl_recorder hdl_recorder;

typedef struct hdl_recorder_opts {
    const char *path;   /* an existing file is moved to path.1 */
    uint64_t cap_bytes; /* 0: 256 MiB */
    uint64_t key;       /* random, kept in memory alone: what pseudonyms are made with */
} hdl_recorder_opts;

hdl_err hdl_recorder_open(hdl_recorder **out, const hdl_recorder_opts *opts,
                          const hdl_sched_config *config, hdl_errmsg *why) HDL_MUST_CHECK;
/* hdl_sched_step, recorded. With rec == NULL it is hdl_sched_step. */
void hdl_recorder_step(hdl_recorder *rec, hdl_sched *sched, const hdl_event *event,
                       hdl_actions *actions);
/* Writes what is buffered, and the digest so far; call it at least every second and at exit. */
void hdl_recorder_flush(hdl_recorder *rec);
void hdl_recorder_close(hdl_recorder *rec); /* NULL is fine */
/* HDL_OK while it records; HDL_BUSY when the cap was reached; HDL_IO when the disk failed. */
hdl_err hdl_recorder_state(const hdl_recorder *rec);
