/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/json_write.h"

enum { BODY_BYTES_MAX = 64 << 20 };

/* One turn under way. */
typedef struct turn {
    hdl_buf said; /* the answer so far */
    cli_chat_stats *stats;
    uint64_t start_us;
    hdl_errmsg *why;
    hdl_err err; /* an error event inside the stream */
} turn;

void cli_chat_init(cli_chat *chat, hdl_client *client)
{
    *chat =
        (cli_chat){.client = client, .temperature = -1, .top_p = -1, .max_tokens = -1, .seed = -1};
}

void cli_chat_clear(cli_chat *chat)
{
    while (chat->n_messages > 0)
        free(chat->messages[--chat->n_messages].text);
}

void cli_chat_deinit(cli_chat *chat)
{
    cli_chat_clear(chat);
    free(chat->system);
    free(chat->model);
}

bool cli_chat_undo(cli_chat *chat)
{
    while (chat->n_messages > 0) {
        cli_chat_message *last = &chat->messages[--chat->n_messages];
        bool was_user = strcmp(last->role, "user") == 0;
        free(last->text);
        if (was_user)
            return true;
    }
    return false;
}

static hdl_err add_message(cli_chat *chat, const char *role, const char *text, size_t len)
{
    if (chat->n_messages == CLI_CHAT_MESSAGES_MAX)
        return HDL_BUSY;
    char *copy = strndup(text, len);
    if (copy == NULL)
        return HDL_NOMEM;
    chat->messages[chat->n_messages++] = (cli_chat_message){.role = role, .text = copy};
    return HDL_OK;
}

static void write_message(hdl_json_writer *w, const char *role, const char *text)
{
    hdl_jw_begin_object(w);
    hdl_jw_kv_cstr(w, "role", role);
    hdl_jw_kv_cstr(w, "content", text);
    hdl_jw_end_object(w);
}

static void write_body(const cli_chat *chat, hdl_buf *body)
{
    hdl_json_writer w;
    hdl_jw_init(&w, body);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "model", chat->model);
    hdl_jw_key(&w, "messages");
    hdl_jw_begin_array(&w);
    if (chat->system != NULL)
        write_message(&w, "system", chat->system);
    for (size_t i = 0; i < chat->n_messages; i++)
        write_message(&w, chat->messages[i].role, chat->messages[i].text);
    hdl_jw_end_array(&w);
    hdl_jw_kv_bool(&w, "stream", true);
    hdl_jw_key(&w, "stream_options");
    hdl_jw_begin_object(&w);
    hdl_jw_kv_bool(&w, "include_usage", true);
    hdl_jw_end_object(&w);
    if (chat->temperature >= 0) {
        hdl_jw_key(&w, "temperature");
        hdl_jw_double(&w, chat->temperature);
    }
    if (chat->top_p >= 0) {
        hdl_jw_key(&w, "top_p");
        hdl_jw_double(&w, chat->top_p);
    }
    if (chat->max_tokens >= 0)
        hdl_jw_kv_int(&w, "max_completion_tokens", chat->max_tokens);
    if (chat->seed >= 0)
        hdl_jw_kv_int(&w, "seed", chat->seed);
    hdl_jw_end_object(&w);
}

/* The server's {"error": {"message": ...}} as our message; `text` may be anything. */
static hdl_err read_error(const char *text, size_t len, hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    if (hdl_json_parse(text, len, 0, &doc, NULL) == HDL_OK) {
        hdl_jv root = hdl_json_root(doc), error = hdl_jv_get(&root, "error");
        hdl_jv message = hdl_jv_get(&error, "message");
        const char *said = NULL;
        if (hdl_jv_string(&message, &said, NULL, NULL) == HDL_OK)
            (void)hdl_fail(HDL_PEER, why, "the server says: %s", said);
        hdl_json_close(doc);
        if (said != NULL)
            return HDL_PEER;
    }
    return hdl_fail(HDL_PEER, why,
                    "the server answered something that is not an OpenAI error: %.*s",
                    (int)(len < 200 ? len : 200), text);
}

static hdl_err read_first_model(cli_chat *chat, const char *text, size_t len, hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    HDL_TRY(hdl_json_parse(text, len, 0, &doc, why));
    hdl_jv root = hdl_json_root(doc), data = hdl_jv_get(&root, "data");
    hdl_jv first = hdl_jv_at(&data, 0), id = hdl_jv_get(&first, "id");
    const char *name = NULL;
    hdl_err err = hdl_jv_string(&id, &name, NULL, why);
    if (err == HDL_OK && (chat->model = strdup(name)) == NULL)
        err = HDL_NOMEM;
    hdl_json_close(doc);
    return err;
}

