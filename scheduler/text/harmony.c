/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAI's Harmony, for gpt-oss files that carry no template: what the published chat template of
 * openai/gpt-oss-120b writes, white space included (tests/oracle/renderers.py compares them). The
 * built-in tools (browser, python) are not offered. */
#include <string.h>

#include "scheduler/text/render.h"
#include "scheduler/text/strftime.h"

enum { INNER_MAX = 50, NEST_MAX = 32 }; /* longer types of items are "any" */

static void put_type(hdl_render *r, const hdl_jval *spec, unsigned depth);

static bool type_is(const hdl_jval *spec, const char *name)
{
    const hdl_jval *type = hdl_member(spec, "type");
    return type != NULL && hdl_jval_is(type, name);
}

static void put_nullable(hdl_render *r, const hdl_jval *spec)
{
    const hdl_jval *nullable = hdl_member(spec, "nullable");
    if (nullable != NULL && hdl_jval_true(nullable))
        hdl_put_own(r, " | null");
}

/* Written to be looked at: a long type of items is taken back. */
static void put_items(hdl_render *r, const hdl_jval *items, unsigned depth)
{
    static const char *const simple[][2] = {{"string", "string[]"},
                                            {"number", "number[]"},
                                            {"integer", "number[]"},
                                            {"boolean", "boolean[]"}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(simple); i++)
        if (type_is(items, simple[i][0])) {
            hdl_put_own(r, simple[i][1]);
            return;
        }
    size_t at = r->out->len;
    put_type(r, items, depth);
    hdl_text inner = {(const char *)hdl_buf_data(r->out) + at, r->out->len - at};
    hdl_jval text = hdl_jslice(inner);
    if (!hdl_jval_is(&text, "object | object") && hdl_jtext_chars(inner) <= INNER_MAX) {
        hdl_put_own(r, "[]");
        return;
    }
    r->out->len = at;
    hdl_ranges_cut(&r->own, at);
    hdl_put_own(r, "any[]");
}

static void put_enum(hdl_render *r, const hdl_jlist *values)
{
    hdl_put_own(r, "\"");
    for (size_t i = 0; i < values->n; i++) {
        if (i > 0)
            hdl_put_own(r, "\" | \"");
        if (values->v[i].kind == HDL_J_STRING)
            hdl_put_val(r, &values->v[i]);
        else
            hdl_put_json(r, &values->v[i]);
    }
    hdl_put_own(r, "\"");
}

static bool is_required(const hdl_jlist *required, const hdl_jval *name)
{
    for (size_t i = 0; required != NULL && i < required->n; i++)
        if (hdl_jval_equal(&required->v[i], name, NULL))
            return true;
    return false;
}

static void put_object(hdl_render *r, const hdl_jval *spec, unsigned depth)
{
    const hdl_jval *properties = hdl_member(spec, "properties");
    const hdl_jlist *required = hdl_member_list(spec, "required");
    if (properties == NULL || properties->kind != HDL_J_DICT || properties->dict->n == 0) {
        hdl_put_own(r, "object");
        return;
    }
    const hdl_jdict *dict = properties->dict;
    hdl_put_own(r, "{\n");
    for (size_t i = 0; i < dict->n; i++) {
        hdl_put_val(r, &dict->keys[i]);
        hdl_put_own(r, is_required(required, &dict->keys[i]) ? "" : "?");
        hdl_put_own(r, ": \n                ");
        put_type(r, &dict->values[i], depth);
        hdl_put_own(r, i + 1 < dict->n ? ", " : "");
    }
    hdl_put_own(r, "}");
}

