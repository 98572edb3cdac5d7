/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/cluster/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/log.h"

enum {
    BACKOFF_MIN_US = 10000, /* a worker's death is repaired at once; only a second one waits */
    BACKOFF_MAX_US = 5000000,
    SETTLED_US = 1000000, /* a life of this length forgets the back-off */
    LINE_BYTES = 1024,
    READ_BYTES = 4096,
    REST_READS = 64, /* more than a pipe holds */
};

/* One of a child's two output pipes. */
typedef struct output {
    hdl_watch watch; /* fd -1: closed */
    struct hdl_spawn_child *child;
    bool is_stdout;
    size_t len;
    char line[LINE_BYTES];
} output;

struct hdl_spawn_child {
    hdl_spawn *spawn;
    hdl_spawn_child *next;
    char name[64];
    char **argv; /* owned, with its strings */
    bool once, stopping;
    hdl_spawn_fn *on_event;
    void *arg;
    pid_t pid; /* 0: not running */
    int status;
    uint32_t restarts;
    hdl_time_us started_us, backoff_us;
    hdl_watch end; /* pidfd */
    hdl_timer again;
    output out, err;
};

struct hdl_spawn {
    hdl_loop *loop;
    hdl_spawn_child *children; /* newest first */
};

static bool tell(hdl_spawn_child *child, hdl_spawn_event event, const char *line)
{
    return child->on_event && child->on_event(child->arg, child, event, line);
}

/* -- output ---------------------------------------------------------------------------------- */

static void flush_line(output *o)
{
    if (o->len == 0)
        return;
    o->line[o->len] = '\0';
    o->len = 0;
    if (!o->is_stdout || !tell(o->child, HDL_SPAWN_LINE, o->line))
        fprintf(stderr, "[%s] %s\n", o->child->name, o->line);
}

static void close_output(output *o)
{
    if (o->watch.fd < 0)
        return;
    flush_line(o);
    hdl_watch_del(o->child->spawn->loop, &o->watch);
    close(o->watch.fd);
    o->watch.fd = -1;
}

/* How many bytes came; 0: nothing more will come, below 0: nothing for now. */
static ssize_t read_output(output *o)
{
    char bytes[READ_BYTES];
    ssize_t n = read(o->watch.fd, bytes, sizeof bytes);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == '\n' || o->len == LINE_BYTES - 1)
            flush_line(o);
        if (bytes[i] != '\n')
            o->line[o->len++] = bytes[i];
    }
    return n;
}

static void on_output(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)loop;
    (void)ready;
    output *o = watch->arg;
    if (read_output(o) == 0)
        close_output(o);
}

/* The last words of a child that has ended: what its pipe holds. Not until the pipe's end, which
 * children of its own may keep open, and not for ever, since they may write on. */
static void end_output(output *o)
{
    for (int i = 0; o->watch.fd >= 0 && i < REST_READS; i++)
        if (read_output(o) <= 0)
            break;
    close_output(o);
}

static hdl_err watch_output(output *o, int fd)
{
    o->watch = (hdl_watch){.fd = fd, .fn = on_output, .arg = o};
    o->len = 0;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return HDL_IO;
    return hdl_watch_add(o->child->spawn->loop, &o->watch, HDL_LOOP_READ);
}

/* -- start ----------------------------------------------------------------------------------- */

/* After fork: only calls that are safe there, then exec. A process group of its own keeps the
 * terminal's Ctrl-C from it: the supervisor says in which order to stop, so that what was admitted
 * can finish. A supervisor that is gone says nothing more: SIGKILL, because a child that hangs, or
 * drains streams whose workers go, too, would hold its port and memory. */
static _Noreturn void become(const hdl_spawn_child *child, pid_t parent, int out, int err)
{
    sigset_t none;
    int in = open("/dev/null", O_RDONLY);
    sigemptyset(&none);
    if (setpgid(0, 0) != 0 || in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(126);
    execv(child->argv[0], child->argv);
    _exit(127);
}

static void on_end(hdl_loop *loop, hdl_watch *watch, uint32_t ready);

static hdl_err launch(hdl_spawn_child *child, hdl_errmsg *why)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        goto fail;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(child, parent, out[1], err[1]);
    if (pid < 0)
        goto fail;
    close(out[1]);
    close(err[1]);
    child->pid = pid;
    child->started_us = hdl_clock_now_us();
    child->end =
        (hdl_watch){.fd = (int)syscall(SYS_pidfd_open, pid, 0), .fn = on_end, .arg = child};
    hdl_err e = watch_output(&child->out, out[0]);
    if (e == HDL_OK)
        e = watch_output(&child->err, err[0]);
    if (e == HDL_OK && child->end.fd >= 0)
        e = hdl_watch_add(child->spawn->loop, &child->end, HDL_LOOP_READ);
    if (e != HDL_OK || child->end.fd < 0) {
        kill(pid, SIGKILL);
        return hdl_fail(HDL_IO, why, "%s cannot be watched; %s", child->name, strerror(errno));
    }
    (void)tell(child, HDL_SPAWN_STARTED, NULL);
    return HDL_OK;
fail:
    hdl_fail(HDL_IO, why, "%s cannot be started; %s", child->name, strerror(errno));
    for (int i = 0; i < 2; i++) {
        if (out[i] >= 0)
            close(out[i]);
        if (err[i] >= 0)
            close(err[i]);
    }
    return HDL_IO;
}

