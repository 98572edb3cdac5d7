/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pulse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { WORD = 6, DIGITS = 20, LINE = WORD + DIGITS + 1 }; /* "ready 00000000001234567890\n" */

hdl_err hdl_pulse_open(hdl_pulse *p, const char *path, hdl_errmsg *why)
{
    *p = (hdl_pulse){.fd = -1};
    if (path[0] == '\0')
        return HDL_OK;
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (p->fd < 0)
        return hdl_fail(HDL_IO, why,
                        "%.200s cannot be written; %s; correct worker.health_file or mount a "
                        "folder there",
                        path, strerror(errno));
    if (flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
        hdl_pulse_close(p);
        return hdl_fail(HDL_BUSY, why,
                        "another process writes %.200s; two would answer for each other; give "
                        "each a worker.health_file of its own",
                        path);
    }
    if (ftruncate(p->fd, 0) != 0) { /* what it said was about the process before */
        hdl_pulse_close(p);
        return hdl_fail(HDL_IO, why, "%.200s cannot be emptied; %s; remove it", path,
                        strerror(errno));
    }
    return HDL_OK;
}

void hdl_pulse_close(hdl_pulse *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

void hdl_pulse_beat(hdl_pulse *p, hdl_time_us now_us, bool ready)
{
    char line[LINE + 1];
    if (p->fd < 0 || (now_us < p->write_at_us && ready == p->ready))
        return;
    p->write_at_us = now_us + HDL_SEC_US;
    p->ready = ready;
    snprintf(line, sizeof(line), "%s %0*llu\n", ready ? "ready" : "alive", DIGITS,
             (unsigned long long)now_us);
    /* A full disk makes the line old, and the supervisor looks; there is nothing else to do. */
    (void)!pwrite(p->fd, line, LINE, 0);
}

/* -1: no line of ours */
static int parse(const char *line, size_t len, hdl_time_us *beat_us)
{
    static const char digits[] = "0123456789";
    if (len != LINE || line[LINE - 1] != '\n' || strspn(line + WORD, digits) != DIGITS)
        return -1;
    errno = 0;
    *beat_us = strtoull(line + WORD, NULL, 10);
    if (errno != 0)
        return -1;
    return memcmp(line, "ready ", WORD) == 0 ? 1 : memcmp(line, "alive ", WORD) == 0 ? 0 : -1;
}

hdl_err hdl_pulse_ask(const char *path, hdl_pulse_question question, hdl_errmsg *why)
{
    char line[LINE + 2] = {0}; /* one byte more than there may be */
    hdl_time_us beat_us = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return hdl_fail(HDL_NOTFOUND, why, "%.200s cannot be read; %s; the process never ran", path,
                        strerror(errno));
    ssize_t n = pread(fd, line, LINE + 1, 0);
    close(fd);
    int ready = parse(line, n > 0 ? (size_t)n : 0, &beat_us);
    if (ready < 0)
        return hdl_fail(HDL_INVALID, why, "%.200s says nothing; its process has just begun", path);
    /* A time to come is one of before the machine was started. */
    if (beat_us > question.now_us || question.now_us - beat_us > HDL_PULSE_STALE_US)
        return hdl_fail(HDL_TIMEOUT, why,
                        "no sign of life for %.0f s; the process hangs or is gone; start it again",
                        beat_us > question.now_us
                            ? (double)question.now_us / HDL_SEC_US
                            : (double)(question.now_us - beat_us) / HDL_SEC_US);
    if (question.ready && !ready)
        return hdl_fail(HDL_AGAIN, why,
                        "alive, but it holds no shard or has no scheduler; wait for both");
    return HDL_OK;
}
