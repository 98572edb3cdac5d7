/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/run.h"

#include <stdlib.h>
#include <sys/mman.h>

hdl_err hdl_run_core_open(hdl_run_core *run, const hdl_sched_config *config)
{
    /* Mapped: zero, and without memory where it is not touched. */
    void *mem = mmap(NULL, hdl_sched_bytes(config), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    run->mem = mem == MAP_FAILED ? NULL : mem;
    run->n_rows = config->max_seqs + config->guess_step_tokens;
    run->rows = calloc(run->n_rows, sizeof *run->rows);
    run->mem_bytes = run->mem ? hdl_sched_bytes(config) : 0;
    if (run->mem && run->rows)
        return HDL_OK;
    hdl_run_core_close(run);
    return HDL_NOMEM;
}

void hdl_run_core_close(hdl_run_core *run)
{
    if (run->mem)
        munmap(run->mem, run->mem_bytes);
    free(run->rows);
    run->mem = NULL;
    run->rows = NULL;
}

static void compare(hdl_replay_report *report, const hdl_journal_record *rec)
{
    report->n_digests++;
    bool same = rec->n_events == report->n_events && rec->digest == report->digest;
    if (!same && report->same) {
        report->same = false;
        report->first_difference = report->n_events;
    }
}

/* What a file may ask of the core but a shell never does, and the core asserts. */
static bool sane(const hdl_run_core *run, const hdl_event *ev)
{
    return ev->kind != HDL_EV_SUBMIT || !hdl_sched_knows(run->sched, ev->submit.req);
}

static hdl_err feed(hdl_run_core *run, hdl_journal_record *rec, hdl_errmsg *why)
{
    const char *text =
        "cannot replay; event %llu does not follow from those before it; the file is "
        "damaged or was written by another version";
    hdl_replay_report *report = run->report;
    unsigned long long at = report->n_events;
    if (rec->by_plan && !hdl_journal_rows(run->sched, rec, run->rows, run->n_rows))
        return hdl_fail(HDL_CORRUPT, why, text, at);
    if (!sane(run, &rec->event))
        return hdl_fail(HDL_CORRUPT, why, text, at);
    hdl_actions actions;
    hdl_sched_step(run->sched, &rec->event, &actions);
    report->digest = hdl_sched_digest(report->digest, &actions);
    report->n_events++;
    return HDL_OK;
}

/* The guesses of the event that was read last stand behind it. */
static void tell(hdl_run_core *run, hdl_journal_reader *reader)
{
    hdl_journal_record rec;
    hdl_journal_reader peek = *reader;
    if (run->report->config.guess_tokens == 0)
        return;
    bool any = hdl_journal_next(&peek, &rec) == HDL_OK && rec.is_guesses;
    hdl_sched_tell(run->sched, any ? rec.guesses : (hdl_told){0});
    if (any)
        *reader = peek;
}

hdl_err hdl_run_core_records(hdl_run_core *run, hdl_journal_reader *reader, hdl_errmsg *why)
{
    hdl_journal_record rec;
    hdl_err err;
    while ((err = hdl_journal_next(reader, &rec)) == HDL_OK) {
        if (run->stop && atomic_load_explicit(run->stop, memory_order_relaxed))
            return HDL_CANCELLED;
        if (rec.is_digest) {
            compare(run->report, &rec);
        } else if (!rec.is_guesses) { /* which belong to an event, or to nothing */
            tell(run, reader);
            HDL_TRY(feed(run, &rec, why));
        }
    }
    if (err == HDL_CORRUPT)
        return hdl_fail(
            err, why, "cannot replay; the record after event %llu is damaged; copy the file again",
            (unsigned long long)run->report->n_events);
    run->report->torn = reader->at != reader->size;
    return HDL_OK;
}
