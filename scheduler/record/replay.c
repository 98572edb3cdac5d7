/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/replay.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "scheduler/record/confine.h"
#include "scheduler/record/run.h"
#include "scheduler/record/state_file.h"

enum { FILES_MAX = 4, PATH_BYTES = 4096 };

/* A file and those before it that it needs, the youngest first. */
typedef struct chain {
    uint32_t n;
    hdl_fs_map maps[FILES_MAX];
    hdl_journal_reader readers[FILES_MAX];
    hdl_sched_config config; /* of all of them */
    hdl_record_mark start;   /* n_events 0: the core's birth */
    char state_path[PATH_BYTES];
} chain;

/* -- a file alone ------------------------------------------------------------------------------ */

static hdl_err open_core(hdl_run_core *run, size_t cap_bytes, hdl_errmsg *why)
{
    const size_t need = hdl_sched_bytes(&run->report->config);
    if (need > cap_bytes)
        return hdl_fail(
            HDL_BUSY, why,
            "cannot replay; the recorded scheduler's state takes %zu bytes; use a larger machine",
            need);
    if (hdl_run_core_open(run, &run->report->config) != HDL_OK)
        return hdl_fail(HDL_NOMEM, why, "cannot replay; out of memory; free some");
    return HDL_OK;
}

static void sum_up(const hdl_run_core *run)
{
    hdl_sched_read_stats(run->sched, &run->report->stats);
    const char *broken = hdl_sched_check(run->sched);
    snprintf(run->report->broken, sizeof run->report->broken, "%s", broken ? broken : "");
}

hdl_err hdl_replay_bytes(const void *bytes, size_t size, size_t cap_bytes,
                         hdl_replay_report *report, hdl_errmsg *why)
{
    *report = (hdl_replay_report){.same = true};
    hdl_run_core run = {.report = report};
    hdl_journal_reader reader;
    const char *text;
    hdl_err err = hdl_journal_open(&reader, bytes, size, &report->config, &text);
    if (err != HDL_OK)
        return hdl_fail(err, why, "cannot replay; %s; give a file that heddle-scheduler recorded",
                        text);
    HDL_TRY(open_core(&run, cap_bytes, why));
    run.sched = hdl_sched_init(run.mem, run.mem_bytes, &report->config);
    err = hdl_run_core_records(&run, &reader, why);
    sum_up(&run);
    hdl_run_core_close(&run);
    return err;
}

/* -- a file that goes on where another one ended ----------------------------------------------- */

/* Where a file begins: the mark in its first record, or the core's birth. */
static hdl_record_mark start_of(const hdl_journal_reader *reader)
{
    hdl_journal_reader peek = *reader;
    hdl_journal_record rec;
    if (hdl_journal_next(&peek, &rec) != HDL_OK || !rec.is_digest)
        return (hdl_record_mark){0};
    return (hdl_record_mark){rec.n_events, rec.digest};
}

/* "history.hdl" -> "history.hdl.1" -> "history.hdl.2": the recorder moves older files that way. */
static hdl_err name_before(char *path, size_t size)
{
    size_t len = strlen(path);
    if (len > 2 && path[len - 2] == '.' && path[len - 1] >= '1' && path[len - 1] < '9')
        path[len - 1]++;
    else if (len + 2 < size)
        memcpy(path + len, ".1", 3);
    else
        return HDL_INVALID;
    return HDL_OK;
}

