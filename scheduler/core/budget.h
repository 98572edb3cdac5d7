/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a group's next plan: decode rows first, one token each, then the rest of step_tokens to
 * prefills (README, rules B1 to B4). */
#pragma once

#include "scheduler/core/state.h"

/* Makes and announces the next plan; false when there is nothing to compute. May preempt. */
bool hdl_budget_plan(hdl_sched *s, hdl_group *g);
