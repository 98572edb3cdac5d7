/* SPDX-License-Identifier: Apache-2.0 */
/* heddle bench: measures parts of heddle on this machine. Each measurement prints what it is
 * compared with in the same run; bench/README.md says how to read the figures. */
#include <stdio.h>
#include <string.h>

#include <heddle/types.h>

#include "bench/sched/bench_sched.h"
#include "cli/cli.h"

static const hdl_arg_opt sched_opts[] = {
    {.name = "running", .value = "N", .doc = "running sequences (default: 1000, then 10000)"},
    {.name = "steps", .value = "N", .doc = "measured steps (default 2000)"},
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec sched_spec = {
    .command = "heddle bench sched",
    .usage = "[options]",
    .about = "Cost of a step of the scheduler core with many running sequences: paged KV, shared "
             "prefixes, 1 % arrivals and departures a step.",
    .opts = sched_opts,
    .opts_count = HDL_ARRAY_LEN(sched_opts),
};

static int bench_sched(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &sched_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    int64_t running = 0, steps = 0;
    if (hdl_args_int(&args, (hdl_args_int_opt){"running", 1, 16384}, &running, &why) != HDL_OK ||
        hdl_args_int(&args, (hdl_args_int_opt){"steps", 1, 1000000}, &steps, &why) != HDL_OK)
        return cli_usage(&sched_spec, &why);
    hdl_bench_sched_opts opts = {.steps = (uint32_t)steps, .json = hdl_args_has(&args, "json")};
    opts.running[0] = (uint32_t)running;
    return hdl_bench_sched(&opts);
}

static const struct {
    const char *name;
    cli_fn *fn;
    const char *doc;
} benches[] = {
    {"sched", bench_sched, "cost of a step of the scheduler core"},
};

static void print_help(FILE *out)
{
    fputs("Usage: heddle bench WHAT [options]\n\nWHAT is one of:\n", out);
    for (size_t i = 0; i < HDL_ARRAY_LEN(benches); i++)
        fprintf(out, "  %-8s %s\n", benches[i].name, benches[i].doc);
}

int cli_bench(char **argv)
{
    if (argv[1] == NULL) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    for (size_t i = 0; i < HDL_ARRAY_LEN(benches); i++)
        if (strcmp(argv[1], benches[i].name) == 0)
            return benches[i].fn(argv + 1);
    fprintf(stderr, "heddle bench: there is no \"%s\"; heddle bench --help lists what there is\n",
            argv[1]);
    return CLI_USAGE;
}
