/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 8 of 14: the plan as bytes (scheduler/cluster/dispatch.c sends them), and the
 * result. Arrays of words go as they lie in memory; both ends are little-endian, which is what
 * protobuf's packed fixed32 is. */
#include <math.h>
#include <string.h>

#include <heddle/types.h>

#include "proto/wire_pb.h"

/* Words of one sampling. */
enum {
    W_SEED_LO,
    W_SEED_HI,
    W_TEMPERATURE,
    W_TOP_P,
    W_MIN_P,
    W_TOP_K,
    W_FREQUENCY,
    W_PRESENCE,
    W_REPETITION,
    W_LOGPROBS,
    W_BIASES,
    W_RESERVED,
    SAMPLING_WORDS
};
enum {
    ROW_WORDS = sizeof(hdl_plan_row) / 4,
    OPEN_WORDS = sizeof(hdl_plan_open) / 4,
    GRANT_WORDS = sizeof(hdl_plan_grant) / 4,
    COPY_WORDS = sizeof(hdl_plan_copy) / 4,
    BIAS_WORDS = sizeof(hdl_bias) / 4,
    RESULT_WORDS = sizeof(hdl_result_row) / 4,
    PROB_WORDS = sizeof(hdl_logprob) / 4,
    ROW_FLAGS_ALL =
        HDL_ROW_SAMPLE | HDL_ROW_FEEDBACK | HDL_ROW_SCORE | HDL_ROW_LOGITS | HDL_ROW_GUESS,
    RESULT_ROWS_MAX = HDL_SEQS_MAX + HDL_STEP_TOKENS_MAX
};
_Static_assert(sizeof(hdl_bias) == 8, "wire form is memory form");

static uint32_t word_of(float value)
{
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    return word;
}

static float float_of(uint32_t word)
{
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

/* -- step ------------------------------------------------------------------------------------ */

static void sampling_words(const hdl_sampling *s, uint32_t *w)
{
    w[W_SEED_LO] = (uint32_t)s->seed;
    w[W_SEED_HI] = (uint32_t)(s->seed >> 32);
    w[W_TEMPERATURE] = word_of(s->temperature);
    w[W_TOP_P] = word_of(s->top_p);
    w[W_MIN_P] = word_of(s->min_p);
    w[W_TOP_K] = (uint32_t)s->top_k;
    w[W_FREQUENCY] = word_of(s->frequency_penalty);
    w[W_PRESENCE] = word_of(s->presence_penalty);
    w[W_REPETITION] = word_of(s->repetition_penalty);
    w[W_LOGPROBS] = (uint32_t)s->n_logprobs;
    w[W_BIASES] = s->n_bias;
    w[W_RESERVED] = 0;
}

static const hdl_sampling *sampling_at(const hdl_msg_step *msg, uint32_t i)
{
    return msg->sampling_refs ? msg->sampling_refs[i] : &msg->samplings[i];
}

hdl_err wire_step_fill(hdl_wire_encoder *encoder, const hdl_msg_step *msg, pb_step *pb,
                       size_t *used)
{
    const hdl_plan *plan = &msg->plan;
    hdl_arena scratch;
    hdl_arena_init(&scratch, encoder->mem, encoder->size);
    size_t n_biases = 0;
    for (uint32_t i = 0; i < plan->n_opens; i++)
        n_biases += sampling_at(msg, i)->n_bias;
    uint32_t *samplings = HDL_ARENA_ARRAY(&scratch, uint32_t, plan->n_opens * SAMPLING_WORDS + 1);
    hdl_bias *biases = HDL_ARENA_ARRAY(&scratch, hdl_bias, n_biases + 1);
    if (!samplings || !biases)
        return HDL_BUSY;
    hdl_bias *bias = biases;
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const hdl_sampling *s = sampling_at(msg, i);
        sampling_words(s, samplings + (size_t)i * SAMPLING_WORDS);
        if (s->n_bias)
            memcpy(bias, s->bias, s->n_bias * sizeof *bias);
        bias += s->n_bias;
    }
    heddle__v1__step__init(pb);
    pb->step = plan->step;
    pb->epoch = plan->epoch;
    pb->group = plan->group;
    pb->n_rows = (size_t)plan->n_rows * ROW_WORDS;
    pb->rows = (uint32_t *)(uintptr_t)plan->rows;
    pb->n_opens = (size_t)plan->n_opens * OPEN_WORDS;
    pb->opens = (uint32_t *)(uintptr_t)plan->opens;
    pb->n_grants = (size_t)plan->n_grants * GRANT_WORDS;
    pb->grants = (uint32_t *)(uintptr_t)plan->grants;
    pb->n_closes = plan->n_closes;
    pb->closes = (uint32_t *)(uintptr_t)plan->closes;
    pb->n_copies = (size_t)plan->n_copies * COPY_WORDS;
    pb->copies = (uint32_t *)(uintptr_t)plan->copies;
    pb->n_tokens = plan->n_tokens;
    pb->tokens = (uint32_t *)(uintptr_t)plan->tokens;
    pb->n_blocks = plan->n_blocks;
    pb->blocks = (uint32_t *)(uintptr_t)plan->blocks;
    pb->n_samplings = (size_t)plan->n_opens * SAMPLING_WORDS;
    pb->samplings = samplings;
    pb->n_biases = n_biases * BIAS_WORDS;
    pb->biases = (uint32_t *)(void *)biases;
    *used = scratch.used;
    return HDL_OK;
}

