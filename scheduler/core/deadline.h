/* SPDX-License-Identifier: Apache-2.0 */
/* The deadlines of all live requests: a binary heap by (deadline, arrival), each record knowing its
 * place in it. */
#pragma once

#include "scheduler/core/state.h"

void hdl_deadline_add(hdl_sched *s, hdl_seq *seq);    /* nothing when it has none */
void hdl_deadline_remove(hdl_sched *s, hdl_seq *seq); /* nothing when it is not in the heap */
/* The sequence whose deadline comes first, or NULL. */
hdl_seq *hdl_deadline_first(const hdl_sched *s);
