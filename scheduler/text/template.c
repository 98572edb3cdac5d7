/* SPDX-License-Identifier: Apache-2.0 */
/* Request path 4 of 14: messages -> prompt text; tokenizer.c turns that into ids. */
#include "scheduler/text/template.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/text/jinja_run.h"
#include "scheduler/text/render.h"

struct hdl_template {
    const hdl_renderer *renderer; /* NULL: the program it is */
    hdl_jprogram program;
};

hdl_err hdl_template_open(hdl_template **out, const char *source, size_t len, hdl_errmsg *why)
{
    hdl_template *tpl = calloc(1, sizeof *tpl);
    if (tpl == NULL)
        return HDL_NOMEM;
    hdl_err err = hdl_jprogram_init(&tpl->program, (hdl_text){source, len}, why);
    if (err != HDL_OK) {
        hdl_template_free(tpl);
        return err == HDL_BUSY ? hdl_fail(HDL_UNSUPPORTED, why, "chat template: it is too large")
                               : err;
    }
    *out = tpl;
    return HDL_OK;
}

hdl_err hdl_template_open_model(hdl_template **out, const hdl_tok_info *info, hdl_errmsg *why)
{
    if (info->chat_template != NULL)
        return hdl_template_open(out, info->chat_template, info->chat_template_len, why);
    const hdl_renderer *renderer = hdl_renderer_find(info);
    if (renderer == NULL && info->tekken_version != NULL)
        return hdl_fail(
            HDL_UNSUPPORTED, why,
            "tekken.json has version %s and there is no chat template; heddle knows the "
            "chats of v3, v7, v11 and v13; add a chat_template.jinja to the folder",
            info->tekken_version);
    if (renderer == NULL)
        return hdl_fail(HDL_NOTFOUND, why,
                        "the model has no chat template; it is a base model, or its template was "
                        "left out; use plain completions, or add a chat_template.jinja");
    hdl_template *tpl = calloc(1, sizeof *tpl);
    if (tpl == NULL)
        return HDL_NOMEM;
    tpl->renderer = renderer;
    *out = tpl;
    return HDL_OK;
}

void hdl_template_free(hdl_template *tpl)
{
    if (tpl == NULL)
        return;
    if (tpl->renderer == NULL)
        hdl_jprogram_deinit(&tpl->program);
    free(tpl);
}

bool hdl_template_takes(const hdl_template *tpl, const char *variable)
{
    hdl_text word = {variable, strlen(variable)};
    if (tpl->renderer != NULL)
        return hdl_renderer_takes(tpl->renderer, variable);
    return hdl_jnames_find(&tpl->program.names, word) != NULL;
}

/* A variable of the outermost scope; one that the template never names is not even made. */
static hdl_err define(hdl_jrun *run, const char *name, hdl_jval v)
{
    const char *interned = hdl_jnames_find(&run->program->names, (hdl_text){name, strlen(name)});
    return interned ? hdl_jframe_set(run, run->frame, interned, v) : HDL_OK;
}

static hdl_err define_json(hdl_jrun *run, const char *name, const hdl_jv *json)
{
    hdl_jval v = hdl_jnone();
    if (json != NULL)
        HDL_TRY(hdl_jval_of_json(&run->mem, json, &v));
    return define(run, name, v);
}

static hdl_err define_globals(hdl_jrun *run)
{
    for (size_t i = 0; i < run->program->names.size; i++) {
        const char *name = run->program->names.v[i];
        const hdl_jfunction *function = name ? hdl_jglobal_find(name) : NULL;
        if (function != NULL)
            HDL_TRY(hdl_jframe_set(run, run->frame, name,
                                   (hdl_jval){.kind = HDL_J_FUNCTION, .function = function}));
    }
    return HDL_OK;
}

