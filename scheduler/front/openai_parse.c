/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 3 of 14: JSON to what is asked for (DESIGN section 4). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "scheduler/front/api.h"

enum { CHAT = HDL_API_CHAT, TEXT = HDL_API_COMPLETION, BOTH = CHAT | TEXT };
#define TOKENS_MAX ((double)INT32_MAX)

typedef enum field_kind {
    F_INT,  /* int64_t, min..max */
    F_REAL, /* double, min..max; above: min itself is refused */
    F_BOOL,
    F_STRING, /* const char * */
    F_SELF,   /* hdl_jv: looked at later */
    F_CALL,   /* a function reads it */
    F_IGNORE, /* cannot change the answer */
    F_REFUSE  /* known and not served; hint says what to do */
} field_kind;

typedef struct field field;
typedef bool field_fn(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err);
struct field {
    const char *name;
    int apis;
    field_kind kind;
    size_t offset; /* of the member in hdl_api_params */
    double min, max;
    bool above;
    field_fn *fn;
    const char *hint;
};

static field_fn read_prompt, read_stop, read_bias, read_seed, read_logprobs, read_stop_ids,
    read_stream_options, read_response_format, read_modalities, read_tool_choice, read_empty,
    read_skip_special, read_best_of, read_template_kwargs, read_tools, read_documents, read_effort;

#define AT(member)               .offset = offsetof(hdl_api_params, member)
#define NUM(member, min_, max_)  .kind = F_INT, AT(member), .min = (min_), .max = (max_)
#define REAL(member, min_, max_) .kind = F_REAL, AT(member), .min = (min_), .max = (max_)

