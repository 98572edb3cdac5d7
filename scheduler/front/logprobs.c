/* SPDX-License-Identifier: Apache-2.0 */
/* Log-probabilities in the two shapes of the API. They follow the text: an entry goes out when the
 * text of its token does, and one whose text a stop string took away never does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "scheduler/front/call.h"
#include "scheduler/text/utf8.h"

enum { PART_BYTES_MAX = 64 * 1024 * 1024, WAITING_FIRST = 8 };
/* What OpenAI writes for a probability of nothing; JSON has no infinity. */
#define LOGPROB_LEAST (-9999.0F)

void hdl_lp_init(hdl_lp *lp)
{
    *lp = (hdl_lp){0};
    for (int i = 0; i < HDL_LP_PARTS; i++)
        hdl_buf_init(&lp->parts[i], PART_BYTES_MAX);
}

void hdl_lp_deinit(hdl_lp *lp)
{
    for (int i = 0; i < HDL_LP_PARTS; i++)
        hdl_buf_deinit(&lp->parts[i]);
    free(lp->waiting);
}

void hdl_lp_push(hdl_choice *choice, const hdl_lp_entry *entry)
{
    hdl_lp *lp = &choice->lp;
    if (lp->n_waiting == lp->size) {
        uint32_t size = lp->size ? 2 * lp->size : WAITING_FIRST;
        hdl_lp_entry *grown = realloc(lp->waiting, size * sizeof *grown);
        if (!grown) {
            choice->text.failed = true; /* the answer says that it did not fit */
            return;
        }
        lp->waiting = grown;
        lp->size = size;
    }
    lp->waiting[lp->n_waiting++] = *entry;
}

static float finite_logprob(float v)
{
    return isfinite(v) && v > LOGPROB_LEAST ? v : LOGPROB_LEAST;
}

static void token_bytes(const hdl_call *call, hdl_token token, const char **bytes, size_t *len)
{
    *bytes = "";
    *len = 0;
    if (call->model->tokenizer)
        (void)hdl_tokenizer_token_bytes(call->model->tokenizer, token, bytes, len);
}

static void write_bytes(hdl_json_writer *w, const char *bytes, size_t len)
{
    hdl_jw_begin_array(w);
    for (size_t i = 0; i < len; i++)
        hdl_jw_uint(w, (unsigned char)bytes[i]);
    hdl_jw_end_array(w);
}

/* token, logprob, bytes: members of an object that the caller opens and closes. */
static void write_chat_token(hdl_json_writer *w, const hdl_call *call, hdl_logprob lp)
{
    const char *bytes;
    size_t len;
    token_bytes(call, lp.token, &bytes, &len);
    hdl_jw_key(w, "token");
    hdl_jw_string(w, bytes, len);
    hdl_jw_key(w, "logprob");
    hdl_jw_float(w, finite_logprob(lp.logprob));
    hdl_jw_key(w, "bytes");
    write_bytes(w, bytes, len);
}

