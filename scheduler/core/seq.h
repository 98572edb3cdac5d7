/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences: their records, their token logs and the map from request id to record.
 *
 * A log holds prompt and generated tokens in pages, because a prefix hit compares tokens and a
 * requeued sequence replays them. A sequence has one while it waits or is computed (PREFILL). While
 * it decodes, its tokens lie with its blocks: in one place, and where the prefix index wants them.
 * Owner: the state. Invariant: pages free >= promised; a full page has its hash. */
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

/* The bucket of its request id in the map. */
static inline uint32_t *hdl_seq_bucket(const hdl_sched *s, const hdl_seq *seq)
{
    return &s->map[hdl_hash_mix(seq->req) & s->map_mask];
}
hdl_seq *hdl_seq_find(const hdl_sched *s, hdl_req_id req);

/* Pages for the log to grow to `end` tokens: whether they could be promised, and the promise, kept
 * until the sequence ends. */
bool hdl_log_room(const hdl_sched *s, const hdl_seq *seq, uint32_t end);
void hdl_log_promise(hdl_sched *s, hdl_seq *seq, uint32_t end);
/* The log's tokens are all with its blocks: its pages become a promise. */
void hdl_log_release(hdl_sched *s, hdl_seq *seq);
/* The log anew, from the blocks of a sequence that decodes and what results brought last. */
void hdl_log_restore(hdl_sched *s, hdl_seq *seq);
/* Brings the tokens of positions [from, to) of a sequence that decodes from where results left
 * them. */
void hdl_recent_copy(const hdl_sched *s, uint32_t slot, uint32_t from, uint32_t to, hdl_token *out);

/* Guesses came true: the sequence is `by` positions further than a token a step had brought it.
 * What is not filed yet moves to where it would be looked for. */
void hdl_recent_shift(hdl_sched *s, uint32_t slot, uint32_t by);

/* Copies tokens [at, at + n) of the log, walking from page `page`, which holds position at.
 * Returns the page of position at + n (NONE when the log ends on a page's end). */
uint32_t hdl_log_copy(const hdl_sched *s, uint32_t page, uint32_t at, uint32_t n, hdl_token *out);

/* Walks the prompt of any sequence, a page's tokens at a time. */
typedef struct hdl_pages_walk {
    uint32_t page;         /* of its log */
    const uint32_t *table; /* its blocks, when it has no log; else NULL */
    const hdl_kv *kv;
} hdl_pages_walk;
hdl_pages_walk hdl_seq_walk(const hdl_sched *s, const hdl_seq *seq);
const hdl_token *hdl_walk_next(const hdl_sched *s, hdl_pages_walk *walk);
