/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that decode, as a plan sees them: one row each, in the order of slots, and the blocks
 * that some of them need for it.
 *
 * What is done here for every sequence at every step, and in absorb.c for the answers, is most of
 * what the core costs. So it reads and writes dense arrays by slot, forwards, and puts off what it
 * finds to do for a few. Owner: the group. Invariant: a bit of group.decode is set for those that
 * decode and whose last token is not in flight yet. */
#pragma once

#include "scheduler/core/state.h"

/* A sequence whose known tokens are all planned, in the plan being built. */
void hdl_decode_join(hdl_sched *s, hdl_group *g, hdl_seq *seq);
/* It leaves the running set: its rows in flight are void. */
void hdl_decode_leave(hdl_sched *s, hdl_group *g, const hdl_seq *seq);

/* The first rows of a plan. May preempt. */
void hdl_decode_rows(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf);