static hdl_err define_special(hdl_jrun *run, const hdl_special_texts *special)
{
    const struct {
        const char *name, *text;
    } tokens[] = {{"bos_token", special->bos},
                  {"eos_token", special->eos},
                  {"pad_token", special->pad},
                  {"unk_token", special->unk}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(tokens); i++) {
        hdl_jval v;
        if (tokens[i].text == NULL)
            continue;
        hdl_text text = {tokens[i].text, strlen(tokens[i].text)};
        HDL_TRY(hdl_jstring_own(&run->mem, text, true, &v));
        HDL_TRY(define(run, tokens[i].name, v));
    }
    return HDL_OK;
}

static hdl_err define_kwargs(hdl_jrun *run, const hdl_jv *kwargs)
{
    void *iter = NULL;
    for (hdl_jv member; kwargs != NULL && hdl_jv_next(kwargs, &iter, &member);)
        HDL_TRY(define_json(run, member.key, &member));
    return HDL_OK;
}

/* Text parts of a content as one string, for templates that take strings only; *flat is false when
 * a part is no text. */
static hdl_err flatten(hdl_jrun *run, const hdl_jlist *parts, hdl_jval *out, bool *flat)
{
    hdl_jval text = hdl_jcstr("");
    *flat = true;
    for (size_t i = 0; i < parts->n && *flat; i++) {
        const hdl_jval *part = &parts->v[i];
        const hdl_jval *type =
            part->kind == HDL_J_DICT ? hdl_jdict_get(part->dict, hdl_jcstr("type"), NULL) : NULL;
        const hdl_jval *piece = type && hdl_jval_is(type, "text")
                                    ? hdl_jdict_get(part->dict, hdl_jcstr("text"), NULL)
                                    : NULL;
        *flat = piece != NULL && piece->kind == HDL_J_STRING;
        if (*flat && i > 0)
            HDL_TRY(hdl_jconcat(&run->mem, text.s, (hdl_text){"\n", 1}, &text));
        if (*flat)
            HDL_TRY(hdl_jconcat(&run->mem, text.s, piece->s, &text));
    }
    *out = text;
    return HDL_OK;
}

/* Reasoning goes by three names in templates; a message has it under one of them (transformers:
 * _alias_reasoning_fields). */
static hdl_err alias_reasoning(hdl_jrun *run, hdl_jval *message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const hdl_jval *reasoning = NULL;
    for (size_t i = 0; i < HDL_ARRAY_LEN(names) && reasoning == NULL; i++) {
        reasoning = hdl_jdict_get(message->dict, hdl_jcstr(names[i]), NULL);
        if (reasoning != NULL && reasoning->kind == HDL_J_NONE)
            reasoning = NULL;
    }
    if (reasoning == NULL)
        return HDL_OK;
    hdl_jdict *dict;
    hdl_jval text = *reasoning;
    HDL_TRY(hdl_jdict_new(&run->mem, &dict));
    HDL_TRY(hdl_jdict_set(&run->mem, dict, hdl_jcstr("thinking"), text));
    for (size_t i = 0; i < message->dict->n; i++)
        HDL_TRY(hdl_jdict_set(&run->mem, dict, message->dict->keys[i], message->dict->values[i]));
    HDL_TRY(hdl_jdict_set(&run->mem, dict, hdl_jcstr("reasoning_content"), text));
    message->dict = dict;
    return HDL_OK;
}

/* Templates write special tokens around the role ("<|" + role + "|>"), so that the names of roles
 * are as good as their own words. Other roles stay text. */
static hdl_err trust_role(hdl_jrun *run, hdl_jval *message)
{
    static const char *const roles[] = {
        "system",      "user",          "assistant",      "tool",    "developer",
        "function",    "model",         "ipython",        "context", "documents",
        "observation", "tool_response", "latest_reminder"};
    hdl_jval *role = hdl_jdict_get(message->dict, hdl_jcstr("role"), NULL);
    for (size_t i = 0; i < HDL_ARRAY_LEN(roles) && role != NULL; i++)
        if (hdl_jval_is(role, roles[i]))
            return hdl_jstring_own(&run->mem, role->s, true, role);
    return HDL_OK;
}