static void wait_again(hdl_spawn_child *child)
{
    hdl_time_us now = hdl_clock_now_us();
    if (now - child->started_us > SETTLED_US || child->backoff_us == 0)
        child->backoff_us = BACKOFF_MIN_US;
    if (hdl_timer_set(child->spawn->loop, &child->again, now + child->backoff_us) != HDL_OK)
        HDL_LOG(ERROR, CLUSTER, "restart_lost", "child=%s", HDL_LOG_QUOTE(child->name));
    child->backoff_us =
        child->backoff_us * 4 < BACKOFF_MAX_US ? child->backoff_us * 4 : BACKOFF_MAX_US;
}

static void on_again(hdl_loop *loop, hdl_timer *timer)
{
    (void)loop;
    hdl_spawn_child *child = timer->arg;
    hdl_errmsg why = {0};
    child->restarts++;
    if (launch(child, &why) == HDL_OK)
        return;
    fprintf(stderr, "[%s] %s\n", child->name, why.text);
    wait_again(child);
}

static void on_end(hdl_loop *loop, hdl_watch *watch, uint32_t ready)
{
    (void)ready;
    char text[64];
    hdl_spawn_child *child = watch->arg;
    if (waitpid(child->pid, &child->status, WNOHANG) != child->pid)
        return;
    hdl_watch_del(loop, &child->end);
    close(child->end.fd);
    child->end.fd = -1;
    child->pid = 0;
    end_output(&child->out);
    end_output(&child->err);
    bool enough = tell(child, HDL_SPAWN_ENDED, NULL);
    if (child->status == 0)
        HDL_LOG(INFO, CLUSTER, "child_ended", "child=%s", HDL_LOG_QUOTE(child->name));
    else if (!child->stopping && !enough) /* else its owner has said what it means */
        HDL_LOG(WARN, CLUSTER, "child_ended", "child=%s status=%s", HDL_LOG_QUOTE(child->name),
                HDL_LOG_QUOTE(hdl_spawn_status_text(child->status, text, sizeof text)));
    if (!enough && !child->once && !child->stopping)
        wait_again(child);
}

/* -- the set --------------------------------------------------------------------------------- */

hdl_err hdl_spawn_open(hdl_spawn **out, hdl_loop *loop)
{
    *out = calloc(1, sizeof **out);
    if (!*out)
        return HDL_NOMEM;
    (*out)->loop = loop;
    return HDL_OK;
}

static void free_argv(char **argv)
{
    for (char **arg = argv; argv && *arg; arg++)
        free(*arg);
    free(argv);
}

static char **copy_argv(const char *const *argv)
{
    size_t n = 0;
    while (argv[n])
        n++;
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        copy[i] = strdup(argv[i]);
        if (!copy[i]) {
            free_argv(copy);
            return NULL;
        }
    }
    return copy;
}

hdl_err hdl_spawn_start(hdl_spawn *spawn, const hdl_spawn_opts *opts, hdl_spawn_child **out,
                        hdl_errmsg *why)
{
    hdl_spawn_child *child = calloc(1, sizeof *child);
    if (out)
        *out = NULL;
    if (!child || !(child->argv = copy_argv(opts->argv))) {
        free(child);
        return hdl_fail(HDL_NOMEM, why, "out of memory");
    }
    snprintf(child->name, sizeof child->name, "%s", opts->name);
    child->spawn = spawn;
    child->once = opts->once;
    child->on_event = opts->on_event;
    child->arg = opts->arg;
    child->out = (output){.watch.fd = -1, .child = child, .is_stdout = true};
    child->err = (output){.watch.fd = -1, .child = child};
    child->end.fd = -1;
    child->again = (hdl_timer){.fn = on_again, .arg = child};
    child->next = spawn->children;
    spawn->children = child;
    if (out) /* before the first event */
        *out = child;
    return launch(child, why);
}

pid_t hdl_spawn_pid(const hdl_spawn_child *child) { return child->pid; }
const char *hdl_spawn_name(const hdl_spawn_child *child) { return child->name; }
int hdl_spawn_status(const hdl_spawn_child *child) { return child->status; }
uint32_t hdl_spawn_restarts(const hdl_spawn_child *child) { return child->restarts; }

const char *hdl_spawn_status_text(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 127)
        snprintf(out, size, "exit status 127 (the program cannot be run)");
    else
        snprintf(out, size, "exit status %d", WEXITSTATUS(status));
    return out;
}

static uint32_t signal_all(hdl_spawn *spawn, int number)
{
    uint32_t n = 0;
    for (hdl_spawn_child *child = spawn->children; child; child = child->next) {
        child->stopping = true;
        hdl_timer_del(spawn->loop, &child->again);
        if (child->pid == 0)
            continue;
        n++;
        if (number)
            kill(child->pid, number);
    }
    return n;
}

void hdl_spawn_stop(hdl_spawn *spawn, uint64_t grace_us)
{
    const hdl_time_us slice_us = 10 * HDL_MS_US;
    hdl_time_us until = hdl_clock_now_us() + grace_us;
    signal_all(spawn, SIGTERM);
    while (signal_all(spawn, 0) > 0 && hdl_clock_now_us() < until)
        if (hdl_loop_run_once(spawn->loop, slice_us) != HDL_OK)
            break;
    signal_all(spawn, SIGKILL);
    while (signal_all(spawn, 0) > 0)
        if (hdl_loop_run_once(spawn->loop, slice_us) != HDL_OK)
            break;
}

void hdl_spawn_close(hdl_spawn *spawn)
{
    if (!spawn)
        return;
    hdl_spawn_stop(spawn, 0);
    while (spawn->children) {
        hdl_spawn_child *child = spawn->children;
        spawn->children = child->next;
        close_output(&child->out);
        close_output(&child->err);
        free_argv(child->argv);
        free(child);
    }
    free(spawn);
}
