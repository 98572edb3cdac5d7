/* SPDX-License-Identifier: Apache-2.0 */
/* heddle bench serve: its command line. Flags are spelled as `vllm bench serve` spells them. */
#include "bench/serve/bench_serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/units.h"
#include "cli/bench_device.h"
#include "cli/bench_serve.h"
#include "cli/cli.h"

static const hdl_arg_opt opts[] = {
    {.name = "model", .value = "NAME", .doc = "model to ask for (default: demo-model)"},
    {.name = "endpoint", .value = "API", .doc = "completions (default) or chat"},
    {.name = "api-key-file", .value = "FILE", .doc = "key to send: the file's first line"},
    {.name = "timeout", .value = "DURATION", .doc = "of a request (10m)"},
    {.name = "dataset-name",
     .value = "NAME",
     .doc = "random (default), prefix, sharegpt, mooncake, burstgpt, azure",
     .group = "Requests"},
    {.name = "dataset-path",
     .value = "FILE",
     .doc = "of the datasets that are files",
     .group = "Requests"},
    {.name = "num-prompts", .value = "N", .doc = "requests of a run (100)", .group = "Requests"},
    {.name = "random-input-len",
     .value = "N",
     .doc = "prompt tokens (128)",
     .aliases = "input-len",
     .group = "Requests"},
    {.name = "random-output-len",
     .value = "N",
     .doc = "tokens to generate (64); sharegpt: 0 is the answer's length",
     .aliases = "output-len",
     .group = "Requests"},
    {.name = "random-range-ratio",
     .value = "R",
     .doc = "lengths vary by this share of themselves (0)",
     .group = "Requests"},
    {.name = "prefix-len",
     .value = "N",
     .doc = "prefix: tokens that prompts share (512)",
     .group = "Requests"},
    {.name = "num-prefixes",
     .value = "N",
     .doc = "prefix: how many there are (4)",
     .group = "Requests"},
    {.name = "vocab", .value = "N", .doc = "random ids are below it (1000)", .group = "Requests"},
    {.name = "ignore-eos", .doc = "answers go on to their full length", .group = "Requests"},
    {.name = "temperature", .value = "T", .doc = "(0)", .group = "Requests"},
    {.name = "seed", .value = "N", .doc = "of prompts and arrivals (0)", .group = "Requests"},
    {.name = "request-rate",
     .value = "R",
     .doc = "requests a second; inf (default): all at once",
     .group = "Arrivals"},
    {.name = "burstiness",
     .value = "B",
     .doc = "shape of the gaps' gamma distribution; 1 (default) is Poisson",
     .group = "Arrivals"},
    {.name = "arrivals",
     .value = "KIND",
     .doc = "poisson (default), constant, or trace: the file's own times",
     .group = "Arrivals"},
    {.name = "speedup",
     .value = "X",
     .doc = "a trace's clock runs so much faster (1)",
     .group = "Arrivals"},
    {.name = "max-concurrency",
     .value = "N",
     .doc = "requests in flight at most; others wait for their turn",
     .group = "Arrivals"},
    {.name = "sweep-concurrency",
     .value = "LIST",
     .doc = "one run for each, e.g. 1,8,32,64",
     .group = "Arrivals"},
    {.name = "sweep-rate",
     .value = "LIST",
     .doc = "one run for each, e.g. 1,2,4",
     .group = "Arrivals"},
    {.name = "num-warmups",
     .value = "N",
     .doc = "requests before the first run (1)",
     .group = "Arrivals"},
    {.name = "goodput",
     .value = "SLO",
     .doc = "limits in ms that count a request as good: ttft:500, tpot:50, e2el:9000",
     .group = "Results",
     .repeat = true},
    {.name = "save-result", .value = "FILE", .doc = "JSON into a file", .group = "Results"},
    {.name = "save-detailed", .doc = "... with every request's times", .group = "Results"},
    {.name = "plot", .value = "FILE", .doc = "SVG of a sweep", .group = "Results"},
    {.name = "title", .value = "TEXT", .doc = "of the plot", .group = "Results"},
    {.name = "json", .doc = "one JSON document on stdout", .group = "Results"},
    CLI_DEVICE_OPTIONS,
    {.name = "self-check",
     .doc = "hold the generator against a server of known latency, and end",
     .group = "Results"},
};

