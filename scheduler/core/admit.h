/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: from the head of the queue into a group that has room for the whole known context
 * (README, rules A1 to A5). */
#pragma once

#include "scheduler/core/state.h"

/* Admits the request that is next, or ends it when it can never run; false when nobody can be
 * admitted now. */
bool hdl_admit_next(hdl_sched *s);
/* True when the group can take another plan. */
static inline bool hdl_group_open(const hdl_group *g)
{
    return g->up && g->in_flight < HDL_PLANS_IN_FLIGHT && !g->guesses;
}