hdl_err cli_chat_find_model(cli_chat *chat, hdl_errmsg *why)
{
    if (chat->model != NULL)
        return HDL_OK;
    hdl_buf answer;
    hdl_buf_init(&answer, BODY_BYTES_MAX);
    long status = 0;
    hdl_err err = hdl_client_send(
        chat->client,
        &(hdl_client_request){.path = "/v1/models", .answer = &answer, .timeout_s = 30}, &status,
        why);
    const char *text = hdl_buf_cstr(&answer);
    if (err == HDL_OK)
        err = status == 200 ? read_first_model(chat, text, answer.len, why)
                            : read_error(text, answer.len, why);
    hdl_buf_deinit(&answer);
    return err;
}

static void read_int(const hdl_jv *obj, const char *key, int64_t *out)
{
    hdl_jv v = hdl_jv_get(obj, key);
    (void)!hdl_jv_int(&v, (hdl_jv_range){.min = 0, .max = INT64_MAX}, out, NULL);
}

static void read_usage(turn *t, const hdl_jv *root)
{
    hdl_jv usage = hdl_jv_get(root, "usage");
    if (!hdl_jv_given(&usage))
        return;
    read_int(&usage, "prompt_tokens", &t->stats->n_prompt);
    read_int(&usage, "completion_tokens", &t->stats->n_new);
    hdl_jv details = hdl_jv_get(&usage, "prompt_tokens_details");
    read_int(&details, "cached_tokens", &t->stats->n_cached);
}

static void read_choice(turn *t, const hdl_jv *root)
{
    hdl_jv choices = hdl_jv_get(root, "choices"), choice = hdl_jv_at(&choices, 0);
    hdl_jv delta = hdl_jv_get(&choice, "delta"), content = hdl_jv_get(&delta, "content");
    const char *text = NULL;
    size_t len = 0;
    if (hdl_jv_string(&content, &text, &len, NULL) == HDL_OK && len > 0) {
        if (t->stats->ttft_us == 0)
            t->stats->ttft_us = hdl_clock_now_us() - t->start_us;
        fwrite(text, 1, len, stdout);
        fflush(stdout);
        hdl_buf_append(&t->said, text, len);
    }
    hdl_jv finish = hdl_jv_get(&choice, "finish_reason");
    if (hdl_jv_string(&finish, &text, NULL, NULL) == HDL_OK)
        snprintf(t->stats->finish, sizeof t->stats->finish, "%s", text);
}

static bool on_event(void *arg, const char *data, size_t len)
{
    turn *t = arg;
    if (strcmp(data, "[DONE]") == 0)
        return true;
    hdl_json *doc = NULL;
    t->err = hdl_json_parse(data, len, 0, &doc, t->why);
    if (t->err != HDL_OK)
        return false;
    hdl_jv root = hdl_json_root(doc), error = hdl_jv_get(&root, "error");
    if (hdl_jv_given(&error)) {
        t->err = read_error(data, len, t->why);
    } else {
        read_choice(t, &root);
        read_usage(t, &root);
    }
    hdl_json_close(doc);
    return t->err == HDL_OK;
}

static hdl_err send_turn(cli_chat *chat, turn *t, hdl_buf *body, hdl_errmsg *why)
{
    hdl_buf answer;
    hdl_buf_init(&answer, BODY_BYTES_MAX);
    long status = 0;
    hdl_err err = hdl_client_send(chat->client,
                                  &(hdl_client_request){.path = "/v1/chat/completions",
                                                        .body = hdl_buf_cstr(body),
                                                        .on_event = on_event,
                                                        .arg = t,
                                                        .answer = &answer},
                                  &status, why);
    if (t->err != HDL_OK)
        err = t->err;
    else if (err == HDL_OK && status != 200)
        err = read_error(hdl_buf_cstr(&answer), answer.len, why);
    hdl_buf_deinit(&answer);
    return err;
}

hdl_err cli_chat_turn(cli_chat *chat, const char *text, cli_chat_stats *stats, hdl_errmsg *why)
{
    if (chat->n_messages + 2 > CLI_CHAT_MESSAGES_MAX)
        return hdl_fail(HDL_BUSY, why,
                        "the conversation has %d messages; that is the most; /clear "
                        "starts afresh",
                        CLI_CHAT_MESSAGES_MAX);
    HDL_TRY(add_message(chat, "user", text, strlen(text)));
    *stats = (cli_chat_stats){0};
    turn t = {.stats = stats, .start_us = hdl_clock_now_us(), .why = why};
    hdl_buf body;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    hdl_buf_init(&t.said, BODY_BYTES_MAX);
    write_body(chat, &body);
    hdl_err err = hdl_buf_ok(&body) ? send_turn(chat, &t, &body, why) : HDL_NOMEM;
    stats->total_us = hdl_clock_now_us() - t.start_us;

    if (t.said.len > 0 && (err == HDL_OK || err == HDL_CANCELLED))
        HDL_KEEP_FIRST(err, add_message(chat, "assistant", hdl_buf_cstr(&t.said), t.said.len));
    else
        (void)cli_chat_undo(chat);
    hdl_buf_deinit(&t.said);
    hdl_buf_deinit(&body);
    return err;
}