static const hdl_args_spec spec = {
    .command = "heddle bench serve",
    .usage = "[URL] [options]",
    .about = "Load on any server with an OpenAI API (default http://127.0.0.1:8080), and what its "
             "clients would feel. Requests leave at their times whatever became of the others, so "
             "a server that falls behind is seen to.",
    .opts = opts,
    .opts_count = HDL_ARRAY_LEN(opts),
    .positionals_max = 1,
    .examples =
        "heddle bench serve --request-rate 4\trandom prompts, four a second\n"
        "heddle bench serve --sweep-concurrency 1,8,32 --plot s.svg\tthree runs and a plot\n",
};

/* http://HOST[:PORT]; IPv6 addresses in brackets. */
static hdl_err read_url(const char *url, char host[256], hdl_load_target *target, hdl_errmsg *why)
{
    static const char scheme[] = "http://";
    const char *at = url;
    if (strncmp(at, "https://", 8) == 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "%.200s: TLS would be measured too; give the plain address", url);
    if (strncmp(at, scheme, sizeof(scheme) - 1) == 0)
        at += sizeof(scheme) - 1;
    bool bracket = *at == '[';
    size_t n = bracket ? strcspn(++at, "]") : strcspn(at, ":/");
    if (n == 0 || n >= 256)
        return hdl_fail(HDL_INVALID, why, "%.200s is no URL; give http://HOST:PORT", url);
    memcpy(host, at, n);
    host[n] = '\0';
    at += n + bracket;
    target->host = host;
    target->port = 80;
    if (*at == ':') {
        long port = strtol(at + 1, NULL, 10);
        if (port < 1 || port > 65535)
            return hdl_fail(HDL_INVALID, why, "%.200s: the port is 1 to 65535", url);
        target->port = (uint16_t)port;
    }
    return HDL_OK;
}

/* One of a list of names, into *out. */
static hdl_err read_name(const hdl_args *args, const char *name, const char *const *names, size_t n,
                         int *out, hdl_errmsg *why)
{
    const char *given = hdl_args_str(args, name, names[0]);
    for (size_t i = 0; i < n; i++)
        if (strcmp(given, names[i]) == 0) {
            *out = (int)i;
            return HDL_OK;
        }
    int near = hdl_suggest(given, names, n);
    return hdl_fail(HDL_INVALID, why, "--%s knows no \"%.60s\"; did you mean %s?", name, given,
                    names[near < 0 ? 0 : near]);
}

static hdl_err read_kinds(const hdl_args *args, hdl_load_spec *s, hdl_errmsg *why)
{
#define TEXT(name, text) text,
    static const char *const datasets[] = {HDL_LOAD_DATASETS(TEXT)};
#undef TEXT
    static const char *const apis[] = {"completions", "chat"};
    static const char *const arrivals[] = {"poisson", "constant", "trace"};
    int dataset = 0, api = 0, arrival = 0;
    HDL_TRY(read_name(args, "dataset-name", datasets, HDL_ARRAY_LEN(datasets), &dataset, why));
    HDL_TRY(read_name(args, "endpoint", apis, HDL_ARRAY_LEN(apis), &api, why));
    HDL_TRY(read_name(args, "arrivals", arrivals, HDL_ARRAY_LEN(arrivals), &arrival, why));
    s->dataset = (hdl_load_dataset)dataset;
    s->api = (hdl_load_api)api;
    s->arrivals = (hdl_load_arrivals)arrival;
    s->path = hdl_args_str(args, "dataset-path", NULL);
    bool synthetic = s->dataset == HDL_LOAD_RANDOM || s->dataset == HDL_LOAD_PREFIX;
    if (synthetic == (s->path != NULL))
        return hdl_fail(HDL_INVALID, why, "--dataset-name %s %s --dataset-path", datasets[dataset],
                        synthetic ? "is made, not read; leave out" : "is a file; give it with");
    if (s->arrivals == HDL_LOAD_TRACE && (synthetic || s->dataset == HDL_LOAD_SHAREGPT))
        return hdl_fail(HDL_INVALID, why, "--dataset-name %s has no times; use --arrivals poisson",
                        datasets[dataset]);
    return HDL_OK;
}

