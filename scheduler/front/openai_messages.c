/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of a chat: checked field by field, and put into the plain form that chat templates
 * are written for. */
#include <string.h>

#include "base/json_write.h"
#include "base/units.h"
#include "scheduler/front/api.h"

enum {
    SYSTEM = 1u << 0,
    USER = 1u << 1,
    ASSISTANT = 1u << 2,
    TOOL = 1u << 3,
    DEVELOPER = 1u << 4, /* OpenAI's newer word for system; templates know the old one */
    ANYONE = 31u
};

static const struct {
    const char *name;
    uint32_t role;
} roles[] = {{"system", SYSTEM},
             {"user", USER},
             {"assistant", ASSISTANT},
             {"tool", TOOL},
             {"developer", DEVELOPER}};

/* `text`: must be a string when it is given and not null; the others are looked at elsewhere. */
static const struct {
    const char *name;
    uint32_t roles;
    bool text;
} members[] = {
    {"role", ANYONE, true},
    {"content", ANYONE, false},
    {"name", ANYONE, true},
    {"tool_call_id", TOOL, true},
    {"tool_calls", ASSISTANT, false},
    {"refusal", ASSISTANT, true},
    {"reasoning", ASSISTANT, true},
    {"reasoning_content", ASSISTANT, true},
    {"annotations", ASSISTANT, false},
};

static bool fail_typed(const hdl_jv *v, hdl_api_error *err)
{
    err->status = 400;
    hdl_jv_path(v, err->param, sizeof err->param);
    return false;
}

static bool read_role(const hdl_jv *message, uint32_t *role, hdl_api_error *err)
{
    hdl_jv v = hdl_jv_get(message, "role");
    const char *text;
    if (hdl_jv_string(&v, &text, NULL, &err->message) != HDL_OK)
        return fail_typed(&v, err);
    for (size_t i = 0; i < HDL_ARRAY_LEN(roles); i++)
        if (strcmp(text, roles[i].name) == 0) {
            *role = roles[i].role;
            return true;
        }
    return hdl_api_fail_at(err, &v, "must be system, developer, user, assistant or tool");
}

static bool check_member(const hdl_jv *v, uint32_t role, hdl_api_error *err)
{
    const char *known[HDL_ARRAY_LEN(members)], *text;
    for (size_t i = 0; i < HDL_ARRAY_LEN(members); i++) {
        known[i] = members[i].name;
        if (strcmp(v->key, members[i].name) != 0)
            continue;
        if (hdl_jv_given(v) && !(members[i].roles & role))
            return hdl_api_fail_at(err, v, "does not belong to a message of this role");
        if (hdl_jv_given(v) && members[i].text &&
            hdl_jv_string(v, &text, NULL, &err->message) != HDL_OK)
            return fail_typed(v, err);
        return true;
    }
    if (!hdl_jv_given(v))
        return true; /* clients write out what they know and do not use as null */
    int near = hdl_suggest(v->key, known, HDL_ARRAY_LEN(members));
    return near >= 0 ? hdl_api_fail_at(err, v, "is not known; did you mean %s?", known[near])
                     : hdl_api_fail_at(err, v, "is not served; leave it out");
}

static bool check_part(const hdl_jv *part, hdl_api_error *err)
{
    const char *text;
    hdl_jv type = hdl_jv_get(part, "type");
    if (hdl_jv_string(&type, &text, NULL, &err->message) != HDL_OK)
        return fail_typed(&type, err);
    if (strcmp(text, "text") != 0)
        return hdl_api_fail_at(err, &type, "must be \"text\"; this model reads text alone");
    hdl_jv value = hdl_jv_get(part, "text");
    if (hdl_jv_string(&value, &text, NULL, &err->message) != HDL_OK)
        return fail_typed(&value, err);
    return true;
}

