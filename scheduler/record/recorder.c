/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scheduler/core/journal.h"

enum { BUFFER_BYTES = 1 << 20, DIGEST_EVERY = 1024 };

struct hdl_recorder {
    int fd;
    hdl_err state;
    uint64_t key, cap_bytes, written, n_events, digest;
    size_t used;
    _Alignas(8) unsigned char buffer[BUFFER_BYTES];
};

static void write_out(hdl_recorder *rec)
{
    size_t at = 0;
    while (rec->state != HDL_IO && at < rec->used) {
        ssize_t n = write(rec->fd, rec->buffer + at, rec->used - at);
        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno != EINTR)
            rec->state = HDL_IO;
    }
    rec->written += at;
    rec->used = 0;
}

hdl_err hdl_recorder_open(hdl_recorder **out, const hdl_recorder_opts *opts,
                          const hdl_sched_config *config, hdl_errmsg *why)
{
    *out = NULL;
    char old[4096];
    int n = snprintf(old, sizeof old, "%s.1", opts->path);
    if (n < 0 || (size_t)n >= sizeof old)
        return hdl_fail(HDL_INVALID, why,
                        "cannot record; the path is too long; choose a shorter one");
    hdl_recorder *rec = calloc(1, sizeof *rec);
    if (!rec)
        return hdl_fail(HDL_NOMEM, why, "cannot record; out of memory; free some");
    (void)rename(opts->path, old); /* there may be none */
    rec->fd = open(opts->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (rec->fd < 0) {
        free(rec);
        return hdl_fail(HDL_IO, why, "cannot record to %s; %s; choose another path or disk",
                        opts->path, strerror(errno));
    }
    rec->key = opts->key;
    rec->cap_bytes = opts->cap_bytes ? opts->cap_bytes : 256ull << 20;
    hdl_journal_header(config, rec->buffer);
    rec->used = HDL_JOURNAL_HEADER_BYTES;
    write_out(rec);
    *out = rec;
    return HDL_OK;
}

/* Room for n bytes in the buffer, or NULL: the cap is reached, or one event is larger than the
 * buffer. */
static unsigned char *room(hdl_recorder *rec, size_t n)
{
    if (rec->used + n > BUFFER_BYTES)
        write_out(rec);
    bool full = n > BUFFER_BYTES || rec->written + rec->used + n > rec->cap_bytes;
    if (full && rec->state == HDL_OK)
        rec->state = HDL_BUSY;
    return rec->state == HDL_OK ? rec->buffer + rec->used : NULL;
}

static void put_digest(hdl_recorder *rec)
{
    unsigned char *at = room(rec, HDL_JOURNAL_DIGEST_BYTES);
    if (at)
        rec->used += hdl_journal_digest(rec->n_events, rec->digest, at);
}

void hdl_recorder_step(hdl_recorder *rec, hdl_sched *sched, const hdl_event *event,
                       hdl_actions *actions)
{
    bool records = rec && rec->state == HDL_OK;
    if (records) {
        unsigned char *at = room(rec, hdl_journal_event_bytes(event));
        records = at != NULL;
        if (at)
            rec->used += hdl_journal_event(sched, event, rec->key, at);
    }
    hdl_sched_step(sched, event, actions);
    if (!records)
        return;
    rec->digest = hdl_sched_digest(rec->digest, actions);
    if (++rec->n_events % DIGEST_EVERY == 0)
        put_digest(rec);
}

void hdl_recorder_flush(hdl_recorder *rec)
{
    if (!rec)
        return;
    put_digest(rec);
    write_out(rec);
}

void hdl_recorder_close(hdl_recorder *rec)
{
    if (!rec)
        return;
    hdl_recorder_flush(rec);
    close(rec->fd);
    free(rec);
}

hdl_err hdl_recorder_state(const hdl_recorder *rec) { return rec->state; }
