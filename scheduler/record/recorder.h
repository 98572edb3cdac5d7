/* SPDX-License-Identifier: Apache-2.0 */
/* The flight recorder: every event that the core is given, in files that `heddle replay` runs
 * again.
 *
 * Ids and sizes, never text (scheduler/core/journal.h). Two files are a ring: when the current one
 * has grown to half of the cap it becomes path.1, the one before goes, and a new one is begun. A
 * thread of its own follows and writes the state with which the new file begins to path.state
 * (shadow.h); until that is there, the file before is not given up. Owner: the brain thread.
 * Writing is one buffered write() now and then; a failing disk stops the recorder and never the
 * scheduler.
 */
#pragma once

#include "scheduler/core/sched.h"

typedef struct hdl_recorder hdl_recorder;

typedef struct hdl_recorder_opts {
    const char *path;   /* files of an earlier run are moved to path.1 and path.2 */
    uint64_t cap_bytes; /* of both files; 0: 256 MiB */
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
/* HDL_OK while it records; HDL_BUSY when the cap was reached before a state could be written, or by
 * one event; HDL_IO when the disk failed. */
hdl_err hdl_recorder_state(const hdl_recorder *rec);
/* Waits until the state of the current file is written, when one is to be. For tests. */
void hdl_recorder_wait(hdl_recorder *rec);
