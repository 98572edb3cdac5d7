/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a data-parallel group: coming up with an empty KV, answering plans in order, and
 * being lost. */
#pragma once

#include "scheduler/core/state.h"

void hdl_group_up(hdl_sched *s, const hdl_ev_rank *ev);
/* The epoch ends: plans in flight are void, running sequences go back to the queue with their
 * tokens. */
void hdl_group_lost(hdl_sched *s, const hdl_ev_rank *ev);
/* The same for an epoch that the core itself has to end. */
void hdl_group_end_epoch(hdl_sched *s, hdl_group *g);
