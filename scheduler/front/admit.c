/* SPDX-License-Identifier: Apache-2.0 */
/* The one place where a parsed request meets what the service can do. Every entrance calls it, so
 * that no second door lacks the checks of the first. */
#include "scheduler/front/api.h"

bool hdl_api_admit(const hdl_api_params *params, const hdl_engine_info *info, hdl_api_error *err)
{
    uint32_t vocab = info->vocab ? info->vocab : (uint32_t)INT32_MAX;
    for (uint32_t i = 0; i < params->n_bias; i++)
        if ((uint32_t)params->bias[i].token >= vocab)
            return hdl_api_fail(err, 400, "logit_bias",
                                "logit_bias.%d is no token; the vocabulary has %u",
                                params->bias[i].token, vocab);
    for (uint32_t i = 0; i < params->n_stop_ids; i++)
        if ((uint32_t)params->stop_ids[i] >= vocab)
            return hdl_api_fail(err, 400, "stop_token_ids",
                                "stop_token_ids[%u] is no token; the vocabulary has %u", i, vocab);
    uint64_t asked = params->n_prompts * (uint64_t)params->n;
    if (info->requests_max != 0 && asked > info->requests_max)
        return hdl_api_fail(err, 400, "n",
                            "%u prompts of %lld choices are %llu sequences, but this server holds "
                            "%u at once; send fewer in a request",
                            params->n_prompts, (long long)params->n, (unsigned long long)asked,
                            info->requests_max);
    return true;
}

bool hdl_api_admit_length(const hdl_api_params *params, const hdl_engine_info *info,
                          size_t n_prompt, uint32_t *max_new, hdl_api_error *err)
{
    bool chat = params->kind == HDL_API_CHAT;
    const char *where = chat ? "messages" : "prompt";
    if (n_prompt == 0)
        return hdl_api_fail(err, 400, where, "%s must not be empty", where);
    bool given = params->max_tokens >= 0;
    uint64_t asked = given ? (uint64_t)params->max_tokens : 1;
    if (n_prompt > info->max_len || asked > info->max_len - n_prompt) {
        (void)hdl_api_fail(err, 400, where,
                           "this model's maximum context length is %u tokens, but you asked for "
                           "%llu (%zu in %s, %llu to generate); shorten the %s or lower max_tokens",
                           info->max_len, (unsigned long long)(n_prompt + asked), n_prompt, where,
                           (unsigned long long)asked, where);
        err->code = "context_length_exceeded";
        return false;
    }
    /* OpenAI's defaults: the rest of the context for a chat, 16 tokens for a completion. */
    uint64_t room = info->max_len - n_prompt;
    uint64_t pool = info->kv_tokens_capacity;
    if (pool > n_prompt && pool - n_prompt < room)
        room = pool - n_prompt;
    if (!given)
        asked = chat || room < 16 ? room : 16;
    *max_new = (uint32_t)asked;
    return true;
}