static bool check_content(const hdl_jv *message, uint32_t role, hdl_api_message_facts *facts,
                          hdl_api_error *err)
{
    hdl_jv content = hdl_jv_get(message, "content");
    hdl_jv calls = hdl_jv_get(message, "tool_calls");
    switch (hdl_jv_kind(&content)) {
    case HDL_JSON_STRING: return true;
    case HDL_JSON_ARRAY:
        facts->plain = false;
        if (hdl_jv_len(&content) == 0)
            return hdl_api_fail_at(err, &content, "must not be empty");
        for (size_t i = 0; i < hdl_jv_len(&content); i++) {
            hdl_jv part = hdl_jv_at(&content, i);
            if (hdl_jv_expect(&part, HDL_JSON_OBJECT, &err->message) != HDL_OK)
                return fail_typed(&part, err);
            if (!check_part(&part, err))
                return false;
        }
        return true;
    case HDL_JSON_NULL:
        if (role == ASSISTANT && hdl_jv_len(&calls) > 0)
            return true;
        return hdl_api_fail_at(err, &content, "is missing");
    default:
        return hdl_api_fail_at(err, &content, "must be a string or an array of parts; it is %s",
                               hdl_json_kind_text(hdl_jv_kind(&content)));
    }
}

static bool check_tool_calls(const hdl_jv *message, hdl_api_message_facts *facts,
                             hdl_api_error *err)
{
    hdl_jv calls = hdl_jv_get(message, "tool_calls");
    const char *text;
    if (!hdl_jv_given(&calls))
        return true;
    if (hdl_jv_expect(&calls, HDL_JSON_ARRAY, &err->message) != HDL_OK)
        return fail_typed(&calls, err);
    for (size_t i = 0; i < hdl_jv_len(&calls); i++) {
        facts->calls = true;
        hdl_jv call = hdl_jv_at(&calls, i);
        hdl_jv function = hdl_jv_get(&call, "function");
        hdl_jv name = hdl_jv_get(&function, "name");
        hdl_jv args = hdl_jv_get(&function, "arguments");
        if (hdl_jv_expect(&function, HDL_JSON_OBJECT, &err->message) != HDL_OK)
            return fail_typed(&function, err);
        if (hdl_jv_string(&name, &text, NULL, &err->message) != HDL_OK)
            return fail_typed(&name, err);
        if (hdl_jv_string(&args, &text, NULL, &err->message) != HDL_OK)
            return fail_typed(&args, err);
    }
    return true;
}

static bool check_message(const hdl_jv *message, hdl_api_message_facts *facts, hdl_api_error *err)
{
    uint32_t role = 0;
    void *iter = NULL;
    hdl_jv member;
    if (hdl_jv_expect(message, HDL_JSON_OBJECT, &err->message) != HDL_OK)
        return fail_typed(message, err);
    if (!read_role(message, &role, err))
        return false;
    if (role == DEVELOPER)
        facts->plain = false;
    while (hdl_jv_next(message, &iter, &member))
        if (!check_member(&member, role, err))
            return false;
    hdl_jv id = hdl_jv_get(message, "tool_call_id");
    if (role == TOOL && !hdl_jv_given(&id))
        return hdl_api_fail_at(err, &id, "is missing");
    return check_content(message, role, facts, err) && check_tool_calls(message, facts, err);
}

static void write_text_parts(hdl_json_writer *w, const hdl_jv *content)
{
    hdl_buf text;
    hdl_buf_init(&text, HDL_HTTP_BODY_BYTES_MAX);
    for (size_t i = 0; i < hdl_jv_len(content); i++) {
        hdl_jv part = hdl_jv_at(content, i);
        hdl_jv value = hdl_jv_get(&part, "text");
        const char *at;
        size_t len;
        if (hdl_jv_string(&value, &at, &len, NULL) == HDL_OK)
            (void)hdl_buf_append(&text, at, len);
    }
    hdl_jw_string(w, (const char *)hdl_buf_data(&text), text.len);
    hdl_buf_deinit(&text);
}

static void write_value(hdl_json_writer *w, const hdl_jv *v)
{
    hdl_buf raw;
    hdl_buf_init(&raw, HDL_HTTP_BODY_BYTES_MAX);
    if (hdl_jv_dump(v, &raw) == HDL_OK)
        hdl_jw_raw(w, (const char *)hdl_buf_data(&raw), raw.len);
    else
        hdl_jw_null(w);
    hdl_buf_deinit(&raw);
}

