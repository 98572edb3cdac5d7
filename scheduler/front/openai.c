/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 3 to 6 of 14: a body of /v1/chat/completions or /v1/completions on its way to the
 * engine (DESIGN section 4). */
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "scheduler/front/call.h"
#include "scheduler/front/openai.h"
#include "scheduler/front/route.h"

enum {
    /* No token of any known vocabulary is longer; a text beyond max_len times this is too long
     * without being tokenised. */
    TOKEN_BYTES_MAX = 512,
    IDS_SLACK = 65536, /* counted beyond max_len, so that the refusal says how long the prompt is */
};

static void count_reject(const char *reason)
{
    hdl_metric_add(HDL_METRIC_REJECTED, hdl_metric_label(HDL_METRIC_REJECTED, reason), 1);
}

bool hdl_openai_service(hdl_conn *conn, hdl_engine_info *info, hdl_api_error *err)
{
    hdl_front *front = conn->thread->front;
    const hdl_front_model *model = hdl_front_model_of(conn);
    *info = (hdl_engine_info){0};
    *err = (hdl_api_error){0};
    if (model)
        model->engine->info(model->engine->self, info);
    if (info->ready)
        atomic_store_explicit(&front->was_ready, true, memory_order_relaxed);
    if (atomic_load_explicit(&front->draining, memory_order_relaxed) || info->draining) {
        (void)hdl_api_fail(err, 503, NULL, "the service is shutting down; ask another replica");
        count_reject("draining");
    } else if (!atomic_load_explicit(&front->was_ready, memory_order_relaxed)) {
        /* Later a lost group is formed anew and its requests wait; the first time there is no
         * knowing how long that takes. */
        (void)hdl_api_fail(err, 503, NULL, "the model is not ready: %s",
                           info->state[0] ? info->state : "starting");
        count_reject("no_worker");
    }
    err->retry_after_ms = err->status ? 1000 : 0;
    return err->status == 0;
}

bool hdl_openai_check_model(const hdl_front_model *model, const char *name, hdl_api_error *err)
{
    bool known = strcmp(name, model->name) == 0;
    for (uint32_t i = 0; i < model->n_aliases; i++)
        known = known || strcmp(name, model->aliases[i]) == 0;
    if (known)
        return true;
    (void)hdl_api_fail(err, 404, "model",
                       "the model `%.100s` does not exist here; this server "
                       "has `%s`",
                       name, model->name);
    err->code = "model_not_found";
    return false;
}

hdl_tok_scratch *hdl_openai_scratch(hdl_front_thread *thread)
{
    if (!thread->scratch && hdl_tok_scratch_new(&thread->scratch) != HDL_OK)
        return NULL;
    return thread->scratch;
}

/* ---- prompts ---- */

static bool too_long(const hdl_engine_info *info, const char *param, hdl_api_error *err)
{
    (void)hdl_api_fail(err, 400, param,
                       "this model's maximum context length is %u tokens; the prompt is longer by "
                       "far; shorten it",
                       info->max_len);
    err->code = "context_length_exceeded";
    return false;
}

typedef struct text_args {
    const char *text;
    size_t len;
    bool add_special;
    const char *param;
} text_args;

static bool tokenize(hdl_call *call, hdl_call_prompt *out, const text_args *args,
                     const hdl_engine_info *info, hdl_api_error *err)
{
    const hdl_tokenizer *tok = call->model->tokenizer;
    if (!tok)
        return hdl_api_fail(err, 400, args->param, "this model has no tokenizer; send token ids");
    if (args->len / TOKEN_BYTES_MAX > info->max_len)
        return too_long(info, args->param, err);
    hdl_ids ids;
    hdl_errmsg why = {0};
    hdl_ids_init(&ids, (size_t)info->max_len + IDS_SLACK);
    hdl_encode_args encode = {.text = args->text,
                              .len = args->len,
                              .scratch = hdl_openai_scratch(call->conn->thread),
                              .add_special = args->add_special,
                              .parse_special = true};
    hdl_err code = encode.scratch ? hdl_tokenizer_encode(tok, &encode, &ids, &why) : HDL_NOMEM;
    out->ids = hdl_ids_steal(&ids, &out->n_ids);
    hdl_ids_deinit(&ids);
    if (code == HDL_BUSY)
        return too_long(info, args->param, err);
    if (code == HDL_NOMEM)
        return hdl_api_fail(err, 503, args->param, "out of memory");
    return code == HDL_OK ||
           hdl_api_fail(err, 400, args->param, "%s cannot be tokenised; %s", args->param, why.text);
}

