/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a recorded file through a fresh core: `heddle replay FILE`, and an incident as a test. One
 * thread. */
#pragma once

#include "scheduler/core/sched.h"

typedef struct hdl_replay_report {
    uint64_t n_events;   /* of the recording, from the core's birth on */
    uint64_t from_event; /* those before it are not in the files: the run began with a state */
    uint64_t n_digests;  /* digests of the recording that were compared */
    uint64_t digest;     /* of all actions, as hdl_sched_digest */
    bool same;           /* every recorded digest was met */
    uint64_t first_difference; /* events until then, when not */
    bool torn;                 /* the file ends inside a record, as after a crash */
    char broken[128];          /* invariant that does not hold at the end, or "" */
    hdl_sched_config config;
    hdl_sched_stats stats; /* at the end */
} hdl_replay_report;

/* HDL_OK also when the digests differ (report->same is false). Fails when the file cannot be read,
 * is no journal, is damaged in the middle, or does not fit the core's own answers. A file that goes
 * on where another one ended (path.1 before path) starts with the state beside it (path.state), and
 * without it with the file before. */
hdl_err hdl_replay_file(const char *path, hdl_replay_report *report,
                        hdl_errmsg *why) HDL_MUST_CHECK;
/* The same for the bytes of one file, from the core's birth on, 8-byte aligned; cap_bytes bounds
 * the memory that the state may take. */
hdl_err hdl_replay_bytes(const void *bytes, size_t size, size_t cap_bytes,
                         hdl_replay_report *report, hdl_errmsg *why) HDL_MUST_CHECK;
