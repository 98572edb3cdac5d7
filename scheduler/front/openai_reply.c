/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAI's answers as JSON: the chunks of a stream and whole objects, for chats and completions.
 * Chunks begin with a text that is made once per call; a token then costs two copies and the
 * escaping of its text. */
#include <string.h>

#include "base/json_write.h"
#include "scheduler/front/call.h"
#include "scheduler/front/sse.h"

static const char *fingerprint_of(const hdl_call *call)
{
    return call->model->system_fingerprint ? call->model->system_fingerprint
                                           : "heddle-" HDL_VERSION;
}

/* `{"id":...,"system_fingerprint":...` of an object that the caller goes on with. */
static void write_common(const hdl_call *call, const char *object, hdl_buf *out)
{
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "id", call->id);
    hdl_jw_kv_cstr(&w, "object", object);
    hdl_jw_kv_uint(&w, "created", call->created_s);
    hdl_jw_kv_cstr(&w, "model", call->model->name);
    hdl_jw_kv_cstr(&w, "system_fingerprint", fingerprint_of(call));
}

void hdl_openai_write_head(hdl_call *call)
{
    bool chat = call->kind == HDL_API_CHAT;
    hdl_buf_clear(&call->head);
    write_common(call, chat ? "chat.completion.chunk" : "text_completion", &call->head);
    (void)hdl_buf_puts(&call->head, ",\"choices\":[");
}

static void write_usage(uint64_t n_prompt, uint64_t n_cached, uint64_t n_new, hdl_buf *out)
{
    (void)hdl_buf_printf(out,
                         "{\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"total_tokens\":%llu,"
                         "\"prompt_tokens_details\":{\"cached_tokens\":%llu}}",
                         (unsigned long long)n_prompt, (unsigned long long)n_new,
                         (unsigned long long)(n_prompt + n_new), (unsigned long long)n_cached);
}

/* `,"usage":...}` and the end of the event. */
static void end_chunk(const hdl_call *call, hdl_buf *out)
{
    if (call->continuous_usage) {
        uint64_t n_prompt = 0, n_new = 0;
        for (uint32_t i = 0; i < call->n_prompts; i++)
            n_prompt += call->prompts[i].n_ids;
        for (uint32_t i = 0; i < call->n_choices; i++)
            n_new += call->choices[i].n_new;
        (void)hdl_buf_puts(out, ",\"usage\":");
        write_usage(n_prompt, 0, n_new, out);
    } else if (call->include_usage) {
        (void)hdl_buf_puts(out, ",\"usage\":null");
    }
    (void)hdl_buf_append(out, "}", 1);
    hdl_sse_end(out);
}

/* One choice's part of a chunk, up to the closing brace. */
static void write_chunk_choice(hdl_choice *c, const hdl_buf *text, hdl_buf *out)
{
    bool chat = c->call->kind == HDL_API_CHAT;
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    (void)hdl_buf_printf(out, "{\"index\":%u,", c->index);
    if (chat && !c->said_role)
        (void)hdl_buf_puts(out, "\"delta\":{\"role\":\"assistant\",\"content\":");
    else if (chat && c->finish && text->len == 0)
        (void)hdl_buf_puts(out, "\"delta\":{");
    else
        (void)hdl_buf_puts(out, chat ? "\"delta\":{\"content\":" : "\"text\":");
    if (!chat || !c->said_role || !c->finish || text->len)
        hdl_jw_string(&w, (const char *)hdl_buf_data(text), text->len);
    (void)hdl_buf_puts(out, chat ? "},\"logprobs\":" : ",\"logprobs\":");
    hdl_lp_write(c, out);
    if (c->finish)
        (void)hdl_buf_printf(out, ",\"finish_reason\":\"%s\"}", c->finish);
    else
        (void)hdl_buf_puts(out, ",\"finish_reason\":null}");
    c->said_role = true;
}

void hdl_openai_write_chunk(hdl_choice *choice)
{
    hdl_call *call = choice->call;
    hdl_buf *out = hdl_reply_stream(call->conn);
    if (!choice->said_role && call->echo) {
        /* The prompt's text goes before the first token's. */
        hdl_buf *echo = &call->prompts[choice->prompt_idx].echo;
        const char *finish = choice->finish;
        choice->finish = NULL;
        hdl_sse_begin(out);
        (void)hdl_buf_append(out, hdl_buf_data(&call->head), call->head.len);
        write_chunk_choice(choice, echo, out);
        (void)hdl_buf_append(out, "]", 1);
        end_chunk(call, out);
        choice->finish = finish;
    }
    hdl_sse_begin(out);
    (void)hdl_buf_append(out, hdl_buf_data(&call->head), call->head.len);
    write_chunk_choice(choice, &choice->text, out);
    (void)hdl_buf_append(out, "]", 1);
    end_chunk(call, out);
    hdl_buf_clear(&choice->text);
}

void hdl_openai_write_end(hdl_call *call)
{
    hdl_buf *out = hdl_reply_stream(call->conn);
    if (call->include_usage) {
        hdl_sse_begin(out);
        (void)hdl_buf_append(out, hdl_buf_data(&call->head), call->head.len);
        (void)hdl_buf_puts(out, "],\"usage\":");
        write_usage(call->usage_prompt, call->usage_cached, call->usage_new, out);
        (void)hdl_buf_append(out, "}", 1);
        hdl_sse_end(out);
    }
    hdl_sse_done(out);
}

static void write_answer_choice(hdl_choice *c, hdl_buf *out)
{
    bool chat = c->call->kind == HDL_API_CHAT;
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    (void)hdl_buf_printf(out, "{\"index\":%u,", c->index);
    (void)hdl_buf_puts(out,
                       chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
    if (c->call->echo) {
        /* Whole text: an echoed prompt, then what was generated. */
        hdl_buf *echo = &c->call->prompts[c->prompt_idx].echo;
        hdl_buf whole;
        hdl_buf_init(&whole, echo->len + c->text.len + 1);
        (void)hdl_buf_append(&whole, hdl_buf_data(echo), echo->len);
        (void)hdl_buf_append(&whole, hdl_buf_data(&c->text), c->text.len);
        out->failed = out->failed || !hdl_buf_ok(&whole);
        hdl_jw_string(&w, (const char *)hdl_buf_data(&whole), whole.len);
        hdl_buf_deinit(&whole);
    } else {
        hdl_jw_string(&w, (const char *)hdl_buf_data(&c->text), c->text.len);
    }
    out->failed = out->failed || !hdl_buf_ok(&c->text);
    (void)hdl_buf_puts(out, chat ? ",\"refusal\":null},\"logprobs\":" : ",\"logprobs\":");
    hdl_lp_write(c, out);
    (void)hdl_buf_printf(out, ",\"finish_reason\":\"%s\"}", c->finish);
}

void hdl_openai_write_answer(hdl_call *call, hdl_buf *out)
{
    bool chat = call->kind == HDL_API_CHAT;
    write_common(call, chat ? "chat.completion" : "text_completion", out);
    (void)hdl_buf_puts(out, ",\"choices\":[");
    for (uint32_t i = 0; i < call->n_choices; i++) {
        if (i)
            (void)hdl_buf_append(out, ",", 1);
        write_answer_choice(&call->choices[i], out);
    }
    (void)hdl_buf_puts(out, "],\"usage\":");
    write_usage(call->usage_prompt, call->usage_cached, call->usage_new, out);
    (void)hdl_buf_append(out, "}", 1);
}
