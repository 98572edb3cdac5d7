/* SPDX-License-Identifier: Apache-2.0 */
/* heddle serve: starts one scheduler and its workers as processes of this machine, restarts what
 * dies, and stops them together. It holds no state of its own: a scheduler that is started again
 * finds its workers dialling, weights still loaded. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/config.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/run_dir.h"
#include "base/thread.h"
#include "cli/engine_options.h"
#include "cli/http_client.h"
#include "cli/progress.h"
#include "cli/workers.h"

enum { PATH_BYTES = 512, POLL_US = 20 * 1000 };

static const hdl_arg_opt serve_opts[] = {
    {.name = "host",
     .value = "H",
     .config = "http.host",
     .group = "Network",
     .doc = "address of the API (default 127.0.0.1; 0.0.0.0: every one)"},
    {.name = "port",
     .letter = 'p',
     .value = "N",
     .config = "http.port",
     .group = "Network",
     .doc = "port of the API (default 8080; 0: any free one)"},
    {.name = "api-key-file",
     .value = "F",
     .config = "http.api_key_file",
     .group = "Network",
     .doc = "file of API keys, one KEY or NAME:KEY a line"},
    {.name = "ssl-certfile",
     .value = "F",
     .config = "http.tls_cert",
     .group = "Network",
     .aliases = "tls-cert",
     .doc = "PEM certificate: the API speaks HTTPS"},
    {.name = "ssl-keyfile",
     .value = "F",
     .config = "http.tls_key",
     .group = "Network",
     .aliases = "tls-key",
     .doc = "its PEM private key"},
    {.name = "served-model-name",
     .value = "NAME",
     .config = "model.name",
     .group = "Model",
     .doc = "name that clients ask for (default: the folder's)"},
    {.name = "config",
     .letter = 'c',
     .value = "F",
     .doc = "configuration file; options win over it"},
    CLI_ENGINE_OPTIONS,
    CLI_SERVE_OPTIONS,
};

static const hdl_args_spec serve_spec = {
    .command = "heddle serve",
    .usage = "MODEL [options]",
    .about =
        "Serves a model over an OpenAI-compatible HTTP API: one scheduler and its workers on "
        "this machine. A worker that dies is started again, and running streams go on with the "
        "same tokens. Ctrl-C lets admitted requests finish; twice ends at once.",
    .opts = serve_opts,
    .opts_count = HDL_ARRAY_LEN(serve_opts),
    .positionals_min = 0,
    .positionals_max = 1,
    .examples = "heddle serve deploy/demo-model --tp 2 --ep 2\tthe bundled model on two workers\n"
                "heddle serve MODEL --weights q8 --kv-bytes 4GiB\ta model of your own\n",
};

typedef struct service {
    hdl_config *config;
    hdl_run_dir dir;
    char config_path[PATH_BYTES], listen[PATH_BYTES], url[PATH_BYTES];
    hdl_loop *loop;
    hdl_spawn *spawn;
    hdl_spawn_child *scheduler;
    uint32_t n_workers;
    hdl_client *client; /* asks our own /readyz */
    hdl_timer poll;
    uint64_t started_us;
    cli_progress progress;
    bool ready, stopping, failed;
} service;

/* ---- the scheduler's words ----------------------------------------------------------------- */

static bool on_scheduler(void *arg, hdl_spawn_child *child, hdl_spawn_event event, const char *line)
{
    service *s = arg;
    static const char listening[] = "listening on ";
    if (event == HDL_SPAWN_LINE) {
        if (strncmp(line, listening, sizeof listening - 1) == 0)
            snprintf(s->url, sizeof s->url, "%s", line + sizeof listening - 1);
        return true; /* what it says of itself is said by us, once it is ready */
    }
    if (event == HDL_SPAWN_ENDED) {
        char text[64];
        if (s->stopping) {
            hdl_loop_stop(s->loop);
            return true;
        }
        if (s->ready)
            return false; /* started again */
        fprintf(stderr, "heddle: the scheduler did not start (%s); its words are above\n",
                hdl_spawn_status_text(hdl_spawn_status(child), text, sizeof text));
        s->failed = true;
        hdl_loop_stop(s->loop);
        return true;
    }
    return false;
}

