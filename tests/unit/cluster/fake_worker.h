/* SPDX-License-Identifier: Apache-2.0 */
/* A worker without a model: it dials a real scheduler, keeps in each KV block the tokens that a
 * real one would have computed keys and values of, and samples by an oracle: the next token is a
 * hash of all tokens before it. So every stream has one right answer, and a stale, missing or
 * foreign block gives a wrong one. Lives on its rpc thread; its knobs may be turned by any. */
#pragma once

#include <stdatomic.h>

#include <heddle/request.h>

#include <heddle/types.h>

#include "proto/rpc.h"
#include "proto/wire.h"

enum { FAKE_BLOCKS = 64, FAKE_BLOCK_TOKENS = 32, FAKE_SEQS = 8, FAKE_LEN = 512, FAKE_VOCAB = 1000 };

typedef struct fake_slot {
    uint32_t table[FAKE_LEN / FAKE_BLOCK_TOKENS];
    hdl_token last;
    hdl_sampling sampling;
} fake_slot;

typedef struct fake_worker {
    hdl_rpc_client *client;
    hdl_rpc_stream *stream; /* for whoever started it */
    hdl_rpc_stream *back;   /* the same, as callbacks know it */
    hdl_arena arena;
    hdl_wire_encoder encoder;
    void *mem;
    hdl_msg_assign assign;
    hdl_msg_join join; /* the last; read it when n_joins has counted it */
    uint64_t epoch;
    hdl_token kv[FAKE_BLOCKS][FAKE_BLOCK_TOKENS];
    fake_slot slots[FAKE_SEQS];
    hdl_result_row rows[FAKE_SEQS + FAKE_LEN];
    hdl_logprob probs[2 * (FAKE_SEQS + FAKE_LEN)];

    /* knobs */
    atomic_bool mute;     /* says nothing any more, takes no step */
    atomic_uint hold_at;  /* from this number of steps on it takes none; 0: never */
    atomic_uint fail_at;  /* the step with this number ends with HDL_PEER; 0: none */
    atomic_uint wrong_at; /* its result holds a token that does not exist; 0: none */
    atomic_bool stale;    /* results are sent twice, first wrong and under the old epoch */

    /* what happened */
    atomic_uint n_listens, n_assigns, n_joins, n_steps, n_aborts;
    atomic_bool closed, dismissed;
    _Atomic hdl_err close_err;
} fake_worker;

typedef struct fake_opts {
    const char *address, *device, *token;
    uint32_t protocol;
    uint64_t holds, machine;
    unsigned hold_at;
} fake_opts;

/* Dials and says Hello. */
fake_worker *fake_start(const fake_opts *opts);
/* The process dies: the stream breaks off. */
void fake_kill(fake_worker *worker);

/* What any worker answers after these tokens. */
hdl_token fake_oracle(const hdl_token *tokens, uint32_t n);

/* A greedy request whose prompt is a function of sink.user; owned by the caller. */
hdl_request *fake_request(uint32_t n_prompt, uint32_t max_new, hdl_sink sink);
