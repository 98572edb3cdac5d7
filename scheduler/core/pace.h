/* SPDX-License-Identifier: Apache-2.0 */
/* The pace of a group: how long its prompt tokens take, measured, and from that how many of them a
 * step may hold beside those that decode, who wait for it (README, rule B5). Decides when something
 * is computed, never what comes out. Owner: the group. */
#pragma once

#include "scheduler/core/state.h"

/* A plan is about to be announced. */
void hdl_pace_planned(const hdl_sched *s, hdl_group *g);
/* The oldest plan in flight is answered. */
void hdl_pace_answered(const hdl_sched *s, hdl_group *g, const hdl_plan_buf *buf);
/* Tokens of the plan that is being made, of all rows; those that decode have theirs. */
uint32_t hdl_pace_step_tokens(const hdl_sched *s, const hdl_group *g, const hdl_plan_buf *buf);