static void put_one_of(hdl_render *r, const hdl_jlist *variants, unsigned depth)
{
    for (size_t i = 0; i < variants->n; i++) {
        const hdl_jval *v = &variants->v[i], *about = hdl_member(v, "description");
        const hdl_jval *fallback =
            v->kind == HDL_J_DICT ? hdl_jdict_get(v->dict, hdl_jcstr("default"), NULL) : NULL;
        put_type(r, v, depth);
        if (about != NULL && hdl_jval_true(about)) {
            hdl_put_own(r, "// ");
            hdl_put_val(r, about);
        }
        if (fallback != NULL) {
            hdl_put_own(r, "                    // default: ");
            hdl_put_json(r, fallback);
        }
        hdl_put_own(r, i + 1 < variants->n ? " | \n" : "");
    }
}

static void put_union(hdl_render *r, const hdl_jlist *types)
{
    for (size_t i = 0; i < types->n; i++) {
        hdl_put_own(r, i > 0 ? " | " : "");
        hdl_put_val(r, &types->v[i]);
    }
}

/* A JSON schema as a TypeScript type. */
static void put_type(hdl_render *r, const hdl_jval *spec, unsigned depth)
{
    const hdl_jlist *union_of = hdl_member_list(spec, "type"),
                    *one_of = hdl_member_list(spec, "oneOf"),
                    *values = hdl_member_list(spec, "enum");
    if (depth >= NEST_MAX) {
        hdl_render_fail(r, "tools: a schema is nested deeper than %d", NEST_MAX);
        return;
    }
    if (type_is(spec, "array")) {
        const hdl_jval *items = hdl_member(spec, "items");
        if (items != NULL && hdl_jval_true(items))
            put_items(r, items, depth + 1);
        else
            hdl_put_own(r, "any[]");
        put_nullable(r, spec);
    } else if (union_of != NULL) {
        put_union(r, union_of);
    } else if (one_of != NULL) {
        put_one_of(r, one_of, depth + 1);
    } else if (type_is(spec, "string") && values != NULL) {
        put_enum(r, values);
    } else if (type_is(spec, "string")) {
        hdl_put_own(r, "string");
        put_nullable(r, spec);
    } else if (type_is(spec, "number") || type_is(spec, "integer")) {
        hdl_put_own(r, "number");
    } else if (type_is(spec, "boolean")) {
        hdl_put_own(r, "boolean");
    } else if (type_is(spec, "object")) {
        put_object(r, spec, depth + 1);
    } else {
        hdl_put_own(r, "any");
    }
}

static void put_default(hdl_render *r, const hdl_jval *spec)
{
    const hdl_jval *v =
        spec->kind == HDL_J_DICT ? hdl_jdict_get(spec->dict, hdl_jcstr("default"), NULL) : NULL;
    bool chosen = hdl_member_list(spec, "enum") != NULL, one_of = hdl_member_list(spec, "oneOf");
    if (v == NULL)
        return;
    hdl_put_own(r, one_of && !chosen ? "// default: " : ", // default: ");
    if (!chosen && !one_of)
        hdl_put_json(r, v);
    else if (v->kind == HDL_J_STRING)
        hdl_put_val(r, v);
    else
        hdl_render_fail(r, "tools: the default of an enum or oneOf must be a string");
}

static void put_parameters(hdl_render *r, const hdl_jval *parameters)
{
    const hdl_jval *properties = hdl_member(parameters, "properties");
    const hdl_jlist *required = hdl_member_list(parameters, "required");
    if (properties == NULL || properties->kind != HDL_J_DICT || properties->dict->n == 0) {
        hdl_put_own(r, "() => any;\n\n");
        return;
    }
    hdl_put_own(r, "(_: {\n");
    for (size_t i = 0; i < properties->dict->n; i++) {
        const hdl_jval *name = &properties->dict->keys[i], *spec = &properties->dict->values[i];
        hdl_text about = hdl_member_text(spec, "description");
        if (about.len > 0) {
            hdl_put_own(r, "// ");
            hdl_put_text(r, about);
            hdl_put_own(r, "\n");
        }
        hdl_put_val(r, name);
        hdl_put_own(r, is_required(required, name) ? ": " : "?: ");
        put_type(r, spec, 0);
        put_default(r, spec);
        hdl_put_own(r, ",\n");
    }
    hdl_put_own(r, "}) => any;\n\n");
}