static hdl_err prepare_message(hdl_jrun *run, hdl_jval *message, size_t i)
{
    if (message->kind != HDL_J_DICT)
        return hdl_fail(HDL_INVALID, run->why, "messages[%zu] must be an object", i);
    HDL_TRY(trust_role(run, message));
    HDL_TRY(alias_reasoning(run, message));
    hdl_jval *content = hdl_jdict_get(message->dict, hdl_jcstr("content"), NULL);
    if (content == NULL || content->kind != HDL_J_LIST || run->program->wants_parts)
        return HDL_OK;
    hdl_jval text;
    bool flat;
    HDL_TRY(flatten(run, content->list, &text, &flat));
    if (!flat)
        return hdl_fail(
            HDL_INVALID, run->why,
            "messages[%zu].content has a part that is no text; this model takes text only; send "
            "{\"type\": \"text\"} parts",
            i);
    *content = text;
    return HDL_OK;
}

/* Marks the end of the final message, so that whatever the template puts after it can be cut off.
 */
static const char CONTINUE_MARK[] = "CONTINUE_FINAL_MESSAGE_TAG ";

static hdl_err mark_final(hdl_jrun *run, hdl_jlist *messages, hdl_text *final)
{
    hdl_jval *text = NULL;
    if (messages->n > 0)
        text = hdl_jdict_get(messages->v[messages->n - 1].dict, hdl_jcstr("content"), NULL);
    for (size_t i = text && text->kind == HDL_J_LIST ? text->list->n : 0;
         i-- > 0 && text->kind == HDL_J_LIST;) {
        const hdl_jval *part = &text->list->v[i];
        hdl_jval *piece =
            part->kind == HDL_J_DICT ? hdl_jdict_get(part->dict, hdl_jcstr("text"), NULL) : NULL;
        if (piece != NULL)
            text = piece;
    }
    if (text == NULL || text->kind != HDL_J_STRING)
        return hdl_fail(
            HDL_INVALID, run->why,
            "messages: the final one has no text to continue; give it a content, or do not ask for "
            "continue_final_message");
    *final = text->s;
    return hdl_jconcat(&run->mem, text->s, (hdl_text){CONTINUE_MARK, sizeof CONTINUE_MARK - 1},
                       text);
}

/* Cuts the rendered text at the last mark; where the template has trimmed the message, so is what
 * stays. */
static hdl_err cut_at_mark(hdl_jrun *run, hdl_buf *out, size_t before, hdl_text final)
{
    const char *p = (const char *)hdl_buf_data(out) + before;
    hdl_text rendered = {p, out->len - before}, wanted = hdl_jtrim(final, true, true);
    size_t mark = sizeof CONTINUE_MARK - 2; /* without the space */
    const char *hit = NULL;
    for (size_t i = rendered.len >= mark ? rendered.len - mark + 1 : 0; i-- > 0 && hit == NULL;)
        hit = memcmp(p + i, CONTINUE_MARK, mark) == 0 ? p + i : NULL;
    bool kept = wanted.len == 0 || memmem(p, rendered.len, wanted.p, wanted.len) != NULL;
    if (hit == NULL || !kept)
        return hdl_fail(HDL_INVALID, run->why,
                        "messages: this model's chat template changes the final message, so it "
                        "cannot be continued");
    hdl_text stays = {p, (size_t)(hit - p)};
    bool whole = stays.len + mark < rendered.len && hit[mark] == ' ';
    out->len = before + (whole ? stays.len : hdl_jtrim(stays, false, true).len);
    return HDL_OK;
}

