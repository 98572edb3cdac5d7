/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes under supervision: `heddle serve` runs the scheduler and its workers with it,
 * commands that bring their own cluster run workers.
 *
 * A set belongs to one thread and its hdl_loop. Children have no standard input, a process group of
 * their own and the default signal mask, die with this process, and what they print comes out on
 * standard error line by line behind their name. One that ends is started again after a back-off
 * that doubles up to a limit and is forgotten once it has lived for long enough. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <heddle/err.h>

#include "base/loop.h"

typedef struct hdl_spawn hdl_spawn; /* a set of children; opaque; heap, cold */
typedef struct hdl_spawn_child hdl_spawn_child;

typedef enum hdl_spawn_event { HDL_SPAWN_STARTED, HDL_SPAWN_LINE, HDL_SPAWN_ENDED } hdl_spawn_event;

/* STARTED: pid is new. LINE: what it wrote to its standard output, without the newline; true: keep
 * it from ours. ENDED: status as of waitpid; true: do not start it again. */
typedef bool hdl_spawn_fn(void *arg, hdl_spawn_child *child, hdl_spawn_event event,
                          const char *line);

typedef struct hdl_spawn_opts {
    const char *name;        /* "worker 0": before each line; copied */
    const char *const *argv; /* argv[0] is the program's path; NULL-terminated; copied */
    bool once;               /* never started again */
    hdl_spawn_fn *on_event;  /* may be NULL */
    void *arg;
} hdl_spawn_opts;

hdl_err hdl_spawn_open(hdl_spawn **out, hdl_loop *loop) HDL_MUST_CHECK;
hdl_err hdl_spawn_start(hdl_spawn *spawn, const hdl_spawn_opts *opts, hdl_spawn_child **out,
                        hdl_errmsg *why) HDL_MUST_CHECK;
/* 0 while it waits for its next start. */
pid_t hdl_spawn_pid(const hdl_spawn_child *child);
const char *hdl_spawn_name(const hdl_spawn_child *child);
/* Of the last end, as of waitpid. */
int hdl_spawn_status(const hdl_spawn_child *child);
uint32_t hdl_spawn_restarts(const hdl_spawn_child *child);
/* "exit status 1", "signal 9 (Killed)". */
const char *hdl_spawn_status_text(int status, char *out, size_t size);

/* SIGTERM to all (in reverse order of starting), SIGKILL to those that are left after grace_us;
 * returns when all are gone. Runs the loop meanwhile. */
void hdl_spawn_stop(hdl_spawn *spawn, uint64_t grace_us);
/* Stops with no grace what still runs. NULL is allowed. */
void hdl_spawn_close(hdl_spawn *spawn);
