/* SPDX-License-Identifier: Apache-2.0 */
/* heddle logits: the model's raw output for a token sequence, through the same scheduler and
 * workers that serve: what the exactness promises are checked with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fs.h"
#include "cli/engine_options.h"
#include "cli/ids_file.h"
#include "cli/local.h"
#include "cli/npy.h"

/* Tokens that each companion of --batch-with generates: enough to stay in the batch for a while. */
enum { COMPANION_NEW = 64, COMPANIONS_MAX = 4096, PATH_BYTES = 4096 };

static const hdl_arg_opt logits_opts[] = {
    {.name = "ids-file", .value = "F", .doc = "token ids of the sequence"},
    {.name = "out", .value = "F.npy", .doc = "float32 matrix [tokens, vocabulary]"},
    {.name = "batch-with",
     .value = "FILE",
     .doc = "run other sequences, one a line, in the same batches"},
    {.name = "config",
     .letter = 'c',
     .value = "F",
     .doc = "configuration file; options win over it"},
    CLI_ENGINE_OPTIONS,
};

static const hdl_args_spec logits_spec = {
    .command = "heddle logits",
    .usage = "MODEL --ids-file F --out F.npy [options]",
    .about = "Writes the logits after every token of a sequence. The file is the same, byte for "
             "byte, for every layout, chunk size, thread count and batch.",
    .opts = logits_opts,
    .opts_count = HDL_ARRAY_LEN(logits_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "heddle logits MODEL --ids-file ids.txt --out a.npy --tp 2 --chunk 7\t"
                "the same bytes as without --tp and --chunk\n",
};

static hdl_err submit_ids(hdl_local *local, hdl_ids *ids, bool dump, hdl_errmsg *why)
{
    hdl_request *req = calloc(1, sizeof *req);
    if (req == NULL)
        return HDL_NOMEM;
    size_t n = 0;
    req->prompt = hdl_ids_steal(ids, &n);
    req->n_prompt = (uint32_t)n;
    req->sampling = (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = -1};
    req->submit_flags = dump ? HDL_SUBMIT_LOGITS | HDL_SUBMIT_NO_CACHE : HDL_SUBMIT_IGNORE_EOS;
    req->max_new = dump ? 0 : COMPANION_NEW;
    req->sink.user = dump;
    return hdl_local_submit(local, req, why);
}

/* Submits each line of the file as a sequence; *n_submitted counts them. */
static hdl_err submit_companions(hdl_local *local, const char *path, uint32_t *n_submitted,
                                 hdl_errmsg *why)
{
    char *text = NULL, *save = NULL;
    size_t len = 0;
    HDL_TRY(hdl_fs_read(path, 512 << 20, &text, &len, why));
    hdl_err err = HDL_OK;
    for (char *line = strtok_r(text, "\n", &save); line != NULL && err == HDL_OK;
         line = strtok_r(NULL, "\n", &save)) {
        hdl_ids ids;
        hdl_ids_init(&ids, CLI_IDS_MAX);
        err = cli_ids_parse(line, &ids, why);
        if (err == HDL_OK && ids.n > 0 && *n_submitted < COMPANIONS_MAX) {
            err = submit_ids(local, &ids, false, why);
            ++*n_submitted;
        }
        hdl_ids_deinit(&ids);
    }
    free(text);
    return err;
}

/* Waits until all requests have ended; the dumped one must end well. */
static hdl_err wait_all(hdl_local *local, uint32_t n_requests, hdl_errmsg *why)
{
    hdl_emit emit;
    for (uint32_t n_ended = 0; n_ended < n_requests;) {
        HDL_TRY(hdl_local_next(local, &emit, why));
        if (emit.kind == HDL_EMIT_ERROR)
            return hdl_fail(emit.error.err, why, "%s", emit.error.text);
        n_ended += emit.kind == HDL_EMIT_DONE;
    }
    return HDL_OK;
}

static hdl_err dump(const hdl_args *args, const hdl_config *config, hdl_ids *ids, hdl_errmsg *why)
{
    hdl_local *local = NULL;
    uint64_t n_tokens = ids->n;
    uint32_t n_requests = 0;
    HDL_TRY(hdl_local_open(&local, config, why));
    hdl_engine_info info;
    hdl_local_info(local, &info);
    hdl_err err = HDL_OK;
    if (hdl_args_has(args, "batch-with"))
        err = submit_companions(local, hdl_args_str(args, "batch-with", ""), &n_requests, why);
    if (err == HDL_OK)
        err = submit_ids(local, ids, true, why);
    if (err == HDL_OK)
        err = wait_all(local, n_requests + 1, why);
    hdl_local_close(local);
    if (err == HDL_OK)
        err = cli_npy_from_raw(hdl_args_str(args, "out", ""), config->logits_path, n_tokens,
                               info.vocab, why);
    return err;
}

int cli_logits(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &logits_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    if (!hdl_args_has(&args, "ids-file") || !hdl_args_has(&args, "out")) {
        hdl_fail(HDL_INVALID, &why, "--ids-file F and --out F.npy are both needed");
        return cli_usage(&logits_spec, &why);
    }
    hdl_cfg *cfg = NULL;
    hdl_config config;
    char raw_path[PATH_BYTES];
    hdl_ids ids;
    hdl_ids_init(&ids, CLI_IDS_MAX);
    snprintf(raw_path, sizeof raw_path, "%s.raw", hdl_args_str(&args, "out", ""));
    hdl_err err = cli_config_open(&cfg, &config, &args, &why);
    if (err == HDL_OK)
        err = cli_ids_read(hdl_args_str(&args, "ids-file", ""), &ids, &why);
    if (err == HDL_OK) {
        config.model_path = args.positionals[0];
        config.logits_path = raw_path;
        (void)unlink(raw_path); /* the worker appends */
        err = dump(&args, &config, &ids, &why);
        (void)unlink(raw_path);
    }
    hdl_ids_deinit(&ids);
    hdl_cfg_close(cfg);
    return err == HDL_OK ? CLI_OK : cli_fail(err, &why);
}
