/* SPDX-License-Identifier: Apache-2.0 */
/* DeepSeek V3.2 and V4, which ship a Python program and no template: V3.2 as encoding/
 * encoding_dsv32.py of deepseek-ai/DeepSeek-V3.2 writes it, V4 as the template that llama.cpp made
 * of its program. Thinking is off unless `thinking` or `enable_thinking` says otherwise. */
#include <string.h>

#include "scheduler/text/render.h"

#define BAR       "\xef\xbd\x9c" /* U+FF5C */
#define LINE      "\xe2\x96\x81" /* U+2581 */
#define BOS       "<" BAR "begin" LINE "of" LINE "sentence" BAR ">"
#define EOS       "<" BAR "end" LINE "of" LINE "sentence" BAR ">"
#define USER      "<" BAR "User" BAR ">"
#define ASSISTANT "<" BAR "Assistant" BAR ">"
#define DSML      BAR "DSML" BAR

/* What the two versions say differently. */
typedef struct version {
    const char *block; /* the element around calls */
    const char *tools_head, *tools_foot;
} version;

static const version V32 = {
    .block = "function_calls",
    .tools_head =
        "## Tools\nYou have access to a set of tools you can use to answer the user's "
        "question.\nYou can invoke functions by writing a \"<" DSML
        "function_calls>\" block like the following as part of your reply to the user:\n<" DSML
        "function_calls>\n<" DSML "invoke name=\"$FUNCTION_NAME\">\n<" DSML
        "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</" DSML
        "parameter>\n...\n</" DSML "invoke>\n<" DSML
        "invoke name=\"$FUNCTION_NAME2\">\n...\n</" DSML "invoke>\n</" DSML
        "function_calls>\nString and scalar parameters should be specified as is without any "
        "escaping or quotes, while lists and objects should use JSON format. The \"string\" "
        "attribute should be set to \"true\" for string type parameters and \"false\" for other "
        "types (numbers, booleans, arrays, objects).\nIf the thinking_mode is enabled, then after "
        "function results you should strongly consider outputting a thinking block. Here is an "
        "example:\n<" DSML "function_calls>\n...\n</" DSML
        "function_calls>\n<function_results>\n...\n</function_results>\n<think>...thinking about "
        "results</think>\nHere are the functions available in JSONSchema format:\n<functions>\n",
    .tools_foot = "</functions>\n",
};

static const version V4 = {
    .block = "tool_calls",
    .tools_head =
        "## Tools\n\nYou have access to a set of tools to help answer the user's question. You can "
        "invoke tools by writing a \"<" DSML "tool_calls>\" block like the following:\n\n<" DSML
        "tool_calls>\n<" DSML "invoke name=\"$TOOL_NAME\">\n<" DSML
        "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</" DSML
        "parameter>\n...\n</" DSML "invoke>\n<" DSML "invoke name=\"$TOOL_NAME2\">\n...\n</" DSML
        "invoke>\n</" DSML
        "tool_calls>\n\nString parameters should be specified as is and set `string=\"true\"`. For "
        "all other types (numbers, booleans, arrays, objects), pass the value in JSON format and "
        "set `string=\"false\"`.\n\nIf thinking_mode is enabled (triggered by <think>), you MUST "
        "output your complete reasoning inside <think>...</think> BEFORE any tool calls or final "
        "response.\n\nOtherwise, output directly after </think> with tool calls or final "
        "response.\n\n### Available Tool Schemas\n\n",
    .tools_foot = "\nYou MUST strictly follow the above defined tool name and parameter schemas to "
                  "invoke tool calls.\n",
};

static const char EFFORT_MAX[] =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very thorough in "
    "your thinking and comprehensively decompose the problem to resolve the root cause, rigorously "
    "stress-testing your logic against all potential paths, edge cases, and adversarial "
    "scenarios.\nExplicitly write out your entire deliberation process, documenting every "
    "intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no "
    "assumption is left unchecked.\n\n";

static bool is_thinking(const hdl_render *r)
{
    const hdl_jval *thinking = hdl_variable(r, "thinking"),
                   *other = hdl_variable(r, "enable_thinking");
    if (thinking != NULL)
        return hdl_jval_true(thinking);
    return other != NULL && hdl_jval_true(other);
}

static void put_tools(hdl_render *r, const version *v)
{
    hdl_put_own(r, v->tools_head);
    for (size_t i = 0; i < r->tools->n; i++) {
        hdl_put_json(r, hdl_function_of(&r->tools->v[i]));
        hdl_put_own(r, "\n");
    }
    hdl_put_own(r, v->tools_foot);
}

