/* SPDX-License-Identifier: Apache-2.0 */
/* heddle-scheduler: the HTTP API, the queue and the control plane in one process. It listens before
 * the tokenizer is read, so that probes get an answer at once.
 *
 * SIGTERM and SIGINT drain: readiness turns false, admitted requests finish (drain.timeout at
 * most), then exit 0; a second one ends it at once. SIGHUP reads certificates and API keys anew. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/daemon.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/notify.h"
#include "scheduler/cluster/cluster.h"
#include "scheduler/front/front.h"

static const hdl_arg_opt options[] = {
    HDL_DAEMON_OPTIONS,
    {.name = "host", .value = "ADDR", .doc = "address of the HTTP API", .config = "http.host"},
    {.name = "port", .value = "PORT", .doc = "port of the HTTP API", .config = "http.port"},
    {.name = "die-with-parent",
     .doc = "end with the process that started this one",
     .config = "worker.die_with_parent"},
};

static const hdl_args_spec spec = {
    .command = "heddle-scheduler",
    .usage = "--config FILE [options]",
    .about = "Serves a model over OpenAI's API, computed by the heddle-workers that dial in. "
             "`heddle serve` starts both on one machine.",
    .opts = options,
    .opts_count = HDL_ARRAY_LEN(options),
    .examples = "heddle-scheduler --config heddle.yaml\tas systemd and Kubernetes start it\n",
};

typedef struct service {
    const hdl_config *config;
    hdl_loop *loop;
    hdl_cluster *cluster;
    hdl_front *front;
    hdl_engine engine;
    hdl_tokenizer *tokenizer;
    hdl_template *chat;
    hdl_front_sampling sampling;
    char model_name[256];
    hdl_timer timer;
    bool draining;
    hdl_time_us drain_by_us;
    hdl_notify notify;
} service;

/* The brain turns at every heartbeat, twice a second; a watchdog is left unanswered when it has not
 * for so long. */
#define BRAIN_STUCK_US (5 * HDL_SEC_US)

/* -- start ----------------------------------------------------------------------------------- */

static hdl_err open_front(service *s, hdl_errmsg *why)
{
    const hdl_config *config = s->config;
    const hdl_front_opts opts = {
        .host = config->http_host,
        .port = (uint16_t)config->http_port,
        .n_threads = (uint32_t)config->http_threads,
        .max_connections = (uint32_t)config->http_connections,
        .tls_cert = config->http_tls_cert[0] ? config->http_tls_cert : NULL,
        .tls_key = config->http_tls_key[0] ? config->http_tls_key : NULL,
        .api_key_file = config->api_key_file[0] ? config->api_key_file : NULL,
        .body_bytes_max = config->http_body_bytes,
        .header_timeout_us = config->http_header_us,
        .body_timeout_us = config->http_body_us,
        .idle_timeout_us = config->http_idle_us,
        .ping_us = config->http_ping_us,
        .request_timeout_us = config->request_us,
    };
    return hdl_front_open(&s->front, &opts, why);
}

/* The folder's or the file's name, as people know the model. */
static void name_model(service *s)
{
    const char *path = s->config->model_path;
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    size_t at = len;
    while (at > 0 && path[at - 1] != '/')
        at--;
    if (len - at > 5 && strncmp(path + len - 5, ".gguf", 5) == 0)
        len -= 5;
    if (s->config->model_name[0])
        snprintf(s->model_name, sizeof s->model_name, "%s", s->config->model_name);
    else
        snprintf(s->model_name, sizeof s->model_name, "%.*s", (int)(len - at), path + at);
}

