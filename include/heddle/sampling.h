/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling: what a request may ask for, and what op `sample` (ops.h) takes.
 *
 * The op is the whole of worker/sampler.h on a device: bias, penalties over histories that the
 * device keeps, filters, Philox, log-probabilities, chains of guesses. The token and the
 * log-probabilities are the bits that the CPU's sampler gives for the same logits. Everything that
 * a step needs lies in device memory at addresses that never change, so a launch can be recorded
 * once and played again; a step changes jobs alone. Pure data. */
#pragma once

#include <heddle/plan.h>

typedef struct hdl_bias {
    hdl_token token;
    float bias;
} hdl_bias;

/* Sampling parameters; the worker's sampler documents the order in which they act. POD but for
 * `bias`. */
typedef struct hdl_sampling {
    uint64_t seed; /* Philox key; the draw for position p uses counter p (numerics contract N5) */
    float temperature;        /* 0: greedy; ties by the lowest token id */
    float top_p;              /* (0, 1]; 1: off */
    float min_p;              /* [0, 1]; 0: off */
    int32_t top_k;            /* <= 0: off */
    float frequency_penalty;  /* [-2, 2], over generated tokens */
    float presence_penalty;   /* [-2, 2], over generated tokens */
    float repetition_penalty; /* > 0; 1: off; over prompt and generated tokens */
    int32_t n_logprobs; /* -1: none; 0..HDL_TOP_LOGPROBS_MAX: the token's own and so many best */
    uint32_t n_bias;
    const hdl_bias
        *bias; /* [n_bias], owned by the request (or borrowed from the message on a worker) */
} hdl_sampling;

/* Below it a division would overflow and the choice is the largest logit anyway. */
#define HDL_TEMPERATURE_MIN 1e-5f

/* ---- op sample ---------------------------------------------------------------------------- */

/* What the op knows of a slot's tenant. Written whole when the slot opens, before the step's
 * launch; n_history is the device's from then on. */
typedef struct hdl_sample_tenant {
    hdl_sampling params;    /* .bias is not read */
    float log_min_p;        /* logf(min_p), the host's */
    uint32_t keeps_history; /* a penalty needs it */
    uint32_t n_prompt, n_history;
} hdl_sample_tenant;

/* Of all slots. Allocated once, zeroed. */
typedef struct hdl_sample_state {
    uint32_t max_seqs, max_history;
    hdl_sample_tenant *tenants; /* [max_seqs] */
    hdl_bias *biases;           /* [max_seqs, HDL_LOGIT_BIAS_MAX] the tenant's n_bias first ones */
    hdl_token *histories; /* [max_seqs, max_history] prompt, then output; sampled tokens join */
    hdl_token *last;      /* [max_seqs] written: the token last sampled for the slot */
} hdl_sample_state;

/* One row of logits. */
typedef struct hdl_sample_task {
    uint32_t slot;   /* HDL_NONE_U32: nothing is wanted of this row */
    uint32_t pos;    /* that the token takes in its sequence */
    hdl_token score; /* >= 0: do not sample, score this token */
    /* >= 0: the task stands when the one before it, of the same slot, samples this guess: else it
     * is void, and so are those that hang on it. -1: it stands by itself. */
    hdl_token guess;
} hdl_sample_task;

/* Tokens that are none. */
enum {
    HDL_SAMPLE_VOID = -1,      /* of a void task, or of one without a slot */
    HDL_SAMPLE_NO_NUMBER = -2, /* the logits, or what bias and penalties made of them, are not
                                  finite: the worker's HDL_DEVICE */
};

/* Row i of logits is task i's. The tasks that sample for one slot are neighbours, all but the first
 * with a guess: each knows the history that the one before it left. Writes out[i] (slot, pos,
 * token, scored, n_probs; probs_at 0) and its log-probabilities at probs + i * HDL_ROW_PROBS_MAX,
 * the token's own first; last[slot] of each sampled token. Any number of tasks may be without a
 * slot; their rows of logits are not read. */
typedef struct hdl_sample_args {
    const float *logits; /* [n_tasks, vocab], not changed */
    const hdl_sample_task *tasks;
    uint32_t n_tasks, vocab; /* vocab <= HDL_SAMPLE_VOCAB_MAX */
    hdl_sample_state state;
    void *work;          /* hdl_sample_work_bytes, 16-byte aligned, of no use between calls */
    hdl_result_row *out; /* [n_tasks] */
    hdl_logprob *probs;  /* [n_tasks, HDL_ROW_PROBS_MAX] */
} hdl_sample_args;

/* VOCAB_MAX: sums of masses (kernels/sample.h) fit 64 bits. */
enum { HDL_SAMPLE_VOCAB_MAX = (1 << 19) - 512, HDL_SAMPLE_PEAKS = 64 };

HDL_INLINE size_t hdl_sample_work_bytes(uint32_t n_tasks, uint32_t vocab)
{
    return (size_t)n_tasks * (((size_t)vocab + 3) / 4 * 4 + HDL_SAMPLE_PEAKS * 2) * sizeof(float);
}
