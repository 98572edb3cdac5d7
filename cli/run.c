/* SPDX-License-Identifier: Apache-2.0 */
/* heddle run: chat in the terminal, with a running server or with a model that is served for as
 * long as the chat lasts. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/units.h"
#include "cli/chat.h"
#include "cli/cli.h"
#include "cli/engine_options.h"
#include "cli/local.h"

/* stop_answer is set by Ctrl-C: it ends the answer under way; at the prompt it ends nothing but the
 * line. The other signals end the program, too, in good order. */
static atomic_bool stop_answer, stop_program;

static void on_signal(int sig)
{
    if (sig != SIGINT)
        atomic_store_explicit(&stop_program, true, memory_order_relaxed);
    atomic_store_explicit(&stop_answer, true, memory_order_relaxed);
}

/* Without SA_RESTART, so that a getline ends, too. */
static void catch_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < HDL_ARRAY_LEN(signals); i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = on_signal}, NULL);
}

static const hdl_arg_opt run_opts[] = {
    {.name = "system", .value = "TEXT", .doc = "system message"},
    {.name = "model", .value = "NAME", .doc = "model of the server, when it has several"},
    {.name = "temperature", .value = "T", .doc = "0 is greedy; default: the model's own"},
    {.name = "top-p", .value = "P", .doc = "nucleus of the distribution to sample from"},
    {.name = "max-tokens", .value = "N", .doc = "longest answer"},
    {.name = "seed", .value = "N", .doc = "the same seed gives the same answer"},
    {.name = "api-key-file", .value = "F", .doc = "file with the server's API key"},
    {.name = "wait", .value = "SECONDS", .doc = "wait so long for the server to be ready"},
    {.name = "verbose", .letter = 'v', .doc = "after each answer: time to first token, tokens/s"},
    CLI_ENGINE_OPTIONS,
};

static const hdl_args_spec run_spec = {
    .command = "heddle run",
    .usage = "URL|MODEL [PROMPT] [options]",
    .about =
        "Chat in the terminal. With PROMPT, or text piped in, it answers once and ends. Ctrl-C "
        "stops the answer, not the program; /help lists what can be typed.",
    .opts = run_opts,
    .opts_count = HDL_ARRAY_LEN(run_opts),
    .positionals_min = 1,
    .positionals_max = 2,
    .examples = "heddle run http://127.0.0.1:8080\ttalk to a server\n"
                "heddle run deploy/demo-model\tserve the bundled model and talk to it\n"
                "heddle run URL \"What is 12 plus 30?\"\tone answer\n",
};

static const char repl_help[] =
    "  /help               this list\n"
    "  /clear              forget the conversation\n"
    "  /undo               forget the last question and its answer\n"
    "  /system TEXT        set the system message (without TEXT: none)\n"
    "  /set NAME VALUE     temperature, top_p, max_tokens or seed (VALUE default: the model's "
    "own)\n"
    "  /show               settings and the length of the conversation\n"
    "  /stats              times after each answer: on, off\n"
    "  /bye                end (Ctrl-D too)\n"
    "  \"\"\"                 begins and ends a text of several lines\n";

typedef struct session {
    cli_chat chat;
    bool verbose;
    bool interactive;
} session;

static void print_stats(const cli_chat_stats *stats)
{
    /* From the question on: a short answer arrives in one piece, whose own rate says nothing. */
    double seconds = (double)stats->total_us / 1e6;
    fprintf(stderr,
            "[%lld prompt tokens, %lld of them cached; %lld new; first token after %.0f ms; "
            "%.1f tokens/s; %s]\n",
            (long long)stats->n_prompt, (long long)stats->n_cached, (long long)stats->n_new,
            (double)stats->ttft_us / 1e3, seconds > 0 ? (double)stats->n_new / seconds : 0.0,
            stats->finish[0] != '\0' ? stats->finish : "stopped");
}

static int answer(session *s, const char *text)
{
    hdl_errmsg why = {0};
    cli_chat_stats stats;
    hdl_err err = cli_chat_turn(&s->chat, text, &stats, &why);
    if (err == HDL_OK || err == HDL_CANCELLED || stats.ttft_us > 0)
        fputc('\n', stdout);
    fflush(stdout);
    /* Only now: a Ctrl-C before the first byte was meant for this answer, too. */
    atomic_store_explicit(&stop_answer, false, memory_order_relaxed);
    if (err != HDL_OK && err != HDL_CANCELLED)
        return cli_fail(err, &why);
    if (s->verbose)
        print_stats(&stats);
    return err == HDL_OK || s->interactive ? CLI_OK : CLI_FAILED;
}

