/* SPDX-License-Identifier: Apache-2.0 */
/* A step's answer: tokens are logged and emitted, full blocks published, sequences that are
 * done ended.
 *
 * Request path 12 of 14. Results of a group come in the order of its plans; what belongs to no
 * plan in flight is counted and ignored, and what does not answer its plan ends the epoch. */
#pragma once

#include "scheduler/core/state.h"

void hdl_absorb(hdl_sched *s, const hdl_ev_result *ev);