static void put_tools(hdl_render *r)
{
    hdl_put_own(r, "# Tools\n\n## functions\n\nnamespace functions {\n\n");
    for (size_t i = 0; i < r->tools->n; i++) {
        const hdl_jval *tool = hdl_function_of(&r->tools->v[i]);
        if (hdl_member(tool, "description") == NULL || hdl_member(tool, "name") == NULL)
            hdl_render_fail(r, "tools[%zu] needs a name and a description", i);
        hdl_put_own(r, "// ");
        hdl_put_val(r, hdl_member(tool, "description"));
        hdl_put_own(r, "\ntype ");
        hdl_put_val(r, hdl_member(tool, "name"));
        hdl_put_own(r, " = ");
        put_parameters(r, hdl_member(tool, "parameters"));
    }
    hdl_put_own(r, "} // namespace functions");
}

static void put_system(hdl_render *r)
{
    const hdl_jval *identity = hdl_variable(r, "model_identity"),
                   *effort = hdl_variable(r, "reasoning_effort");
    char date_text[16] = "";
    hdl_buf date;
    hdl_put_own(r, "<|start|>system<|message|>");
    if (identity != NULL)
        hdl_put_val(r, identity);
    else
        hdl_put_own(r, "You are ChatGPT, a large language model trained by OpenAI.");
    hdl_buf_init(&date, sizeof date_text);
    if (hdl_strftime(r->chat->now_wall_us, (hdl_text){"%Y-%m-%d", 8}, &date) != HDL_OK)
        hdl_render_fail(r, "the date cannot be written");
    hdl_put_own(r, "\nKnowledge cutoff: 2024-06\nCurrent date: ");
    hdl_put_text(r, (hdl_text){(const char *)hdl_buf_data(&date), date.len});
    hdl_buf_deinit(&date);
    hdl_put_own(r, "\n\nReasoning: ");
    if (effort != NULL)
        hdl_put_val(r, effort);
    else
        hdl_put_own(r, "medium");
    hdl_put_own(r,
                "\n\n# Valid channels: analysis, commentary, final. Channel must be included for "
                "every message.");
    if (r->tools != NULL)
        hdl_put_own(r, "\nCalls to these tools must go to the commentary channel: 'functions'.");
    hdl_put_own(r, "<|end|>");
}

static void put_developer(hdl_render *r, hdl_text instructions)
{
    if (instructions.len == 0 && r->tools == NULL)
        return;
    hdl_put_own(r, "<|start|>developer<|message|>");
    if (instructions.len > 0) {
        hdl_put_own(r, "# Instructions\n\n");
        hdl_put_text(r, instructions);
        hdl_put_own(r, "\n\n");
    }
    if (r->tools != NULL)
        put_tools(r);
    hdl_put_own(r, "<|end|>");
}

static void put_analysis(hdl_render *r, hdl_text text)
{
    hdl_put_own(r, "<|start|>assistant<|channel|>analysis<|message|>");
    hdl_put_text(r, text);
    hdl_put_own(r, "<|end|>");
}

/* Reasoning before a call stays until a later answer has come. */
static bool answered_later(const hdl_render *r, size_t i)
{
    for (size_t k = i + 1; k < r->messages->n; k++) {
        const hdl_jval *m = &r->messages->v[k];
        if (hdl_role_is(m, "assistant") &&
            hdl_jdict_get(m->dict, hdl_jcstr("tool_calls"), NULL) == NULL)
            return true;
    }
    return false;
}

