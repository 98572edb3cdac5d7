/* SPDX-License-Identifier: Apache-2.0 */
/* Chat messages to prompt text by the model's own chat template, as transformers'
 * apply_chat_template renders it; for models that come without one, by a renderer (render.h).
 *
 * A template is compiled once (immutable, shared by threads) and rendered per request inside an
 * arena of its own. It is foreign code: steps, depth, memory and output are limited, and there is
 * no way out of it. What it uses and heddle does not have is refused at open with name and line.
 * Not here: what a message may look like in the API (scheduler/front). */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

#include "base/json.h"
#include "scheduler/text/tokenizer.h"

typedef struct hdl_template hdl_template; /* immutable */

/* UNSUPPORTED: a construct that heddle does not have; INVALID: a syntax error. Both name the line.
 */
hdl_err hdl_template_open(hdl_template **out, const char *source, size_t len,
                          hdl_errmsg *why) HDL_MUST_CHECK;
/* The model's template, or the renderer for what its files say. NOTFOUND: neither; UNSUPPORTED
 * also for a kind of chat that heddle does not have. */
hdl_err hdl_template_open_model(hdl_template **out, const hdl_tok_info *info,
                                hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_template_free(hdl_template *tpl);
/* Does the template name this variable anywhere? What it does not name cannot reach the prompt. */
bool hdl_template_takes(const hdl_template *tpl, const char *variable);
/* What is said of one that it does not take, after the name. */
#define HDL_TEMPLATE_NOT_TAKEN                                                                     \
    "is not taken; this model's chat template never names it; leave it out"

/* One conversation. All borrowed for the call. */
typedef struct hdl_chat {
    const hdl_jv *messages;         /* array of objects {role, content, ...} */
    const hdl_jv *tools;            /* array, or NULL */
    const hdl_jv *documents;        /* array, or NULL */
    const hdl_jv *reasoning_effort; /* a variable of its own, or NULL */
    const hdl_jv
        *kwargs; /* object whose members become variables (chat_template_kwargs), or NULL */
    const hdl_special_texts *special; /* bos_token, eos_token, ...; may be NULL */
    bool add_generation_prompt;       /* end with the opening of the assistant's turn */
    bool continue_final;  /* leave the last message open for the model to go on with it */
    uint64_t now_wall_us; /* for strftime_now: passed in, since text code reads no clock */
    /* Out, when not NULL: where the text is the template's own words (its source, the special
     * tokens' texts, the names of roles) and not a value's. Special tokens may be read there. */
    hdl_ranges *own;
} hdl_chat;

/* Appends to out. INVALID with the template's own words after raise_exception, or what it tripped
 * over and where; BUSY: one of the limits (the message says which). On error out may hold a part.
 */
hdl_err hdl_template_render(const hdl_template *tpl, const hdl_chat *chat, hdl_buf *out,
                            hdl_errmsg *why) HDL_MUST_CHECK;
