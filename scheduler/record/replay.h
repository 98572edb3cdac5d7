/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a recorded file through a fresh core: `heddle replay FILE`, and an incident as a test. One
 * thread. */
#pragma once

#include "scheduler/core/sched.h"

typedef struct hdl_replay_report {
    uint64_t n_events, n_digests; /* digests of the recording that were compared */
    uint64_t digest;              /* of all actions, as hdl_sched_digest */
    bool same;                    /* every recorded digest was met */
    uint64_t first_difference;    /* events until then, when not */
    bool torn;                    /* the file ends inside a record, as after a crash */
    const char *broken;           /* invariant that does not hold at the end, or NULL */
    hdl_sched_config config;
    hdl_sched_stats stats; /* at the end */
} hdl_replay_report;

/* HDL_OK also when the digests differ (report->same is false). Fails when the file cannot be read,
 * is no journal, is damaged in the middle, or does not fit the core's own answers. */
hdl_err hdl_replay_file(const char *path, hdl_replay_report *report,
                        hdl_errmsg *why) HDL_MUST_CHECK;
/* The same for bytes in memory, 8-byte aligned; cap_bytes bounds the memory that the state may
 * take. */
hdl_err hdl_replay_bytes(const void *bytes, size_t size, size_t cap_bytes,
                         hdl_replay_report *report, hdl_errmsg *why) HDL_MUST_CHECK;