typedef struct number {
    const char *name;
    int64_t min, max;
    uint32_t *out;
} number;

static hdl_err read_numbers(const hdl_args *args, hdl_bench_serve_opts *o, hdl_errmsg *why)
{
    hdl_load_spec *s = &o->spec;
    int64_t seed = 0;
    const number numbers[] = {
        {"num-prompts", 1, 1000000, &s->n},
        {"random-input-len", 1, 1 << 20, &s->input_len},
        {"random-output-len", s->dataset == HDL_LOAD_SHAREGPT ? 0 : 1, 1 << 20, &s->output_len},
        {"prefix-len", 1, 1 << 20, &s->prefix_len},
        {"num-prefixes", 1, 1 << 20, &s->prefixes},
        {"vocab", 2, 1 << 22, &s->vocab},
        {"max-concurrency", 1, 16384, &o->target.max_concurrency},
        {"num-warmups", 0, 1000, &o->warmup},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(numbers); i++) {
        int64_t v = *numbers[i].out;
        hdl_args_int_opt opt = {numbers[i].name, numbers[i].min, numbers[i].max};
        HDL_TRY(hdl_args_int(args, opt, &v, why));
        *numbers[i].out = (uint32_t)v;
    }
    HDL_TRY(hdl_args_int(args, (hdl_args_int_opt){"seed", 0, INT64_MAX}, &seed, why));
    s->seed = (uint64_t)seed;
    HDL_TRY(hdl_args_float(args, "temperature", &s->temperature, why));
    HDL_TRY(hdl_args_float(args, "random-range-ratio", &s->range_ratio, why));
    HDL_TRY(hdl_args_float(args, "burstiness", &s->burstiness, why));
    HDL_TRY(hdl_args_float(args, "speedup", &s->speedup, why));
    const char *rate = hdl_args_str(args, "request-rate", "inf");
    if (strcmp(rate, "inf") != 0 && (!hdl_parse_float(rate, &s->rate) || !(s->rate > 0)))
        return hdl_fail(HDL_INVALID, why,
                        "--request-rate is a number above 0 or inf; it reads \"%s\"", rate);
    if (s->range_ratio < 0 || s->range_ratio >= 1 || !(s->burstiness > 0) || !(s->speedup > 0))
        return hdl_fail(HDL_INVALID, why,
                        "--random-range-ratio is from 0 to below 1; --burstiness and --speedup are "
                        "above 0");
    return HDL_OK;
}

static hdl_err read_slo(const hdl_args *args, hdl_load_slo *slo, hdl_errmsg *why)
{
    const char *given;
    for (size_t at = 0; (given = hdl_args_next(args, "goodput", &at)) != NULL;) {
        double v = 0;
        const char *colon = strchr(given, ':');
        size_t n = colon ? (size_t)(colon - given) : 0;
        double *to = n == 4 && strncmp(given, "ttft", 4) == 0   ? &slo->ttft_ms
                     : n == 4 && strncmp(given, "tpot", 4) == 0 ? &slo->tpot_ms
                     : n == 4 && strncmp(given, "e2el", 4) == 0 ? &slo->e2el_ms
                                                                : NULL;
        if (!to || !hdl_parse_float(colon + 1, &v) || !(v > 0))
            return hdl_fail(HDL_INVALID, why,
                            "--goodput reads \"%.60s\"; it is ttft:MS, tpot:MS or e2el:MS", given);
        *to = v;
    }
    return HDL_OK;
}

