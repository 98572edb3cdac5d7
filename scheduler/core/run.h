/* SPDX-License-Identifier: Apache-2.0 */
/* Coming into the running set and leaving it.
 *
 * Whoever leaves gives back blocks, promises and slot at once. Steps in flight may still read and
 * write those blocks, and that is safe: whoever takes one next uses it in a later step (README,
 * rule K4). What comes back for the old stay is void, because its generation has passed. */
#pragma once

#include "scheduler/core/state.h"

typedef struct hdl_entry {
    uint32_t group, slot;
    uint32_t end;      /* length at which it will end */
    uint32_t n_blocks; /* promised, beyond those it holds already */
    uint32_t n_shared; /* blocks that are in its slot's table already, held */
    uint64_t parent;   /* publication of the last of them; 0: they are to be published */
    uint32_t pos;      /* positions whose KV it holds already */
    uint32_t page;     /* of position pos */
} hdl_entry;

/* Into the running set of a group, in a slot that was taken; there must be spare blocks for the
 * promise. */
void hdl_run_enter(hdl_sched *s, hdl_seq *seq, const hdl_entry *entry);
/* One more block for a running sequence: one that it was promised, else a spare one. */
uint32_t hdl_run_grow(hdl_sched *s, hdl_group *g, uint32_t slot);
/* Back to the queue, keeping its tokens; it will be computed anew. `why` is PREEMPT or REQUEUE. */
void hdl_run_back(hdl_sched *s, hdl_seq *seq, hdl_trace why);
/* The one end of every accepted request, wherever it is: DONE, and its forks go on without it. */
void hdl_run_end(hdl_sched *s, hdl_seq *seq, hdl_finish reason);
/* The end of an accepted request that never ran: REJECT. */
void hdl_run_reject(hdl_sched *s, hdl_seq *seq, hdl_err err);