static void set_number(double *setting, const char *name, const char *value)
{
    double number = -1;
    if (strcmp(value, "default") != 0 && (!hdl_parse_float(value, &number) || number < 0))
        fprintf(stderr, "%s needs a number from 0, or default\n", name);
    else
        *setting = number;
}

static void set_integer(int64_t *setting, const char *name, const char *value)
{
    int64_t number = -1;
    if (strcmp(value, "default") != 0 && (!hdl_parse_int(value, &number) || number < 0))
        fprintf(stderr, "%s needs an integer from 0, or default\n", name);
    else
        *setting = number;
}

static void set_value(session *s, const char *name, const char *value)
{
    if (strcmp(name, "temperature") == 0)
        set_number(&s->chat.temperature, name, value);
    else if (strcmp(name, "top_p") == 0)
        set_number(&s->chat.top_p, name, value);
    else if (strcmp(name, "max_tokens") == 0)
        set_integer(&s->chat.max_tokens, name, value);
    else if (strcmp(name, "seed") == 0)
        set_integer(&s->chat.seed, name, value);
    else
        fprintf(stderr, "there is no setting %s; /help lists them\n", name);
}

static void show_number(const char *name, double value)
{
    if (value < 0)
        printf("%s: default\n", name);
    else
        printf("%s: %g\n", name, value);
}

static void show_integer(const char *name, int64_t value)
{
    if (value < 0)
        printf("%s: default\n", name);
    else
        printf("%s: %lld\n", name, (long long)value);
}

static void show(const session *s)
{
    printf("system: %s\n%zu messages\n", s->chat.system != NULL ? s->chat.system : "(none)",
           s->chat.n_messages);
    show_number("temperature", s->chat.temperature);
    show_number("top_p", s->chat.top_p);
    show_integer("max_tokens", s->chat.max_tokens);
    show_integer("seed", s->chat.seed);
}

/* A line that begins with a slash. Returns false to end the chat. */
static bool run_command(session *s, char *line)
{
    char *save = NULL;
    const char *word = strtok_r(line, " ", &save);
    const char *rest = save != NULL ? save : "";
    if (strcmp(word, "/bye") == 0 || strcmp(word, "/quit") == 0 || strcmp(word, "/exit") == 0)
        return false;
    if (strcmp(word, "/help") == 0 || strcmp(word, "/?") == 0) {
        fputs(repl_help, stdout);
    } else if (strcmp(word, "/clear") == 0) {
        cli_chat_clear(&s->chat);
    } else if (strcmp(word, "/undo") == 0) {
        if (!cli_chat_undo(&s->chat))
            fputs("nothing has been said yet\n", stderr);
    } else if (strcmp(word, "/system") == 0) {
        free(s->chat.system);
        s->chat.system = rest[0] != '\0' ? strdup(rest) : NULL;
    } else if (strcmp(word, "/stats") == 0) {
        s->verbose = !s->verbose;
    } else if (strcmp(word, "/show") == 0) {
        show(s);
    } else if (strcmp(word, "/set") == 0) {
        const char *name = strtok_r(NULL, " ", &save), *value = strtok_r(NULL, " ", &save);
        if (name == NULL || value == NULL)
            fputs("/set NAME VALUE; /help lists the names\n", stderr);
        else
            set_value(s, name, value);
    } else {
        fprintf(stderr, "there is no command %s; /help lists them\n", word);
    }
    return true;
}

/* Reads one entry into `text`: a line, or several between lines of three quotes. False at the end
 * of input. */
