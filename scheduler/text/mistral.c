/* SPDX-License-Identifier: Apache-2.0 */
/* Mistral's instruct format, for tekken models without a template: what mistral-common 1.13 encodes
 * for the versions v3, v7, v11 and v13 of a tekken.json (tests/oracle/renderers.py compares them).
 * Texts only; call ids may have any form, and the order of messages is not policed. */
#include <string.h>

#include "scheduler/text/render.h"

enum { RESULTS_MAX = 1000 }; /* of one turn: they are put in order by comparing all ids */

typedef enum kind { SYSTEM, USER, ASSISTANT, TOOL } kind;

/* What the versions do differently. */
typedef struct version {
    bool system_in_user; /* else a turn of its own */
    bool calls_in_json;  /* else name and arguments of each call between special tokens */
    bool results_in_json;
    bool ids;   /* of calls and results are written */
    bool sorts; /* results, as the calls stand */
    bool tools_first;
    bool thinks;
} version;

/* Messages of one role in a row: they are one turn. */
typedef struct turn {
    kind kind;
    size_t from, to;
} turn;

typedef struct walk {
    hdl_render *r;
    const version *v;
    size_t first_user, last_user; /* where these turns begin; SIZE_MAX: none */
} walk;

static const hdl_jval *message_of(const walk *w, size_t i) { return &w->r->messages->v[i]; }

static kind kind_of(const walk *w, size_t i)
{
    static const struct {
        const char *role;
        kind kind;
    } roles[] = {{"system", SYSTEM},
                 {"developer", SYSTEM},
                 {"user", USER},
                 {"assistant", ASSISTANT},
                 {"tool", TOOL}};
    for (size_t k = 0; k < HDL_ARRAY_LEN(roles); k++)
        if (hdl_role_is(message_of(w, i), roles[k].role))
            return roles[k].kind;
    hdl_render_fail(w->r, "messages[%zu] has a role that the model does not know", i);
    return USER;
}

static turn turn_at(const walk *w, size_t from)
{
    turn t = {.kind = kind_of(w, from), .from = from, .to = from + 1};
    while (t.to < w->r->messages->n && kind_of(w, t.to) == t.kind)
        t.to++;
    return t;
}

static void put_tools(walk *w)
{
    hdl_render *r = w->r;
    hdl_put_own(r, "[AVAILABLE_TOOLS][");
    for (size_t i = 0; i < r->tools->n && r->err == HDL_OK; i++) {
        const hdl_jval *tool = hdl_function_of(&r->tools->v[i]);
        const hdl_jval *about = hdl_member(tool, "description"),
                       *parameters = hdl_member(tool, "parameters"),
                       *name = hdl_member(tool, "name");
        hdl_jval empty = hdl_jcstr("");
        if (name == NULL) {
            hdl_render_fail(r, "tools[%zu] has no name", i);
            return;
        }
        hdl_put_own(r, i > 0 ? ", " : "");
        hdl_put_own(r, "{\"type\": \"function\", \"function\": {\"name\": ");
        hdl_put_json(r, name);
        hdl_put_own(r, ", \"description\": ");
        hdl_put_json(r, about != NULL ? about : &empty);
        hdl_put_own(r, ", \"parameters\": ");
        if (parameters != NULL)
            hdl_put_json(r, parameters);
        else
            hdl_put_own(r, "{}");
        hdl_put_own(r, "}}");
    }
    hdl_put_own(r, "][/AVAILABLE_TOOLS]");
}

/* All that were given, wherever they stood. */
static void put_prompts(walk *w)
{
    bool any = false;
    for (size_t i = 0; i < w->r->messages->n; i++) {
        const hdl_jval *content = hdl_member(message_of(w, i), "content");
        if (kind_of(w, i) != SYSTEM || content == NULL || content->s.len == 0)
            continue;
        hdl_put_own(w->r, any ? "\n\n" : "");
        hdl_put_val(w->r, content);
        any = true;
    }
    hdl_put_own(w->r, any ? "\n\n" : "");
}

static void put_user(walk *w, turn t)
{
    bool any = false, first = t.from == w->first_user, last = t.from == w->last_user;
    if (w->r->tools != NULL && (w->v->tools_first ? first : last))
        put_tools(w);
    hdl_put_own(w->r, "[INST]");
    if (last && w->v->system_in_user)
        put_prompts(w);
    for (size_t i = t.from; i < t.to; i++) {
        const hdl_jval *content = hdl_member(message_of(w, i), "content");
        if (content == NULL || content->s.len == 0)
            continue;
        hdl_put_own(w->r, any ? "\n\n" : "");
        hdl_put_val(w->r, content);
        any = true;
    }
    hdl_put_own(w->r, "[/INST]");
}

static void put_call_id(walk *w, const hdl_jval *call, const char *before, bool json)
{
    const hdl_jval *id = hdl_member(call, "id");
    if (id == NULL || hdl_jval_is(id, "") || hdl_jval_is(id, "null"))
        return;
    hdl_put_own(w->r, before);
    if (json)
        hdl_put_json(w->r, id);
    else
        hdl_put_val(w->r, id);
}