static void release_chat(hdl_choice *choice, const hdl_lp_entry *e)
{
    hdl_buf *out = &choice->lp.parts[HDL_LP_TOKENS];
    hdl_json_writer w;
    if (choice->lp.n_released)
        (void)hdl_buf_append(out, ",", 1);
    hdl_jw_init(&w, out);
    hdl_jw_begin_object(&w);
    write_chat_token(&w, choice->call, (hdl_logprob){e->token, e->logprob});
    hdl_jw_key(&w, "top_logprobs");
    hdl_jw_begin_array(&w);
    for (uint32_t i = 0; i < e->n_top; i++) {
        hdl_jw_begin_object(&w);
        write_chat_token(&w, choice->call, e->top[i]);
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
}

enum { TOKEN_TEXT_BYTES = 1024 };

/* A token as a string of its own; what is no text as OpenAI writes it: bytes:\\xe2\\x80 */
static const char *token_text(const hdl_call *call, hdl_token token, char out[TOKEN_TEXT_BYTES])
{
    const char *bytes;
    size_t len;
    token_bytes(call, token, &bytes, &len);
    if (len < TOKEN_TEXT_BYTES && hdl_utf8_valid_prefix(bytes, len) == len &&
        !memchr(bytes, 0, len)) {
        memcpy(out, bytes, len);
        out[len] = 0;
        return out;
    }
    size_t at = (size_t)snprintf(out, TOKEN_TEXT_BYTES, "bytes:");
    for (size_t i = 0; i < len && at + 5 < TOKEN_TEXT_BYTES; i++)
        at += (size_t)snprintf(out + at, TOKEN_TEXT_BYTES - at, "\\x%02x", (unsigned char)bytes[i]);
    return out;
}

static void write_top_object(hdl_json_writer *w, const hdl_call *call, const hdl_lp_entry *e)
{
    char text[TOKEN_TEXT_BYTES];
    bool own = false;
    hdl_jw_begin_object(w);
    for (uint32_t i = 0; i < e->n_top; i++) {
        own = own || e->top[i].token == e->token;
        hdl_jw_key(w, token_text(call, e->top[i].token, text));
        hdl_jw_float(w, finite_logprob(e->top[i].logprob));
    }
    if (!own) { /* it was not among the best */
        hdl_jw_key(w, token_text(call, e->token, text));
        hdl_jw_float(w, finite_logprob(e->logprob));
    }
    hdl_jw_end_object(w);
}

static void release_completion(hdl_choice *choice, const hdl_lp_entry *e)
{
    hdl_json_writer w[HDL_LP_PARTS];
    for (int i = 0; i < HDL_LP_PARTS; i++) {
        if (choice->lp.n_released)
            (void)hdl_buf_append(&choice->lp.parts[i], ",", 1);
        hdl_jw_init(&w[i], &choice->lp.parts[i]);
    }
    char text[TOKEN_TEXT_BYTES];
    hdl_jw_cstr(&w[HDL_LP_TOKENS], token_text(choice->call, e->token, text));
    hdl_jw_uint(&w[HDL_LP_OFFSETS], e->chars);
    if (e->none) {
        hdl_jw_null(&w[HDL_LP_LOGPROBS]);
        hdl_jw_null(&w[HDL_LP_TOPS]);
        return;
    }
    hdl_jw_float(&w[HDL_LP_LOGPROBS], finite_logprob(e->logprob));
    write_top_object(&w[HDL_LP_TOPS], choice->call, e);
}

void hdl_lp_release(hdl_choice *choice, bool last)
{
    hdl_lp *lp = &choice->lp;
    uint32_t n = 0;
    for (; n < lp->n_waiting; n++) {
        const hdl_lp_entry *e = &lp->waiting[n];
        bool out = e->end <= choice->released || (last && e->start < choice->released);
        if (!out)
            break;
        if (choice->call->kind == HDL_API_CHAT)
            release_chat(choice, e);
        else
            release_completion(choice, e);
        lp->n_released++;
    }
    lp->n_waiting -= n;
    if (n && lp->n_waiting)
        memmove(lp->waiting, lp->waiting + n, lp->n_waiting * sizeof *lp->waiting);
}

void hdl_lp_write(hdl_choice *choice, hdl_buf *out)
{
    static const char *const names[] = {"\"tokens\":[", "\"token_logprobs\":[",
                                        "\"top_logprobs\":[", "\"text_offset\":["};
    hdl_lp *lp = &choice->lp;
    if (!choice->call->logprobs || lp->n_released == 0) {
        (void)hdl_buf_puts(out, "null");
        return;
    }
    bool chat = choice->call->kind == HDL_API_CHAT;
    (void)hdl_buf_puts(out, chat ? "{\"content\":[" : "{");
    for (int i = 0; i < (chat ? 1 : HDL_LP_PARTS); i++) {
        if (!chat)
            (void)hdl_buf_printf(out, "%s%s", i ? "]," : "", names[i]);
        (void)hdl_buf_append(out, hdl_buf_data(&lp->parts[i]), lp->parts[i].len);
        out->failed = out->failed || !hdl_buf_ok(&lp->parts[i]);
        hdl_buf_clear(&lp->parts[i]);
    }
    (void)hdl_buf_puts(out, chat ? "],\"refusal\":null}" : "]}");
    lp->n_released = 0;
}
