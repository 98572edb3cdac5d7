/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/ring.h"
#include "base/run_dir.h"
#include "base/thread.h"
#include "cli/engine_options.h"
#include "cli/progress.h"
#include "cli/workers.h"
#include "scheduler/cluster/cluster.h"
#include "scheduler/front/front.h"

enum { EMITS = 1 << 16, PATH_BYTES = 512, STALL_US = 120 * 1000 * 1000 };

/* The workers' supervisor has a thread, because the main thread waits for answers. */
struct hdl_local {
    hdl_config config; /* strings borrowed from the caller's and from this struct */
    hdl_cfg *cfg;      /* owned; NULL when the caller keeps the configuration */
    hdl_run_dir dir;
    char config_path[PATH_BYTES], listen[PATH_BYTES];
    hdl_cluster *cluster;
    hdl_engine engine;
    hdl_ring *emits;
    hdl_loop *loop; /* the supervisor's */
    hdl_spawn *spawn;
    hdl_thread supervisor;
    atomic_bool ready, failed; /* failed: a worker cannot run the model */
    /* serve only */
    hdl_front *front;
    hdl_tokenizer *tok;
    hdl_template *chat;
};

/* Set by Ctrl-C, SIGTERM and a terminal that goes: what waits returns, and the command cleans up.
 */
static atomic_bool interrupted;

