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

bool hdl_prep_render(const hdl_front_model *model, const hdl_api_params *p, hdl_buf *out,
                     hdl_api_error *err)
{
    hdl_json *plain = NULL;
    hdl_errmsg why = {0};
    if (!model->chat || !model->tokenizer)
        return hdl_api_fail(err, 400, "messages",
                            "this model has no chat template; use /v1/completions");
    if (!hdl_api_check_messages(&p->messages, &plain, err))
        return false;
    hdl_jv messages = plain ? hdl_json_root(plain) : p->messages;
    hdl_chat chat = {.messages = &messages,
                     .kwargs = hdl_jv_present(&p->template_kwargs) ? &p->template_kwargs : NULL,
                     .special = &hdl_tokenizer_info(model->tokenizer)->special,
                     .add_generation_prompt = p->add_generation_prompt,
                     .continue_final = p->continue_final,
                     .now_wall_us = hdl_clock_wall_us()};
    hdl_err code = hdl_template_render(model->chat, &chat, out, &why);
    hdl_json_close(plain);
    if (code == HDL_OK && hdl_buf_ok(out))
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
    hdl_buf text;
    hdl_buf_init(&text, 8 * (size_t)HDL_HTTP_BODY_BYTES_MAX);
    bool ok = hdl_prep_render(prep->model, &prep->params, &text, &prep->err);
    hdl_encode_args args = {.text = (const char *)hdl_buf_data(&text),
                            .len = text.len,
                            .scratch = scratch,
                            .parse_special = true};
    ok = ok && tokenize(prep, &prep->prompts[0], &args);
    hdl_buf_deinit(&text);
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