static void put_call(walk *w, const hdl_jval *call, bool first)
{
    hdl_render *r = w->r;
    const hdl_jval *function = hdl_function_of(call), *name = hdl_member(function, "name"),
                   *given = hdl_member(function, "arguments");
    bool none = given == NULL || hdl_jval_is(given, "");
    hdl_jval arguments = hdl_parse_text(r, given);
    if (name == NULL) {
        hdl_render_fail(r, "a tool call has no name");
        return;
    }
    if (w->v->calls_in_json) {
        hdl_put_own(r, first ? "{\"name\": " : ", {\"name\": ");
        hdl_put_json(r, name);
        hdl_put_own(r, ", \"arguments\": ");
    } else {
        hdl_put_own(r, "[TOOL_CALLS]");
        hdl_put_val(r, name);
        if (w->v->ids)
            put_call_id(w, call, "[CALL_ID]", false);
        hdl_put_own(r, "[ARGS]");
    }
    if (none)
        hdl_put_own(r, "{}");
    else
        hdl_put_json(r, &arguments);
    if (w->v->calls_in_json) {
        put_call_id(w, call, ", \"id\": ", true);
        hdl_put_own(r, "}");
    }
}

static size_t put_calls(walk *w, turn t)
{
    size_t n = 0;
    for (size_t i = t.from; i < t.to; i++) {
        const hdl_jlist *calls = hdl_member_list(message_of(w, i), "tool_calls");
        for (size_t k = 0; calls != NULL && k < calls->n && w->r->err == HDL_OK; k++, n++) {
            if (n == 0 && w->v->calls_in_json)
                hdl_put_own(w->r, "[TOOL_CALLS][");
            put_call(w, &calls->v[k], n == 0);
        }
    }
    if (n > 0 && w->v->calls_in_json)
        hdl_put_own(w->r, "]");
    return n;
}

/* Contents, blank line between them, with reasoning before its content; without any reasoning,
 * spaces at the end go. True when there was any. */
static bool put_contents(walk *w, turn t)
{
    hdl_render *r = w->r;
    bool text = false, thought = false;
    size_t at = r->out->len;
    for (size_t i = t.from; i < t.to; i++) {
        const hdl_jval *content = hdl_member(message_of(w, i), "content"),
                       *reasoning = hdl_reasoning(message_of(w, i));
        if (reasoning != NULL && !w->v->thinks) {
            hdl_render_fail(
                r, "messages[%zu] has reasoning, which this model does not know; leave it out", i);
        } else if (reasoning != NULL) {
            hdl_put_own(r, "[THINK]");
            hdl_put_val(r, reasoning);
            hdl_put_own(r, "[/THINK]");
            text = false;
            thought = true;
        }
        if (content == NULL || content->s.len == 0)
            continue;
        hdl_put_own(r, text ? "\n\n" : "");
        hdl_put_val(r, content);
        text = true;
    }
    const char *bytes = (const char *)hdl_buf_data(r->out);
    while (!thought && r->out->len > at && bytes[r->out->len - 1] == ' ')
        r->out->len--;
    return text || thought;
}

static void put_assistant(walk *w, turn t)
{
    hdl_render *r = w->r;
    bool content = put_contents(w, t);
    size_t calls = put_calls(w, t);
    if (content && calls > 0 && w->v->system_in_user)
        hdl_render_fail(
            r, "messages[%zu] has a content and tool calls; this model takes one of them", t.from);
    if (!content && calls == 0)
        hdl_render_fail(r, "messages[%zu] has neither a content nor tool calls", t.from);
    if (!hdl_is_open(r, t.to - 1))
        hdl_put_own(r, "</s>");
}

static void put_result(walk *w, size_t i)
{
    hdl_render *r = w->r;
    const hdl_jval *message = message_of(w, i), *content = hdl_member(message, "content"),
                   *id = hdl_member(message, "tool_call_id");
    if (w->v->ids && (id == NULL || id->kind != HDL_J_STRING)) {
        hdl_render_fail(r, "messages[%zu] is a tool's and has no tool_call_id", i);
        return;
    }
    hdl_put_own(r, "[TOOL_RESULTS]");
    if (w->v->results_in_json) {
        bool none = content == NULL || content->s.len == 0;
        hdl_jval parsed = hdl_parse_text(r, content);
        hdl_put_own(r, none ? "{\"content\": {}" : "{\"content\": ");
        if (!none)
            hdl_put_json(r, &parsed);
        hdl_put_own(r, ", \"call_id\": ");
        hdl_put_json(r, id);
        hdl_put_own(r, "}");
    } else {
        if (w->v->ids) {
            hdl_put_val(r, id);
            hdl_put_own(r, "[TOOL_CONTENT]");
        }
        hdl_put_val(r, content);
    }
    hdl_put_own(r, "[/TOOL_RESULTS]");
}

static const hdl_jval *call_id(const walk *w, size_t result)
{
    static const hdl_jval none = {.kind = HDL_J_NONE};
    const hdl_jval *id = hdl_member(message_of(w, result), "tool_call_id");
    return id != NULL ? id : &none;
}