static void on_end_signal(int sig)
{
    (void)sig;
    atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

/* Without SA_RESTART, so that a wait ends. On the main thread alone, once the others are there:
 * they inherit a mask that blocks all. */
static void catch_end_signals(void)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < HDL_ARRAY_LEN(signals); i++) {
        sigaction(signals[i], &(struct sigaction){.sa_handler = on_end_signal}, NULL);
        sigaddset(&set, signals[i]);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static hdl_err check_interrupted(hdl_errmsg *why)
{
    if (!atomic_load_explicit(&interrupted, memory_order_relaxed))
        return HDL_OK;
    return hdl_fail(HDL_CANCELLED, why, "interrupted");
}

static void supervise(void *arg)
{
    hdl_local *local = arg;
    (void)!hdl_loop_run(local->loop);
    hdl_spawn_stop(local->spawn, 2 * HDL_SEC_US);
}

/* As in serve.c: a worker that gives up by itself would do so again. */
static bool on_worker(void *arg, hdl_spawn_child *child, hdl_spawn_event event, const char *line)
{
    (void)line;
    hdl_local *local = arg;
    if (event != HDL_SPAWN_ENDED || atomic_load(&local->ready) || !cli_workers_gave_up(child))
        return false;
    atomic_store(&local->failed, true);
    return true;
}

/* Children die with the thread that forked them, so the supervisor's own thread starts them. */
typedef struct start_job {
    hdl_local *local;
    uint32_t n_workers;
    hdl_errmsg *why;
    hdl_err err;
    hdl_timer timer;
    int done_fd[2];
} start_job;

static void start_workers(hdl_loop *loop, hdl_timer *timer)
{
    (void)loop;
    start_job *job = timer->arg;
    hdl_local *local = job->local;
    job->err =
        cli_workers_spawn(&(cli_workers_start){.spawn = local->spawn,
                                               .config = &local->config,
                                               .config_path = local->config_path,
                                               .address = hdl_cluster_address(local->cluster),
                                               .n_workers = job->n_workers,
                                               .on_event = on_worker,
                                               .arg = local},
                          job->why);
    (void)!write(job->done_fd[1], "", 1);
}

static hdl_err open_workers(hdl_local *local, uint32_t n_workers, hdl_errmsg *why)
{
    start_job job = {.local = local, .n_workers = n_workers, .why = why};
    if (pipe(job.done_fd) != 0)
        return hdl_fail(HDL_IO, why, "no more open files; raise the limit (ulimit -n)");
    job.timer = (hdl_timer){.fn = start_workers, .arg = &job};
    hdl_err err = hdl_timer_set(local->loop, &job.timer, 1);
    if (err == HDL_OK)
        err = hdl_thread_start(
            &local->supervisor,
            &(hdl_thread_opts){
                .name = "supervisor", .role = HDL_ROLE_MAIN, .fn = supervise, .arg = local},
            why);
    char byte;
    if (err == HDL_OK)
        err = read(job.done_fd[0], &byte, 1) == 1 ? job.err : HDL_IO;
    close(job.done_fd[0]);
    close(job.done_fd[1]);
    return err;
}

/* Until the model is ready. Time counts from the last byte that was loaded. */
static hdl_err wait_ready(hdl_local *local, hdl_errmsg *why)
{
    cli_progress progress = {0};
    uint64_t loaded = 0, since_us = hdl_clock_now_us();
    for (;;) {
        hdl_engine_info info = {0};
        HDL_TRY(check_interrupted(why));
        local->engine.info(local->engine.self, &info);
        cli_progress_show(&progress, info.ready ? NULL : info.state, info.load_bytes_done,
                          info.load_bytes_total);
        if (info.ready) {
            atomic_store(&local->ready, true);
            return HDL_OK;
        }
        if (atomic_load(&local->failed))
            return hdl_fail(HDL_PEER, why, "a worker cannot run the model; its words are above");
        uint64_t now_us = hdl_clock_now_us();
        if (info.load_bytes_done != loaded) {
            loaded = info.load_bytes_done;
            since_us = now_us;
        }
        if (now_us - since_us > STALL_US)
            return hdl_fail(HDL_TIMEOUT, why,
                            "the workers are not ready (%s); nothing moved for %d s; the lines "
                            "above say what they met",
                            info.state, STALL_US / 1000000);
        hdl_clock_sleep_us(2 * HDL_MS_US);
    }
}

static hdl_err prepare(hdl_local *local, const hdl_config *config, hdl_errmsg *why)
{
    local->config = *config;
    HDL_TRY(hdl_run_dir_open(&local->dir, why));
    snprintf(local->listen, sizeof local->listen, "unix:%s/rpc.sock", local->dir.path);
    HDL_TRY(
        hdl_fs_join(local->config_path, sizeof local->config_path, local->dir.path, "heddle.yaml"));
    local->config.rpc_listen = local->listen;
    local->config.die_with_parent = true;
    HDL_TRY(cli_workers_write_config(&local->config, local->config_path, why));
    HDL_TRY(hdl_ring_open(&local->emits, &(hdl_ring_opts){.kind = HDL_RING_SPSC,
                                                          .item_bytes = sizeof(hdl_emit),
                                                          .count = EMITS,
                                                          .wake = HDL_RING_WAKE_OWN}));
    HDL_TRY(hdl_loop_open(&local->loop, why));
    return hdl_spawn_open(&local->spawn, local->loop);
}

/* Quiet unless asked otherwise: a command's output is its answer. */
static hdl_err open_log(const hdl_config *config, hdl_errmsg *why)
{
    hdl_log_level level = (hdl_log_level)config->log_level;
    HDL_TRY(
        hdl_log_setup(&(hdl_log_opts){.path = config->log_file[0] != '\0' ? config->log_file : NULL,
                                      .level = level == HDL_LOG_INFO ? HDL_LOG_WARN : level},
                      why));
    return hdl_log_start(why);
}

hdl_err hdl_local_open(hdl_local **out, const hdl_config *config, hdl_errmsg *why)
{
    uint32_t n_workers = 0;
    HDL_TRY(cli_workers_plan(config, &n_workers, why));
    hdl_local *local = calloc(1, sizeof *local);
    if (local == NULL)
        return HDL_NOMEM;
    hdl_thread_block_signals();
    hdl_err err = open_log(config, why);
    if (err == HDL_OK) {
        hdl_config quiet = *config;
        if (quiet.log_level == HDL_LOG_INFO)
            quiet.log_level = HDL_LOG_WARN;
        err = prepare(local, &quiet, why);
    }
    if (err == HDL_OK)
        err = hdl_cluster_open(&local->cluster, &local->config, why);
    if (err == HDL_OK) {
        local->engine = hdl_cluster_engine(local->cluster);
        err = open_workers(local, n_workers, why);
    }
    catch_end_signals();
    if (err == HDL_OK)
        err = wait_ready(local, why);
    if (err != HDL_OK) {
        hdl_local_close(local);
        return err;
    }
    *out = local;
    return HDL_OK;
}

static hdl_err open_front(hdl_local *local, hdl_errmsg *why)
{
    HDL_TRY(hdl_tokenizer_open(&local->tok, local->config.model_path, why));
    const hdl_tok_info *info = hdl_tokenizer_info(local->tok);
    hdl_err err = hdl_template_open_model(&local->chat, info, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    hdl_front_model model = {
        .engine = &local->engine, .tokenizer = local->tok, .chat = local->chat, .name = "local"};
    hdl_front_opts opts = {.model = &model};
    return hdl_front_open(&local->front, &opts, why);
}

hdl_err hdl_local_serve(hdl_local **out, const hdl_args *args, const char *model_path,
                        hdl_errmsg *why)
{
    hdl_cfg *cfg = NULL;
    hdl_config config;
    HDL_TRY(cli_config_open(&cfg, &config, args, why));
    config.model_path = model_path;
    hdl_err err = hdl_local_open(out, &config, why);
    if (err != HDL_OK) {
        hdl_cfg_close(cfg);
        return err;
    }
    (*out)->cfg = cfg;
    err = open_front(*out, why);
    if (err != HDL_OK) {
        hdl_local_close(*out);
        *out = NULL;
    }
    return err;
}

uint16_t hdl_local_port(const hdl_local *local) { return hdl_front_port(local->front); }

void hdl_local_info(hdl_local *local, hdl_engine_info *out)
{
    local->engine.info(local->engine.self, out);
}

hdl_err hdl_local_submit(hdl_local *local, hdl_request *req, hdl_errmsg *why)
{
    hdl_req_id id;
    req->sink.ring = local->emits;
    req->arrived_us = hdl_clock_now_us();
    hdl_err err = local->engine.submit(local->engine.self, req, &id);
    if (err == HDL_OK)
        return HDL_OK;
    hdl_request_free(req);
    return hdl_fail(err, why, "the request was not taken; %s", hdl_err_text(err));
}

hdl_err hdl_local_next(hdl_local *local, hdl_emit *emit, hdl_errmsg *why)
{
    for (;;) {
        hdl_ring_ack(local->emits);
        if (hdl_ring_pop(local->emits, emit))
            return HDL_OK;
        if (!hdl_ring_arm(local->emits))
            continue;
        HDL_TRY(check_interrupted(why));
        struct pollfd wait = {.fd = hdl_ring_fd(local->emits), .events = POLLIN};
        if (poll(&wait, 1, STALL_US / 1000) == 0)
            return hdl_fail(HDL_TIMEOUT, why,
                            "no token came for %d s; the workers hang or do "
                            "not come back; --log-level info says more",
                            STALL_US / 1000000);
    }
}

void hdl_local_close(hdl_local *local)
{
    if (local == NULL)
        return;
    hdl_front_stop(local->front);
    hdl_cluster_close(local->cluster); /* tells the workers to go */
    hdl_front_close(local->front);
    if (local->supervisor.started) {
        hdl_loop_stop(local->loop);
        hdl_thread_join(&local->supervisor);
    }
    hdl_spawn_close(local->spawn);
    hdl_loop_close(local->loop);
    hdl_ring_close(local->emits);
    hdl_template_free(local->chat);
    hdl_tokenizer_free(local->tok);
    hdl_run_dir_close(&local->dir);
    hdl_log_stop();
    hdl_cfg_close(local->cfg);
    free(local);
}
