/* SPDX-License-Identifier: Apache-2.0 */
/* Chats of models that come without a template: what their own programs write (harmony.c, dsml.c,
 * mistral.c), on what they share.
 *
 * One hdl_render is one rendering; its memory is its own, its errors stick, so that writers run
 * through and the end asks once. Text goes out as the renderer's own words (where special tokens
 * may be read) or as a value. One thread. */
#pragma once

#include "scheduler/text/jinja_value.h"
#include "scheduler/text/template.h"

typedef struct hdl_render {
    const hdl_chat *chat;
    hdl_jmem mem;
    const hdl_jlist *messages; /* objects with a role; contents are strings, or none */
    const hdl_jlist *tools;    /* objects; NULL: there are none */
    hdl_jval kwargs;           /* a dictionary or none */
    hdl_buf *out;
    hdl_ranges own; /* counted from the buffer's start */
    hdl_errmsg *why;
    hdl_err err; /* the first one */
} hdl_render;

typedef struct hdl_renderer {
    const char *name;
    const char *variables; /* beside messages and tools, separated by spaces; NULL: none */
    const char *part_join; /* between the text parts of one content */
    void (*run)(hdl_render *r);
} hdl_renderer;

/* For a model without a template, by what its files say; NULL: heddle has none. */
const hdl_renderer *hdl_renderer_find(const hdl_tok_info *info);
bool hdl_renderer_takes(const hdl_renderer *renderer, const char *variable);
/* As hdl_template_render. */
hdl_err hdl_renderer_run(const hdl_renderer *renderer, const hdl_chat *chat, hdl_buf *out,
                         hdl_errmsg *why) HDL_MUST_CHECK;

extern const hdl_renderer hdl_harmony;
extern const hdl_renderer hdl_dsml_v32, hdl_dsml_v4;
extern const hdl_renderer hdl_mistral_v3, hdl_mistral_v7, hdl_mistral_v11, hdl_mistral_v13;

void hdl_put_own(hdl_render *r, const char *text);
void hdl_put_text(hdl_render *r, hdl_text text);
void hdl_put_val(hdl_render *r, const hdl_jval *v);  /* a string's text; nothing for others */
void hdl_put_json(hdl_render *r, const hdl_jval *v); /* json.dumps without \u escapes */
/* INVALID unless an error came before. */
void hdl_render_fail(hdl_render *r, const char *fmt, ...) HDL_PRINTF(2, 3);

/* A member of a dictionary; NULL: it is none, has none, or it is null. */
const hdl_jval *hdl_member(const hdl_jval *v, const char *key);
/* The member's text; empty without one. */
hdl_text hdl_member_text(const hdl_jval *v, const char *key);
/* A list with at least one item, or NULL. */
const hdl_jlist *hdl_member_list(const hdl_jval *v, const char *key);
bool hdl_role_is(const hdl_jval *message, const char *role);
/* Reasoning, by any of its three names. */
const hdl_jval *hdl_reasoning(const hdl_jval *message);
/* "function" of a tool or call, or the thing itself where it has none. */
const hdl_jval *hdl_function_of(const hdl_jval *v);
/* A JSON text as a value; the text itself when it is no JSON, none when there is no memory. */
hdl_jval hdl_parse_text(hdl_render *r, const hdl_jval *v);
/* A variable that the client gave; NULL: none. */
const hdl_jval *hdl_variable(const hdl_render *r, const char *name);
/* The message that is to be gone on with. */
bool hdl_is_open(const hdl_render *r, size_t message);
