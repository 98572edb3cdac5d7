/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of a step as ops see them, and the words out of which a device makes them. Pure data;
 * made by the worker (batch.c, upload.c), read by kernels. */
#pragma once

#include <heddle/sampling.h>

/* Where each token of the step belongs. Index arrays are built once per step by worker/batch.c and
 * shared by all layers. */
typedef struct hdl_attn_row {
    uint32_t token_at; /* first token of the row in the step */
    uint32_t n_tokens;
    uint32_t pos;          /* absolute position of the first token */
    const uint32_t *table; /* block table of the sequence: covers positions [0, pos + n_tokens) */
} hdl_attn_row;
/* On a device a step may be padded to a size that was recorded before: behind its rows stand rows
 * with n_tokens 0, each at one token of padding. Such a token is computed like any other where
 * rows do not matter; no cache is read or written for it, and what comes out for it means nothing.
 */

/* A step as a device gets it that keeps tables and last tokens itself: one run of words, the head,
 * then rows, grants, ids, blocks and tasks where the head says (in words, from the beginning). An
 * id that is negative, ~slot, is the token last sampled for the slot. */
typedef struct hdl_step_head {
    uint32_t n_rows, n_tokens, n_grants, n_blocks, n_tasks;
    uint32_t rows_at, grants_at, ids_at, blocks_at;
    uint32_t tasks_at; /* what is wanted of logits ... */
    uint32_t heads_at; /* ... and of which tokens of the step they are */
} hdl_step_head;
typedef struct hdl_step_row {
    uint32_t slot, pos, token_at, n_tokens;
} hdl_step_row;
typedef struct hdl_step_grant {
    uint32_t slot, cache, table_at;
    uint32_t block_at; /* of the step's blocks; up to the next grant's, ascending */
} hdl_step_grant;

/* Expands those words to the arrays that the other ops take: the grants' blocks into the tables,
 * ids, the rows of every cache group, and tasks. What the arrays have beyond the step becomes
 * padding: id 0, a row with n_tokens 0 for each such token, a task without a slot. */
typedef struct hdl_batch_cache {
    uint32_t *tables; /* [max_seqs, per_seq] */
    uint32_t per_seq;
    hdl_attn_row *rows; /* [n_rows] */
} hdl_batch_cache;
typedef struct hdl_batch_build_args {
    const uint32_t *step;
    const hdl_token *last;     /* [max_seqs] last sampled */
    uint32_t n_rows, n_tokens; /* of the arrays: those of the step, and as much padding each */
    uint32_t n_caches;
    hdl_batch_cache caches[HDL_CACHE_GROUPS_MAX];
    hdl_token *ids; /* [n_tokens] */
    uint32_t n_tasks;
    hdl_sample_task *tasks; /* [n_tasks] */
    hdl_token *heads;       /* [n_tasks] tokens of the step, as op embed takes them; padding: 0 */
    uint32_t *n_live;       /* [1] tokens that are no padding */
} hdl_batch_build_args;
