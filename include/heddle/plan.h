/* SPDX-License-Identifier: Apache-2.0 */
/* The plan: what every rank of a group computes in one step. The only thing that scheduler and
 * worker both know.
 *
 * Made by scheduler/core, carried by proto/, executed by worker/step.c. Flat arrays of 32-bit words
 * behind one header, so that the wire form is the memory form. The scheduler is the only allocator
 * of slots and blocks: a worker bounds-checks what it is told and keeps no list of its own. Steps
 * of one epoch are numbered 1, 2, 3, ... without gaps and executed in that order; that order is
 * what makes it safe to reuse in step n a block that was freed by step n - 1.
 *
 * A state (a recurrent layer's, say) is the block of a cache group of kind HDL_CACHE_STATE. It is
 * changed in place by every row of its sequence; a row at position 0 starts from the zero state
 * whatever the entry holds, so nothing is ever initialised by a plan.
 *
 * Order inside a step: closes, opens, grants, copies, then all rows as one forward pass, then
 * sampling. A result's rows come in the order of the plan's; scored ones may stand between, and a
 * row with guesses has several. */
#pragma once

#include <assert.h>
#include <heddle/limits.h>
#include <heddle/types.h>

/* What a row wants. */
enum {
    /* Sample one token from the logits of the row's last token. */
    HDL_ROW_SAMPLE = 1u << 0,
    /* The row's first token is the one last sampled for this slot, by whatever step before; its
     * entry in tokens[] is ignored. This lets two steps be in flight. */
    HDL_ROW_FEEDBACK = 1u << 1,
    /* Return the log-probability of every next token of the prompt: tokens[] holds one entry more
     * than n_tokens, the token after the row's last one (or -1 at the end of the prompt). */
    HDL_ROW_SCORE = 1u << 2,
    /* Rank 0 appends the logits of all the row's tokens to its dump file (`heddle logits`). */
    HDL_ROW_LOGITS = 1u << 3,
    /* Speculation, with SAMPLE: the row's tokens after the first are guesses. A token is sampled
     * after each of them as long as it is the next guess; the first that is not is the row's last
     * one, and what was computed behind it is void: its positions are computed anew, by a later
     * row, before anybody reads them. So a row of n tokens brings 1 to n results, which are those
     * of as many steps without guesses. Never where a state is changed in place. */
    HDL_ROW_GUESS = 1u << 4,
};
enum { HDL_GUESSES_MAX = 15 }; /* of a row */

/* Consecutive tokens of one sequence. A sequence has at most one row in a step. Four words, because
 * the core writes one for each running sequence at each step. */
typedef struct hdl_plan_row {
    uint32_t slot;
    uint32_t pos;           /* absolute position of the first token, from 0 */
    uint32_t n_tokens : 24; /* >= 1 */
    uint32_t flags : 8;     /* HDL_ROW_* */
    uint32_t token_at;      /* first of the row's entries in tokens[] */
} hdl_plan_row;
enum { HDL_ROW_TOKENS_MAX = (1 << 24) - 1, HDL_ROW_FLAGS_ALL = 255 };

/* Blocks of one cache group that a slot gets with this step: entries [table_at, table_at +
 * n_blocks) of its table in that group. A table starts where its first grant does: what lies before
 * is out of a window and is not read. A block that a sequence gave up (it has left the window)
 * needs no word: its entry in the table stays, stale, and is not read either. In a group of states
 * a table has one entry, the sequence's own state. Most decode rows come without any grant. */
typedef struct hdl_plan_grant {
    uint32_t slot;
    uint32_t cache; /* index in hdl_model_desc.cache_groups */
    uint32_t table_at;
    uint32_t block_at; /* first of the grant's entries in blocks[] */
    uint32_t n_blocks; /* >= 1 */
} hdl_plan_grant;

/* A slot gets a new tenant. Its tables become empty. Sampling parameters travel beside the
 * plan (hdl_sampling of request.h). A history is given when a penalty needs it: all tokens known so
 * far, of which the first n_prompt are the prompt. */
typedef struct hdl_plan_open {
    uint32_t slot;
    uint32_t req_lo, req_hi; /* hdl_req_id */
    uint32_t n_prompt;
    uint32_t history_at; /* in tokens[] */
    uint32_t n_history;  /* 0 when no parameter needs it */
} hdl_plan_open;

/* What `src` holds is copied to `dst` before the forward pass, all layers of the cache group:
 * copy-on-write of pages; of states, a snapshot (from a sequence's own state) or its restoration.
 * No copy of a step reads or writes what another one writes. */
typedef struct hdl_plan_copy {
    uint32_t cache;
    uint32_t src, dst;
} hdl_plan_copy;

/* Arrays are borrowed: from the core's plan buffer until the step's RESULT, or from the message
 * that brought them. */
typedef struct hdl_plan {
    uint64_t step;  /* from 1 in each epoch */
    uint64_t epoch; /* of the group; a worker refuses an older one */
    uint32_t group;
    uint32_t n_rows, n_opens, n_grants, n_closes, n_copies, n_tokens,
        n_blocks; /* lengths of the arrays; n_tokens of tokens[] */
    const hdl_plan_row *rows;
    const hdl_plan_open *opens;
    const hdl_plan_grant *grants;
    const uint32_t *closes; /* slots that ended; their state is dropped first */
    const hdl_plan_copy *copies;
    const hdl_token *tokens;
    const uint32_t *blocks;
} hdl_plan;

/* Log-probability of one token, natural logarithm, of the distribution before temperature and
 * filters. */
typedef struct hdl_logprob {
    hdl_token token;
    float logprob;
} hdl_logprob;

/* One sampled token, or one scored prompt token. Four words, because the core reads all rows of all
 * steps; the last one is 0 of a sampled token whose request asked for no log-probability. */
typedef struct hdl_result_row {
    uint32_t slot;
    uint32_t pos; /* position that the token takes in its sequence */
    hdl_token token;
    uint32_t scored : 1;    /* 1: a prompt token with HDL_ROW_SCORE; 0: sampled */
    uint32_t n_probs : 5;   /* entries in probs[]: the token's own, then the most probable ones of
                               its position, best first, ties by token id */
    uint32_t probs_at : 26; /* the first of them */
} hdl_result_row;
enum { HDL_ROW_PROBS_MAX = 1 + HDL_TOP_LOGPROBS_MAX, HDL_PROBS_AT_MAX = (1 << 26) - 1 };

/* What a rank answers for a step. Rank 0 of a group carries the rows; the others carry the error
 * and the times alone. */
typedef struct hdl_result {
    uint64_t step, epoch;
    uint32_t group, rank;
    uint32_t
        err; /* hdl_err; anything but HDL_OK means that this rank can not go on in this epoch */
    uint32_t step_us; /* wall time of the step on this rank, collectives included */
    uint32_t coll_us; /* time in collectives */
    uint32_t n_rows, n_probs;
    const hdl_result_row *rows;
    const hdl_logprob *probs;
} hdl_result;

static_assert(sizeof(hdl_plan_row) == 16 && sizeof(hdl_plan_open) == 24 &&
                  sizeof(hdl_plan_grant) == 20 && sizeof(hdl_plan_copy) == 12,
              "wire form is memory form");
static_assert(sizeof(hdl_result_row) == 16 && sizeof(hdl_logprob) == 8, "wire form is memory form");
