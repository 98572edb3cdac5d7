/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scheduler/core/journal.h"
#include "scheduler/record/shadow.h"

enum { BUFFER_BYTES = 1 << 20, DIGEST_EVERY = 1024 };

enum { PATH_BYTES = 4000 };

struct hdl_recorder {
    int fd;
    hdl_err state;
    uint64_t key, cap_bytes, written, n_events, digest;
    char path[PATH_BYTES];
    hdl_sched_config config;
    hdl_shadow *shadow;
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

/* -- files ----------------------------------------------------------------------------------- */

typedef struct names {
    char file[PATH_BYTES + 16], state[PATH_BYTES + 32];
} names;

/* Of the file so many changes ago. */
static names name_file(const hdl_recorder *rec, uint32_t age)
{
    names n;
    if (age == 0)
        snprintf(n.file, sizeof n.file, "%s", rec->path);
    else
        snprintf(n.file, sizeof n.file, "%s.%u", rec->path, age);
    snprintf(n.state, sizeof n.state, "%s.state", n.file);
    return n;
}

/* A file with its state, or without one, takes the place of an older one. */
static void move_file(const hdl_recorder *rec, uint32_t from, uint32_t to)
{
    const names a = name_file(rec, from), b = name_file(rec, to);
    if (rename(a.file, b.file) == 0 && rename(a.state, b.state) != 0)
        (void)unlink(b.state);
}

static void remove_file(const hdl_recorder *rec, uint32_t age)
{
    const names n = name_file(rec, age);
    (void)unlink(n.file);
    (void)unlink(n.state);
}

static hdl_err begin_file(hdl_recorder *rec)
{
    rec->fd = open(rec->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (rec->fd < 0)
        return HDL_IO;
    hdl_journal_header(&rec->config, rec->buffer);
    rec->used = HDL_JOURNAL_HEADER_BYTES;
    rec->written = 0;
    if (rec->n_events > 0) /* where it goes on: see start_of in replay.c */
        rec->used += hdl_journal_digest(rec->n_events, rec->digest, rec->buffer + rec->used);
    write_out(rec);
    return rec->state;
}

/* The state of the current file is written (or it begins with the birth): the one before it may go.
 */
static void change_files(hdl_recorder *rec)
{
    if (hdl_shadow_look(rec->shadow) != HDL_SHADOW_IDLE)
        return;
    rec->used += hdl_journal_digest(rec->n_events, rec->digest, rec->buffer + rec->used);
    write_out(rec);
    close(rec->fd);
    remove_file(rec, 2);
    remove_file(rec, 1);
    move_file(rec, 0, 1);
    if (begin_file(rec) != HDL_OK) {
        rec->state = HDL_IO;
        return;
    }
    hdl_shadow_follow(rec->shadow, name_file(rec, 1).file, name_file(rec, 0).state);
}

hdl_err hdl_recorder_open(hdl_recorder **out, const hdl_recorder_opts *opts,
                          const hdl_sched_config *config, hdl_errmsg *why)
{
    *out = NULL;
    if (strlen(opts->path) >= PATH_BYTES)
        return hdl_fail(HDL_INVALID, why,
                        "cannot record; the path is too long; choose a shorter one");
    hdl_recorder *rec = calloc(1, sizeof *rec);
    if (!rec)
        return hdl_fail(HDL_NOMEM, why, "cannot record; out of memory; free some");
    snprintf(rec->path, sizeof rec->path, "%s", opts->path);
    rec->config = *config;
    rec->key = opts->key;
    rec->cap_bytes = opts->cap_bytes ? opts->cap_bytes : 256ull << 20;
    hdl_err err = hdl_shadow_open(&rec->shadow, why);
    if (err != HDL_OK) {
        free(rec);
        return err;
    }
    remove_file(rec, 2);
    move_file(rec, 1, 2);
    move_file(rec, 0, 1);
    if (begin_file(rec) != HDL_OK) {
        err = hdl_fail(HDL_IO, why, "cannot record to %s; %s; choose another path or disk",
                       opts->path, strerror(errno));
        hdl_shadow_close(rec->shadow);
        if (rec->fd >= 0)
            close(rec->fd);
        free(rec);
        return err;
    }
    *out = rec;
    return HDL_OK;
}

/* -- records ----------------------------------------------------------------------------------- */

/* Room for n bytes in the buffer and for a digest behind them, or NULL: the cap is reached, or one
 * event is larger than the buffer. */
static unsigned char *room(hdl_recorder *rec, size_t n)
{
    n += HDL_JOURNAL_DIGEST_BYTES;
    if (rec->state == HDL_OK && rec->written + rec->used + n > rec->cap_bytes / 2)
        change_files(rec);
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
        unsigned char *at =
            room(rec, hdl_journal_event_bytes(event) + hdl_journal_guess_bytes(&rec->config));
        records = at != NULL;
        if (at)
            rec->used += hdl_journal_event(sched, event, rec->key, at);
    }
    hdl_sched_step(sched, event, actions);
    if (!records)
        return;
    /* There is room: they stay in one file with their event. */
    rec->used += hdl_journal_guesses(actions, rec->key, rec->buffer + rec->used);
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
    hdl_shadow_close(rec->shadow);
    close(rec->fd);
    free(rec);
}

hdl_err hdl_recorder_state(const hdl_recorder *rec) { return rec->state; }

void hdl_recorder_wait(hdl_recorder *rec) { hdl_shadow_wait(rec->shadow); }
