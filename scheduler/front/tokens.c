/* SPDX-License-Identifier: Apache-2.0 */
/* POST /tokenize and /detokenize, in the shapes that vLLM gave them. They need the tokenizer, not
 * the engine. */
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "base/units.h"
#include "scheduler/front/prepare.h"
#include "scheduler/front/route.h"

enum { IDS_MAX = 4 * 1024 * 1024, ANSWER_BYTES_MAX = 64 * 1024 * 1024 };

typedef struct tokens_body {
    hdl_job job; /* first */
    bool encode; /* /tokenize, or /detokenize */
    const hdl_front_model *model;
    hdl_buf body;   /* owned; the JSON text */
    hdl_json *doc;  /* owned */
    hdl_buf answer; /* owned */
    hdl_api_error err;
    hdl_jv root;
    hdl_jv prompt, tokens;
    bool add_special, strings;
    hdl_api_params chat; /* messages and what goes with them */
} tokens_body;

static bool fail_typed(const hdl_jv *v, hdl_api_error *err)
{
    err->status = 400;
    hdl_jv_path(v, err->param, sizeof err->param);
    return false;
}

static bool read_bool(const hdl_jv *v, bool *out, hdl_api_error *err)
{
    return hdl_jv_bool(v, out, &err->message) == HDL_OK || fail_typed(v, err);
}

static bool read_member(tokens_body *b, const hdl_jv *v, hdl_api_error *err)
{
    static const char *const encode_names[] = {"model",
                                               "prompt",
                                               "messages",
                                               "add_special_tokens",
                                               "return_token_strs",
                                               "add_generation_prompt",
                                               "continue_final_message",
                                               "chat_template_kwargs",
                                               "tools",
                                               "documents",
                                               "reasoning_effort"};
    static const char *const decode_names[] = {"model", "tokens"};
    const char *const *names = b->encode ? encode_names : decode_names;
    size_t n = b->encode ? HDL_ARRAY_LEN(encode_names) : HDL_ARRAY_LEN(decode_names);
    size_t i = 0;
    while (i < n && strcmp(names[i], v->key) != 0)
        i++;
    if (i == n) {
        int near = hdl_suggest(v->key, names, n);
        return near >= 0
                   ? hdl_api_fail_at(err, v, "is not a known field; did you mean %s?", names[near])
                   : hdl_api_fail_at(err, v, "is not a known field; leave it out");
    }
    if (!hdl_jv_given(v))
        return true;
    if (i == 0)
        return hdl_jv_string(v, &b->chat.model, NULL, &err->message) == HDL_OK ||
               fail_typed(v, err);
    if (!b->encode) {
        b->tokens = *v;
        return hdl_jv_expect(v, HDL_JSON_ARRAY, &err->message) == HDL_OK || fail_typed(v, err);
    }
    switch (i) {
    case 1: b->prompt = *v; return true;
    case 2: b->chat.messages = *v; return true;
    case 3: return read_bool(v, &b->add_special, err);
    case 4: return read_bool(v, &b->strings, err);
    case 5: return read_bool(v, &b->chat.add_generation_prompt, err);
    case 6: return read_bool(v, &b->chat.continue_final, err);
    case 7:
        b->chat.template_kwargs = *v;
        return hdl_jv_expect(v, HDL_JSON_OBJECT, &err->message) == HDL_OK || fail_typed(v, err);
    case 8: b->chat.tools = *v; return hdl_api_check_tools(v, err);
    case 9:
        b->chat.documents = *v;
        return hdl_jv_expect(v, HDL_JSON_ARRAY, &err->message) == HDL_OK || fail_typed(v, err);
    default:
        b->chat.reasoning_effort = *v;
        return hdl_jv_expect(v, HDL_JSON_STRING, &err->message) == HDL_OK || fail_typed(v, err);
    }
}

static bool read_body(tokens_body *b, hdl_api_error *err)
{
    void *iter = NULL;
    hdl_jv member;
    b->root = hdl_json_root(b->doc);
    b->add_special = true;
    b->chat.add_generation_prompt = true;
    if (hdl_jv_expect(&b->root, HDL_JSON_OBJECT, &err->message) != HDL_OK)
        return fail_typed(&b->root, err);
    while (hdl_jv_next(&b->root, &iter, &member))
        if (!read_member(b, &member, err))
            return false;
    b->chat.body = b->root;
    if (!hdl_api_settle_chat(&b->chat, err))
        return false;
    return !b->chat.model || hdl_prep_check_model(b->model, b->chat.model, err);
}

/* Text of the prompt, or of the rendered messages, into out. */
static bool read_text(tokens_body *b, hdl_prompt_text *out, hdl_api_error *err)
{
    bool chat = hdl_jv_present(&b->chat.messages);
    if (chat == hdl_jv_present(&b->prompt))
        return hdl_api_fail(err, 400, "prompt", "give either prompt or messages");
    if (chat) {
        b->add_special = false;
        return hdl_prep_render(b->model, &b->chat, out, err);
    }
    const char *text;
    size_t len;
    if (hdl_jv_string(&b->prompt, &text, &len, &err->message) != HDL_OK)
        return fail_typed(&b->prompt, err);
    return hdl_buf_append(&out->text, text, len) == HDL_OK ||
           hdl_api_fail(err, 503, NULL, "out of memory");
}

