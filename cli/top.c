/* SPDX-License-Identifier: Apache-2.0 */
/* heddle top: a running server, live, from its own /metrics and /readyz. */
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <heddle/limits.h>
#include <heddle/types.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/http_client.h"
#include "cli/scrape.h"

enum { ANSWER_BYTES_MAX = 4 << 20, RANKS_MAX = 1024 };

static const hdl_arg_opt top_opts[] = {
    {.name = "interval", .value = "SECONDS", .doc = "between two looks (1)"},
    {.name = "once", .doc = "one look over one interval, then end"},
    {.name = "json", .doc = "one look as one JSON document"},
    {.name = "api-key-file", .value = "FILE", .doc = "key to send: the file's first line"},
};

static const hdl_args_spec top_spec = {
    .command = "heddle top",
    .usage = "[URL] [options]",
    .about =
        "A running server, live (default http://127.0.0.1:8080): requests, tokens a second, what "
        "clients wait for, KV cache, every rank's steps. Ctrl-C ends it.",
    .opts = top_opts,
    .opts_count = HDL_ARRAY_LEN(top_opts),
    .positionals_max = 1,
};

static atomic_bool stop;
static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

typedef struct top {
    hdl_client *client;
    const char *url;
    hdl_scrape now, before;
    char state[96];
    double seconds; /* between the two */
} top;

static hdl_err fetch(top *t, const char *path, hdl_buf *answer, long *status, hdl_errmsg *why)
{
    const hdl_client_request request = {.path = path, .answer = answer, .timeout_s = 5};
    return hdl_client_send(t->client, &request, status, why);
}

static hdl_err scrape(top *t, hdl_errmsg *why)
{
    hdl_buf answer;
    long status = 0;
    size_t len = 0;
    hdl_buf_init(&answer, ANSWER_BYTES_MAX);
    hdl_err err = fetch(t, "/metrics", &answer, &status, why);
    if (err == HDL_OK && status != 200)
        err = hdl_fail(HDL_PEER, why, "%s/metrics answers with status %ld; is it a heddle server?",
                       t->url, status);
    char *text = err == HDL_OK ? hdl_buf_steal(&answer, &len) : NULL;
    hdl_buf_deinit(&answer);
    if (err != HDL_OK)
        return err;
    if (!text)
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    hdl_scrape_free(&t->before);
    t->before = t->now;
    return hdl_scrape_parse(&t->now, text, why);
}

/* The state in words, from /readyz. */
static void read_state(top *t)
{
    hdl_buf answer;
    long status = 0;
    hdl_json *doc = NULL;
    const char *text = "unknown";
    hdl_buf_init(&answer, ANSWER_BYTES_MAX);
    if (fetch(t, "/readyz", &answer, &status, NULL) == HDL_OK &&
        hdl_json_parse(hdl_buf_cstr(&answer), answer.len, 0, &doc, NULL) == HDL_OK) {
        hdl_jv root = hdl_json_root(doc), state = hdl_jv_get(&root, "state");
        if (hdl_jv_string(&state, &text, NULL, NULL) != HDL_OK)
            text = "unknown";
    }
    snprintf(t->state, sizeof(t->state), "%s", text);
    if (doc)
        hdl_json_close(doc);
    hdl_buf_deinit(&answer);
}

/* ---- figures -------------------------------------------------------------------------------- */

static double value(const top *t, const char *name) { return hdl_scrape_sum(&t->now, name, ""); }

/* Increase a second between the two scrapes. */
static double rate(const top *t, const char *name)
{
    double before = hdl_scrape_sum(&t->before, name, "");
    return (value(t, name) - (isnan(before) ? 0 : before)) / t->seconds;
}

static double quantile_ms(const top *t, const char *name, const char *labels, double q)
{
    return 1e3 * hdl_scrape_quantile(&t->now, &t->before, (hdl_scrape_ask){name, labels, q});
}

static double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

/* Of the fullest cache group: it is the one that requests wait for. */
static double kv_share(const top *t)
{
    double most = 0;
    for (unsigned i = 0; i < HDL_CACHE_GROUPS_MAX; i++) {
        char label[24];
        snprintf(label, sizeof label, "cache=\"%u\"", i);
        double used = hdl_scrape_sum(&t->now, "heddle_kv_blocks_used", label);
        double part = share(used, hdl_scrape_sum(&t->now, "heddle_kv_blocks", label));
        most = part > most ? part : most;
    }
    return most;
}

static double hit_share(const top *t)
{
    return share(rate(t, "heddle_prefix_cache_hit_tokens_total"),
                 rate(t, "heddle_prefix_cache_query_tokens_total"));
}