static void put_parameter(hdl_render *r, const hdl_jval *name, const hdl_jval *value)
{
    bool text = value->kind == HDL_J_STRING;
    hdl_put_own(r, "<" DSML "parameter name=\"");
    hdl_put_val(r, name);
    hdl_put_own(r, text ? "\" string=\"true\">" : "\" string=\"false\">");
    if (text)
        hdl_put_val(r, value);
    else
        hdl_put_json(r, value);
    hdl_put_own(r, "</" DSML "parameter>\n");
}

static void put_calls(hdl_render *r, const version *v, const hdl_jlist *calls)
{
    hdl_put_own(r, "\n\n<" DSML);
    hdl_put_own(r, v->block);
    hdl_put_own(r, ">\n");
    for (size_t i = 0; i < calls->n && r->err == HDL_OK; i++) {
        const hdl_jval *call = hdl_function_of(&calls->v[i]), *name = hdl_member(call, "name");
        hdl_jval arguments = hdl_parse_text(r, hdl_member(call, "arguments"));
        if (name == NULL || arguments.kind != HDL_J_DICT) {
            hdl_render_fail(r, "a tool call needs a name and an object of arguments");
            return;
        }
        hdl_put_own(r, "<" DSML "invoke name=\"");
        hdl_put_val(r, name);
        hdl_put_own(r, "\">\n");
        for (size_t k = 0; k < arguments.dict->n; k++)
            put_parameter(r, &arguments.dict->keys[k], &arguments.dict->values[k]);
        hdl_put_own(r, arguments.dict->n == 0 ? "\n" : "");
        hdl_put_own(r, "</" DSML "invoke>\n");
    }
    hdl_put_own(r, "</" DSML);
    hdl_put_own(r, v->block);
    hdl_put_own(r, ">");
}

/* ---- V4 ---- */

/* All system prompts first, wherever they stood, then the tools. */
static void put_system_v4(hdl_render *r, bool thinking)
{
    const hdl_jval *effort = hdl_variable(r, "reasoning_effort");
    size_t n = 0;
    hdl_put_own(r, BOS);
    if (r->messages->n > 0 && thinking && effort != NULL && hdl_jval_is(effort, "max"))
        hdl_put_own(r, EFFORT_MAX);
    size_t start = r->out->len;
    for (size_t i = 0; i < r->messages->n; i++) {
        if (!hdl_role_is(&r->messages->v[i], "system"))
            continue;
        hdl_put_own(r, n++ > 0 ? "\n\n" : "");
        hdl_put_val(r, hdl_member(&r->messages->v[i], "content"));
    }
    if (r->tools == NULL)
        return;
    hdl_put_own(r, r->out->len > start ? "\n\n" : "");
    put_tools(r, &V4);
}

/* What decides whether reasoning of earlier turns is shown. */
typedef struct history {
    bool thinking, keep; /* keep: all of it */
    size_t last_user;    /* last message of somebody else; SIZE_MAX: none */
} history;

static bool from_user(const hdl_jval *message)
{
    return hdl_role_is(message, "user") || hdl_role_is(message, "developer");
}

static void put_assistant_v4(hdl_render *r, const history *h, size_t i)
{
    const hdl_jval *message = &r->messages->v[i], *reasoning = hdl_reasoning(message);
    const hdl_jlist *calls = hdl_member_list(message, "tool_calls");
    bool after = h->last_user == SIZE_MAX || i > h->last_user;
    hdl_put_own(r, ASSISTANT);
    if (h->thinking && (h->keep || after)) {
        hdl_put_own(r, "<think>");
        hdl_put_val(r, reasoning);
    }
    hdl_put_own(r, "</think>");
    hdl_put_val(r, hdl_member(message, "content"));
    if (hdl_is_open(r, i))
        return;
    if (calls != NULL)
        put_calls(r, &V4, calls);
    hdl_put_own(r, EOS);
}

static void run_v4(hdl_render *r)
{
    const hdl_jval *drop = hdl_variable(r, "drop_thinking");
    history h = {.thinking = is_thinking(r), .last_user = SIZE_MAX};
    h.keep = r->tools != NULL || (drop != NULL && !hdl_jval_true(drop));
    for (size_t i = 0; i < r->messages->n; i++) {
        bool tool = hdl_role_is(&r->messages->v[i], "tool");
        h.keep |= tool;
        if (tool || from_user(&r->messages->v[i]))
            h.last_user = i;
    }
    put_system_v4(r, h.thinking);
    bool in_user = false;
    for (size_t i = 0; i < r->messages->n && r->err == HDL_OK; i++) {
        const hdl_jval *message = &r->messages->v[i];
        bool tool = hdl_role_is(message, "tool");
        if (tool || from_user(message)) {
            hdl_put_own(r, in_user ? "\n\n" : USER);
            in_user = true;
            hdl_put_own(r, tool ? "<tool_result>" : "");
            hdl_put_val(r, hdl_member(message, "content"));
            hdl_put_own(r, tool ? "</tool_result>" : "");
        } else if (hdl_role_is(message, "assistant")) {
            in_user = false;
            put_assistant_v4(r, &h, i);
        }
    }
    if (r->chat->add_generation_prompt)
        hdl_put_own(r, h.thinking ? ASSISTANT "<think>" : ASSISTANT "</think>");
}

