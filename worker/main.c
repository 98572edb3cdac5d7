/* SPDX-License-Identifier: Apache-2.0 */
/* heddle-worker: one device's process. Everything it does is told by the scheduler that it dials;
 * here are its command line and its first steps. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include <heddle/coll.h>
#include <heddle/types.h>

#include "base/daemon.h"
#include "base/pulse.h"
#include "worker/control.h"
#include "worker/worker.h"

static const hdl_arg_opt options[] = {
    HDL_DAEMON_OPTIONS,
    {.name = "scheduler",
     .value = "ADDR",
     .doc = "where the scheduler listens: HOST:PORT or unix:/path",
     .config = "worker.scheduler"},
    {.name = "device", .value = "KIND", .doc = "cpu, cuda or cuda:N", .config = "worker.device"},
    {.name = "threads", .value = "N", .doc = "compute threads", .config = "worker.threads"},
    {.name = "cpus", .value = "LIST", .doc = "pin them to CPUs: 0-3,8", .config = "worker.cpus"},
    {.name = "isa", .value = "NAME", .doc = "auto, ref, avx2 or avx512", .config = "worker.isa"},
    {.name = "head-screen",
     .value = "WHEN",
     .doc = "auto, on or off: a q8 copy of the head that finds what a sampler can take",
     .config = "worker.head_screen"},
    {.name = "packed-cache",
     .value = "DIR",
     .doc = "keep packed weights there: the next start reads them and converts nothing",
     .config = "worker.packed_cache"},
    {.name = "die-with-parent",
     .doc = "end with the process that started this one",
     .config = "worker.die_with_parent"},
    {.name = "probe",
     .value = "STATE",
     .doc = "alive or ready: is the worker with this worker.health_file? 0: yes, 1: no"},
};

static const hdl_args_spec spec = {
    .command = "heddle-worker",
    .usage = "--config FILE | --scheduler ADDR [options]",
    .about = "Drives one device for a heddle scheduler: loads the shard of the model that the "
             "scheduler assigns to it and runs its steps. Start as many as the cluster has "
             "devices, spares included.",
    .opts = options,
    .opts_count = HDL_ARRAY_LEN(options),
    .examples = "heddle-worker --scheduler 127.0.0.1:7070\tjoin the scheduler on this machine\n",
};

/* For a supervisor's exec probe. -> the exit status */
static int probe(const hdl_daemon *daemon)
{
    const char *state = hdl_args_str(&daemon->args, "probe", "");
    const char *path = daemon->config.health_file;
    hdl_errmsg why = {0};
    bool ready = strcmp(state, "ready") == 0;
    if (!ready && strcmp(state, "alive") != 0) {
        fprintf(stderr, "heddle-worker: --probe %.40s is no state; say alive or ready\n", state);
        return 2;
    }
    if (path[0] == '\0') {
        fprintf(stderr, "heddle-worker: nothing to probe; worker.health_file is not set; set it "
                        "for this worker and for the one that is asked about\n");
        return 2;
    }
    const hdl_pulse_question question = {.ready = ready, .now_us = hdl_clock_now_us()};
    if (hdl_pulse_ask(path, question, &why) == HDL_OK)
        return 0;
    fprintf(stderr, "heddle-worker: %s\n", why.text);
    return 1;
}

int main(int argc, char **argv)
{
    (void)argc;
    hdl_daemon daemon;
    int exit_code = hdl_daemon_start(&daemon, &spec, argv);
    if (exit_code >= 0)
        return exit_code;
    if (hdl_args_has(&daemon.args, "probe")) {
        exit_code = probe(&daemon);
        hdl_daemon_stop(&daemon);
        return exit_code;
    }
    exit_code = 2;
    hdl_errmsg why = {0};
    if (hdl_worker_check_device(&daemon.config, &why) != HDL_OK) {
        fprintf(stderr, "heddle-worker: %s\n", why.text);
        hdl_daemon_stop(&daemon);
        return exit_code;
    }
    hdl_coll_ucx_prepare(daemon.config.coll_transports);
    /* A parent that died before this call goes unnoticed here; the session's end tells us then. */
    if (daemon.config.die_with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fprintf(stderr, "heddle-worker: the parent's death will go unnoticed\n");
    if (daemon.config.scheduler_address[0] == '\0')
        fprintf(stderr, "heddle-worker: no scheduler is named; a worker does what one tells it; "
                        "give --scheduler HOST:PORT or set worker.scheduler\n");
    else
        exit_code = hdl_control_run(&daemon.config);
    hdl_daemon_stop(&daemon);
    return exit_code;
}
