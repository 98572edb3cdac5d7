/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses tokens from logits, on rank 0.
 *
 * Order in which the parameters act, on the f32 logits of one token:
 *   1. logit_bias is added.
 *   2. repetition_penalty r, once for each distinct token of prompt and output: positive logits are
 *      divided by r, others multiplied (HF: RepetitionPenaltyLogitsProcessor).
 *   3. frequency_penalty * (count in the output), then presence_penalty if the count is not zero,
 *      are subtracted (OpenAI's definition).
 *   4. temperature below 1e-5: the largest logit, ties by the lowest token id. Done.
 *   5. Logits are divided by temperature.
 *   6. top_k keeps the k largest, ties by the lowest token id.
 *   7. top_p keeps, of those in descending order, the shortest run whose share reaches top_p.
 *   8. min_p drops what is less than min_p times as likely as the best.
 *   9. One Philox word keyed by (seed, position) picks from what is left.
 * Log-probabilities are those of the logits as the model gave them, before 1.
 *
 * Arithmetic: kernels/sample.h. Logits and exp in f32, sums of integers, no libm function over the
 * vocabulary; nothing depends on the batch or the number of threads (numerics contract N5), and op
 * `sample` gives the same tokens on a device.
 * Owner: the worker, on its step thread; jobs of one run are shared by the stream's threads.
 * Nothing allocates after open. */
#pragma once

#include <heddle/device.h>
#include <heddle/plan.h>
#include <heddle/request.h>

typedef struct hdl_sampler hdl_sampler;

typedef struct hdl_sampler_opts {
    uint32_t max_seqs, max_len, vocab, n_threads;
} hdl_sampler_opts;

hdl_err hdl_sampler_open(hdl_sampler **out, const hdl_sampler_opts *opts,
                         hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_sampler_close(hdl_sampler *sampler);

/* Are the values within the ranges of request.h? HDL_BUG with what is not. */
hdl_err hdl_sampler_check(const hdl_sampler *sampler, const hdl_sampling *params,
                          hdl_errmsg *why) HDL_MUST_CHECK;

/* How many of the largest logits are all that sampling by these parameters depends on, ties
 * included: others may be any finite number that is less after the division by temperature. 0: it
 * looks at more. */
uint32_t hdl_sampler_keep(const hdl_sampling *params);

/* A slot's new tenant; params are checked and copied. history: all tokens so far, the first
 * n_prompt of them the prompt; n_history 0 when no penalty needs it. */
typedef struct hdl_sampler_tenant {
    uint32_t slot;
    const hdl_sampling *params;
    const hdl_token *history;
    uint32_t n_history, n_prompt;
} hdl_sampler_tenant;
void hdl_sampler_set(hdl_sampler *sampler, const hdl_sampler_tenant *tenant);

/* One token to sample, or one whose log-probability is wanted. */
typedef struct hdl_sample_job {
    uint32_t slot;
    uint32_t pos;        /* that the token takes in its sequence */
    const float *logits; /* [vocab], not changed */
    hdl_token score;     /* >= 0: do not sample, score this token */
    /* The job stands when the one before it, of the same slot, samples this guess: else it is void,
     * and so are those that hang on it. */
    bool hangs;
    hdl_token guess;
} hdl_sample_job;

/* Fills out[i] for jobs[i] (pos, slot, token, scored, n_probs) and its log-probabilities
 * at probs + i * HDL_ROW_PROBS_MAX; of a void job the token is -1. HDL_DEVICE: logits that are not
 * numbers. Sampled tokens join their slot's history. The jobs that sample for one slot are a chain
 * of neighbours, all but the first with `hangs`: each knows the history that the one before it
 * left, as in steps of their own. */
typedef struct hdl_sample_run {
    const hdl_sample_job *jobs; /* [n] */
    uint32_t n;
    hdl_result_row *out; /* [n]; probs_at is left to the caller */
    hdl_logprob *probs;  /* [n, HDL_ROW_PROBS_MAX] */
} hdl_sample_run;
hdl_err hdl_sampler_run(hdl_sampler *sampler, hdl_stream *stream,
                        const hdl_sample_run *run) HDL_MUST_CHECK;