/* Of the guesses of speculative decoding. */
static double held_share(const top *t)
{
    return share(rate(t, "heddle_spec_decode_accepted_tokens_total"),
                 rate(t, "heddle_spec_decode_draft_tokens_total"));
}

/* Of all replicas. One that has not stepped has no times, but is there. */
static unsigned count_ranks(const top *t)
{
    double n = value(t, "heddle_workers_wanted");
    return n >= 1 ? n < RANKS_MAX ? (unsigned)n : RANKS_MAX : 0;
}

static const char *rank_label(unsigned rank, char label[24])
{
    snprintf(label, 24, "rank=\"%u\"", rank);
    return label;
}

static double steps_per_s(const top *t, const char *label)
{
    double now = hdl_scrape_sum(&t->now, "heddle_step_seconds_count", label);
    double before = hdl_scrape_sum(&t->before, "heddle_step_seconds_count", label);
    return isnan(now) ? 0 : (now - (isnan(before) ? 0 : before)) / t->seconds;
}

/* ---- a person's ----------------------------------------------------------------------------- */

static void print_ms(const char *label, double v)
{
    if (isnan(v))
        printf("%s %9s", label, "-");
    else
        printf("%s %6.1f ms", label, v);
}

static void print_times(const top *t, const char *what, const char *name)
{
    printf("%-14s", what);
    print_ms(" p50", quantile_ms(t, name, "", 0.5));
    print_ms("   p90", quantile_ms(t, name, "", 0.9));
    print_ms("   p99", quantile_ms(t, name, "", 0.99));
    putchar('\n');
}

static void print_bar(double part)
{
    enum { WIDTH = 30 };
    int full = (int)(part * WIDTH + 0.5);
    putchar('[');
    for (int i = 0; i < WIDTH; i++)
        putchar(i < full ? '#' : '.');
    printf("] %3.0f %%\n", part * 100);
}

static void print_look(const top *t)
{
    char label[24];
    printf("%s: %s\n\n", t->url, t->state);
    printf("%-14s %.0f running, %.0f waiting (%.0f prompt tokens)\n", "requests",
           value(t, "heddle_requests_running"), value(t, "heddle_requests_waiting"),
           value(t, "heddle_queue_tokens"));
    printf("%-14s %.0f/s generated, %.0f/s prompt (%.0f %% from the prefix cache)\n", "tokens",
           rate(t, "heddle_generation_tokens_total"), rate(t, "heddle_prompt_tokens_total"),
           hit_share(t) * 100);
    if (value(t, "heddle_spec_decode_draft_tokens_total") > 0)
        printf("%-14s %.0f/s, %.0f %% came true\n", "guesses",
               rate(t, "heddle_spec_decode_draft_tokens_total"), held_share(t) * 100);
    printf("%-14s ", "KV cache");
    print_bar(kv_share(t));
    print_times(t, "first token", "heddle_time_to_first_token_seconds");
    print_times(t, "between tokens", "heddle_inter_token_latency_seconds");
    print_times(t, "in the queue", "heddle_request_queue_time_seconds");
    printf("%-14s %.0f of %.0f ready; %.0f epochs, %.0f restarts, %.0f preemptions so far\n\n",
           "workers", value(t, "heddle_workers_ready"), value(t, "heddle_workers_wanted"),
           value(t, "heddle_group_epochs_total"), value(t, "heddle_worker_restarts_total"),
           value(t, "heddle_preemptions_total"));
    printf("%6s %10s %14s %14s %18s\n", "rank", "steps/s", "step p50", "step p99",
           "collectives p50");
    for (unsigned rank = 0, n = count_ranks(t); rank < n; rank++) {
        printf("%6u %10.1f", rank, steps_per_s(t, rank_label(rank, label)));
        print_ms("    ", quantile_ms(t, "heddle_step_seconds", label, 0.5));
        print_ms("    ", quantile_ms(t, "heddle_step_seconds", label, 0.99));
        print_ms("        ", quantile_ms(t, "heddle_collective_seconds", label, 0.5));
        putchar('\n');
    }
    fflush(stdout);
}

/* ---- a program's ---------------------------------------------------------------------------- */

static void put(hdl_json_writer *w, const char *key, double v)
{
    hdl_jw_key(w, key);
    hdl_jw_double(w, v); /* NaN, where nothing was observed, is null */
}

static void put_times(hdl_json_writer *w, const top *t, const char *key, const char *name)
{
    hdl_jw_key(w, key);
    hdl_jw_begin_object(w);
    put(w, "p50_ms", quantile_ms(t, name, "", 0.5));
    put(w, "p90_ms", quantile_ms(t, name, "", 0.9));
    put(w, "p99_ms", quantile_ms(t, name, "", 0.99));
    hdl_jw_end_object(w);
}