/* Text that is a JSON object becomes one, none at all an empty one; other text stays. */
static void write_arguments(hdl_json_writer *w, const hdl_jv *v)
{
    const char *text = "";
    size_t len = 0;
    hdl_json *doc = NULL;
    (void)!hdl_jv_string(v, &text, &len, NULL);
    hdl_err err = hdl_json_parse(len > 0 ? text : "{}", len > 0 ? len : 2, 0, &doc, NULL);
    hdl_jv root = err == HDL_OK ? hdl_json_root(doc) : (hdl_jv){0};
    bool object = hdl_jv_kind(&root) == HDL_JSON_OBJECT;
    write_value(w, object ? &root : v);
    hdl_json_close(doc);
}

/* An object with one member written by another function. */
static void write_object(hdl_json_writer *w, const hdl_jv *object, const char *name,
                         void (*write)(hdl_json_writer *w, const hdl_jv *v))
{
    void *iter = NULL;
    hdl_jv member;
    hdl_jw_begin_object(w);
    while (hdl_jv_next(object, &iter, &member)) {
        hdl_jw_key(w, member.key);
        (strcmp(member.key, name) == 0 ? write : write_value)(w, &member);
    }
    hdl_jw_end_object(w);
}

static void write_function(hdl_json_writer *w, const hdl_jv *v)
{
    write_object(w, v, "arguments", write_arguments);
}

static void write_calls(hdl_json_writer *w, const hdl_jv *calls)
{
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < hdl_jv_len(calls); i++) {
        hdl_jv call = hdl_jv_at(calls, i);
        write_object(w, &call, "function", write_function);
    }
    hdl_jw_end_array(w);
}

static void write_plain_message(hdl_json_writer *w, const hdl_jv *message, bool arguments_as_text)
{
    void *iter = NULL;
    hdl_jv member;
    hdl_jw_begin_object(w);
    while (hdl_jv_next(message, &iter, &member)) {
        const char *text;
        bool list = hdl_jv_kind(&member) == HDL_JSON_ARRAY;
        hdl_jw_key(w, member.key);
        if (strcmp(member.key, "content") == 0 && list)
            write_text_parts(w, &member);
        else if (strcmp(member.key, "tool_calls") == 0 && list && !arguments_as_text)
            write_calls(w, &member);
        else if (strcmp(member.key, "role") == 0 &&
                 hdl_jv_string(&member, &text, NULL, NULL) == HDL_OK)
            hdl_jw_cstr(w, strcmp(text, "developer") == 0 ? "system" : text);
        else
            write_value(w, &member);
    }
    hdl_jw_end_object(w);
}

bool hdl_api_plain_messages(const hdl_jv *messages, bool arguments_as_text, hdl_json **plain,
                            hdl_api_error *err)
{
    hdl_buf buf;
    hdl_json_writer w;
    hdl_errmsg why = {0};
    /* Escapes may make text longer than it was in the body: six bytes for one at most. */
    hdl_buf_init(&buf, 6 * (size_t)HDL_HTTP_BODY_BYTES_MAX);
    hdl_jw_init(&w, &buf);
    hdl_jw_begin_array(&w);
    for (size_t i = 0; i < hdl_jv_len(messages); i++) {
        hdl_jv message = hdl_jv_at(messages, i);
        write_plain_message(&w, &message, arguments_as_text);
    }
    hdl_jw_end_array(&w);
    bool ok = hdl_buf_ok(&buf) && hdl_json_parse((const char *)hdl_buf_data(&buf), buf.len,
                                                 buf.len + 1, plain, &why) == HDL_OK;
    hdl_buf_deinit(&buf);
    return ok || hdl_api_fail(err, 503, "messages", "messages do not fit into memory");
}

bool hdl_api_check_messages(const hdl_jv *messages, hdl_api_message_facts *facts,
                            hdl_api_error *err)
{
    *facts = (hdl_api_message_facts){.plain = true};
    if (hdl_jv_expect(messages, HDL_JSON_ARRAY, &err->message) != HDL_OK)
        return fail_typed(messages, err);
    if (hdl_jv_len(messages) == 0)
        return hdl_api_fail_at(err, messages, "must not be empty");
    for (size_t i = 0; i < hdl_jv_len(messages); i++) {
        hdl_jv message = hdl_jv_at(messages, i);
        if (!check_message(&message, facts, err))
            return false;
    }
    facts->plain &= !facts->calls;
    return true;
}
