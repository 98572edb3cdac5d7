/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <heddle/types.h>

/* Before the answer's bytes. */
typedef struct answer_head {
    hdl_err err;
    hdl_errmsg why;
} answer_head;

static void write_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t done = write(fd, at, n);
        if (done <= 0 && errno != EINTR)
            return;
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        }
    }
}

static bool read_all(int fd, void *bytes, size_t n)
{
    char *at = bytes;
    while (n > 0) {
        ssize_t got = read(fd, at, n);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        }
    }
    return true;
}

#if defined(__x86_64__)
enum { OUR_ARCH = (int)AUDIT_ARCH_X86_64 };
#elif defined(__aarch64__)
enum { OUR_ARCH = (int)AUDIT_ARCH_AARCH64 };
#else
#error "name the architecture's system call table"
#endif

#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skip))
#define IF(value, skip)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (skip), 0)

/* From here on, write and exit are all there is; anything else ends the whole process. (The
 * kernel's strict mode would end its thread alone, and sanitizers have threads of their own.) */
static bool lock_in(void)
{
    struct sock_filter rules[] = {
        LOAD(arch),
        UNLESS(OUR_ARCH, 3),
        LOAD(nr),
        IF(__NR_write, 2),
        IF(__NR_exit_group, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = HDL_ARRAY_LEN(rules), .filter = rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static _Noreturn void child(int fd, hdl_err (*fn)(void *, hdl_errmsg *), void *arg,
                            hdl_confine_answer answer)
{
    answer_head head = {.err = HDL_UNSUPPORTED};
    /* Keeps standard error for the report of a failing assertion, and the pipe. */
    if (dup2(fd, 3) == 3 && close_range(4, ~0u, 0) == 0 && close(0) == 0 && close(1) == 0 &&
        lock_in())
        head.err = fn(arg, &head.why);
    write_all(3, &head, sizeof head);
    write_all(3, answer.bytes, answer.size);
    for (;;)
        syscall(SYS_exit_group, 0);
}

hdl_err hdl_confine(hdl_err (*fn)(void *arg, hdl_errmsg *why), void *arg, hdl_confine_answer answer,
                    hdl_errmsg *why)
{
    int ends[2];
    if (pipe(ends) != 0)
        return hdl_fail(HDL_IO, why, "cannot make a pipe; %s; close some files", strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        child(ends[1], fn, arg, answer);
    close(ends[1]);
    answer_head head = {.err = HDL_CORRUPT};
    bool answered = pid > 0 && read_all(ends[0], &head, sizeof head) &&
                    read_all(ends[0], answer.bytes, answer.size);
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    if (pid < 0)
        return hdl_fail(HDL_IO, why, "cannot start a process; %s; end some", strerror(errno));
    if (!answered)
        return hdl_fail(HDL_CORRUPT, why,
                        "what is run broke; its lines above say where; the files are damaged or "
                        "were written by another version");
    if (head.err == HDL_UNSUPPORTED)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "this kernel cannot confine a process (seccomp filters); use another one");
    if (head.err != HDL_OK && why) {
        head.why.text[sizeof head.why.text - 1] = '\0';
        *why = head.why;
    }
    return head.err;
}
