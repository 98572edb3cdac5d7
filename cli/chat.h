/* SPDX-License-Identifier: Apache-2.0 */
/* A conversation with a server: its messages so far, its settings, and one streamed turn.
 *
 * Owner: one thread. Invariant: messages alternate as the user and the model spoke; a turn that
 * fails or is cut short before its first token leaves the conversation as it was. */
#pragma once

#include "base/buf.h"
#include "cli/http_client.h"

enum { CLI_CHAT_MESSAGES_MAX = 1024 };

typedef struct cli_chat_message {
    const char *role; /* static: "user", "assistant" */
    char *text;       /* owned */
} cli_chat_message;

typedef struct cli_chat {
    hdl_client *client; /* borrowed: until deinit */
    char *system;       /* owned; NULL: none */
    char *model;        /* owned; NULL until chosen or asked for (cli_chat_find_model) */
    cli_chat_message messages[CLI_CHAT_MESSAGES_MAX];
    size_t n_messages;
    /* Settings; negative: the server's default. */
    double temperature, top_p;
    int64_t max_tokens, seed;
} cli_chat;

/* What one turn took, for --verbose. */
typedef struct cli_chat_stats {
    uint64_t ttft_us, total_us;
    int64_t n_prompt, n_cached, n_new;
    char finish[32];
} cli_chat_stats;

void cli_chat_init(cli_chat *chat, hdl_client *client);
void cli_chat_deinit(cli_chat *chat);

/* Takes the first model that the server lists, unless one has been chosen. */
hdl_err cli_chat_find_model(cli_chat *chat, hdl_errmsg *why) HDL_MUST_CHECK;

/* Forgets the messages. */
void cli_chat_clear(cli_chat *chat);
/* Forgets the last user message and what followed; false when there is none. */
bool cli_chat_undo(cli_chat *chat);

/* Sends the user's text; each piece of the answer goes to stdout as it comes. CANCELLED keeps what
 * had been said so far as the answer. BUSY: the conversation is full. */
hdl_err cli_chat_turn(cli_chat *chat, const char *text, cli_chat_stats *stats,
                      hdl_errmsg *why) HDL_MUST_CHECK;
