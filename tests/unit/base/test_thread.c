/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/thread.h"

typedef struct seen {
    hdl_role role;
    char name[16];
    bool term_blocked;
    bool segv_blocked;
    size_t cpus;
} seen;

static void look(void *arg)
{
    seen *s = arg;
    sigset_t set;
    int cpus[HDL_CPUS_MAX];
    s->role = hdl_thread_role();
    pthread_getname_np(pthread_self(), s->name, sizeof s->name);
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    s->term_blocked = sigismember(&set, SIGTERM) == 1;
    s->segv_blocked = sigismember(&set, SIGSEGV) == 1;
    s->cpus = hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
}

static void test_start(void)
{
    seen s = {0};
    hdl_thread thread;
    hdl_errmsg why;
    int cpu;
    HDL_ASSERT_EQ(hdl_cpus_allowed(&cpu, 1), 1);
    hdl_thread_opts opts = {.name = "a name that is too long for /proc",
                            .role = HDL_ROLE_LOADER,
                            .cpus = &cpu,
                            .cpus_count = 1,
                            .stack_bytes = 1 << 20,
                            .fn = look,
                            .arg = &s};
    HDL_ASSERT_EQ(hdl_thread_start(&thread, &opts, &why), HDL_OK);
    hdl_thread_join(&thread);
    hdl_thread_join(&thread); /* nothing */
    HDL_ASSERT_EQ(s.role, HDL_ROLE_LOADER);
    HDL_ASSERT_EQ(s.cpus, 1);
    HDL_ASSERT(s.term_blocked && !s.segv_blocked);
    HDL_ASSERT_EQ(hdl_thread_role(), HDL_ROLE_NONE); /* ours is untouched */
}

static void test_errors(void)
{
    hdl_thread thread;
    hdl_errmsg why;
    static const int bad_cpu = HDL_CPUS_MAX;
    hdl_thread_opts opts = {.name = "x", .cpus = &bad_cpu, .cpus_count = 1, .fn = look};
    HDL_ASSERT_EQ(hdl_thread_start(&thread, &opts, &why), HDL_INVALID);
    HDL_ASSERT(strstr(why.text, "CPU 1024") != NULL);
    hdl_thread_join(&thread);
    opts = (hdl_thread_opts){.name = "x", .stack_bytes = 1, .fn = look};
    HDL_ASSERT_EQ(hdl_thread_start(&thread, &opts, &why), HDL_INVALID);
    HDL_ASSERT_EQ(hdl_thread_pin(&bad_cpu, 1, &why), HDL_INVALID);
}

static void test_cpu_lists(void)
{
    int cpus[8];
    size_t n;
    hdl_errmsg why;
    HDL_ASSERT_EQ(hdl_cpus_parse("0-2,7", cpus, 8, &n, &why), HDL_OK);
    HDL_ASSERT(n == 4 && cpus[0] == 0 && cpus[2] == 2 && cpus[3] == 7);
    HDL_ASSERT_EQ(hdl_cpus_parse("5", cpus, 8, &n, &why), HDL_OK);
    HDL_ASSERT(n == 1 && cpus[0] == 5);
    static const char *const bad[] = {"",   "a",   "1-",    "-1",  "3-1",  "1,",
                                      ",1", "1 2", "1-2-3", "0-8", "1024", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        HDL_ASSERT_EQ(hdl_cpus_parse(bad[i], cpus, 8, &n, &why), HDL_INVALID);
}

int main(void)
{
    test_start();
    test_errors();
    test_cpu_lists();
    printf("thread: ok\n");
    return 0;
}