static hdl_err render(hdl_jrun *run, const hdl_chat *chat)
{
    hdl_jval messages;
    hdl_text final = {0};
    size_t before = run->out->text->len;
    hdl_jnode_kind jump;
    if (chat->add_generation_prompt && chat->continue_final)
        return hdl_fail(
            HDL_INVALID, run->why,
            "add_generation_prompt and continue_final_message exclude each other; choose one");
    HDL_TRY(hdl_jv_expect(chat->messages, HDL_JSON_ARRAY, run->why));
    HDL_TRY(hdl_jval_of_json(&run->mem, chat->messages, &messages));
    for (size_t i = 0; i < messages.list->n; i++)
        HDL_TRY(prepare_message(run, &messages.list->v[i], i));
    if (chat->continue_final)
        HDL_TRY(mark_final(run, messages.list, &final));
    run->frame = hdl_jframe_new(run, NULL);
    if (run->frame == NULL)
        return HDL_BUSY;
    HDL_TRY(define_globals(run));
    if (chat->special != NULL)
        HDL_TRY(define_special(run, chat->special));
    HDL_TRY(define_json(run, "tools", chat->tools));
    HDL_TRY(define_json(run, "documents", chat->documents));
    if (chat->reasoning_effort != NULL)
        HDL_TRY(define_json(run, "reasoning_effort", chat->reasoning_effort));
    HDL_TRY(define(run, "add_generation_prompt", hdl_jbool(chat->add_generation_prompt)));
    HDL_TRY(define_kwargs(run, chat->kwargs));
    HDL_TRY(define(run, "messages", messages));
    /* Taking the conversation over was not the template's doing. A long one may cost more: 1000
     * turns of 1 kB take 700,000 steps in the slowest published template. */
    run->mem.steps = (hdl_jsteps){0, HDL_JRUN_STEPS_MAX + run->mem.arena.total_bytes / 8};
    HDL_TRY(hdl_jexec(run, run->program->body, &jump));
    return chat->continue_final ? cut_at_mark(run, run->out->text, before, final) : HDL_OK;
}

static hdl_err give_ranges(const hdl_jout *out, size_t before, hdl_ranges *ranges)
{
    const unsigned char *own = hdl_buf_data(&out->own);
    size_t n = out->text->len - before; /* less than there was where the end was cut off */
    for (size_t at = 0; at < n;) {
        const unsigned char *start = memchr(own + at, 1, n - at);
        const unsigned char *end = start ? memchr(start, 0, (size_t)(own + n - start)) : NULL;
        if (start == NULL)
            break;
        at = end ? (size_t)(end - own) : n;
        HDL_TRY(hdl_ranges_add(ranges, (hdl_range){before + (size_t)(start - own), before + at}));
    }
    return HDL_OK;
}

/* Which of the limits that have no place of their own was reached. */
static hdl_err say_limit(hdl_jrun *run)
{
    HDL_TRY(hdl_jstep(run, 0));
    if (!hdl_buf_ok(run->out->text))
        return hdl_jlimit(run, "more than %zu bytes of text", run->out->text->cap);
    return hdl_jlimit(run, "more than %d MiB of memory, or lists too deep in each other",
                      HDL_JRUN_MEMORY_MAX >> 20);
}

hdl_err hdl_template_render(const hdl_template *tpl, const hdl_chat *chat, hdl_buf *out,
                            hdl_errmsg *why)
{
    if (tpl->renderer != NULL)
        return hdl_renderer_run(tpl->renderer, chat, out, why);
    hdl_errmsg said = {""};
    hdl_jout put;
    size_t before = out->len;
    hdl_jrun run = {
        .program = &tpl->program, .out = &put, .now_wall_us = chat->now_wall_us, .why = &said};
    hdl_jout_init(&put, out);
    hdl_jmem_init(&run.mem, HDL_JRUN_MEMORY_MAX, &tpl->program.mem);
    hdl_err err = render(&run, chat);
    if (err == HDL_OK && chat->own != NULL)
        err = give_ranges(&put, before, chat->own);
    if (err == HDL_BUSY && said.text[0] == '\0')
        err = say_limit(&run);
    hdl_jmem_deinit(&run.mem);
    hdl_jout_deinit(&put);
    if (err != HDL_OK && said.text[0] == '\0')
        return hdl_fail(err, why, "chat template, line %u: %s", run.line, hdl_err_text(err));
    return err == HDL_OK ? HDL_OK : hdl_fail(err, why, "%s", said.text);
}
