/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 3 to 5 of 14: a body to checked parameters and token ids (DESIGN section 4). */
#include "scheduler/front/prepare.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* No token of any known vocabulary is longer; a text beyond max_len times this is too long
     * without being tokenised. */
    TOKEN_BYTES_MAX = 512,
    IDS_SLACK = 65536, /* counted beyond max_len, so that the refusal says how long the prompt is */
    ECHO_BYTES_MAX = 64 * 1024 * 1024,
};

void hdl_prompts_free(hdl_prompt *prompts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(prompts[i].ids);
        hdl_buf_deinit(&prompts[i].echo);
    }
    free(prompts);
}

void hdl_prep_free(hdl_prep *prep)
{
    hdl_prompts_free(prep->prompts, prep->n_prompts);
    hdl_api_params_deinit(&prep->params);
    hdl_json_close(prep->doc);
    hdl_buf_deinit(&prep->body);
    free(prep);
}

bool hdl_prep_check_model(const hdl_front_model *model, const char *name, hdl_api_error *err)
{
    bool known = strcmp(name, model->name) == 0;
    for (uint32_t i = 0; i < model->n_aliases; i++)
        known = known || strcmp(name, model->aliases[i]) == 0;
    if (known)
        return true;
    (void)hdl_api_fail(err, 404, "model",
                       "the model `%.100s` does not exist here; this server has `%s`", name,
                       model->name);
    err->code = "model_not_found";
    return false;
}

void hdl_prompt_text_init(hdl_prompt_text *prompt)
{
    hdl_buf_init(&prompt->text, 8 * (size_t)HDL_HTTP_BODY_BYTES_MAX);
    hdl_ranges_init(&prompt->own);
}

void hdl_prompt_text_deinit(hdl_prompt_text *prompt)
{
    hdl_buf_deinit(&prompt->text);
    hdl_ranges_deinit(&prompt->own);
}

/* What a model's template cannot show to the model is refused, not left out. */
static bool check_taken(const hdl_template *chat, const hdl_jv *v, hdl_api_error *err)
{
    return !hdl_jv_present(v) || hdl_template_takes(chat, v->key) ||
           hdl_api_fail_at(err, v, HDL_TEMPLATE_NOT_TAKEN);
}

/* One rendering; the messages may be a plain copy. */
static hdl_err render_once(const hdl_front_model *model, const hdl_api_params *p,
                           const hdl_jv *messages, hdl_prompt_text *out, hdl_errmsg *why)
{
    const hdl_jv *effort = &p->reasoning_effort;
    hdl_chat chat = {.messages = messages,
                     .tools = hdl_jv_present(&p->tools) ? &p->tools : NULL,
                     .documents = hdl_jv_present(&p->documents) ? &p->documents : NULL,
                     .reasoning_effort = hdl_jv_present(effort) ? effort : NULL,
                     .kwargs = hdl_jv_present(&p->template_kwargs) ? &p->template_kwargs : NULL,
                     .special = &hdl_tokenizer_info(model->tokenizer)->special,
                     .add_generation_prompt = p->add_generation_prompt,
                     .continue_final = p->continue_final,
                     .now_wall_us = hdl_clock_wall_us(),
                     .own = &out->own};
    hdl_buf_clear(&out->text);
    hdl_ranges_cut(&out->own, 0);
    return hdl_template_render(model->chat, &chat, &out->text, why);
}

static bool render_plain(const hdl_front_model *model, const hdl_api_params *p, bool as_text,
                         hdl_prompt_text *out, hdl_err *code, hdl_errmsg *why, hdl_api_error *err)
{
    hdl_json *plain;
    if (!hdl_api_plain_messages(&p->messages, as_text, &plain, err))
        return false;
    hdl_jv messages = hdl_json_root(plain);
    *code = render_once(model, p, &messages, out, why);
    hdl_json_close(plain);
    return true;
}

bool hdl_prep_render(const hdl_front_model *model, const hdl_api_params *p, hdl_prompt_text *out,
                     hdl_api_error *err)
{
    hdl_errmsg why = {0}, other = {0};
    hdl_api_message_facts facts;
    hdl_err code = HDL_OK;
    if (!model->chat || !model->tokenizer)
        return hdl_api_fail(err, 400, "messages",
                            "this model has no chat template; use /v1/completions");
    if (!hdl_api_check_messages(&p->messages, &facts, err) ||
        !check_taken(model->chat, &p->tools, err) ||
        !check_taken(model->chat, &p->documents, err) ||
        !check_taken(model->chat, &p->reasoning_effort, err))
        return false;
    if (facts.plain)
        code = render_once(model, p, &p->messages, out, &why);
    else if (!render_plain(model, p, false, out, &code, &why, err))
        return false;
    /* A few templates write the arguments of calls as the text that they are in the API. */
    hdl_err second = code;
    if (code == HDL_INVALID && facts.calls &&
        !render_plain(model, p, true, out, &second, &other, err))
        return false;
    code = second == HDL_OK ? HDL_OK : code;
    if (code == HDL_OK && hdl_buf_ok(&out->text))
        return true;
    if (code == HDL_INVALID || code == HDL_UNSUPPORTED || code == HDL_BUSY)
        return hdl_api_fail(err, 400, "messages", "the model's chat template refuses messages; %s",
                            why.text);
    return hdl_api_fail(err, 503, "messages", "out of memory");
}

static bool too_long(const hdl_engine_info *info, const char *param, hdl_api_error *err)
{
    (void)hdl_api_fail(err, 400, param,
                       "this model's maximum context length is %u tokens; the prompt is longer by "
                       "far; shorten it",
                       info->max_len);
    err->code = "context_length_exceeded";
    return false;
}