/* [at, at + n) lies in an array of `count`. */
static bool inside(uint32_t at, uint32_t n, uint32_t count)
{
    return at <= count && n <= count - at;
}

static hdl_err check_row(const hdl_plan *plan, const hdl_plan_row *row, hdl_errmsg *why)
{
    if (row->flags & ~(uint32_t)ROW_FLAGS_ALL)
        return wire_refuse(why, "row.flags", row->flags);
    if (row->n_tokens == 0 || row->n_tokens > HDL_STEP_TOKENS_MAX)
        return wire_refuse(why, "row.n_tokens", row->n_tokens);
    uint32_t n_entries = row->n_tokens + (row->flags & HDL_ROW_SCORE ? 1u : 0u);
    if (!inside(row->token_at, n_entries, plan->n_tokens))
        return wire_refuse(why, "row.token_at", row->token_at);
    if (row->pos > INT32_MAX)
        return wire_refuse(why, "row.pos", row->pos);
    return HDL_OK;
}

static hdl_err check_grant(const hdl_plan *plan, const hdl_plan_grant *grant, hdl_errmsg *why)
{
    if (grant->cache >= HDL_CACHE_GROUPS_MAX)
        return wire_refuse(why, "grant.cache", grant->cache);
    if (grant->table_at > INT32_MAX)
        return wire_refuse(why, "grant.table_at", grant->table_at);
    if (grant->n_blocks == 0 || !inside(grant->block_at, grant->n_blocks, plan->n_blocks))
        return wire_refuse(why, "grant.block_at", grant->block_at);
    return HDL_OK;
}

static hdl_err check_plan(const hdl_plan *plan, hdl_errmsg *why)
{
    uint64_t n_tokens = 0;
    if (plan->step == 0)
        return wire_refuse(why, "step", 0);
    for (uint32_t i = 0; i < plan->n_rows; i++) {
        HDL_TRY(check_row(plan, &plan->rows[i], why));
        n_tokens += plan->rows[i].n_tokens;
    }
    if (n_tokens > HDL_STEP_TOKENS_MAX)
        return wire_refuse(why, "tokens of the step", n_tokens);
    for (uint32_t i = 0; i < plan->n_grants; i++)
        HDL_TRY(check_grant(plan, &plan->grants[i], why));
    for (uint32_t i = 0; i < plan->n_copies; i++)
        if (plan->copies[i].cache >= HDL_CACHE_GROUPS_MAX)
            return wire_refuse(why, "copy.cache", plan->copies[i].cache);
    for (uint32_t i = 0; i < plan->n_opens; i++) {
        const hdl_plan_open *open = &plan->opens[i];
        if (!inside(open->history_at, open->n_history, plan->n_tokens))
            return wire_refuse(why, "open.history_at", open->history_at);
        if (open->n_history && open->n_prompt > open->n_history)
            return wire_refuse(why, "open.n_prompt", open->n_prompt);
    }
    return HDL_OK;
}

static bool is_in(float value, float min, float max) { return value >= min && value <= max; }

