/* SPDX-License-Identifier: Apache-2.0 */
/* heddle replay: runs a recorded history through a fresh scheduler core. The same digest means that
 * the core decided the same, so an incident can be looked at, and kept as a test. */
#include <inttypes.h>
#include <stdio.h>

#include <heddle/types.h>

#include "base/json_write.h"
#include "cli/cli.h"
#include "scheduler/record/replay.h"

static const hdl_arg_opt replay_opts[] = {
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec replay_spec = {
    .command = "heddle replay",
    .usage = "FILE [options]",
    .about = "Runs a file that the flight recorder wrote (recorder.path) through a fresh scheduler "
             "core, compares its digests and prints what it came to. The file holds sizes and "
             "pseudonyms, no text. The recorder keeps two files, FILE and FILE.1 before it; where "
             "a file does not begin with the scheduler's start, FILE.state says how things stood. "
             "Exit 1 when a digest differs.",
    .opts = replay_opts,
    .opts_count = HDL_ARRAY_LEN(replay_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "heddle serve MODEL --config F\twith recorder.path: history.hdl in F\n"
                "heddle replay history.hdl\tafterwards\n",
};

static int print_json(const hdl_replay_report *r)
{
    hdl_buf out;
    hdl_json_writer w;
    char digest[17];
    snprintf(digest, sizeof digest, "%016" PRIx64, r->digest);
    hdl_buf_init(&out, 1 << 16);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_uint(&w, "events", r->n_events);
    hdl_jw_kv_uint(&w, "from_event", r->from_event);
    hdl_jw_kv_cstr(&w, "digest", digest);
    hdl_jw_kv_uint(&w, "digests_compared", r->n_digests);
    hdl_jw_kv_bool(&w, "same", r->same);
    hdl_jw_kv_bool(&w, "torn", r->torn);
    hdl_jw_kv_cstr(&w, "broken", r->broken[0] ? r->broken : NULL);
    hdl_jw_kv_uint(&w, "submitted", r->stats.submitted);
    hdl_jw_kv_uint(&w, "emitted_tokens", r->stats.emitted_tokens);
    hdl_jw_kv_uint(&w, "preemptions", r->stats.preemptions);
    hdl_jw_kv_uint(&w, "requeues", r->stats.requeues);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

static void print_text(const hdl_replay_report *r)
{
    printf("digest    %016" PRIx64 " after %" PRIu64 " events\n", r->digest, r->n_events);
    if (r->same)
        printf("recording %" PRIu64 " digests compared, all the same\n", r->n_digests);
    else
        printf("recording differs first after %" PRIu64 " events\n", r->first_difference);
    if (r->from_event > 0)
        printf("began     after event %" PRIu64 ", with the state beside the file\n",
               r->from_event);
    if (r->torn)
        puts("the file ends inside a record, as after a crash; what stands before it was run");
    printf("requests  %" PRIu64 " submitted, %" PRIu64 " refused, %" PRIu64 " tokens\n",
           r->stats.submitted, r->stats.rejected, r->stats.emitted_tokens);
    printf("steps     %" PRIu64 ", %" PRIu64 " preemptions, %" PRIu64 " requeued after a loss\n",
           r->stats.plans, r->stats.preemptions, r->stats.requeues);
    if (r->broken[0] != '\0')
        printf("invariant that does not hold: %s\n", r->broken);
}

int cli_replay(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &replay_spec, argv);
    if (rc >= 0)
        return rc;
    static hdl_replay_report report; /* some kilobytes */
    hdl_errmsg why = {0};
    hdl_err err = hdl_replay_file(args.positionals[0], &report, &why);
    if (err != HDL_OK)
        return cli_fail(err, &why);
    if (hdl_args_has(&args, "json"))
        rc = print_json(&report);
    else
        print_text(&report);
    return report.same && report.broken[0] == '\0' && rc <= CLI_OK ? CLI_OK : CLI_FAILED;
}
