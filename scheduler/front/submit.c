/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 5 of 14, and the door to 6: prompts to token ids, choices to engine requests (DESIGN
 * section 4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "scheduler/front/call.h"

static float pick(double asked, const hdl_front_sampling *own, float of_model, float neutral)
{
    if (!isnan(asked))
        return (float)asked;
    return own && of_model >= 0 ? of_model : neutral;
}

static void fill_sampling(hdl_sampling *s, const hdl_call *call, const hdl_api_params *p)
{
    static const hdl_front_sampling none = {.temperature = -1};
    const hdl_front_sampling *own = call->model->sampling;
    const hdl_front_sampling *m = own ? own : &none;
    *s = (hdl_sampling){.seed = (uint64_t)p->seed,
                        .temperature = pick(p->temperature, own, m->temperature, 1),
                        .top_p = pick(p->top_p, own, m->top_p > 0 ? m->top_p : -1, 1),
                        .min_p = pick(p->min_p, own, m->min_p, 0),
                        .top_k = p->top_k >= -1 ? (int32_t)p->top_k
                                 : own          ? own->top_k
                                                : 0,
                        .frequency_penalty = (float)p->frequency_penalty,
                        .presence_penalty = (float)p->presence_penalty,
                        .repetition_penalty =
                            pick(p->repetition_penalty, own,
                                 m->repetition_penalty > 0 ? m->repetition_penalty : -1, 1),
                        .n_logprobs = !call->logprobs     ? -1
                                      : p->logprobs_n > 0 ? (int32_t)p->logprobs_n
                                                          : 0,
                        .n_bias = p->n_bias};
    if (!p->seed_given && getrandom(&s->seed, sizeof s->seed, GRND_NONBLOCK) != sizeof s->seed)
        s->seed = hdl_hash_mix(call->arrived_us ^ call->conn->thread->id_key);
}

static uint32_t submit_flags(const hdl_sampling *s, const hdl_call *call, const hdl_api_params *p)
{
    bool history =
        s->frequency_penalty != 0 || s->presence_penalty != 0 || s->repetition_penalty != 1;
    bool score = call->echo && (call->logprobs || p->max_tokens == 0);
    return (history ? (uint32_t)HDL_SUBMIT_HISTORY : 0u) |
           (score ? (uint32_t)HDL_SUBMIT_SCORE : 0u);
}

static bool find_stop_ids(hdl_call *call, const hdl_api_params *p, hdl_api_error *err)
{
    const hdl_tokenizer *tok = call->model->tokenizer;
    const hdl_tok_info *info = tok && !p->ignore_eos ? hdl_tokenizer_info(tok) : NULL;
    uint32_t n_eos = info ? info->n_eos_ids : 0;
    if (n_eos + p->n_stop_ids > HDL_STOP_IDS_MAX)
        return hdl_api_fail(err, 400, "stop_token_ids",
                            "stop_token_ids holds too many ids; with the model's own there is "
                            "room for %u",
                            HDL_STOP_IDS_MAX - n_eos);
    for (uint32_t i = 0; i < n_eos; i++)
        call->stop_ids[call->n_stop_ids++] = info->eos_ids[i];
    for (uint32_t i = 0; i < p->n_stop_ids; i++)
        call->stop_ids[call->n_stop_ids++] = p->stop_ids[i];
    return true;
}

/* A request of its own for the brain, or NULL. */
static hdl_request *make_request(const hdl_choice *c, const hdl_api_params *p,
                                 const hdl_sampling *sampling, uint32_t max_new)
{
    const hdl_call *call = c->call;
    const hdl_prompt *prompt = &call->prompts[c->prompt_idx];
    const hdl_front_opts *opts = &call->conn->thread->front->opts;
    hdl_request *req = calloc(1, sizeof *req);
    hdl_token *ids = malloc(prompt->n_ids * sizeof *ids);
    hdl_bias *bias = p->n_bias ? malloc(p->n_bias * sizeof *bias) : NULL;
    if (!req || !ids || (p->n_bias && !bias)) {
        free(req);
        free(ids);
        free(bias);
        return NULL;
    }
    memcpy(ids, prompt->ids, prompt->n_ids * sizeof *ids);
    if (bias)
        memcpy(bias, p->bias, p->n_bias * sizeof *bias);
    uint64_t salt = p->cache_salt ? hdl_hash_bytes(p->cache_salt, strlen(p->cache_salt), 1) : 0;
    *req = (hdl_request){
        .tenant = call->conn->tenant.idx,
        .priority = (uint32_t)p->priority,
        .submit_flags = submit_flags(sampling, call, p),
        .max_new = max_new,
        .deadline_us = opts->request_timeout_us ? call->arrived_us + opts->request_timeout_us : 0,
        .salt = hdl_hash_combine(call->conn->tenant.salt, salt),
        .prompt = ids,
        .n_prompt = (uint32_t)prompt->n_ids,
        .n_stop_ids = call->n_stop_ids,
        .sampling = *sampling,
        .sink = {.ring = call->conn->thread->emits, .user = hdl_pool_ref_word(c->ref)},
        .arrived_us = call->arrived_us};
    memcpy(req->stop_ids, call->stop_ids, sizeof req->stop_ids);
    req->sampling.bias = bias;
    return req;
}

static bool refused(hdl_err code, hdl_api_error *err)
{
    (void)hdl_api_fail(err, hdl_err_http_status(code), NULL, "%s",
                       code == HDL_BUSY    ? "too many requests are waiting; try again"
                       : code == HDL_AGAIN ? "the service is not ready; try again"
                                           : hdl_err_text(code));
    if (code == HDL_BUSY)
        err->code = "rate_limit_exceeded";
    err->retry_after_ms = 1000;
    return false;
}

bool hdl_call_submit(hdl_call *call, const hdl_api_params *params, const hdl_engine_info *info,
                     hdl_api_error *err)
{
    const hdl_engine *engine = call->model->engine;
    uint32_t per_prompt = call->n_choices / call->n_prompts;
    hdl_sampling sampling;
    if (!find_stop_ids(call, params, err))
        return false;
    fill_sampling(&sampling, call, params);
    uint64_t seed = sampling.seed;
    for (uint32_t i = 0; i < call->n_choices; i++) {
        hdl_choice *c = &call->choices[i];
        uint32_t max_new;
        if (!hdl_api_admit_length(params, info, call->prompts[c->prompt_idx].n_ids, &max_new, err))
            return false;
        sampling.seed = seed + i % per_prompt;
        hdl_request *req = make_request(c, params, &sampling, max_new);
        if (!req)
            return hdl_api_fail(err, 503, NULL, "out of memory");
        if (i % per_prompt)
            req->fork_of = call->choices[i - i % per_prompt].req;
        hdl_err code = engine->submit(engine->self, req, &c->req);
        if (code != HDL_OK) {
            hdl_request_free(req);
            return refused(code, err);
        }
        c->live = true;
    }
    return true;
}