/* Ranges are written so that NaN fails, too. */
const char *hdl_wire_sampling_problem(const hdl_sampling *s)
{
    if (!is_in(s->temperature, 0.0f, 1e6f))
        return "temperature is out of range";
    if (!is_in(s->top_p, 0.0f, 1.0f))
        return "top_p is out of range";
    if (!is_in(s->min_p, 0.0f, 1.0f))
        return "min_p is out of range";
    if (!is_in(s->frequency_penalty, -1e6f, 1e6f))
        return "frequency_penalty is out of range";
    if (!is_in(s->presence_penalty, -1e6f, 1e6f))
        return "presence_penalty is out of range";
    if (!is_in(s->repetition_penalty, 1e-6f, 1e6f))
        return "repetition_penalty is out of range";
    if (s->n_logprobs < -1 || s->n_logprobs > HDL_TOP_LOGPROBS_MAX)
        return "top_logprobs is out of range";
    if (s->n_bias > HDL_LOGIT_BIAS_MAX)
        return "logit_bias has too many entries";
    for (uint32_t i = 0; i < s->n_bias; i++)
        if (s->bias[i].token < 0 || !is_in(s->bias[i].bias, -1e6f, 1e6f))
            return "logit_bias is out of range";
    return NULL;
}

static void read_sampling(const uint32_t *w, hdl_sampling *s)
{
    *s = (hdl_sampling){
        .seed = (uint64_t)w[W_SEED_HI] << 32 | w[W_SEED_LO],
        .temperature = float_of(w[W_TEMPERATURE]),
        .top_p = float_of(w[W_TOP_P]),
        .min_p = float_of(w[W_MIN_P]),
        .top_k = (int32_t)w[W_TOP_K],
        .frequency_penalty = float_of(w[W_FREQUENCY]),
        .presence_penalty = float_of(w[W_PRESENCE]),
        .repetition_penalty = float_of(w[W_REPETITION]),
        .n_logprobs = (int32_t)w[W_LOGPROBS],
        .n_bias = w[W_BIASES],
    };
}

static hdl_err read_samplings(const pb_step *pb, hdl_arena *arena, hdl_msg_step *out,
                              hdl_errmsg *why)
{
    uint32_t n = out->plan.n_opens;
    if (pb->n_samplings != (size_t)n * SAMPLING_WORDS)
        return wire_refuse(why, "samplings", pb->n_samplings);
    hdl_sampling *samplings = HDL_ARENA_ARRAY(arena, hdl_sampling, n + 1);
    if (!samplings)
        return hdl_fail(HDL_BUSY, why, "step refused; it opens more sequences than there is room");
    const hdl_bias *bias = (const hdl_bias *)(const void *)pb->biases;
    size_t left = pb->n_biases / BIAS_WORDS;
    for (uint32_t i = 0; i < n; i++) {
        read_sampling(pb->samplings + (size_t)i * SAMPLING_WORDS, &samplings[i]);
        if (samplings[i].n_bias > left)
            return wire_refuse(why, "biases", pb->n_biases);
        samplings[i].bias = samplings[i].n_bias ? bias : NULL;
        left -= samplings[i].n_bias;
        bias = samplings[i].n_bias ? bias + samplings[i].n_bias : bias;
        const char *problem = hdl_wire_sampling_problem(&samplings[i]);
        if (problem)
            return hdl_fail(HDL_INVALID, why, "control message refused; %s", problem);
    }
    if (left != 0)
        return wire_refuse(why, "biases", pb->n_biases);
    out->samplings = samplings;
    return HDL_OK;
}

/* Words of n items, or a refusal. */
static hdl_err count_of(size_t n_words, size_t item_words, size_t max, uint32_t *out,
                        hdl_errmsg *why)
{
    if (n_words % item_words != 0 || n_words / item_words > max)
        return wire_refuse(why, "length of an array", n_words);
    *out = (uint32_t)(n_words / item_words);
    return HDL_OK;
}

