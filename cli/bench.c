/* SPDX-License-Identifier: Apache-2.0 */
/* heddle bench: measures parts of heddle on this machine. Each measurement prints what it is
 * compared with in the same run; bench/README.md says how to read the figures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <heddle/types.h>

#include "base/config.h"
#include "base/log.h"
#include "bench/kernels/bench_kernels.h"
#include "bench/model/bench_model.h"
#include "bench/sched/bench_sched.h"
#include "bench/text/bench_text.h"
#include "bench/text/beside.h"
#include "cli/bench_device.h"
#include "cli/bench_serve.h"
#include "cli/cli.h"

static const hdl_arg_opt sched_opts[] = {
    {.name = "running", .value = "N", .doc = "running sequences (default: 1000, then 10000)"},
    {.name = "steps", .value = "N", .doc = "measured steps (default: those of some 0.3 s)"},
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

/* ---- model --------------------------------------------------------------------------------- */

static const hdl_arg_opt model_opts[] = {
    {.name = "shape",
     .value = "NAME",
     .doc = "instead of MODEL: 8b, qwen3-30b-a3b, gpt-oss-20b, tiny, tiny-moe or a folder with a "
            "config.json, with made-up weights; NAME:FORMAT for f32, bf16, fp8, q8 or q4"},
    CLI_DEVICE_OPTIONS,
    {.name = "pp",
     .value = "LIST",
     .doc = "prompt lengths, e.g. 64,512 (the default)",
     .group = "Rows"},
    {.name = "batch",
     .value = "LIST",
     .doc = "sequences that decode together, e.g. 1,8,32 (the default)",
     .group = "Rows"},
    {.name = "ctx",
     .value = "LIST",
     .doc = "tokens before them, e.g. 0,4096,16384 (256)",
     .group = "Rows"},
    {.name = "tg", .value = "N", .doc = "tokens that each sequence decodes (64)", .group = "Rows"},
    {.name = "kv-bytes",
     .value = "SIZE",
     .config = "kv.bytes",
     .doc = "memory of the cache (a quarter of the machine's)"},
    {.name = "kv-type", .value = "TYPE", .config = "kv.type", .doc = "auto, bf16, int8, fp8"},
    {.name = "head-screen",
     .value = "WHEN",
     .config = "worker.head_screen",
     .doc = "auto, on, off"},
    {.name = "weights",
     .value = "FORMAT",
     .config = "model.weights",
     .doc = "auto, f32, bf16, q8, q4"},
    {.name = "threads", .value = "N", .config = "worker.threads", .doc = "0: one per core"},
    {.name = "isa", .value = "LEVEL", .config = "worker.isa", .doc = "auto, ref, avx2 or avx512"},
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec model_spec = {
    .command = "heddle bench model",
    .usage = "MODEL|--shape NAME [options]",
    .about =
        "Prefill and decode of one rank, without scheduler and network. Each row stands beside "
        "the read stream and the arithmetic peak measured between its samples.",
    .opts = model_opts,
    .opts_count = HDL_ARRAY_LEN(model_opts),
    .positionals_max = 1,
};

/* "1,8,32", each at least `min`. */
static hdl_err read_list(const hdl_args *args, const char *name, long min,
                         hdl_bench_model_list *list, hdl_errmsg *why)
{
    for (const char *at = hdl_args_str(args, name, ""); *at != '\0';) {
        char *end = NULL;
        long v = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0') || v < min || v > 1000000 ||
            list->n == HDL_BENCH_MODEL_LIST_MAX)
            return hdl_fail(HDL_INVALID, why,
                            "--%s is a list of at most %d numbers from %ld; it reads \"%s\"", name,
                            HDL_BENCH_MODEL_LIST_MAX, min, hdl_args_str(args, name, ""));
        list->v[list->n++] = (uint32_t)v;
        at = *end == ',' ? end + 1 : end;
    }
    return HDL_OK;
}

static hdl_wformat format_of(int choice)
{
    static const hdl_wformat format[] = {
        [HDL_WEIGHTS_AUTO] = HDL_WFORMAT_COUNT, [HDL_WEIGHTS_F32] = HDL_WFORMAT_F32,
        [HDL_WEIGHTS_BF16] = HDL_WFORMAT_BF16,  [HDL_WEIGHTS_Q8] = HDL_WFORMAT_Q8,
        [HDL_WEIGHTS_Q4] = HDL_WFORMAT_Q4,
    };
    return format[choice];
}