static bool read_entry(session *s, hdl_buf *text)
{
    bool several = false;
    hdl_buf_clear(text);
    for (;;) {
        if (s->interactive) {
            fputs(several ? "... " : ">>> ", stdout);
            fflush(stdout);
        }
        char *line = NULL;
        size_t size = 0;
        ssize_t len = getline(&line, &size, stdin);
        if (len < 0) {
            free(line);
            if (atomic_load_explicit(&stop_program, memory_order_relaxed))
                return false;
            if (atomic_exchange_explicit(&stop_answer, false, memory_order_relaxed)) {
                clearerr(stdin); /* Ctrl-C at the prompt: a fresh line */
                fputc('\n', stdout);
                several = false;
                hdl_buf_clear(text);
                continue;
            }
            return text->len > 0;
        }
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            line[--len] = '\0';
        bool quotes = strcmp(line, "\"\"\"") == 0;
        if (!quotes) {
            if (text->len > 0)
                hdl_buf_puts(text, "\n");
            hdl_buf_append(text, line, (size_t)len);
        }
        free(line);
        if (quotes && !several)
            several = true;
        else if (quotes || !several)
            return true;
    }
}

static int chat_loop(session *s)
{
    hdl_buf text;
    hdl_buf_init(&text, 16 << 20);
    printf("Ask something. /help lists what else can be typed; Ctrl-C stops an answer.\n");
    while (!atomic_load_explicit(&stop_program, memory_order_relaxed) && read_entry(s, &text)) {
        const char *said = hdl_buf_cstr(&text);
        if (strspn(said, " \t\n") == text.len)
            continue;
        if (said[0] == '/') {
            char *line = strdup(said);
            bool go_on = line != NULL && run_command(s, line);
            free(line);
            if (!go_on)
                break;
        } else {
            (void)answer(s, said);
        }
    }
    hdl_buf_deinit(&text);
    return CLI_OK;
}

/* Everything that is piped in, as one prompt. */
static int answer_stdin(session *s)
{
    hdl_buf text;
    hdl_buf_init(&text, 16 << 20);
    char bytes[4096];
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
        hdl_buf_append(&text, bytes, n);
    int rc = text.len > 0 ? answer(s, hdl_buf_cstr(&text)) : CLI_OK;
    hdl_buf_deinit(&text);
    return rc;
}

/* Asks /readyz until it says yes, showing what the server says of itself. */
static hdl_err wait_ready(hdl_client *client, int64_t wait_s, hdl_errmsg *why)
{
    uint64_t deadline_us = hdl_clock_now_us() + (uint64_t)wait_s * HDL_SEC_US;
    hdl_buf answer;
    hdl_buf_init(&answer, 1 << 20);
    hdl_err err;
    for (;;) {
        long status = 0;
        hdl_buf_clear(&answer);
        err = hdl_client_send(
            client, &(hdl_client_request){.path = "/readyz", .answer = &answer, .timeout_s = 5},
            &status, why);
        if (err == HDL_CANCELLED || (err == HDL_OK && status == 200))
            break;
        if (hdl_clock_now_us() >= deadline_us) {
            if (err == HDL_OK)
                err = hdl_fail(HDL_AGAIN, why, "the server is not ready after %lld s; it says: %s",
                               (long long)wait_s, hdl_buf_cstr(&answer));
            break;
        }
        hdl_clock_sleep_us(20 * HDL_MS_US);
    }
    hdl_buf_deinit(&answer);
    return err;
}

static hdl_err read_settings(session *s, const hdl_args *args, hdl_errmsg *why)
{
    HDL_TRY(hdl_args_float(args, "temperature", &s->chat.temperature, why));
    HDL_TRY(hdl_args_float(args, "top-p", &s->chat.top_p, why));
    HDL_TRY(hdl_args_int(args, (hdl_args_int_opt){"max-tokens", 1, INT32_MAX}, &s->chat.max_tokens,
                         why));
    HDL_TRY(hdl_args_int(args, (hdl_args_int_opt){"seed", 0, INT64_MAX}, &s->chat.seed, why));
    s->chat.system = hdl_args_has(args, "system") ? strdup(hdl_args_str(args, "system", "")) : NULL;
    s->chat.model = hdl_args_has(args, "model") ? strdup(hdl_args_str(args, "model", "")) : NULL;
    s->verbose = hdl_args_has(args, "verbose");
    return HDL_OK;
}

