/* SPDX-License-Identifier: Apache-2.0 */
/* A core that is fed with a recording: private to scheduler/record. Owner: whoever replays, one
 * thread. */
#pragma once

#include <stdatomic.h>

#include "scheduler/core/journal.h"
#include "scheduler/record/replay.h"

typedef struct hdl_run_core {
    hdl_sched *sched;
    void *mem; /* owned; hdl_sched_bytes of it, zero at first */
    size_t mem_bytes;
    hdl_result_row *rows; /* owned; [n_rows] */
    uint32_t n_rows;
    hdl_replay_report *report; /* borrowed; n_events and digest say where the core is */
    const atomic_bool *stop;   /* borrowed; NULL: never; set: ends with HDL_CANCELLED */
} hdl_run_core;

/* Memory for a core of that configuration; not a core yet. */
hdl_err hdl_run_core_open(hdl_run_core *run, const hdl_sched_config *config) HDL_MUST_CHECK;
void hdl_run_core_close(hdl_run_core *run);
/* Feeds all records that are left, and compares digests. Calls nothing but memory functions. */
hdl_err hdl_run_core_records(hdl_run_core *run, hdl_journal_reader *reader,
                             hdl_errmsg *why) HDL_MUST_CHECK;