static int print_json(const top *t)
{
    hdl_buf out;
    hdl_json_writer w;
    char label[24];
    hdl_buf_init(&out, 1 << 20);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "state", t->state);
    put(&w, "running", value(t, "heddle_requests_running"));
    put(&w, "waiting", value(t, "heddle_requests_waiting"));
    put(&w, "queue_tokens", value(t, "heddle_queue_tokens"));
    put(&w, "generated_per_s", rate(t, "heddle_generation_tokens_total"));
    put(&w, "prompt_per_s", rate(t, "heddle_prompt_tokens_total"));
    put(&w, "kv_used", kv_share(t));
    put(&w, "prefix_hits", hit_share(t));
    put(&w, "guesses_per_s", rate(t, "heddle_spec_decode_draft_tokens_total"));
    put(&w, "guesses_held", held_share(t));
    put_times(&w, t, "ttft", "heddle_time_to_first_token_seconds");
    put_times(&w, t, "itl", "heddle_inter_token_latency_seconds");
    put_times(&w, t, "queue_time", "heddle_request_queue_time_seconds");
    put(&w, "workers_ready", value(t, "heddle_workers_ready"));
    put(&w, "workers_wanted", value(t, "heddle_workers_wanted"));
    hdl_jw_key(&w, "ranks");
    hdl_jw_begin_array(&w);
    for (unsigned rank = 0, n = count_ranks(t); rank < n; rank++) {
        hdl_jw_begin_object(&w);
        hdl_jw_kv_uint(&w, "rank", rank);
        put(&w, "steps_per_s", steps_per_s(t, rank_label(rank, label)));
        put(&w, "step_p50_ms", quantile_ms(t, "heddle_step_seconds", label, 0.5));
        put(&w, "step_p99_ms", quantile_ms(t, "heddle_step_seconds", label, 0.99));
        put(&w, "collective_p50_ms", quantile_ms(t, "heddle_collective_seconds", label, 0.5));
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* Waits one interval, in pieces, so that Ctrl-C ends it at once. */
static void pause_for(double seconds)
{
    hdl_time_us until = hdl_clock_now_us() + (hdl_time_us)(seconds * 1e6);
    while (!atomic_load(&stop) && hdl_clock_now_us() < until)
        hdl_clock_sleep_us(20000);
}

static hdl_err watch(top *t, double interval, const hdl_args *args, hdl_errmsg *why)
{
    bool json = hdl_args_has(args, "json"), once = json || hdl_args_has(args, "once");
    bool screen = !once && isatty(STDOUT_FILENO);
    hdl_time_us last = hdl_clock_now_us();
    HDL_TRY(scrape(t, why));
    while (!atomic_load(&stop)) {
        pause_for(interval);
        if (atomic_load(&stop))
            break;
        HDL_TRY(scrape(t, why));
        read_state(t);
        hdl_time_us now = hdl_clock_now_us();
        t->seconds = (double)(now - last) / 1e6;
        last = now;
        if (screen)
            fputs("\033[H\033[2J", stdout);
        if (json)
            return print_json(t) == CLI_OK ? HDL_OK : HDL_IO;
        print_look(t);
        if (once)
            break;
    }
    return HDL_OK;
}

int cli_top(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &top_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    double interval = 1;
    char *key = NULL;
    size_t len = 0;
    top t = {.url = args.positionals_count ? args.positionals[0] : "http://127.0.0.1:8080"};
    if (hdl_args_float(&args, "interval", &interval, &why) != HDL_OK)
        return cli_usage(&top_spec, &why);
    if (!(interval >= 0.1 && interval <= 3600)) {
        (void)hdl_fail(HDL_INVALID, &why, "--interval is from 0.1 to 3600 seconds");
        return cli_usage(&top_spec, &why);
    }
    const char *key_file = hdl_args_str(&args, "api-key-file", NULL);
    hdl_err err = key_file ? hdl_fs_read(key_file, 4096, &key, &len, &why) : HDL_OK;
    if (key)
        key[strcspn(key, "\r\n")] = '\0';
    signal(SIGINT, on_signal);
    if (err == HDL_OK)
        err = hdl_client_open(
            &t.client, &(hdl_client_opts){.base_url = t.url, .api_key = key, .cancel = &stop},
            &why);
    if (err == HDL_OK)
        err = watch(&t, interval, &args, &why);
    hdl_client_close(t.client);
    hdl_scrape_free(&t.now);
    hdl_scrape_free(&t.before);
    free(key);
    return err == HDL_OK || err == HDL_CANCELLED ? CLI_OK : cli_fail(err, &why);
}