static hdl_err check_model(const hdl_bench_model_opts *opts, hdl_errmsg *why)
{
    if ((opts->model_path != NULL) != (opts->shape != NULL))
        return HDL_OK;
    return hdl_fail(HDL_INVALID, why, "which model? give a folder, a .gguf file or --shape NAME");
}

static int bench_model(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &model_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    int64_t decode = 0;
    hdl_bench_model_opts opts = {.model_path = args.positionals_count ? args.positionals[0] : NULL,
                                 .shape = hdl_args_str(&args, "shape", NULL),
                                 .json = hdl_args_has(&args, "json")};
    if (check_model(&opts, &why) != HDL_OK ||
        cli_config_open(&cfg, &config, &args, &why) != HDL_OK ||
        read_list(&args, "pp", 1, &opts.prefill, &why) != HDL_OK ||
        read_list(&args, "batch", 1, &opts.batches, &why) != HDL_OK ||
        read_list(&args, "ctx", 0, &opts.contexts, &why) != HDL_OK ||
        hdl_args_int(&args, (hdl_args_int_opt){"tg", 1, 100000}, &decode, &why) != HDL_OK) {
        hdl_cfg_close(cfg);
        return cli_usage(&model_spec, &why);
    }
    opts.decode = (uint32_t)decode;
    opts.kv_bytes = (uint64_t)config.kv_bytes;
    opts.kv_type = hdl_kv_type_of(config.kv_type);
    opts.head_screen = (hdl_head_screen)config.head_screen;
    opts.weights = format_of(config.model_weights);
    opts.n_threads = (uint32_t)config.threads;
    opts.isa = (hdl_isa)config.isa;
    opts.gpu = hdl_device_gpu(config.device);
    opts.fast = config.numerics == HDL_NUMERICS_FAST;
    hdl_err err = cli_bench_plugin(&opts.plugin, &config, &why);
    rc = err == HDL_OK ? hdl_bench_model(&opts) : cli_fail(err, &why);
    hdl_cfg_close(cfg);
    return rc;
}

/* ---- kernels ------------------------------------------------------------------------------- */