/* Before the first answer a worker that gives up would give up again: wrong options or a broken
 * model. Later it may be the machine's trouble of a moment, so it is started again. */
static bool on_worker(void *arg, hdl_spawn_child *child, hdl_spawn_event event, const char *line)
{
    (void)line;
    service *s = arg;
    char text[64];
    if (event != HDL_SPAWN_ENDED || s->ready || s->stopping || !cli_workers_gave_up(child))
        return false;
    if (!s->failed)
        fprintf(stderr, "heddle: %s cannot run the model (%s); its words are above\n",
                hdl_spawn_name(child),
                hdl_spawn_status_text(hdl_spawn_status(child), text, sizeof text));
    s->failed = true;
    hdl_loop_stop(s->loop);
    return true;
}

static void say_start(const service *s)
{
    fprintf(stderr, "heddle " HDL_VERSION ": starting %s on %u worker%s; Ctrl-C ends it\n",
            s->config->model_path, s->n_workers, s->n_workers == 1 ? "" : "s");
}

/* On a terminal: what a no of /readyz says. */
static void show_answer(service *s, const hdl_buf *answer)
{
    hdl_json *doc = NULL;
    const char *state;
    size_t len;
    int64_t done = 0, total = 0;
    const hdl_jv_range range = {.min = 0, .max = INT64_MAX};
    if (hdl_json_parse((const char *)hdl_buf_data(answer), answer->len, 0, &doc, NULL) != HDL_OK)
        return;
    hdl_jv root = hdl_json_root(doc), value = hdl_jv_get(&root, "state");
    hdl_jv read = hdl_jv_get(&root, "load_bytes"), all = hdl_jv_get(&root, "load_bytes_total");
    if (hdl_jv_int(&read, range, &done, NULL) != HDL_OK ||
        hdl_jv_int(&all, range, &total, NULL) != HDL_OK)
        total = 0;
    if (hdl_jv_string(&value, &state, &len, NULL) == HDL_OK)
        cli_progress_show(&s->progress, state, (uint64_t)done, (uint64_t)total);
    hdl_json_close(doc);
}

static void say_ready(service *s)
{
    cli_progress_show(&s->progress, NULL, 0, 0);
    printf("ready after %.2f s: %s on %u worker%s, API at %s/v1\n"
           "  heddle run %s\n",
           (double)(hdl_clock_now_us() - s->started_us) / 1e6, s->config->model_path, s->n_workers,
           s->n_workers == 1 ? "" : "s", s->url, s->url);
    fflush(stdout);
}

/* Asks /readyz until it says yes. */
static void poll_ready(hdl_loop *loop, hdl_timer *timer)
{
    service *s = timer->arg;
    hdl_buf answer;
    long status = 0;
    hdl_buf_init(&answer, 1 << 16);
    if (s->url[0] != '\0' && s->client == NULL &&
        hdl_client_open(&s->client, &(hdl_client_opts){.base_url = s->url, .is_own_server = true},
                        NULL) != HDL_OK)
        s->client = NULL;
    if (s->client != NULL &&
        hdl_client_send(s->client,
                        &(hdl_client_request){.path = "/readyz", .answer = &answer, .timeout_s = 2},
                        &status, NULL) == HDL_OK) {
        s->ready = status == 200;
        if (s->ready)
            say_ready(s);
        else
            show_answer(s, &answer);
    }
    hdl_buf_deinit(&answer);
    if (!s->ready && !s->stopping)
        (void)!hdl_timer_set(loop, timer, hdl_loop_now_us(loop) + POLL_US);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void on_signal(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)ready;
    service *s = watch->arg;
    struct signalfd_siginfo info;
    if (read(watch->fd, &info, sizeof info) != sizeof info)
        return;
    pid_t pid = hdl_spawn_pid(s->scheduler);
    bool terminal_went = info.ssi_code == SI_KERNEL; /* sent by no process */
    if (info.ssi_signo == SIGHUP && !terminal_went) {
        if (pid > 0)
            kill(pid, SIGHUP);
        return;
    }
    if (s->stopping || pid <= 0) {
        hdl_loop_stop(loop);
        return;
    }
    s->stopping = true;
    kill(pid, SIGTERM); /* it drains, tells the workers to go, and ends: then we do */
}