/* What there is to say: an argument, what is piped in, or a person's lines. */
static int talk(session *s, const hdl_args *args, int64_t wait_s)
{
    hdl_errmsg why = {0};
    hdl_err err = wait_ready(s->chat.client, wait_s, &why);
    if (err == HDL_OK)
        err = cli_chat_find_model(&s->chat, &why);
    if (err != HDL_OK)
        return cli_fail(err, &why);
    if (args->positionals_count > 1)
        return answer(s, args->positionals[1]);
    if (!isatty(STDIN_FILENO))
        return answer_stdin(s);
    s->interactive = true;
    return chat_loop(s);
}

static hdl_err read_key(const hdl_args *args, char **key, hdl_errmsg *why)
{
    *key = NULL;
    if (!hdl_args_has(args, "api-key-file"))
        return HDL_OK;
    size_t len = 0;
    HDL_TRY(hdl_fs_read(hdl_args_str(args, "api-key-file", ""), 4096, key, &len, why));
    (*key)[strcspn(*key, "\r\n")] = '\0';
    char *colon = strchr(*key, ':'); /* NAME:KEY, as the server's own file has it */
    if (colon != NULL)
        memmove(*key, colon + 1, strlen(colon + 1) + 1);
    return HDL_OK;
}

/* "http://host:port" as it is, "host:port" with http:// before it; false: a model. */
static bool read_url(const char *target, char *url, size_t size)
{
    bool has_scheme = strncmp(target, "http://", 7) == 0 || strncmp(target, "https://", 8) == 0;
    const char *colon = strrchr(target, ':');
    bool has_port = colon != NULL && colon[1] != '\0' &&
                    strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
                    access(target, F_OK) != 0;
    int len = snprintf(url, size, "%s%s", has_scheme ? "" : "http://", target);
    return (has_scheme || has_port) && len > 0 && (size_t)len < size;
}

/* A running server has been told how to run its model; to ignore such an option would mislead. */
static hdl_err refuse_engine_options(const hdl_args *args, hdl_errmsg *why)
{
    for (size_t i = 0; i < args->spec->opts_count; i++) {
        const hdl_arg_opt *opt = &args->spec->opts[i];
        if (opt->config != NULL && args->values[i] != NULL)
            return hdl_fail(HDL_INVALID, why,
                            "--%s says how a model is run; %s is a server that runs one already; "
                            "give it to heddle serve",
                            opt->name, args->positionals[0]);
    }
    return HDL_OK;
}

typedef struct target {
    char url[1024];
    bool is_url;
    int64_t wait_s;
    char *key;          /* owned */
    hdl_local *local;   /* owned; NULL: a server of somebody else's */
    hdl_client *client; /* owned */
} target;

static hdl_err read_options(target *t, session *s, const hdl_args *args, hdl_errmsg *why)
{
    t->is_url = read_url(args->positionals[0], t->url, sizeof t->url);
    t->wait_s = t->is_url ? 0 : 600;
    if (t->is_url)
        HDL_TRY(refuse_engine_options(args, why));
    HDL_TRY(hdl_args_int(args, (hdl_args_int_opt){"wait", 0, 86400}, &t->wait_s, why));
    HDL_TRY(read_settings(s, args, why));
    return read_key(args, &t->key, why);
}

static hdl_err open_target(target *t, const hdl_args *args, hdl_errmsg *why)
{
    if (!t->is_url) {
        HDL_TRY(hdl_local_serve(&t->local, args, args->positionals[0], why));
        snprintf(t->url, sizeof t->url, "http://127.0.0.1:%u", hdl_local_port(t->local));
    }
    catch_signals();
    const hdl_client_opts opts = {.base_url = t->url, .api_key = t->key, .cancel = &stop_answer};
    return hdl_client_open(&t->client, &opts, why);
}

int cli_run(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &run_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    static session s; /* a thousand messages */
    target t = {.local = NULL};
    cli_chat_init(&s.chat, NULL);
    hdl_err err = read_options(&t, &s, &args, &why);
    if (err != HDL_OK) {
        rc = cli_usage(&run_spec, &why);
    } else if ((err = open_target(&t, &args, &why)) != HDL_OK) {
        rc = cli_fail(err, &why);
    } else {
        s.chat.client = t.client;
        rc = talk(&s, &args, t.wait_s);
    }
    cli_chat_deinit(&s.chat);
    hdl_client_close(t.client);
    hdl_local_close(t.local);
    free(t.key);
    return rc;
}
