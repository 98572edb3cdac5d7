/* SPDX-License-Identifier: Apache-2.0 */
/* What a body of /v1/chat/completions or /v1/completions says, checked: JSON to hdl_api_params.
 *
 * Parsing is pure: no clock, no engine, no connection; the same function serves the API, the tests
 * and the fuzzer. Every field of a body is known by a table row that reads it, ignores it because
 * it cannot change the answer, or refuses it with the reason; one that is in no row is refused with
 * the nearest known name. So nothing a client asks for is silently left out. Strings are borrowed
 * from the document, which must outlive the params. One thread. */
#pragma once

#include <heddle/request.h>

#include "scheduler/front/reply.h"
#include "scheduler/text/stop.h"

typedef enum hdl_api_kind { HDL_API_CHAT = 1u << 0, HDL_API_COMPLETION = 1u << 1 } hdl_api_kind;

/* One prompt of a completion: text or ids. */
typedef struct hdl_api_prompt {
    const char *text; /* NULL: ids */
    size_t len;
    hdl_jv ids; /* array of numbers */
} hdl_api_prompt;

typedef struct hdl_api_params {
    hdl_api_kind kind;
    hdl_jv body;
    hdl_jv messages;     /* CHAT */
    hdl_jv prompt_value; /* COMPLETION: what the ids' views point up to */
    hdl_api_prompt prompts[HDL_PROMPTS_MAX];
    uint32_t n_prompts; /* CHAT: 1 */
    const char *model;
    int64_t max_tokens; /* -1: not given */
    int64_t max_completion_tokens;
    int64_t n; /* choices for each prompt */
    int64_t best_of;
    int64_t priority;
    int64_t seed;
    int64_t top_k;
    int64_t logprobs_n; /* COMPLETION's logprobs, CHAT's top_logprobs; -1: not given */
    double temperature, top_p, min_p; /* NAN: not given */
    double frequency_penalty, presence_penalty, repetition_penalty;
    bool seed_given;
    bool logprobs; /* CHAT */
    bool stream, include_usage, continuous_usage;
    bool echo, ignore_eos, include_stop;
    bool keep_special; /* special tokens are part of the text */
    bool add_generation_prompt, continue_final;
    bool no_tools;                      /* tool_choice "none" */
    bool add_special;                   /* COMPLETION: the tokenizer's own bos and the like */
    hdl_jv template_kwargs;             /* absent: none */
    hdl_jv tools;                       /* checked; absent: none, or not to be told of */
    hdl_jv documents, reasoning_effort; /* absent: none */
    const char *cache_salt;             /* NULL: none */
    hdl_stop_text stops[HDL_STOP_STRINGS_MAX];
    uint32_t n_stops;
    hdl_token stop_ids[HDL_STOP_IDS_MAX];
    uint32_t n_stop_ids;
    hdl_bias *bias; /* owned: hdl_api_params_deinit */
    uint32_t n_bias;
} hdl_api_params;

/* False: err says what is wrong and where. params is to be deinited in any case. */
bool hdl_api_parse(hdl_api_params *params, hdl_api_kind kind, const hdl_jv *body,
                   hdl_api_error *err) HDL_MUST_CHECK;
void hdl_api_params_deinit(hdl_api_params *params);

/* A body's bytes to a JSON object; the document is owned by the caller. */
bool hdl_api_parse_json(hdl_json **doc, const void *bytes, size_t len,
                        hdl_api_error *err) HDL_MUST_CHECK;

/* The checks that all entrances share, against what the service can do now. Lengths come later,
 * with hdl_api_admit_length, when the prompt has been counted. */
bool hdl_api_admit(const hdl_api_params *params, const hdl_engine_info *info,
                   hdl_api_error *err) HDL_MUST_CHECK;
/* Tokens that may be generated after a prompt of n_prompt; false: it is too long. */
bool hdl_api_admit_length(const hdl_api_params *params, const hdl_engine_info *info,
                          size_t n_prompt, uint32_t *max_new, hdl_api_error *err) HDL_MUST_CHECK;

/* openai_messages.c: checks an array of messages. */
typedef struct hdl_api_message_facts {
    bool plain; /* a template can take them as they are: no parts, no developer role, no calls */
    bool calls; /* there are tool calls; their arguments are text here and objects to templates */
} hdl_api_message_facts;
bool hdl_api_check_messages(const hdl_jv *messages, hdl_api_message_facts *facts,
                            hdl_api_error *err) HDL_MUST_CHECK;
/* A document of equivalent plain messages. */
bool hdl_api_plain_messages(const hdl_jv *messages, bool arguments_as_text, hdl_json **plain,
                            hdl_api_error *err) HDL_MUST_CHECK;

/* Rules between the fields that shape a chat's prompt: no tools are none; whoever continues the
 * final message opens no other, and must not have asked for both in p->body. */
bool hdl_api_settle_chat(hdl_api_params *p, hdl_api_error *err) HDL_MUST_CHECK;

/* openai_tools.c: checks tool definitions. */
bool hdl_api_check_tools(const hdl_jv *tools, hdl_api_error *err) HDL_MUST_CHECK;