static const hdl_arg_opt kernels_opts[] = {
    {.name = "only", .value = "NAME", .doc = "rows whose name begins so"},
    CLI_DEVICE_OPTIONS,
    {.name = "threads",
     .value = "N",
     .config = "worker.threads",
     .doc = "0: all CPUs that may be used"},
    {.name = "short", .doc = "a few small shapes, one sample: what fibers can do"},
    {.name = "samples", .value = "N", .doc = "for each row (9)"},
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec kernels_spec = {
    .command = "heddle bench kernels",
    .usage = "[options]",
    .about = "Every operation over shapes of real models, each row beside the read stream and the "
             "arithmetic peak measured next to its samples (of a GPU its read kernel and the best "
             "product that cuBLASLt finds).",
    .opts = kernels_opts,
    .opts_count = HDL_ARRAY_LEN(kernels_opts),
};

static int bench_kernels(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &kernels_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    int64_t samples = 0;
    if (cli_config_open(&cfg, &config, &args, &why) != HDL_OK ||
        hdl_args_int(&args, (hdl_args_int_opt){"samples", 1, 1000}, &samples, &why) != HDL_OK) {
        hdl_cfg_close(cfg);
        return cli_usage(&kernels_spec, &why);
    }
    hdl_bench_kernels_opts opts = {.n_threads = (uint32_t)config.threads,
                                   .isa = (hdl_isa)config.isa,
                                   .gpu = hdl_device_gpu(config.device),
                                   .fast = config.numerics == HDL_NUMERICS_FAST,
                                   .is_short = hdl_args_has(&args, "short"),
                                   .only = hdl_args_str(&args, "only", NULL),
                                   .samples = (uint32_t)samples,
                                   .json = hdl_args_has(&args, "json")};
    hdl_err err = cli_bench_plugin(&opts.plugin, &config, &why);
    rc = err == HDL_OK ? hdl_bench_kernels(&opts) : cli_fail(err, &why);
    hdl_cfg_close(cfg);
    return rc;
}

/* ---- text ---------------------------------------------------------------------------------- */

static const hdl_arg_opt text_opts[] = {
    {.name = "text",
     .value = "FILE",
     .doc = "measure with this text; may be repeated",
     .repeat = true},
    {.name = "save", .value = "DIR", .doc = "write the built-in texts there and measure nothing"},
    {.name = "samples", .value = "N", .doc = "for each text (30)"},
    {.name = "tokenizers",
     .value = "PYTHON",
     .doc = "beside Hugging Face's package tokenizers, in turn in this run; PYTHON (python3, a "
            "path) has the package"},
    {.name = "rounds", .value = "N", .doc = "of --tokenizers; medians are over them (5)"},
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec text_spec = {
    .command = "heddle bench text",
    .usage = "MODEL... [options]",
    .about =
        "Encoding and decoding of 100 kB on one core: a prompt of code and many languages, and "
        "words that never came before. \"first\" is a thread that has remembered no words.",
    .opts = text_opts,
    .opts_count = HDL_ARRAY_LEN(text_opts),
    .positionals_max = HDL_ARGS_POSITIONALS_MAX,
};

static int bench_text(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &text_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    int64_t samples = 0, rounds = 0;
    hdl_bench_text_opts opts = {.models = args.positionals,
                                .n_models = args.positionals_count,
                                .save = hdl_args_str(&args, "save", NULL),
                                .json = hdl_args_has(&args, "json")};
    size_t n = 0, at = 0;
    for (const char *path; (path = hdl_args_next(&args, "text", &at)) != NULL; n++)
        if (n < HDL_BENCH_TEXT_FILES_MAX)
            opts.texts[n] = path;
    hdl_err err = hdl_args_int(&args, (hdl_args_int_opt){"samples", 1, 1000}, &samples, &why);
    if (err == HDL_OK)
        err = hdl_args_int(&args, (hdl_args_int_opt){"rounds", 1, 1000}, &rounds, &why);
    if (err == HDL_OK && hdl_args_has(&args, "tokenizers") && opts.save != NULL)
        err = hdl_fail(HDL_INVALID, &why, "--save measures nothing; leave --tokenizers out");
    if (err == HDL_OK && n > HDL_BENCH_TEXT_FILES_MAX)
        err = hdl_fail(HDL_INVALID, &why, "--text: at most %d files", HDL_BENCH_TEXT_FILES_MAX);
    if (err == HDL_OK && opts.n_models == 0 && opts.save == NULL)
        err = hdl_fail(HDL_INVALID, &why, "which model? give a folder or a .gguf file");
    if (err != HDL_OK)
        return cli_usage(&text_spec, &why);
    opts.samples = (uint32_t)samples;
    if (!hdl_args_has(&args, "tokenizers"))
        return hdl_bench_text(&opts);
    char self[4096];
    hdl_beside_opts beside = {.python = hdl_args_str(&args, "tokenizers", ""),
                              .heddle = self,
                              .rounds = (uint32_t)rounds};
    err = cli_program_path(self, sizeof self, "heddle", &why);
    if (err == HDL_OK)
        err = hdl_bench_text_beside(&opts, &beside, &why);
    return cli_fail(err, &why);
}

static const struct {
    const char *name;
    cli_fn *fn;
    const char *doc;
} benches[] = {
    {"model", bench_model, "prefill and decode of one rank"},
    {"kernels", bench_kernels, "every operation over shapes of real models"},
    {"sched", bench_sched, "cost of a step of the scheduler core"},
    {"text", bench_text, "tokenizers: encoding and decoding of a prompt"},
    {"serve", cli_bench_serve, "load on a server, and what its clients feel"},
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
    (void)!hdl_log_setup(&(hdl_log_opts){.level = HDL_LOG_WARN}, NULL); /* figures only */
    for (size_t i = 0; i < HDL_ARRAY_LEN(benches); i++)
        if (strcmp(argv[1], benches[i].name) == 0)
            return benches[i].fn(argv + 1);
    fprintf(stderr, "heddle bench: there is no \"%s\"; heddle bench --help lists what there is\n",
            argv[1]);
    return CLI_USAGE;
}