/* ---- V3.2 ---- */

static size_t last_from_user(const hdl_render *r)
{
    for (size_t i = r->messages->n; i-- > 0;)
        if (from_user(&r->messages->v[i]))
            return i;
    return SIZE_MAX; /* as -1 */
}

static void put_think(hdl_render *r, bool begins)
{
    hdl_put_own(r, begins ? "<think>" : "</think>");
}

static void put_tools_v32(hdl_render *r)
{
    hdl_put_own(r, "\n\n");
    put_tools(r, &V32);
}

/* The result of the call that stands as far behind its message as this one does. */
static void put_result(hdl_render *r, size_t i, bool begins)
{
    size_t from = i;
    while (from > 0 && hdl_role_is(&r->messages->v[from], "tool"))
        from--;
    const hdl_jlist *calls = hdl_member_list(&r->messages->v[from], "tool_calls");
    if (from == i || calls == NULL || calls->n < i - from) {
        hdl_render_fail(r, "messages[%zu] is a tool's, but no call of its own came before it", i);
        return;
    }
    hdl_put_own(r, i - from == 1 ? "\n\n<function_results>" : "");
    hdl_put_own(r, "\n<result>");
    hdl_put_val(r, hdl_member(&r->messages->v[i], "content"));
    hdl_put_own(r, "</result>");
    if (i - from == calls->n) {
        hdl_put_own(r, "\n</function_results>\n\n");
        put_think(r, begins);
    }
}

static void put_assistant_v32(hdl_render *r, size_t i, bool shows)
{
    const hdl_jval *message = &r->messages->v[i], *reasoning = hdl_reasoning(message);
    const hdl_jlist *calls = hdl_member_list(message, "tool_calls");
    if (shows && reasoning == NULL && calls == NULL)
        hdl_render_fail(r,
                        "messages[%zu] has neither reasoning nor tool calls; thinking is on and "
                        "it comes after the last message of the user",
                        i);
    if (shows) {
        hdl_put_val(r, reasoning);
        hdl_put_own(r, "</think>");
    }
    hdl_put_val(r, hdl_member(message, "content"));
    if (hdl_is_open(r, i))
        return;
    if (calls != NULL)
        put_calls(r, &V32, calls);
    hdl_put_own(r, EOS);
}

/* The tools stand behind the system prompt that begins the conversation. A developer's message is
 * the user's with a head line. Reasoning of turns before the last message of the user is dropped,
 * and with it messages of developers there. */
static void run_v32(hdl_render *r)
{
    bool thinking = is_thinking(r);
    size_t last = last_from_user(r), n = r->messages->n;
    bool prompted = n > 0 && hdl_role_is(&r->messages->v[0], "system");
    hdl_put_own(r, BOS);
    if (r->tools != NULL && !prompted)
        put_tools_v32(r);
    for (size_t i = 0; i < n && r->err == HDL_OK; i++) {
        const hdl_jval *message = &r->messages->v[i], *content = hdl_member(message, "content");
        bool developer = hdl_role_is(message, "developer");
        bool before = last != SIZE_MAX && i < last;
        if (hdl_role_is(message, "system")) {
            hdl_put_val(r, content);
            if (r->tools != NULL && i == 0)
                put_tools_v32(r);
        } else if (developer && before && thinking) {
            continue;
        } else if (from_user(message)) {
            hdl_put_own(r, USER);
            hdl_put_own(r, developer ? "\n\n# The user's message is: " : "");
            hdl_put_val(r, content);
            hdl_put_own(r, ASSISTANT);
            put_think(r, thinking && i == last);
        } else if (hdl_role_is(message, "tool")) {
            put_result(r, i, thinking && !before);
        } else if (hdl_role_is(message, "assistant")) {
            put_assistant_v32(r, i, thinking && !before);
        } else {
            hdl_render_fail(r, "messages[%zu] has a role that the model does not know", i);
        }
    }
}

const hdl_renderer hdl_dsml_v4 = {.name = "deepseek-v4",
                                  .variables =
                                      "thinking enable_thinking drop_thinking reasoning_effort",
                                  .part_join = "\n",
                                  .run = run_v4};
const hdl_renderer hdl_dsml_v32 = {.name = "deepseek-v3.2",
                                   .variables = "thinking enable_thinking",
                                   .part_join = "\n",
                                   .run = run_v32};
