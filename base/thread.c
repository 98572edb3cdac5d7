/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *thread_main(void *arg)
{
    hdl_thread *thread = arg;
    hdl_thread_block_signals();
    hdl_thread_set_role(thread->role);
    thread->fn(thread->arg);
    return NULL;
}

static hdl_err fill_set(cpu_set_t *set, const int *cpus, size_t count, hdl_errmsg *why)
{
    CPU_ZERO(set);
    for (size_t i = 0; i < count; i++) {
        if (cpus[i] < 0 || cpus[i] >= HDL_CPUS_MAX)
            return hdl_fail(HDL_INVALID, why, "CPU %d is out of range; at most %d are supported",
                            cpus[i], HDL_CPUS_MAX);
        CPU_SET((unsigned)cpus[i], set);
    }
    return HDL_OK;
}

hdl_err hdl_thread_start(hdl_thread *thread, const hdl_thread_opts *opts, hdl_errmsg *why)
{
    *thread = (hdl_thread){.role = opts->role, .fn = opts->fn, .arg = opts->arg};
    snprintf(thread->name, sizeof thread->name, "%s", opts->name ? opts->name : "heddle");
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return hdl_fail(HDL_NOMEM, why, "cannot start thread %s; %s", thread->name, strerror(rc));
    hdl_err err = HDL_OK;
    if (opts->stack_bytes)
        rc = pthread_attr_setstacksize(&attr, opts->stack_bytes);
    if (rc == 0 && opts->cpus) {
        cpu_set_t set;
        HDL_TRY_GOTO(fill_set(&set, opts->cpus, opts->cpus_count, why), done);
        rc = pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    }
    if (rc == 0)
        rc = pthread_create(&thread->id, &attr, thread_main, thread);
    if (rc != 0) {
        err = hdl_fail(rc == EINVAL ? HDL_INVALID : HDL_BUSY, why,
                       "cannot start thread %s; %s; check the CPU list, ulimit -u and memory",
                       thread->name, strerror(rc));
        goto done;
    }
    thread->started = true;
    (void)pthread_setname_np(thread->id, thread->name); /* a name is for people only */
done:
    pthread_attr_destroy(&attr);
    return err;
}

void hdl_thread_join(hdl_thread *thread)
{
    if (!thread->started)
        return;
    thread->started = false;
    int rc = pthread_join(thread->id, NULL);
    HDL_ASSERT_EQ(rc, 0);
}

void hdl_thread_block_signals(void)
{
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof synchronous / sizeof synchronous[0]; i++)
        sigdelset(&set, synchronous[i]);
    int rc = pthread_sigmask(SIG_SETMASK, &set, NULL);
    HDL_ASSERT_EQ(rc, 0);
}

hdl_err hdl_thread_pin(const int *cpus, size_t count, hdl_errmsg *why)
{
    cpu_set_t set;
    HDL_TRY(fill_set(&set, cpus, count, why));
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        return hdl_fail(errno == EINVAL ? HDL_INVALID : HDL_IO, why,
                        "cannot pin a thread; %s; check the CPU list against the allowed CPUs",
                        strerror(errno));
    return HDL_OK;
}

size_t hdl_cpus_allowed(int *cpus, size_t max)
{
    cpu_set_t set;
    size_t n = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++)
            if (CPU_ISSET((unsigned)cpu, &set))
                cpus[n++] = cpu;
    if (n == 0 && max > 0)
        cpus[n++] = 0; /* more than 1024 CPUs: the call fails, and we use the first */
    return n;
}

static bool parse_cpu(const char **p, int *out)
{
    if (**p < '0' || **p > '9')
        return false;
    char *end;
    long v = strtol(*p, &end, 10);
    *p = end;
    *out = v < HDL_CPUS_MAX ? (int)v : HDL_CPUS_MAX;
    return v < HDL_CPUS_MAX;
}

hdl_err hdl_cpus_parse(const char *text, int *cpus, size_t max, size_t *count, hdl_errmsg *why)
{
    *count = 0;
    const char *p = text;
    for (;;) {
        int from, to;
        bool ok = parse_cpu(&p, &from);
        to = from;
        if (ok && *p == '-') {
            p++;
            ok = parse_cpu(&p, &to) && to >= from;
        }
        if (!ok || (*p != ',' && *p != '\0'))
            return hdl_fail(HDL_INVALID, why,
                            "bad CPU list \"%s\"; write numbers below %d and ranges, as in 0-3,8",
                            text, HDL_CPUS_MAX);
        for (int cpu = from; cpu <= to; cpu++) {
            if (*count == max)
                return hdl_fail(HDL_INVALID, why, "CPU list \"%s\" names more than %zu CPUs", text,
                                max);
            cpus[(*count)++] = cpu;
        }
        if (*p++ == '\0')
            return HDL_OK;
    }
}