static bool copy_ids(hdl_call_prompt *out, const hdl_jv *array, const hdl_engine_info *info,
                     hdl_api_error *err)
{
    size_t n = hdl_jv_len(array);
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

static bool read_prompt(hdl_call *call, uint32_t i, const hdl_api_params *p,
                        const hdl_engine_info *info, hdl_api_error *err)
{
    hdl_call_prompt *out = &call->prompts[i];
    const hdl_api_prompt *in = &p->prompts[i];
    if (in->text) {
        text_args args = {in->text, in->len, p->add_special, "prompt"};
        if (p->echo)
            (void)hdl_buf_append(&out->echo, in->text, in->len);
        return tokenize(call, out, &args, info, err);
    }
    if (!copy_ids(out, &in->ids, info, err))
        return false;
    if (p->echo && call->model->tokenizer) {
        hdl_decode_args args = {.ids = out->ids, .n = out->n_ids};
        if (hdl_tokenizer_decode(call->model->tokenizer, &args, &out->echo) != HDL_OK)
            return hdl_api_fail(err, 503, "prompt", "out of memory");
    }
    return true;
}

bool hdl_openai_render(hdl_conn *conn, const hdl_api_params *p, hdl_buf *out, hdl_api_error *err)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
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

static bool read_prompts(hdl_call *call, const hdl_api_params *p, const hdl_engine_info *info,
                         hdl_api_error *err)
{
    if (p->kind == HDL_API_CHAT) {
        hdl_buf text;
        hdl_buf_init(&text, 8 * (size_t)HDL_HTTP_BODY_BYTES_MAX);
        bool ok = hdl_openai_render(call->conn, p, &text, err);
        if (ok) {
            text_args args = {(const char *)hdl_buf_data(&text), text.len, false, "messages"};
            ok = tokenize(call, &call->prompts[0], &args, info, err);
        }
        hdl_buf_deinit(&text);
        return ok;
    }
    for (uint32_t i = 0; i < call->n_prompts; i++)
        if (!read_prompt(call, i, p, info, err))
            return false;
    return true;
}

/* ---- the handlers ---- */

static bool start(hdl_conn *conn, const hdl_api_params *p, const hdl_engine_info *info,
                  hdl_api_error *err)
{
    if (!hdl_openai_check_model(hdl_front_model_of(conn), p->model, err) ||
        !hdl_api_admit(p, info, err))
        return false;
    hdl_call *call = hdl_call_new(conn, p);
    if (!call) {
        (void)hdl_api_fail(err, 429, NULL, "this server has no room for more choices; try again");
        err->retry_after_ms = 1000;
        count_reject("queue_full");
        return false;
    }
    if (!read_prompts(call, p, info, err) || !hdl_call_submit(call, p, info, err)) {
        count_reject(err->status == 429 ? "queue_full" : err->status == 400 ? "too_long" : "other");
        hdl_call_abandon(call);
        return false;
    }
    hdl_conn_answer_later(conn, call);
    return true;
}

static void run(hdl_conn *conn, hdl_api_kind kind)
{
    hdl_engine_info info;
    hdl_api_error err;
    hdl_json *doc = NULL;
    bool ok = hdl_openai_service(conn, &info, &err) &&
              hdl_api_parse_json(&doc, hdl_buf_data(&conn->http.body), conn->http.body.len, &err);
    if (ok) {
        hdl_jv root = hdl_json_root(doc);
        hdl_api_params *params = calloc(1, sizeof *params);
        ok = params ? hdl_api_parse(params, kind, &root, &err)
                    : hdl_api_fail(&err, 503, NULL, "out of memory");
        ok = ok && start(conn, params, &info, &err);
        if (params)
            hdl_api_params_deinit(params);
        free(params);
    }
    hdl_json_close(doc);
    if (!ok)
        hdl_reply_error(conn, &err);
}

void hdl_openai_chat(hdl_conn *conn) { run(conn, HDL_API_CHAT); }

void hdl_openai_completions(hdl_conn *conn) { run(conn, HDL_API_COMPLETION); }
