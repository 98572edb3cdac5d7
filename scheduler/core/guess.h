/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses: what a sequence that decodes will probably say next, looked up in what it has said and
 * been told (README, rules G1 to G6). A plan's row holds the newest token and its guesses; the
 * worker samples after each of them as long as they come true, so that a step brings several
 * tokens, which are those of plain decoding.
 *
 * A lookup finds the latest place at which the last tokens of the sequence stand already, and
 * guesses what followed there. It compares tokens, keeps nothing but where it was (a lead), and
 * reads the tokens where they lie anyway. Owner: the group. */
#pragma once

#include "scheduler/core/state.h"

/* A sequence begins to decode. */
void hdl_guess_join(hdl_sched *s, uint32_t slot);
/* The plan's rows of those that decode are written, of one token each: some of them get guesses and
 * move behind the others. */
void hdl_guess_rows(hdl_sched *s, hdl_group *g, hdl_plan_buf *buf);
/* Of n guesses, `held` came true; the sequence knows their tokens by now. */
void hdl_guess_learn(hdl_sched *s, uint32_t slot, uint32_t n, uint32_t held);
