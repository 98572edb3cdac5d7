/* SPDX-License-Identifier: Apache-2.0 */
/* A busy hour of a worker: sequences that come, are prefilled in chunks beside the decoding of
 * others, end, and leave their slots to the next, with all kinds of sampling. Nothing in the plans
 * depends on results, so that steps may be sent one by one or two at a time; the stream must be the
 * same. */
#pragma once

#include "rig.h"

enum { RIG_TALK_SLOTS = 5, RIG_TALK_ROWS = 1024 };

typedef struct rig_talk_opts {
    hdl_worker_opts worker;
    uint32_t vocab;
    uint32_t in_flight; /* steps submitted before the first is collected: 1 or 2 */
    uint32_t n_slots;   /* <= RIG_TALK_SLOTS */
    uint32_t n_tenants; /* of each slot, one after the other */
    uint32_t n_new;     /* tokens of a tenant at most; 0: some ten */
} rig_talk_opts;

typedef struct rig_talk {
    rig_talk_opts opts;
    hdl_result_row rows[RIG_TALK_ROWS]; /* of rank 0, in order; probs_at: in probs */
    hdl_logprob probs[RIG_TALK_ROWS * 4];
    uint32_t n_rows, n_probs, n_steps;
    uint32_t n_deep;   /* steps sent while one was under way */
    uint64_t n_graphs; /* steps that were one launch */
} rig_talk;

/* Fills the talk; caller frees. */
rig_talk *rig_talk_run(const rig_talk_opts *opts);
/* Asserts that two gave the same stream, log-probabilities included. */
void rig_talk_same(const rig_talk *a, const rig_talk *b);