static void write_tokens(tokens_body *b, const hdl_ids *ids)
{
    hdl_engine_info info = {0};
    hdl_json_writer w;
    b->model->engine->info(b->model->engine->self, &info);
    hdl_jw_init(&w, &b->answer);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_uint(&w, "count", ids->n);
    hdl_jw_kv_uint(&w, "max_model_len", info.max_len);
    hdl_jw_key(&w, "tokens");
    hdl_jw_begin_array(&w);
    for (size_t i = 0; i < ids->n; i++)
        hdl_jw_int(&w, ids->v[i]);
    hdl_jw_end_array(&w);
    hdl_jw_key(&w, "token_strs");
    if (b->strings) {
        hdl_jw_begin_array(&w);
        for (size_t i = 0; i < ids->n; i++) {
            const char *bytes = "";
            size_t len = 0;
            (void)hdl_tokenizer_token_bytes(b->model->tokenizer, ids->v[i], &bytes, &len);
            hdl_jw_string(&w, bytes, len);
        }
        hdl_jw_end_array(&w);
    } else {
        hdl_jw_null(&w);
    }
    hdl_jw_end_object(&w);
}

static bool encode(tokens_body *b, hdl_tok_scratch *scratch, hdl_api_error *err)
{
    hdl_prompt_text text;
    hdl_ids ids;
    hdl_errmsg why = {0};
    hdl_prompt_text_init(&text);
    hdl_ids_init(&ids, IDS_MAX);
    bool ok = read_text(b, &text, err);
    if (ok) {
        bool chat = hdl_jv_present(&b->chat.messages);
        hdl_encode_args args = {.text = (const char *)hdl_buf_data(&text.text),
                                .len = text.text.len,
                                .scratch = scratch,
                                .add_special = b->add_special,
                                .parse_special = true,
                                .special_in = chat ? &text.own : NULL};
        if (hdl_tokenizer_encode(b->model->tokenizer, &args, &ids, &why) != HDL_OK)
            ok = hdl_api_fail(err, 400, "prompt", "the text cannot be tokenised; %s", why.text);
        else
            write_tokens(b, &ids);
    }
    hdl_ids_deinit(&ids);
    hdl_prompt_text_deinit(&text);
    return ok;
}

static bool read_ids(const tokens_body *b, hdl_token *ids, hdl_api_error *err)
{
    hdl_jv_range range = {0, (int64_t)hdl_tokenizer_info(b->model->tokenizer)->vocab_size - 1};
    for (size_t i = 0; i < hdl_jv_len(&b->tokens); i++) {
        hdl_jv item = hdl_jv_at(&b->tokens, i);
        int64_t id;
        if (hdl_jv_int(&item, range, &id, &err->message) != HDL_OK)
            return fail_typed(&item, err);
        ids[i] = (hdl_token)id;
    }
    return true;
}

static bool decode(tokens_body *b, hdl_api_error *err)
{
    size_t n = hdl_jv_len(&b->tokens);
    if (!hdl_jv_present(&b->tokens))
        return hdl_api_fail(err, 400, "tokens", "tokens is missing");
    hdl_token *ids = calloc(n + 1, sizeof *ids);
    if (!ids)
        return hdl_api_fail(err, 503, "tokens", "out of memory");
    hdl_buf text;
    hdl_json_writer w;
    hdl_buf_init(&text, ANSWER_BYTES_MAX);
    bool ok = read_ids(b, ids, err);
    hdl_decode_args args = {.ids = ids, .n = n};
    if (ok && hdl_tokenizer_decode(b->model->tokenizer, &args, &text) != HDL_OK)
        ok = hdl_api_fail(err, 503, "tokens", "out of memory");
    if (ok) {
        hdl_jw_init(&w, &b->answer);
        hdl_jw_begin_object(&w);
        hdl_jw_key(&w, "prompt");
        hdl_jw_string(&w, (const char *)hdl_buf_data(&text), text.len);
        hdl_jw_end_object(&w);
    }
    hdl_buf_deinit(&text);
    free(ids);
    return ok;
}

static void work(hdl_job *job, hdl_tok_scratch *scratch)
{
    tokens_body *b = (tokens_body *)(void *)job;
    if (!hdl_api_parse_json(&b->doc, hdl_buf_data(&b->body), b->body.len, &b->err) ||
        !read_body(b, &b->err))
        return;
    (void)(b->encode ? encode(b, scratch, &b->err) : decode(b, &b->err));
}

static void done(hdl_job *job, hdl_conn *conn)
{
    tokens_body *b = (tokens_body *)(void *)job;
    if (conn && b->err.status != 0)
        hdl_reply_error(conn, &b->err);
    else if (conn)
        hdl_reply_json(conn, &b->answer);
    hdl_json_close(b->doc);
    hdl_buf_deinit(&b->body);
    hdl_buf_deinit(&b->answer);
    free(b);
}

static void run(hdl_conn *conn, bool is_encode)
{
    const hdl_front_model *model = hdl_front_model_of(conn);
    tokens_body *b = model && model->tokenizer ? calloc(1, sizeof *b) : NULL;
    if (!b) {
        hdl_api_error err;
        (void)hdl_api_fail(&err, 503, NULL, "no tokenizer is ready here");
        hdl_reply_error(conn, &err);
        return;
    }
    b->job = (hdl_job){.work = work, .done = done};
    b->encode = is_encode;
    b->model = model;
    b->body = hdl_http_take_body(&conn->http);
    hdl_buf_init(&b->answer, ANSWER_BYTES_MAX);
    hdl_job_start(conn, &b->job, b->body.len);
}

void hdl_tokens_tokenize(hdl_conn *conn) { run(conn, true); }

void hdl_tokens_detokenize(hdl_conn *conn) { run(conn, false); }