static hdl_err spawn_scheduler(service *s, hdl_errmsg *why)
{
    char program[4096];
    HDL_TRY(cli_program_path(program, sizeof program, "heddle-scheduler", why));
    const char *argv[] = {program, "--config", s->config_path, "--die-with-parent", NULL};
    return hdl_spawn_start(
        s->spawn,
        &(hdl_spawn_opts){.name = "scheduler", .argv = argv, .on_event = on_scheduler, .arg = s},
        &s->scheduler, why);
}

static hdl_err start(service *s, hdl_errmsg *why)
{
    s->started_us = hdl_clock_now_us();
    HDL_TRY(cli_workers_plan(s->config, &s->n_workers, why));
    say_start(s);
    HDL_TRY(hdl_run_dir_open(&s->dir, why));
    snprintf(s->listen, sizeof s->listen, "unix:%s/rpc.sock", s->dir.path);
    HDL_TRY(hdl_fs_join(s->config_path, sizeof s->config_path, s->dir.path, "heddle.yaml"));
    s->config->rpc_listen = s->listen;
    HDL_TRY(cli_workers_write_config(s->config, s->config_path, why));
    HDL_TRY(hdl_loop_open(&s->loop, why));
    HDL_TRY(hdl_spawn_open(&s->spawn, s->loop));
    HDL_TRY(spawn_scheduler(s, why));
    HDL_TRY(cli_workers_spawn(&(cli_workers_start){.spawn = s->spawn,
                                                   .config = s->config,
                                                   .config_path = s->config_path,
                                                   .address = s->listen,
                                                   .n_workers = s->n_workers,
                                                   .on_event = on_worker,
                                                   .arg = s},
                              why));
    s->poll = (hdl_timer){.fn = poll_ready, .arg = s};
    return hdl_timer_set(s->loop, &s->poll, hdl_clock_now_us() + POLL_US);
}

static hdl_err live(service *s, hdl_errmsg *why)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    hdl_watch signals = {
        .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .arg = s};
    if (signals.fd < 0)
        return hdl_fail(HDL_IO, why, "signals cannot be awaited; are open files at their limit?");
    hdl_err err = hdl_watch_add(s->loop, &signals, HDL_LOOP_READ);
    if (err == HDL_OK)
        err = hdl_loop_run(s->loop);
    s->stopping = true;
    hdl_spawn_stop(s->spawn, 5 * HDL_SEC_US);
    hdl_watch_del(s->loop, &signals);
    close(signals.fd);
    return s->failed ? HDL_PEER : err;
}

static hdl_err serve(service *s, hdl_errmsg *why)
{
    hdl_err err = start(s, why);
    if (err == HDL_OK)
        err = live(s, why);
    hdl_spawn_close(s->spawn);
    hdl_client_close(s->client);
    hdl_loop_close(s->loop);
    hdl_run_dir_close(&s->dir);
    return err;
}

int cli_serve(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &serve_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    hdl_err err = cli_config_open(&cfg, &config, &args, &why);
    if (err != HDL_OK)
        return cli_usage(&serve_spec, &why);
    if (args.positionals_count > 0)
        config.model_path = args.positionals[0];
    if (config.model_path[0] == '\0') {
        hdl_fail(HDL_INVALID, &why, "no model is named; give its folder");
        hdl_cfg_close(cfg);
        return cli_usage(&serve_spec, &why);
    }
    /* Somebody watches: what is not wrong is said once, by us. */
    if (strcmp(hdl_cfg_origin(cfg, "log.level"), "default") == 0)
        config.log_level = HDL_LOG_WARN;
    err = hdl_log_setup(&(hdl_log_opts){.level = (hdl_log_level)config.log_level}, &why);
    if (err != HDL_OK) {
        hdl_cfg_close(cfg);
        return cli_fail(err, &why);
    }
    hdl_thread_block_signals();
    service s = {.config = &config};
    err = serve(&s, &why);
    hdl_cfg_close(cfg);
    if (err == HDL_OK)
        return CLI_OK;
    return s.failed ? CLI_FAILED : cli_fail(err, &why);
}
