/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/render.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "scheduler/text/jinja_run.h"

const hdl_renderer *hdl_renderer_find(const hdl_tok_info *info)
{
    static const struct {
        const char *version;
        const hdl_renderer *renderer;
    } tekken[] = {{"v3", &hdl_mistral_v3},
                  {"v7", &hdl_mistral_v7},
                  {"v11", &hdl_mistral_v11},
                  {"v13", &hdl_mistral_v13}};
    static const struct {
        const char *type;
        const hdl_renderer *renderer;
    } types[] = {{"gpt_oss", &hdl_harmony},
                 {"gpt-oss", &hdl_harmony}, /* as GGUF writes it */
                 {"deepseek_v32", &hdl_dsml_v32},
                 {"deepseek_v4", &hdl_dsml_v4}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(tekken) && info->tekken_version != NULL; i++)
        if (strcmp(info->tekken_version, tekken[i].version) == 0)
            return tekken[i].renderer;
    for (size_t i = 0; i < HDL_ARRAY_LEN(types) && info->model_type != NULL; i++)
        if (strcmp(info->model_type, types[i].type) == 0)
            return types[i].renderer;
    return NULL;
}

bool hdl_renderer_takes(const hdl_renderer *renderer, const char *variable)
{
    size_t len = strlen(variable);
    if (strcmp(variable, "messages") == 0 || strcmp(variable, "tools") == 0)
        return true;
    for (const char *p = renderer->variables; p != NULL && *p != '\0';) {
        size_t n = strcspn(p, " ");
        if (n == len && memcmp(p, variable, n) == 0)
            return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

void hdl_render_fail(hdl_render *r, const char *fmt, ...)
{
    char text[384];
    va_list args;
    if (r->err != HDL_OK)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->err = hdl_fail(HDL_INVALID, r->why, "%s", text);
}

static void stick(hdl_render *r, hdl_err err)
{
    if (r->err == HDL_OK)
        r->err = err;
}

void hdl_put_text(hdl_render *r, hdl_text text)
{
    stick(r, hdl_buf_append(r->out, text.p, text.len));
}

void hdl_put_own(hdl_render *r, const char *text)
{
    size_t at = r->out->len;
    hdl_put_text(r, (hdl_text){text, strlen(text)});
    if (r->err == HDL_OK)
        stick(r, hdl_ranges_add(&r->own, (hdl_range){at, r->out->len}));
}

void hdl_put_val(hdl_render *r, const hdl_jval *v)
{
    if (v != NULL && v->kind == HDL_J_STRING)
        hdl_put_text(r, v->s);
}

void hdl_put_json(hdl_render *r, const hdl_jval *v)
{
    const hdl_jjson_style style = {
        .indent = -1, .item_separator = {", ", 2}, .key_separator = {": ", 2}};
    stick(r, hdl_jval_json(v, &style, NULL, r->out));
}

const hdl_jval *hdl_member(const hdl_jval *v, const char *key)
{
    const hdl_jval *found = NULL;
    if (v != NULL && v->kind == HDL_J_DICT)
        found = hdl_jdict_get(v->dict, hdl_jcstr(key), NULL);
    return found != NULL && found->kind != HDL_J_NONE ? found : NULL;
}

hdl_text hdl_member_text(const hdl_jval *v, const char *key)
{
    const hdl_jval *found = hdl_member(v, key);
    return found != NULL && found->kind == HDL_J_STRING ? found->s : (hdl_text){"", 0};
}

const hdl_jlist *hdl_member_list(const hdl_jval *v, const char *key)
{
    const hdl_jval *found = hdl_member(v, key);
    return found != NULL && found->kind == HDL_J_LIST && found->list->n > 0 ? found->list : NULL;
}

bool hdl_role_is(const hdl_jval *message, const char *role)
{
    const hdl_jval *found = hdl_member(message, "role");
    return found != NULL && hdl_jval_is(found, role);
}

const hdl_jval *hdl_reasoning(const hdl_jval *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(names); i++) {
        const hdl_jval *found = hdl_member(message, names[i]);
        if (found != NULL && found->kind == HDL_J_STRING && found->s.len > 0)
            return found;
    }
    return NULL;
}

const hdl_jval *hdl_function_of(const hdl_jval *v)
{
    const hdl_jval *function = hdl_member(v, "function");
    return function != NULL ? function : v;
}

hdl_jval hdl_parse_text(hdl_render *r, const hdl_jval *v)
{
    hdl_json *doc;
    hdl_jval out;
    if (v == NULL || v->kind != HDL_J_STRING)
        return v != NULL ? *v : hdl_jnone();
    if (hdl_json_parse(v->s.p, v->s.len, 0, &doc, NULL) != HDL_OK)
        return *v;
    hdl_jv root = hdl_json_root(doc);
    hdl_err err = hdl_jval_of_json(&r->mem, &root, &out);
    hdl_json_close(doc);
    stick(r, err);
    return err == HDL_OK ? out : hdl_jnone();
}

const hdl_jval *hdl_variable(const hdl_render *r, const char *name)
{
    return hdl_member(&r->kwargs, name);
}

bool hdl_is_open(const hdl_render *r, size_t message)
{
    return r->chat->continue_final && message + 1 == r->messages->n;
}

/* A content in parts becomes one text; another part than text is refused. */
static hdl_err flatten(hdl_render *r, const char *join, hdl_jval *content, size_t i)
{
    hdl_jval text = hdl_jcstr("");
    for (size_t k = 0; k < content->list->n; k++) {
        const hdl_jval *part = &content->list->v[k], *type = hdl_member(part, "type");
        if (type == NULL || !hdl_jval_is(type, "text"))
            return hdl_fail(HDL_INVALID, r->why,
                            "messages[%zu].content has a part that is no text; this model takes "
                            "text only; send {\"type\": \"text\"} parts",
                            i);
        if (k > 0)
            HDL_TRY(hdl_jconcat(&r->mem, text.s, (hdl_text){join, strlen(join)}, &text));
        HDL_TRY(hdl_jconcat(&r->mem, text.s, hdl_member_text(part, "text"), &text));
    }
    *content = text;
    return HDL_OK;
}

static hdl_err take_messages(hdl_render *r, const char *part_join)
{
    hdl_jval messages;
    HDL_TRY(hdl_jv_expect(r->chat->messages, HDL_JSON_ARRAY, r->why));
    HDL_TRY(hdl_jval_of_json(&r->mem, r->chat->messages, &messages));
    for (size_t i = 0; i < messages.list->n; i++) {
        hdl_jval *message = &messages.list->v[i];
        if (message->kind != HDL_J_DICT || hdl_member_text(message, "role").len == 0)
            return hdl_fail(HDL_INVALID, r->why, "messages[%zu] must be an object with a role", i);
        hdl_jval *content = hdl_jdict_get(message->dict, hdl_jcstr("content"), NULL);
        if (content != NULL && content->kind == HDL_J_LIST)
            HDL_TRY(flatten(r, part_join, content, i));
        bool plain =
            content == NULL || content->kind == HDL_J_STRING || content->kind == HDL_J_NONE;
        if (!plain)
            return hdl_fail(HDL_INVALID, r->why, "messages[%zu].content must be a string", i);
    }
    r->messages = messages.list;
    return HDL_OK;
}

static hdl_err take_variables(hdl_render *r, const hdl_renderer *renderer)
{
    hdl_jval tools;
    const hdl_chat *chat = r->chat;
    r->kwargs = hdl_jnone();
    if (chat->tools != NULL && hdl_jv_len(chat->tools) > 0) {
        HDL_TRY(hdl_jv_expect(chat->tools, HDL_JSON_ARRAY, r->why));
        HDL_TRY(hdl_jval_of_json(&r->mem, chat->tools, &tools));
        r->tools = tools.list;
    }
    if (chat->kwargs != NULL)
        HDL_TRY(hdl_jval_of_json(&r->mem, chat->kwargs, &r->kwargs));
    if (chat->reasoning_effort != NULL && hdl_variable(r, "reasoning_effort") == NULL) {
        hdl_jval effort;
        if (r->kwargs.kind != HDL_J_DICT) {
            hdl_jdict *dict;
            HDL_TRY(hdl_jdict_new(&r->mem, &dict));
            r->kwargs = hdl_jdict_val(dict);
        }
        HDL_TRY(hdl_jval_of_json(&r->mem, chat->reasoning_effort, &effort));
        HDL_TRY(hdl_jdict_set(&r->mem, r->kwargs.dict, hdl_jcstr("reasoning_effort"), effort));
    }
    if (chat->add_generation_prompt && chat->continue_final)
        return hdl_fail(HDL_INVALID, r->why,
                        "add_generation_prompt and continue_final_message exclude each other; "
                        "choose one");
    const hdl_jval *last = r->messages->n > 0 ? &r->messages->v[r->messages->n - 1] : NULL;
    if (chat->continue_final &&
        (last == NULL || !hdl_role_is(last, "assistant") || hdl_member(last, "content") == NULL))
        return hdl_fail(HDL_INVALID, r->why,
                        "messages: the final one is no text of the assistant to continue; do not "
                        "ask for continue_final_message with %s",
                        renderer->name);
    return HDL_OK;
}

hdl_err hdl_renderer_run(const hdl_renderer *renderer, const hdl_chat *chat, hdl_buf *out,
                         hdl_errmsg *why)
{
    hdl_errmsg said = {""};
    hdl_render r = {.chat = chat, .out = out, .why = &said};
    hdl_ranges_init(&r.own);
    hdl_jmem_init(&r.mem, HDL_JRUN_MEMORY_MAX, NULL);
    r.err = take_messages(&r, renderer->part_join);
    if (r.err == HDL_OK)
        r.err = take_variables(&r, renderer);
    if (r.err == HDL_OK)
        renderer->run(&r);
    for (size_t i = 0; i < r.own.n && r.err == HDL_OK && chat->own != NULL; i++)
        r.err = hdl_ranges_add(chat->own, r.own.v[i]);
    hdl_ranges_deinit(&r.own);
    hdl_jmem_deinit(&r.mem);
    if (r.err == HDL_OK)
        return HDL_OK;
    return hdl_fail(r.err, why, "%s: %s", renderer->name,
                    said.text[0] != '\0' ? said.text
                                         : "the conversation is too large, or nested too deeply");
}
