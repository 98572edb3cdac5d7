/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences: their records, their token logs and the map from request id to record.
 *
 * The log holds prompt and generated tokens in pages, kept from SUBMIT to the end, because a prefix
 * hit compares tokens and a requeued sequence replays them. Page n of a sequence goes with block n
 * of its KV. Owner: the state. Invariant: pages free >= promised; a full page has its hash. */
#pragma once

#include "scheduler/core/state.h"

/* A record for a new request whose prompt is copied and hashed; the caller has checked
 * hdl_seq_room. */
hdl_seq *hdl_seq_new(hdl_sched *s, const hdl_ev_submit *submit);
/* Forgets a record that is in no queue and holds no block. */
void hdl_seq_free(hdl_sched *s, hdl_seq *seq);
/* True when a record and the pages of a prompt are to be had without touching what was promised,
 * leaving room for the growth of one sequence of the greatest length: so the last admitted one can
 * always finish. */
bool hdl_seq_room(const hdl_sched *s, uint32_t n_prompt);

hdl_seq *hdl_seq_find(const hdl_sched *s, hdl_req_id req);

/* Pages for the log to grow to `end` tokens: whether they could be promised, and the promise, kept
 * until the sequence ends. */
bool hdl_log_room(const hdl_sched *s, const hdl_seq *seq, uint32_t end);
void hdl_log_promise(hdl_sched *s, hdl_seq *seq, uint32_t end);
/* The page of position `at`, where tail is the page of position at - 1; made when it is not there
 * yet. */
uint32_t hdl_log_next_page(hdl_sched *s, hdl_seq *seq, uint32_t at);
/* Brings the recent tokens to their page; the page gets its hash when it is full. */
void hdl_log_flush(hdl_sched *s, hdl_seq *seq);

/* Copies tokens [at, at + n) of the log, walking from page `page`, which holds position at.
 * Returns the page of position at + n (NONE when the log ends on a page's end). */
uint32_t hdl_log_copy(const hdl_sched *s, uint32_t page, uint32_t at, uint32_t n, hdl_token *out);