/* Where the call stands whose result this is; UINT32_MAX: nowhere. */
static uint32_t call_index(const walk *w, turn calls, size_t result)
{
    const hdl_jval *id = call_id(w, result);
    uint32_t n = 0, found = UINT32_MAX;
    for (size_t i = calls.from; i < calls.to; i++) {
        const hdl_jlist *list = hdl_member_list(message_of(w, i), "tool_calls");
        for (size_t k = 0; list != NULL && k < list->n; k++, n++) {
            const hdl_jval *other = hdl_member(&list->v[k], "id");
            if (other != NULL && hdl_jval_equal(other, id, NULL))
                found = n;
        }
    }
    return found;
}

/* Results of one call stand together, where its last one stood. */
static uint64_t order_key(const walk *w, turn results, turn calls, size_t result)
{
    size_t last = results.to - 1;
    while (last > result && !hdl_jval_equal(call_id(w, last), call_id(w, result), NULL))
        last--;
    return (uint64_t)call_index(w, calls, result) << 32 | (last - results.from);
}

static void put_results(walk *w, turn t, turn before)
{
    uint64_t key[RESULTS_MAX];
    size_t order[RESULTS_MAX], n = 0;
    if (t.to - t.from > RESULTS_MAX) {
        hdl_render_fail(w->r, "messages[%zu]: more than %d tool results in one turn", t.from,
                        RESULTS_MAX);
        return;
    }
    for (size_t i = t.from; i < t.to; i++) {
        size_t at = n++;
        uint64_t k = w->v->sorts ? order_key(w, t, before, i) : 0;
        for (; at > 0 && key[at - 1] > k; at--) {
            key[at] = key[at - 1];
            order[at] = order[at - 1];
        }
        key[at] = k;
        order[at] = i;
    }
    for (size_t i = 0; i < n && w->r->err == HDL_OK; i++)
        put_result(w, order[i]);
}

static void put_system(walk *w, turn t)
{
    for (size_t i = t.from; i < t.to && !w->v->system_in_user; i++) {
        hdl_put_own(w->r, "[SYSTEM_PROMPT]");
        hdl_put_val(w->r, hdl_member(message_of(w, i), "content"));
        hdl_put_own(w->r, "[/SYSTEM_PROMPT]");
    }
}

/* A conversation has a user's turn at its front, by hook or by crook. */
static bool lacks_user(walk *w)
{
    bool any = false, user = false;
    w->first_user = w->last_user = SIZE_MAX;
    for (size_t i = 0; i < w->r->messages->n;) {
        turn t = turn_at(w, i);
        i = t.to;
        if (t.kind == SYSTEM && w->v->system_in_user)
            continue;
        user = any ? user : t.kind == USER;
        any = true;
        if (t.kind != USER)
            continue;
        w->first_user = w->first_user != SIZE_MAX ? w->first_user : t.from;
        w->last_user = t.from;
    }
    return !any || (w->v->system_in_user && !user);
}

static void run(hdl_render *r, const version *v)
{
    walk w = {.r = r, .v = v};
    turn calls = {.kind = ASSISTANT};
    hdl_put_own(r, "<s>");
    if (lacks_user(&w)) {
        w.first_user = SIZE_MAX;
        put_user(&w, (turn){.kind = USER, .from = SIZE_MAX, .to = SIZE_MAX});
        w.first_user = SIZE_MAX - 1; /* this was the first */
    }
    for (size_t i = 0; i < r->messages->n && r->err == HDL_OK;) {
        turn t = turn_at(&w, i);
        i = t.to;
        if (t.kind == SYSTEM)
            put_system(&w, t);
        else if (t.kind == USER)
            put_user(&w, t);
        else if (t.kind == TOOL)
            put_results(&w, t, calls);
        else
            put_assistant(&w, t);
        if (t.kind == ASSISTANT)
            calls = t;
        else if (t.kind == TOOL)
            calls.to = calls.from;
    }
}

static void run_v3(hdl_render *r)
{
    run(r,
        &(version){
            .system_in_user = true, .calls_in_json = true, .results_in_json = true, .ids = true});
}

static void run_v7(hdl_render *r) { run(r, &(version){.calls_in_json = true, .ids = true}); }
static void run_v11(hdl_render *r) { run(r, &(version){.ids = true, .sorts = true}); }
static void run_v13(hdl_render *r)
{
    run(r, &(version){.sorts = true, .tools_first = true, .thinks = true});
}

const hdl_renderer hdl_mistral_v3 = {.name = "mistral v3", .part_join = "\n\n", .run = run_v3};
const hdl_renderer hdl_mistral_v7 = {.name = "mistral v7", .part_join = "\n\n", .run = run_v7};
const hdl_renderer hdl_mistral_v11 = {.name = "mistral v11", .part_join = "\n\n", .run = run_v11};
const hdl_renderer hdl_mistral_v13 = {.name = "mistral v13", .part_join = "\n\n", .run = run_v13};