static hdl_err open_model(service *s, hdl_errmsg *why)
{
    HDL_TRY(hdl_tokenizer_open(&s->tokenizer, s->config->model_path, why));
    const hdl_tok_info *info = hdl_tokenizer_info(s->tokenizer);
    hdl_errmsg chat_why = {0};
    hdl_err err = hdl_template_open_model(&s->chat, info, &chat_why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        HDL_LOG(WARN, MAIN, "no_chat", "why=%s", HDL_LOG_QUOTE(chat_why.text));
    name_model(s);
    HDL_TRY(hdl_front_sampling_load(&s->sampling, s->config->model_path, why));
    const hdl_front_model model = {.engine = &s->engine,
                                   .tokenizer = s->tokenizer,
                                   .chat = s->chat,
                                   .name = s->model_name,
                                   .sampling = &s->sampling};
    hdl_front_set_model(s->front, &model);
    return HDL_OK;
}

static void say_listening(const service *s)
{
    const char *scheme = s->config->http_tls_cert[0] ? "https" : "http";
    const char *host = s->config->http_host;
    bool is_ipv6 = strchr(host, ':') != NULL; /* written in brackets in a URL */
    printf("listening on %s://%s%s%s:%u\n", scheme, is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "",
           hdl_front_port(s->front));
    printf("workers dial %s\n", hdl_cluster_address(s->cluster));
    fflush(stdout);
}

/* -- life ------------------------------------------------------------------------------------ */

static void drain(service *s, hdl_time_us now)
{
    HDL_LOG(INFO, MAIN, "drain", "again=%d", s->draining);
    if (s->draining) {
        hdl_loop_stop(s->loop);
        return;
    }
    s->draining = true;
    s->drain_by_us = now + s->config->drain_us;
    hdl_notify_stopping(&s->notify, s->config->drain_us + HDL_SEC_US);
    hdl_front_drain(s->front);
    hdl_cluster_drain(s->cluster);
}

static void reload(service *s)
{
    hdl_errmsg why = {0};
    if (hdl_front_reload(s->front, &why) == HDL_OK)
        HDL_LOG(INFO, MAIN, "reloaded");
    else
        HDL_LOG(ERROR, MAIN, "reload_failed", "why=%s", HDL_LOG_QUOTE(why.text));
}

static void on_signal(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)ready;
    service *s = watch->arg;
    struct signalfd_siginfo info;
    if (read(watch->fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGHUP)
        reload(s);
    else
        drain(s, hdl_loop_now_us(loop));
}

/* For systemd: a line of status, and a sign of life as long as the brain turns. */
static void report(service *s, hdl_time_us now)
{
    hdl_engine_info info;
    if (s->notify.fd < 0)
        return;
    s->engine.info(s->engine.self, &info);
    hdl_notify_status(&s->notify, "%s; %u of %u ranks ready, %u requests running, %u waiting",
                      s->draining ? "draining" : info.state, info.n_ranks_ready, info.n_ranks,
                      info.running, info.waiting);
    if (hdl_cluster_turn_age_us(s->cluster, now) < BRAIN_STUCK_US)
        hdl_notify_alive(&s->notify, now);
}

static void on_timer(hdl_loop *loop, hdl_timer *timer)
{
    service *s = timer->arg;
    hdl_time_us now = hdl_loop_now_us(loop);
    report(s, now);
    if (s->draining &&
        (now >= s->drain_by_us || (hdl_cluster_idle(s->cluster) && hdl_front_busy(s->front) == 0)))
        hdl_loop_stop(loop);
    else if (hdl_timer_set(loop, timer, now + 20 * HDL_MS_US) != HDL_OK)
        hdl_loop_stop(loop);
}

static hdl_err live(service *s, hdl_errmsg *why)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    hdl_watch watch = {
        .fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), .fn = on_signal, .arg = s};
    if (watch.fd < 0)
        return hdl_fail(HDL_IO, why, "signals cannot be awaited");
    s->timer = (hdl_timer){.fn = on_timer, .arg = s};
    hdl_err err = hdl_watch_add(s->loop, &watch, HDL_LOOP_READ);
    if (err == HDL_OK)
        err = hdl_timer_set(s->loop, &s->timer, hdl_clock_now_us());
    if (err == HDL_OK)
        err = hdl_loop_run(s->loop);
    hdl_watch_del(s->loop, &watch);
    close(watch.fd);
    return err;
}

static hdl_err run(service *s, hdl_errmsg *why)
{
    if (s->config->model_path[0] == '\0')
        return hdl_fail(HDL_INVALID, why,
                        "no model is named; the scheduler needs its folder; set model.path");
    HDL_TRY(hdl_loop_open(&s->loop, why));
    HDL_TRY(open_front(s, why));
    HDL_TRY(hdl_cluster_open(&s->cluster, s->config, why));
    s->engine = hdl_cluster_engine(s->cluster);
    say_listening(s);
    HDL_TRY(open_model(s, why));
    hdl_notify_ready(&s->notify);
    return live(s, why);
}

/* The engine goes first: requests point to rings of the front. */
static void stop(service *s)
{
    hdl_front_stop(s->front);
    hdl_cluster_close(s->cluster);
    hdl_front_close(s->front);
    hdl_template_free(s->chat);
    hdl_tokenizer_free(s->tokenizer);
    hdl_loop_close(s->loop);
}

int main(int argc, char **argv)
{
    (void)argc;
    hdl_daemon daemon;
    int exit_code = hdl_daemon_start(&daemon, &spec, argv);
    if (exit_code >= 0)
        return exit_code;
    if (daemon.config.die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fprintf(stderr, "heddle-scheduler: the parent's death will go unnoticed\n");
    hdl_errmsg why = {0};
    service s = {.config = &daemon.config};
    hdl_notify_open(&s.notify);
    hdl_err err = run(&s, &why);
    if (err != HDL_OK)
        fprintf(stderr, "heddle-scheduler: %s\n", why.text[0] ? why.text : hdl_err_text(err));
    stop(&s);
    hdl_notify_close(&s.notify);
    hdl_daemon_stop(&daemon);
    return err == HDL_OK ? 0 : 1;
}