hdl_err wire_step_read(const pb_step *pb, hdl_arena *arena, hdl_msg_step *out, hdl_errmsg *why)
{
    const size_t words_max = HDL_RPC_MESSAGE_BYTES_MAX / 4;
    hdl_plan *plan = &out->plan;
    *out = (hdl_msg_step){0};
    HDL_TRY(count_of(pb->n_rows, ROW_WORDS, HDL_SEQS_MAX, &plan->n_rows, why));
    HDL_TRY(count_of(pb->n_opens, OPEN_WORDS, HDL_SEQS_MAX, &plan->n_opens, why));
    HDL_TRY(count_of(pb->n_grants, GRANT_WORDS, words_max, &plan->n_grants, why));
    HDL_TRY(count_of(pb->n_closes, 1, HDL_SEQS_MAX, &plan->n_closes, why));
    HDL_TRY(count_of(pb->n_copies, COPY_WORDS, words_max, &plan->n_copies, why));
    HDL_TRY(count_of(pb->n_tokens, 1, words_max, &plan->n_tokens, why));
    HDL_TRY(count_of(pb->n_blocks, 1, words_max, &plan->n_blocks, why));
    if (pb->n_biases % BIAS_WORDS != 0)
        return wire_refuse(why, "biases", pb->n_biases);
    plan->step = pb->step;
    plan->epoch = pb->epoch;
    plan->group = pb->group;
    plan->rows = (const hdl_plan_row *)(const void *)pb->rows;
    plan->opens = (const hdl_plan_open *)(const void *)pb->opens;
    plan->grants = (const hdl_plan_grant *)(const void *)pb->grants;
    plan->closes = pb->closes;
    plan->copies = (const hdl_plan_copy *)(const void *)pb->copies;
    plan->tokens = (const hdl_token *)(const void *)pb->tokens;
    plan->blocks = pb->blocks;
    HDL_TRY(check_plan(plan, why));
    return read_samplings(pb, arena, out, why);
}

/* -- result ---------------------------------------------------------------------------------- */

void wire_result_fill(const hdl_result *result, pb_result *pb)
{
    heddle__v1__result__init(pb);
    pb->step = result->step;
    pb->epoch = result->epoch;
    pb->group = result->group;
    pb->rank = result->rank;
    pb->err = result->err;
    pb->step_us = result->step_us;
    pb->coll_us = result->coll_us;
    pb->n_rows = (size_t)result->n_rows * RESULT_WORDS;
    pb->rows = (uint32_t *)(uintptr_t)result->rows;
    pb->n_probs = (size_t)result->n_probs * PROB_WORDS;
    pb->probs = (uint32_t *)(uintptr_t)result->probs;
}

static hdl_err check_result_row(const hdl_result *r, const hdl_result_row *row, hdl_errmsg *why)
{
    if (row->token < 0)
        return wire_refuse(why, "result row.token", (uint64_t)row->token);
    if (row->pos > INT32_MAX)
        return wire_refuse(why, "result row.pos", row->pos);
    if (row->n_probs > HDL_ROW_PROBS_MAX || !inside(row->probs_at, row->n_probs, r->n_probs))
        return wire_refuse(why, "result row.probs_at", row->probs_at);
    if (row->n_probs > 0 && r->probs[row->probs_at].token != row->token)
        return wire_refuse(why, "result row's own log-probability", row->probs_at);
    return HDL_OK;
}

hdl_err wire_result_read(const pb_result *pb, hdl_result *out, hdl_errmsg *why)
{
    *out = (hdl_result){.step = pb->step,
                        .epoch = pb->epoch,
                        .group = pb->group,
                        .rank = pb->rank,
                        .err = pb->err,
                        .step_us = pb->step_us,
                        .coll_us = pb->coll_us,
                        .rows = (const hdl_result_row *)(const void *)pb->rows,
                        .probs = (const hdl_logprob *)(const void *)pb->probs};
    if (pb->err >= HDL_ERR_COUNT)
        return wire_refuse(why, "result.err", pb->err);
    HDL_TRY(count_of(pb->n_rows, RESULT_WORDS, RESULT_ROWS_MAX, &out->n_rows, why));
    HDL_TRY(count_of(pb->n_probs, PROB_WORDS, (size_t)RESULT_ROWS_MAX * HDL_ROW_PROBS_MAX,
                     &out->n_probs, why));
    for (uint32_t i = 0; i < out->n_rows; i++)
        HDL_TRY(check_result_row(out, &out->rows[i], why));
    for (uint32_t i = 0; i < out->n_probs; i++)
        if (out->probs[i].token < 0 || isnan(out->probs[i].logprob))
            return wire_refuse(why, "result log-probability", (uint64_t)out->probs[i].token);
    return HDL_OK;
}