static const hdl_jval *put_call(hdl_render *r, size_t i)
{
    const hdl_jval *message = &r->messages->v[i], *thinking = hdl_reasoning(message);
    const hdl_jval *call = hdl_function_of(&hdl_member_list(message, "tool_calls")->v[0]);
    const hdl_jval *name = hdl_member(call, "name"), *type = hdl_member(call, "content_type"),
                   *arguments = hdl_member(call, "arguments"), none = hdl_jnone();
    hdl_text content = hdl_member_text(message, "content");
    bool later = answered_later(r, i);
    if (content.len > 0 && thinking != NULL)
        hdl_render_fail(r,
                        "messages[%zu] has both content and reasoning beside a tool call; give "
                        "one of them",
                        i);
    if (content.len > 0 && !later)
        put_analysis(r, content);
    else if (thinking != NULL && !later)
        put_analysis(r, thinking->s);
    if (name == NULL)
        hdl_render_fail(r, "messages[%zu] has a tool call without a name", i);
    hdl_put_own(r, "<|start|>assistant to=functions.");
    hdl_put_val(r, name);
    hdl_put_own(r, "<|channel|>commentary ");
    if (type != NULL)
        hdl_put_val(r, type);
    else
        hdl_put_own(r, "json");
    hdl_put_own(r, "<|message|>");
    hdl_put_json(r, arguments != NULL ? arguments : &none);
    hdl_put_own(r, "<|call|>");
    return name;
}

static void put_answer(hdl_render *r, size_t i)
{
    const hdl_jval *message = &r->messages->v[i], *thinking = hdl_reasoning(message);
    bool last = i + 1 == r->messages->n && !r->chat->add_generation_prompt;
    if (hdl_member(message, "content") == NULL)
        hdl_render_fail(r, "messages[%zu] has no content", i);
    if (last && thinking != NULL)
        put_analysis(r, thinking->s);
    hdl_put_own(r, "<|start|>assistant<|channel|>final<|message|>");
    hdl_put_val(r, hdl_member(message, "content"));
    if (!hdl_is_open(r, i))
        hdl_put_own(r, last ? "<|return|>" : "<|end|>");
}

static void put_messages(hdl_render *r, size_t from)
{
    const hdl_jval *called = NULL;
    for (size_t i = from; i < r->messages->n && r->err == HDL_OK; i++) {
        const hdl_jval *message = &r->messages->v[i], *content = hdl_member(message, "content");
        if (hdl_role_is(message, "assistant") && hdl_member_list(message, "tool_calls") != NULL) {
            called = put_call(r, i);
        } else if (hdl_role_is(message, "assistant")) {
            put_answer(r, i);
            called = i + 1 == r->messages->n && !r->chat->add_generation_prompt ? called : NULL;
        } else if (hdl_role_is(message, "tool")) {
            if (called == NULL || content == NULL) {
                hdl_render_fail(r,
                                "messages[%zu] is a tool's, but no call came before it, or it "
                                "has no content",
                                i);
                return;
            }
            hdl_put_own(r, "<|start|>functions.");
            hdl_put_val(r, called);
            hdl_put_own(r, " to=assistant<|channel|>commentary<|message|>");
            hdl_put_json(r, content);
            hdl_put_own(r, "<|end|>");
        } else if (hdl_role_is(message, "user")) {
            hdl_put_own(r, "<|start|>user<|message|>");
            hdl_put_val(r, content);
            hdl_put_own(r, "<|end|>");
        }
    }
}

static void run(hdl_render *r)
{
    const hdl_jval *first = r->messages->n > 0 ? &r->messages->v[0] : NULL;
    bool instructed =
        first != NULL && (hdl_role_is(first, "system") || hdl_role_is(first, "developer"));
    if (first == NULL)
        hdl_render_fail(r, "messages is empty; send at least one");
    put_system(r);
    put_developer(r, instructed ? hdl_member_text(first, "content") : (hdl_text){"", 0});
    put_messages(r, instructed);
    if (r->chat->add_generation_prompt)
        hdl_put_own(r, "<|start|>assistant");
}

const hdl_renderer hdl_harmony = {.name = "harmony",
                                  .variables = "model_identity reasoning_effort",
                                  .part_join = "\n",
                                  .run = run};