/* clang-format off */
static const field fields[] = {
    {"model", BOTH, .kind = F_STRING, AT(model)},
    {"messages", CHAT, .kind = F_SELF, AT(messages)},
    {"prompt", TEXT, .kind = F_CALL, .fn = read_prompt},
    {"max_tokens", CHAT, NUM(max_tokens, 1, TOKENS_MAX)},
    {"max_tokens", TEXT, NUM(max_tokens, 0, TOKENS_MAX)},
    {"max_completion_tokens", CHAT, NUM(max_completion_tokens, 1, TOKENS_MAX)},
    {"temperature", BOTH, REAL(temperature, 0, 2)},
    {"top_p", BOTH, REAL(top_p, 0, 1), .above = true},
    {"top_k", BOTH, NUM(top_k, -1, TOKENS_MAX)},
    {"min_p", BOTH, REAL(min_p, 0, 1)},
    {"frequency_penalty", BOTH, REAL(frequency_penalty, -2, 2)},
    {"presence_penalty", BOTH, REAL(presence_penalty, -2, 2)},
    {"repetition_penalty", BOTH, REAL(repetition_penalty, 0, 100), .above = true},
    {"seed", BOTH, .kind = F_CALL, .fn = read_seed},
    {"n", BOTH, NUM(n, 1, HDL_CHOICES_MAX)},
    {"best_of", TEXT, .kind = F_CALL, .fn = read_best_of},
    {"stop", BOTH, .kind = F_CALL, .fn = read_stop},
    {"stop_token_ids", BOTH, .kind = F_CALL, .fn = read_stop_ids},
    {"include_stop_str_in_output", BOTH, .kind = F_BOOL, AT(include_stop)},
    {"ignore_eos", BOTH, .kind = F_BOOL, AT(ignore_eos)},
    {"skip_special_tokens", BOTH, .kind = F_CALL, .fn = read_skip_special},
    {"logit_bias", BOTH, .kind = F_CALL, .fn = read_bias},
    {"logprobs", BOTH, .kind = F_CALL, .fn = read_logprobs},
    {"top_logprobs", CHAT, NUM(logprobs_n, 0, HDL_TOP_LOGPROBS_MAX)},
    {"echo", TEXT, .kind = F_BOOL, AT(echo)},
    {"stream", BOTH, .kind = F_BOOL, AT(stream)},
    {"stream_options", BOTH, .kind = F_CALL, .fn = read_stream_options},
    {"priority", BOTH, NUM(priority, 0, HDL_PRIORITIES - 1)},
    {"cache_salt", BOTH, .kind = F_STRING, AT(cache_salt)},
    {"add_generation_prompt", CHAT, .kind = F_BOOL, AT(add_generation_prompt)},
    {"continue_final_message", CHAT, .kind = F_BOOL, AT(continue_final)},
    {"chat_template_kwargs", CHAT, .kind = F_CALL, .fn = read_template_kwargs},
    {"add_special_tokens", TEXT, .kind = F_BOOL, AT(add_special)},
    {"response_format", BOTH, .kind = F_CALL, .fn = read_response_format},
    {"modalities", CHAT, .kind = F_CALL, .fn = read_modalities},
    {"tool_choice", CHAT, .kind = F_CALL, .fn = read_tool_choice},
    {"function_call", CHAT, .kind = F_CALL, .fn = read_tool_choice},
    {"tools", CHAT, .kind = F_CALL, .fn = read_tools},
    {"documents", CHAT, .kind = F_CALL, .fn = read_documents},
    {"reasoning_effort", CHAT, .kind = F_CALL, .fn = read_effort},
    {"functions", CHAT, .kind = F_CALL, .fn = read_empty, .hint = "is served as tools"},
    /* Labels, and wishes about how or where the work is done: they cannot change the answer. */
    {"user", BOTH, .kind = F_IGNORE}, {"safety_identifier", BOTH, .kind = F_IGNORE},
    {"metadata", BOTH, .kind = F_IGNORE}, {"store", BOTH, .kind = F_IGNORE},
    {"service_tier", BOTH, .kind = F_IGNORE}, {"prompt_cache_key", BOTH, .kind = F_IGNORE},
    {"prompt_cache_retention", BOTH, .kind = F_IGNORE}, {"prediction", CHAT, .kind = F_IGNORE},
    {"parallel_tool_calls", CHAT, .kind = F_IGNORE}, {"request_id", BOTH, .kind = F_IGNORE},
    {"suffix", TEXT, .kind = F_REFUSE, .hint = "filling in the middle is not served; leave it out"},
    {"verbosity", CHAT, .kind = F_REFUSE, .hint = "is not served; say it in the prompt"},
    {"audio", CHAT, .kind = F_REFUSE, .hint = "is not served; this model answers in text"},
    {"web_search_options", CHAT, .kind = F_REFUSE, .hint = "is not served here"},
    {"min_tokens", BOTH, .kind = F_REFUSE, .hint = "is not served; use ignore_eos with max_tokens"},
    {"use_beam_search", BOTH, .kind = F_REFUSE, .hint = "is not served; sample with n instead"},
    {"guided_json", BOTH, .kind = F_REFUSE, .hint = "structured output is not served yet"},
    {"guided_regex", BOTH, .kind = F_REFUSE, .hint = "structured output is not served yet"},
    {"guided_choice", BOTH, .kind = F_REFUSE, .hint = "structured output is not served yet"},
    {"guided_grammar", BOTH, .kind = F_REFUSE, .hint = "structured output is not served yet"},
    {"structured_outputs", BOTH, .kind = F_REFUSE, .hint = "structured output is not served yet"},
    {"chat_template", CHAT, .kind = F_REFUSE, .hint = "is not taken; the model's own is used"},
    {"prompt_logprobs", BOTH, .kind = F_REFUSE, .hint = "is not served; use echo with logprobs"},
};
/* clang-format on */

/* ---- reading one value ---- */

/* hdl_jv_* have put path and reason into the message. */
static bool fail_typed(const hdl_jv *v, hdl_api_error *err)
{
    err->status = 400;
    err->code = NULL;
    hdl_jv_path(v, err->param, sizeof err->param);
    return false;
}