static hdl_err add_file(chain *c, const char *path, hdl_errmsg *why)
{
    const uint32_t i = c->n;
    hdl_sched_config config;
    const char *text;
    HDL_TRY(hdl_fs_map_open(&c->maps[i], path, HDL_FS_SEQUENTIAL, why));
    c->n++;
    hdl_err err = hdl_journal_open(&c->readers[i], c->maps[i].data, c->maps[i].len, &config, &text);
    if (err != HDL_OK)
        return hdl_fail(err, why,
                        "cannot replay %s; %s; give a file that heddle-scheduler recorded", path,
                        text);
    if (i > 0 && memcmp(&config, &c->config, sizeof config) != 0)
        return hdl_fail(HDL_NOTFOUND, why, "%s is of another scheduler", path);
    c->config = config;
    c->start = start_of(&c->readers[i]);
    int n = snprintf(c->state_path, sizeof c->state_path, "%s.state", path);
    return n > 0 && (size_t)n < sizeof c->state_path ? HDL_OK : HDL_INVALID;
}

/* Back to a file that begins with the core's birth or whose state is there. */
static hdl_err find_start(chain *c, const char *path, hdl_errmsg *why)
{
    char name[PATH_BYTES];
    int n = snprintf(name, sizeof name, "%s", path);
    if (n < 0 || (size_t)n >= sizeof name)
        return hdl_fail(HDL_INVALID, why, "the path is too long; %.64s...", path);
    HDL_TRY(add_file(c, name, why));
    while (c->start.n_events > 0 && !hdl_fs_exists(c->state_path)) {
        hdl_errmsg no = {0};
        if (c->n == FILES_MAX || name_before(name, sizeof name) != HDL_OK ||
            add_file(c, name, &no) != HDL_OK)
            return hdl_fail(HDL_NOTFOUND, why,
                            "cannot replay %s; it goes on after event %llu, and neither its .state "
                            "nor the file before it is there; copy those too",
                            path, (unsigned long long)c->start.n_events);
    }
    return HDL_OK;
}

typedef struct job {
    chain *chain;
    hdl_run_core run;
} job;

static hdl_err run_files(hdl_run_core *run, chain *c, hdl_errmsg *why)
{
    for (uint32_t i = c->n; i > 0; i--)
        HDL_TRY(hdl_run_core_records(run, &c->readers[i - 1], why));
    return HDL_OK;
}

/* In a process that can do nothing but compute and answer: the state is believed. */
static hdl_err run_confined(void *arg, hdl_errmsg *why)
{
    job *j = arg;
    j->run.sched = hdl_sched_adopt(j->run.mem, j->run.mem_bytes, &j->chain->config);
    hdl_err err = run_files(&j->run, j->chain, why);
    sum_up(&j->run);
    return err;
}

static hdl_err run_from_state(job *j, hdl_errmsg *why)
{
    hdl_replay_report *report = j->run.report;
    report->n_events = report->from_event = j->chain->start.n_events;
    report->digest = j->chain->start.digest;
    HDL_TRY(hdl_state_read(j->chain->state_path,
                           &(hdl_state_image){.config = &j->chain->config,
                                              .state = j->run.mem,
                                              .mark = j->chain->start},
                           why));
    hdl_err err = hdl_confine(run_confined, j, (hdl_confine_answer){report, sizeof *report}, why);
    report->broken[sizeof report->broken - 1] = '\0';
    return err;
}

static hdl_err run_from_birth(job *j, hdl_errmsg *why)
{
    j->run.sched = hdl_sched_init(j->run.mem, j->run.mem_bytes, &j->chain->config);
    hdl_err err = run_files(&j->run, j->chain, why);
    sum_up(&j->run);
    return err;
}

hdl_err hdl_replay_file(const char *path, hdl_replay_report *report, hdl_errmsg *why)
{
    chain c = {0};
    *report = (hdl_replay_report){.same = true};
    job j = {.chain = &c, .run.report = report};
    hdl_err err = find_start(&c, path, why);
    report->config = c.config;
    if (err == HDL_OK)
        err = open_core(&j.run, (size_t)1 << 40, why);
    if (err == HDL_OK)
        err = c.start.n_events > 0 ? run_from_state(&j, why) : run_from_birth(&j, why);
    hdl_run_core_close(&j.run);
    for (uint32_t i = 0; i < c.n; i++)
        hdl_fs_map_close(&c.maps[i]);
    return err;
}