static bool tokenize(hdl_prep *prep, hdl_prompt *out, const hdl_encode_args *args)
{
    const hdl_tokenizer *tok = prep->model->tokenizer;
    const char *param = prep->kind == HDL_API_CHAT ? "messages" : "prompt";
    hdl_api_error *err = &prep->err;
    if (!tok)
        return hdl_api_fail(err, 400, param, "this model has no tokenizer; send token ids");
    if (args->len / TOKEN_BYTES_MAX > prep->info.max_len)
        return too_long(&prep->info, param, err);
    hdl_ids ids;
    hdl_errmsg why = {0};
    hdl_ids_init(&ids, (size_t)prep->info.max_len + IDS_SLACK);
    hdl_err code = hdl_tokenizer_encode(tok, args, &ids, &why);
    out->ids = hdl_ids_steal(&ids, &out->n_ids);
    hdl_ids_deinit(&ids);
    if (code == HDL_BUSY)
        return too_long(&prep->info, param, err);
    if (code == HDL_NOMEM)
        return hdl_api_fail(err, 503, param, "out of memory");
    return code == HDL_OK ||
           hdl_api_fail(err, 400, param, "%s cannot be tokenised; %s", param, why.text);
}

static bool copy_ids(hdl_prep *prep, hdl_prompt *out, const hdl_jv *array)
{
    size_t n = hdl_jv_len(array);
    const hdl_engine_info *info = &prep->info;
    hdl_api_error *err = &prep->err;
    if (n > (size_t)info->max_len + IDS_SLACK)
        return too_long(info, "prompt", err);
    out->ids = malloc(n * sizeof *out->ids);
    if (!out->ids)
        return hdl_api_fail(err, 503, "prompt", "out of memory");
    hdl_jv_range range = {0, info->vocab ? (int64_t)info->vocab - 1 : INT32_MAX};
    for (size_t i = 0; i < n; i++) {
        hdl_jv item = hdl_jv_at(array, i);
        int64_t id;
        if (hdl_jv_int(&item, range, &id, &err->message) != HDL_OK) {
            err->status = 400;
            hdl_jv_path(&item, err->param, sizeof err->param);
            return false;
        }
        out->ids[out->n_ids++] = (hdl_token)id;
    }
    return true;
}

static bool read_chat(hdl_prep *prep, hdl_tok_scratch *scratch)
{
    hdl_prompt_text prompt;
    hdl_prompt_text_init(&prompt);
    bool ok = hdl_prep_render(prep->model, &prep->params, &prompt, &prep->err);
    hdl_encode_args args = {.text = (const char *)hdl_buf_data(&prompt.text),
                            .len = prompt.text.len,
                            .scratch = scratch,
                            .parse_special = true,
                            .special_in = &prompt.own};
    ok = ok && tokenize(prep, &prep->prompts[0], &args);
    hdl_prompt_text_deinit(&prompt);
    return ok;
}

static bool read_prompt(hdl_prep *prep, uint32_t i, hdl_tok_scratch *scratch)
{
    const hdl_api_params *p = &prep->params;
    const hdl_api_prompt *in = &p->prompts[i];
    hdl_prompt *out = &prep->prompts[i];
    if (in->text) {
        hdl_encode_args args = {.text = in->text,
                                .len = in->len,
                                .scratch = scratch,
                                .add_special = p->add_special,
                                .parse_special = true};
        if (p->echo)
            (void)hdl_buf_append(&out->echo, in->text, in->len);
        return tokenize(prep, out, &args);
    }
    if (!copy_ids(prep, out, &in->ids))
        return false;
    if (p->echo && prep->model->tokenizer) {
        hdl_decode_args args = {.ids = out->ids, .n = out->n_ids};
        if (hdl_tokenizer_decode(prep->model->tokenizer, &args, &out->echo) != HDL_OK)
            return hdl_api_fail(&prep->err, 503, "prompt", "out of memory");
    }
    return true;
}

static bool read_prompts(hdl_prep *prep, hdl_tok_scratch *scratch)
{
    uint32_t n = prep->params.n_prompts;
    prep->prompts = calloc(n, sizeof *prep->prompts);
    if (!prep->prompts)
        return hdl_api_fail(&prep->err, 503, NULL, "out of memory");
    prep->n_prompts = n;
    for (uint32_t i = 0; i < n; i++)
        hdl_buf_init(&prep->prompts[i].echo, ECHO_BYTES_MAX);
    if (prep->kind == HDL_API_CHAT)
        return read_chat(prep, scratch);
    for (uint32_t i = 0; i < n; i++)
        if (!read_prompt(prep, i, scratch))
            return false;
    return true;
}

/* Before a long prompt is tokenised for nothing. */
static bool check_params(hdl_prep *prep)
{
    return hdl_prep_check_model(prep->model, prep->params.model, &prep->err) &&
           hdl_api_admit(&prep->params, &prep->info, &prep->err);
}

void hdl_prep_work(hdl_job *job, hdl_tok_scratch *scratch)
{
    hdl_prep *prep = (hdl_prep *)(void *)job;
    if (!hdl_api_parse_json(&prep->doc, hdl_buf_data(&prep->body), prep->body.len, &prep->err))
        return;
    hdl_jv root = hdl_json_root(prep->doc);
    if (hdl_api_parse(&prep->params, prep->kind, &root, &prep->err) && check_params(prep))
        (void)read_prompts(prep, scratch);
}
