/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "scheduler/core/journal.h"

typedef struct run {
    hdl_journal_reader reader;
    hdl_sched *sched;
    hdl_result_row *rows; /* [max_seqs] */
    hdl_replay_report *report;
} run;

static void compare(run *r, const hdl_journal_record *rec)
{
    hdl_replay_report *report = r->report;
    report->n_digests++;
    bool same = rec->n_events == report->n_events && rec->digest == report->digest;
    if (!same && report->same) {
        report->same = false;
        report->first_difference = report->n_events;
    }
}

/* What a file may ask of the core but a shell never does, and the core asserts. */
static bool sane(const run *r, const hdl_event *ev)
{
    return ev->kind != HDL_EV_SUBMIT || !hdl_sched_knows(r->sched, ev->submit.req);
}

static hdl_err feed(run *r, hdl_journal_record *rec, hdl_errmsg *why)
{
    const char *text =
        "cannot replay; event %llu does not follow from those before it; the file is "
        "damaged or was written by another version";
    unsigned long long at = r->report->n_events;
    uint32_t max = r->report->config.max_seqs;
    if (rec->by_plan && !hdl_journal_rows(r->sched, rec, r->rows, max))
        return hdl_fail(HDL_CORRUPT, why, text, at);
    if (!sane(r, &rec->event))
        return hdl_fail(HDL_CORRUPT, why, text, at);
    hdl_actions actions;
    hdl_sched_step(r->sched, &rec->event, &actions);
    r->report->digest = hdl_sched_digest(r->report->digest, &actions);
    r->report->n_events++;
    return HDL_OK;
}

static hdl_err run_all(run *r, hdl_errmsg *why)
{
    hdl_journal_record rec;
    hdl_err err;
    while ((err = hdl_journal_next(&r->reader, &rec)) == HDL_OK) {
        if (rec.is_digest)
            compare(r, &rec);
        else
            HDL_TRY(feed(r, &rec, why));
    }
    if (err == HDL_CORRUPT)
        return hdl_fail(
            err, why, "cannot replay; the record after event %llu is damaged; copy the file again",
            (unsigned long long)r->report->n_events);
    r->report->torn = r->reader.at != r->reader.size;
    return HDL_OK;
}

hdl_err hdl_replay_bytes(const void *bytes, size_t size, size_t cap_bytes,
                         hdl_replay_report *report, hdl_errmsg *why)
{
    *report = (hdl_replay_report){.same = true};
    run r = {.report = report};
    const char *text;
    hdl_err err = hdl_journal_open(&r.reader, bytes, size, &report->config, &text);
    if (err != HDL_OK)
        return hdl_fail(err, why, "cannot replay; %s; give a file that heddle-scheduler recorded",
                        text);
    size_t need = hdl_sched_bytes(&report->config);
    if (need > cap_bytes)
        return hdl_fail(
            HDL_BUSY, why,
            "cannot replay; the recorded scheduler's state takes %zu bytes; use a larger machine",
            need);
    void *mem = aligned_alloc(64, need);
    r.rows = calloc(report->config.max_seqs, sizeof *r.rows);
    err = HDL_NOMEM;
    if (mem && r.rows) {
        r.sched = hdl_sched_init(mem, need, &report->config);
        err = run_all(&r, why);
        hdl_sched_read_stats(r.sched, &report->stats);
        report->broken = hdl_sched_check(r.sched);
    } else {
        hdl_fail(err, why, "cannot replay; out of memory; free some");
    }
    free(mem);
    free(r.rows);
    return err;
}

hdl_err hdl_replay_file(const char *path, hdl_replay_report *report, hdl_errmsg *why)
{
    hdl_fs_map map;
    HDL_TRY(hdl_fs_map_open(&map, path, HDL_FS_SEQUENTIAL, why));
    hdl_err err = hdl_replay_bytes(map.data, map.len, (size_t)1 << 40, report, why);
    hdl_fs_map_close(&map);
    return err;
}