static hdl_err read_sweep(const hdl_args *args, hdl_bench_serve_opts *o, hdl_errmsg *why)
{
    const char *clients = hdl_args_str(args, "sweep-concurrency", NULL);
    const char *rates = hdl_args_str(args, "sweep-rate", NULL);
    if (clients && rates)
        return hdl_fail(HDL_INVALID, why,
                        "--sweep-concurrency and --sweep-rate exclude each other; give one");
    o->sweep_rate = rates != NULL;
    const char *at = rates ? rates : clients;
    while (at && *at) {
        char *end = NULL;
        double v = strtod(at, &end);
        bool whole = o->sweep_rate || (v == (double)(uint32_t)v && v <= 16384);
        if (end == at || (*end != ',' && *end) || !(v > 0) || !whole ||
            o->n_sweep == HDL_BENCH_SERVE_SWEEP_MAX)
            return hdl_fail(HDL_INVALID, why,
                            "a sweep is a list of at most %d numbers above 0; it reads \"%.60s\"",
                            HDL_BENCH_SERVE_SWEEP_MAX, rates ? rates : clients);
        o->sweep[o->n_sweep++] = v;
        at = *end == ',' ? end + 1 : end;
    }
    return HDL_OK;
}

/* The first line of the key file, into a block that the caller frees. */
static hdl_err read_key(const hdl_args *args, char **key, hdl_errmsg *why)
{
    size_t len = 0;
    const char *path = hdl_args_str(args, "api-key-file", NULL);
    if (!path)
        return HDL_OK;
    HDL_TRY(hdl_fs_read(path, 4096, key, &len, why));
    (*key)[strcspn(*key, "\r\n")] = '\0';
    return HDL_OK;
}

static hdl_err read_all(const hdl_args *args, hdl_bench_serve_opts *o, hdl_errmsg *why)
{
    HDL_TRY(read_kinds(args, &o->spec, why));
    HDL_TRY(read_numbers(args, o, why));
    HDL_TRY(read_slo(args, &o->slo, why));
    HDL_TRY(read_sweep(args, o, why));
    const char *limit = hdl_args_str(args, "timeout", "10m");
    if (!hdl_parse_duration(limit, &o->target.timeout_us) || o->target.timeout_us == 0)
        return hdl_fail(HDL_INVALID, why, "--timeout is a duration such as 30s; it reads \"%s\"",
                        limit);
    o->spec.ignore_eos = hdl_args_has(args, "ignore-eos");
    o->spec.model = hdl_args_str(args, "model", "demo-model");
    o->target.path = o->spec.api == HDL_LOAD_CHAT ? "/v1/chat/completions" : "/v1/completions";
    o->save_path = hdl_args_str(args, "save-result", NULL);
    o->plot_path = hdl_args_str(args, "plot", NULL);
    o->title = hdl_args_str(args, "title", NULL);
    o->json = hdl_args_has(args, "json");
    o->detailed = hdl_args_has(args, "save-detailed");
    return HDL_OK;
}

/* With the GPU that the options name, whose energy and read kernel stand beside the figures. */
static int run(const hdl_args *args, hdl_bench_serve_opts *o)
{
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    if (cli_config_open(&cfg, &config, args, &why) != HDL_OK)
        return cli_usage(&spec, &why);
    o->gpu = hdl_device_gpu(config.device);
    hdl_err err = cli_bench_plugin(&o->plugin, &config, &why);
    int rc = err == HDL_OK ? hdl_bench_serve(o) : cli_fail(err, &why);
    hdl_cfg_close(cfg);
    return rc;
}

int cli_bench_serve(char **argv)
{
    hdl_args args;
    char host[256], *key = NULL;
    hdl_errmsg why = {0};
    int rc = cli_parse(&args, &spec, argv);
    if (rc >= 0)
        return rc;
    if (hdl_args_has(&args, "self-check"))
        return hdl_bench_serve_selfcheck(hdl_args_has(&args, "json"));
    hdl_bench_serve_opts o = {.spec = {.n = 100,
                                       .input_len = 128,
                                       .output_len = 64,
                                       .prefix_len = 512,
                                       .prefixes = 4,
                                       .vocab = 1000,
                                       .burstiness = 1,
                                       .speedup = 1},
                              .warmup = 1};
    const char *url = args.positionals_count ? args.positionals[0] : "http://127.0.0.1:8080";
    if (read_all(&args, &o, &why) != HDL_OK || read_url(url, host, &o.target, &why) != HDL_OK)
        return cli_usage(&spec, &why);
    if (read_key(&args, &key, &why) != HDL_OK)
        return cli_fail(HDL_INVALID, &why);
    o.target.api_key = key;
    rc = run(&args, &o);
    free(key);
    return rc;
}
