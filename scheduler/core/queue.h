/* SPDX-License-Identifier: Apache-2.0 */
/* Who is next: priorities that age, fairness by tokens between tenants, arrival order within a
 * tenant (README, rules Q1 to Q5).
 *
 * Owner: the state. A sequence that was preempted or requeued, and a fork whose parent is ready,
 * waits in a list of its own that goes first in its priority, ordered by arrival. */
#pragma once

#include "scheduler/core/state.h"

#define HDL_SHARE_UNIT (1u << 20)

void hdl_queue_push(hdl_sched *s,
                    hdl_seq *seq); /* a new request: at the end of its tenant's fifo */
void hdl_queue_again(hdl_sched *s, hdl_seq *seq); /* one that goes before new ones */
void hdl_queue_hold(hdl_sched *s, hdl_seq *seq, hdl_seq *parent); /* a fork waits for its parent */
void hdl_queue_release_forks(hdl_sched *s, hdl_seq *parent);      /* those of hold go on */
void hdl_queue_remove(hdl_sched *s, hdl_seq *seq);                /* wherever it waits */

/* The request that must be admitted next (it stays in the queue), or NULL. Nobody passes it. */
hdl_seq *hdl_queue_pick(const hdl_sched *s);
/* The first waiting sequence that has been admitted before, or NULL. */
hdl_seq *hdl_queue_promised(const hdl_sched *s);
/* Tokens computed for a tenant. */
void hdl_queue_charge(hdl_sched *s, uint32_t tenant, uint32_t tokens);
/* Milliseconds after which the queue's tokens will have been worked off. */
uint32_t hdl_queue_retry_after_ms(const hdl_sched *s);