static bool get_int(const hdl_jv *v, hdl_jv_range range, int64_t *out, hdl_api_error *err)
{
    return hdl_jv_int(v, range, out, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool get_bool(const hdl_jv *v, bool *out, hdl_api_error *err)
{
    return hdl_jv_bool(v, out, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool get_string(const hdl_jv *v, const char **out, size_t *len, hdl_api_error *err)
{
    return hdl_jv_string(v, out, len, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool get_kind(const hdl_jv *v, hdl_json_kind kind, hdl_api_error *err)
{
    return hdl_jv_expect(v, kind, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool get_real(const hdl_jv *v, const field *f, double *out, hdl_api_error *err)
{
    if (hdl_jv_double(v, out, &err->message) != HDL_OK)
        return fail_typed(v, err);
    bool low = f->above ? !(*out > f->min) : !(*out >= f->min);
    if (low || !(*out <= f->max))
        return hdl_api_fail_at(err, v, "must be %s %g and at most %g; it is %g",
                               f->above ? "above" : "at least", f->min, f->max, *out);
    return true;
}

static bool read_seed(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    p->seed_given = true;
    return get_int(v, (hdl_jv_range){INT64_MIN, INT64_MAX}, &p->seed, err);
}

static bool read_ids_prompt(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    hdl_jv first = hdl_jv_at(v, 0);
    if (hdl_jv_kind(&first) != HDL_JSON_INT)
        return hdl_api_fail_at(err, &first, "must be a token id; it is %s",
                               hdl_json_kind_text(hdl_jv_kind(&first)));
    p->prompts[p->n_prompts++] = (hdl_api_prompt){.ids = *v};
    return true;
}

static bool read_prompt_item(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    if (hdl_jv_kind(v) == HDL_JSON_STRING) {
        hdl_api_prompt *out = &p->prompts[p->n_prompts++];
        return get_string(v, &out->text, &out->len, err);
    }
    if (hdl_jv_kind(v) != HDL_JSON_ARRAY)
        return hdl_api_fail_at(err, v, "must be a string or an array of token ids; it is %s",
                               hdl_json_kind_text(hdl_jv_kind(v)));
    if (hdl_jv_len(v) == 0)
        return hdl_api_fail_at(err, v, "must not be empty");
    return read_ids_prompt(p, v, err);
}

static bool read_prompt(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    p->prompt_value = *v;
    v = &p->prompt_value;
    hdl_jv first = hdl_jv_at(v, 0);
    bool many = hdl_jv_kind(v) == HDL_JSON_ARRAY &&
                (hdl_jv_kind(&first) == HDL_JSON_STRING || hdl_jv_kind(&first) == HDL_JSON_ARRAY);
    if (!many)
        return read_prompt_item(p, v, err);
    if (hdl_jv_len(v) > HDL_PROMPTS_MAX)
        return hdl_api_fail_at(err, v, "holds %zu prompts; at most %d are taken", hdl_jv_len(v),
                               HDL_PROMPTS_MAX);
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        hdl_jv item = hdl_jv_at(v, i);
        if (!read_prompt_item(p, &item, err))
            return false;
    }
    return true;
}

static bool read_stop_item(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    hdl_stop_text *stop = &p->stops[p->n_stops++];
    if (!get_string(v, &stop->text, &stop->len, err))
        return false;
    if (stop->len == 0 || stop->len > HDL_STOP_STRING_BYTES_MAX)
        return hdl_api_fail_at(err, v, "must have 1 to %d bytes; it has %zu",
                               HDL_STOP_STRING_BYTES_MAX, stop->len);
    return true;
}

static bool read_stop(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    if (hdl_jv_kind(v) == HDL_JSON_STRING)
        return read_stop_item(p, v, err);
    if (hdl_jv_kind(v) != HDL_JSON_ARRAY)
        return hdl_api_fail_at(err, v, "must be a string or an array of strings; it is %s",
                               hdl_json_kind_text(hdl_jv_kind(v)));
    if (hdl_jv_len(v) > HDL_STOP_STRINGS_MAX)
        return hdl_api_fail_at(err, v, "holds %zu strings; at most %d are taken", hdl_jv_len(v),
                               HDL_STOP_STRINGS_MAX);
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        hdl_jv item = hdl_jv_at(v, i);
        if (!read_stop_item(p, &item, err))
            return false;
    }
    return true;
}

static bool read_stop_ids(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    if (!get_kind(v, HDL_JSON_ARRAY, err))
        return false;
    if (hdl_jv_len(v) > HDL_STOP_IDS_MAX / 2)
        return hdl_api_fail_at(err, v, "holds %zu ids; at most %d are taken", hdl_jv_len(v),
                               HDL_STOP_IDS_MAX / 2);
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        hdl_jv item = hdl_jv_at(v, i);
        int64_t id;
        if (!get_int(&item, (hdl_jv_range){0, INT32_MAX}, &id, err))
            return false;
        p->stop_ids[p->n_stop_ids++] = (hdl_token)id;
    }
    return true;
}

/* "0", "17": as JSON object keys carry ids. */
static bool parse_id(const char *text, hdl_token *out)
{
    size_t len = strlen(text);
    int64_t id = 0;
    if (len == 0 || len > 10 || (len > 1 && *text == '0') || strspn(text, "0123456789") != len)
        return false;
    for (; *text; text++)
        id = id * 10 + (*text - '0');
    *out = (hdl_token)id;
    return id <= INT32_MAX;
}

static bool read_bias_item(hdl_bias *out, const hdl_jv *v, hdl_api_error *err)
{
    static const field range = {.min = -100, .max = 100};
    hdl_token id;
    double bias;
    if (!parse_id(v->key, &id))
        return hdl_api_fail_at(err, v, "is no token id; keys of logit_bias are decimal ids");
    if (!get_real(v, &range, &bias, err))
        return false;
    *out = (hdl_bias){id, (float)bias};
    return true;
}

static bool read_bias(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    if (!get_kind(v, HDL_JSON_OBJECT, err))
        return false;
    size_t n = hdl_jv_len(v);
    if (n > HDL_LOGIT_BIAS_MAX)
        return hdl_api_fail_at(err, v, "holds %zu entries; at most %d are taken", n,
                               HDL_LOGIT_BIAS_MAX);
    if (n == 0)
        return true;
    p->bias = calloc(n, sizeof *p->bias);
    if (!p->bias)
        return hdl_api_fail(err, 503, NULL, "out of memory");
    void *iter = NULL;
    hdl_jv item;
    while (hdl_jv_next(v, &iter, &item))
        if (!read_bias_item(&p->bias[p->n_bias++], &item, err))
            return false;
    return true;
}

static bool read_logprobs(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    if (p->kind == HDL_API_CHAT)
        return get_bool(v, &p->logprobs, err);
    return get_int(v, (hdl_jv_range){0, HDL_TOP_LOGPROBS_MAX}, &p->logprobs_n, err);
}

static bool read_skip_special(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    bool skip = true;
    if (!get_bool(v, &skip, err))
        return false;
    p->keep_special = !skip;
    return true;
}

static bool read_best_of(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    return get_int(v, (hdl_jv_range){1, HDL_CHOICES_MAX}, &p->best_of, err);
}

static bool read_template_kwargs(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    p->template_kwargs = *v;
    return get_kind(v, HDL_JSON_OBJECT, err);
}

static bool read_stream_options(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    void *iter = NULL;
    hdl_jv item;
    if (!get_kind(v, HDL_JSON_OBJECT, err))
        return false;
    while (hdl_jv_next(v, &iter, &item)) {
        bool *out = NULL, ignored;
        if (strcmp(item.key, "include_usage") == 0)
            out = &p->include_usage;
        else if (strcmp(item.key, "continuous_usage_stats") == 0)
            out = &p->continuous_usage;
        else if (strcmp(item.key, "include_obfuscation") == 0)
            out = &ignored;
        if (!out)
            return hdl_api_fail_at(err, &item, "is not known; include_usage is");
        if (hdl_jv_given(&item) && !get_bool(&item, out, err))
            return false;
    }
    return true;
}

static bool read_response_format(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    (void)p;
    const char *type;
    if (!get_kind(v, HDL_JSON_OBJECT, err))
        return false;
    hdl_jv kind = hdl_jv_get(v, "type");
    if (!get_string(&kind, &type, NULL, err))
        return false;
    if (strcmp(type, "text") != 0)
        return hdl_api_fail_at(err, &kind, "must be \"text\"; structured output is not served yet");
    return true;
}

static bool read_modalities(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    (void)p;
    if (!get_kind(v, HDL_JSON_ARRAY, err))
        return false;
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        hdl_jv item = hdl_jv_at(v, i);
        const char *text;
        if (!get_string(&item, &text, NULL, err))
            return false;
        if (strcmp(text, "text") != 0)
            return hdl_api_fail_at(err, &item, "must be \"text\"; this model answers in text");
    }
    return true;
}

static bool read_tool_choice(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    const char *text = "";
    if (hdl_jv_kind(v) == HDL_JSON_STRING && !get_string(v, &text, NULL, err))
        return false;
    p->no_tools = strcmp(text, "none") == 0;
    if (!p->no_tools && strcmp(text, "auto") != 0)
        return hdl_api_fail_at(err, v,
                               "must be \"auto\" or \"none\"; forcing a call is not served");
    return true;
}

static bool read_tools(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    p->tools = *v;
    return hdl_api_check_tools(v, err);
}

static bool read_documents(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    p->documents = *v;
    return get_kind(v, HDL_JSON_ARRAY, err);
}

static bool read_effort(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    const char *text;
    p->reasoning_effort = *v;
    return get_string(v, &text, NULL, err);
}

static bool read_empty(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    (void)p;
    if (!get_kind(v, HDL_JSON_ARRAY, err))
        return false;
    return hdl_jv_len(v) == 0 ||
           hdl_api_fail_at(err, v, "is not served; define the functions as tools");
}

/* ---- the whole body ---- */

static bool read_field(hdl_api_params *p, const field *f, const hdl_jv *v, hdl_api_error *err)
{
    char *member = (char *)p + f->offset;
    hdl_jv_range range = {(int64_t)f->min, (int64_t)f->max};
    switch (f->kind) {
    case F_INT: return get_int(v, range, (int64_t *)(void *)member, err);
    case F_REAL: return get_real(v, f, (double *)(void *)member, err);
    case F_BOOL: return get_bool(v, (bool *)member, err);
    case F_STRING: return get_string(v, (const char **)(void *)member, NULL, err);
    case F_SELF: *(hdl_jv *)(void *)member = *v; return true;
    case F_CALL: return f->fn(p, v, err);
    case F_IGNORE: return true;
    case F_REFUSE: return hdl_api_fail_at(err, v, "%s", f->hint);
    }
    return hdl_api_fail(err, 500, NULL, "internal error");
}

static bool refuse_unknown(hdl_api_kind kind, const hdl_jv *v, hdl_api_error *err)
{
    const char *known[HDL_ARRAY_LEN(fields)];
    for (size_t i = 0; i < HDL_ARRAY_LEN(fields); i++)
        known[i] = fields[i].apis & (int)kind ? fields[i].name : NULL;
    int near = hdl_suggest(v->key, known, HDL_ARRAY_LEN(fields));
    if (near >= 0)
        return hdl_api_fail_at(err, v, "is not a known field; did you mean %s?", known[near]);
    return hdl_api_fail_at(err, v, "is not a known field; leave it out");
}

static bool read_member(hdl_api_params *p, const hdl_jv *v, hdl_api_error *err)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(fields); i++)
        if ((fields[i].apis & (int)p->kind) && strcmp(fields[i].name, v->key) == 0)
            return !hdl_jv_given(v) || read_field(p, &fields[i], v, err);
    return refuse_unknown(p->kind, v, err);
}

static bool require(const hdl_api_params *p, const char *name, hdl_api_error *err)
{
    hdl_jv v = hdl_jv_get(&p->body, name);
    if (hdl_jv_given(&v))
        return true;
    return hdl_api_fail(err, 400, name, "%s is missing", name);
}

bool hdl_api_settle_chat(hdl_api_params *p, hdl_api_error *err)
{
    if (p->no_tools || hdl_jv_len(&p->tools) == 0)
        p->tools = (hdl_jv){0};
    if (p->continue_final && p->add_generation_prompt) {
        hdl_jv v = hdl_jv_get(&p->body, "add_generation_prompt");
        if (hdl_jv_given(&v))
            return hdl_api_fail(err, 400, "continue_final_message",
                                "continue_final_message does not go with add_generation_prompt");
        p->add_generation_prompt = false;
    }
    return true;
}

/* Rules between fields. */
static bool check_together(hdl_api_params *p, hdl_api_error *err)
{
    bool chat = p->kind == HDL_API_CHAT;
    if (!require(p, "model", err) || !require(p, chat ? "messages" : "prompt", err))
        return false;
    if (p->max_completion_tokens >= 0) {
        if (p->max_tokens >= 0 && p->max_tokens != p->max_completion_tokens)
            return hdl_api_fail(err, 400, "max_tokens",
                                "max_tokens and max_completion_tokens differ; give one of them");
        p->max_tokens = p->max_completion_tokens;
    }
    if (chat && p->logprobs_n >= 0 && !p->logprobs)
        return hdl_api_fail(err, 400, "top_logprobs", "top_logprobs needs \"logprobs\": true");
    if (p->best_of >= 0 && p->best_of != p->n)
        return hdl_api_fail(err, 400, "best_of",
                            "best_of must equal n; choosing among more is not served");
    if ((p->include_usage || p->continuous_usage) && !p->stream)
        return hdl_api_fail(err, 400, "stream_options", "stream_options needs \"stream\": true");
    if (p->max_tokens == 0 && !p->echo)
        return hdl_api_fail(err, 400, "max_tokens", "max_tokens must be at least 1 without echo");
    if (p->echo && p->stream && p->logprobs_n >= 0)
        return hdl_api_fail(err, 400, "echo", "echo with logprobs is not served as a stream");
    return hdl_api_settle_chat(p, err);
}

bool hdl_api_parse(hdl_api_params *params, hdl_api_kind kind, const hdl_jv *body,
                   hdl_api_error *err)
{
    *params = (hdl_api_params){.kind = kind,
                               .body = *body,
                               .max_tokens = -1,
                               .max_completion_tokens = -1,
                               .n = 1,
                               .best_of = -1,
                               .priority = HDL_PRIORITIES / 2,
                               .top_k = -2,
                               .logprobs_n = -1,
                               .temperature = (double)NAN,
                               .top_p = (double)NAN,
                               .min_p = (double)NAN,
                               .frequency_penalty = 0,
                               .presence_penalty = 0,
                               .repetition_penalty = (double)NAN,
                               .add_generation_prompt = true,
                               .add_special = true};
    *err = (hdl_api_error){0};
    if (!get_kind(body, HDL_JSON_OBJECT, err))
        return false;
    void *iter = NULL;
    hdl_jv member;
    while (hdl_jv_next(&params->body, &iter, &member))
        if (!read_member(params, &member, err))
            return false;
    if (kind == HDL_API_CHAT)
        params->n_prompts = 1;
    return check_together(params, err);
}

void hdl_api_params_deinit(hdl_api_params *params)
{
    free(params->bias);
    params->bias = NULL;
}

bool hdl_api_parse_json(hdl_json **doc, const void *bytes, size_t len, hdl_api_error *err)
{
    hdl_errmsg why = {0};
    *err = (hdl_api_error){0};
    if (hdl_json_parse(bytes, len, len + 1, doc, &why) != HDL_OK)
        return hdl_api_fail(err, 400, "body", "the body cannot be read; %s", why.text);
    return true;
}
