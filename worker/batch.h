/* SPDX-License-Identifier: Apache-2.0 */
/* A plan turned into index arrays: what every slot knows (a block table for each cache group, the
 * last token), and for one step the token ids, attention rows, block copies and the tokens whose
 * logits are wanted.
 *
 * Rules. B1: a plan is checked whole before anything is touched; a bad one is the scheduler's bug
 * and is refused. B2: the worker keeps no list of free slots or blocks. B3: nothing here allocates
 * after open. B4: a table is never shortened; entries before what a row may see are stale and not
 * read, and a row that would read one is refused. Owner: the worker, on its step thread. */
#pragma once

#include <heddle/model.h>
#include <heddle/plan.h>

#include "worker/model/forward.h"

typedef struct hdl_slot {
    bool open;
    bool started;        /* a row of it has run */
    bool has_last;       /* a token was sampled for it, or will be by a step that is under way */
    bool last_on_device; /* that token is known there alone, until its step is collected */
    hdl_token last;
    uint32_t next_pos; /* after the last row that ran, without guesses that did not come true */
    uint32_t keep;     /* that many of the largest logits are all its tenant looks at; 0: at all */
    bool wants_probs;  /* its tenant asked for log-probabilities */
    uint64_t row_step, sample_step; /* of the last row; of the last one that samples */
    /* Entries [first, end) of its table in each cache group were granted. */
    uint32_t first[HDL_CACHE_GROUPS_MAX], end[HDL_CACHE_GROUPS_MAX];
} hdl_slot;

/* A token of the step whose logits are wanted. */
typedef struct hdl_want {
    uint32_t token_idx; /* in the step */
    uint32_t slot;
    uint32_t pos;   /* of the token that the logits predict */
    hdl_token next; /* SCORE: the prompt's token there; of guesses, the next one; or -1 */
    uint32_t flags; /* HDL_ROW_SAMPLE, _SCORE, _LOGITS: what for; _GUESS: it stands only when the
                       want before it, of the same row, samples that want's `next` */
} hdl_want;

typedef struct hdl_batch_opts {
    uint32_t max_seqs, step_tokens, max_len, block_tokens, vocab;
    uint32_t n_caches;
    hdl_cache_capacity caches[HDL_CACHE_GROUPS_MAX];
    bool can_dump; /* HDL_ROW_LOGITS is possible */
} hdl_batch_opts;

/* What a cache group needs of its own. */
typedef struct hdl_batch_group {
    uint32_t per_seq;    /* entries of a table */
    uint32_t *tables;    /* owned [max_seqs, per_seq] */
    uint64_t *written;   /* owned [n_blocks] marks */
    uint64_t *granted;   /* owned [max_seqs] marks: the step grants to this slot ... */
    uint32_t *grant;     /* owned [max_seqs] ... and this is the grant */
    hdl_attn_row *rows;  /* owned [max_seqs] of the step, with this group's tables */
    uint32_t n_copies;   /* of the step */
    uint32_t *src, *dst; /* owned [n_blocks] */
} hdl_batch_group;

typedef struct hdl_batch {
    hdl_batch_opts opts;
    hdl_slot *slots; /* owned [max_seqs] */
    hdl_batch_group groups[HDL_CACHE_GROUPS_MAX];
    /* Marks of one check: a word equals `mark` when it was set in it. A block that a copy writes
     * has `mark`, one that a row writes `mark` + 1: a row may write what was copied before it. */
    uint64_t mark;
    uint64_t *closed, *opened, *rowed; /* owned [max_seqs] */
    /* Of the step, after apply. */
    uint32_t n_tokens, n_rows, n_wants;
    uint32_t row_least; /* tokens of the shortest row */
    uint64_t n_keys;    /* positions behind and in all rows */
    hdl_token *ids;     /* owned [step_tokens] */
    hdl_want *wants;    /* owned [step_tokens] */
} hdl_batch;

hdl_err hdl_batch_open(hdl_batch *out, const hdl_batch_opts *opts, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_batch_close(hdl_batch *batch);
/* Forgets all sequences. */
void hdl_batch_reset(hdl_batch *batch);

/* Touches nothing but marks. HDL_BUG with what is wrong. */
hdl_err hdl_batch_check(hdl_batch *batch, const hdl_plan *plan, hdl_errmsg *why) HDL_MUST_CHECK;
/* A checked plan: closes, opens, then the arrays of the step. */
void hdl_batch_apply(hdl_batch *batch, const hdl_plan *plan);
/* What a step that was applied has sampled for a slot; pos: that the token takes. A later step may
 * have been applied since, a later tenant's too. */
typedef struct hdl_batch_sample {
    uint64_t step;
    uint32_t slot, pos;
    hdl_token token;
} hdl_batch_sample;
void hdl_batch_sampled(hdl_batch *batch, const hdl_batch_sample *sample);

static inline hdl_tokens hdl_batch_tokens(const hdl_batch *b)
{
    hdl_tokens t = {.ids = b->ids,
                    .n_tokens = b->n_tokens,
                    .n_rows = b->n_rows,
                    .row_least = b->row_least,
                    .n_keys = b->n_keys};
    for (uint32_t g = 0; g < b->opts.n_caches; g++)
        t.rows[g] = b->groups[g].rows;
    return t;
}
