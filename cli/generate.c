/* SPDX-License-Identifier: Apache-2.0 */
/* heddle generate: continues one prompt and ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "cli/engine_options.h"
#include "cli/ids_file.h"
#include "cli/local.h"
#include "scheduler/text/detok.h"

static const hdl_arg_opt generate_opts[] = {
    {.name = "prompt", .value = "TEXT", .doc = "text to go on with"},
    {.name = "ids-file", .value = "F", .doc = "token ids to go on with, instead of a text"},
    {.name = "max-tokens", .letter = 'n', .value = "N", .doc = "tokens to generate (default 128)"},
    {.name = "temperature", .value = "T", .doc = "0, the default, is greedy"},
    {.name = "top-p", .value = "P", .doc = "nucleus of the distribution"},
    {.name = "top-k", .value = "K", .doc = "so many best tokens"},
    {.name = "min-p", .value = "P", .doc = "least probability, as a share of the best token's"},
    {.name = "seed", .value = "N", .doc = "the same seed gives the same text (default 0)"},
    {.name = "ids", .doc = "print token ids, one a line, instead of text"},
    {.name = "ignore-eos", .doc = "go on after the model's end-of-text token"},
    CLI_ENGINE_OPTIONS,
};

static const hdl_args_spec generate_spec = {
    .command = "heddle generate",
    .usage = "MODEL --prompt TEXT|--ids-file F [options]",
    .about = "Continues a prompt once, on as many workers as the layout asks for. The same seed "
             "gives the same tokens on every layout.",
    .opts = generate_opts,
    .opts_count = HDL_ARRAY_LEN(generate_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "heddle generate MODEL --prompt \"Once upon a time\" -n 64\ttext\n"
                "heddle generate MODEL --ids-file F --ids --tp 2\ttoken ids in, token ids out\n",
};

typedef struct job {
    const hdl_args *args;
    hdl_tokenizer *tok; /* NULL: the model folder has none, ids only */
    hdl_ids prompt;
    hdl_sampling sampling;
    int64_t max_new;
    bool print_ids;
} job;

static hdl_err read_options(job *j, hdl_errmsg *why)
{
    double temperature = 0, top_p = 1, min_p = 0;
    int64_t top_k = 0, seed = 0;
    j->max_new = 128;
    HDL_TRY(hdl_args_float(j->args, "temperature", &temperature, why));
    HDL_TRY(hdl_args_float(j->args, "top-p", &top_p, why));
    HDL_TRY(hdl_args_float(j->args, "min-p", &min_p, why));
    HDL_TRY(hdl_args_int(j->args, (hdl_args_int_opt){"top-k", 0, INT32_MAX}, &top_k, why));
    HDL_TRY(hdl_args_int(j->args, (hdl_args_int_opt){"seed", 0, INT64_MAX}, &seed, why));
    HDL_TRY(
        hdl_args_int(j->args, (hdl_args_int_opt){"max-tokens", 1, INT32_MAX}, &j->max_new, why));
    if (temperature < 0 || top_p <= 0 || top_p > 1 || min_p < 0 || min_p > 1)
        return hdl_fail(HDL_INVALID, why,
                        "a sampling value is out of range; --temperature is from "
                        "0, --top-p in (0, 1], --min-p in [0, 1]");
    j->print_ids = hdl_args_has(j->args, "ids");
    j->sampling = (hdl_sampling){.seed = (uint64_t)seed,
                                 .temperature = (float)temperature,
                                 .top_p = (float)top_p,
                                 .min_p = (float)min_p,
                                 .top_k = (int32_t)top_k,
                                 .repetition_penalty = 1,
                                 .n_logprobs = -1};
    if (hdl_args_has(j->args, "prompt") == hdl_args_has(j->args, "ids-file"))
        return hdl_fail(HDL_INVALID, why,
                        "one of --prompt TEXT and --ids-file F says what to "
                        "continue");
    return HDL_OK;
}

static hdl_err read_prompt(job *j, hdl_errmsg *why)
{
    if (hdl_args_has(j->args, "ids-file"))
        return cli_ids_read(hdl_args_str(j->args, "ids-file", ""), &j->prompt, why);
    hdl_tok_scratch *scratch = NULL;
    HDL_TRY(hdl_tok_scratch_new(&scratch));
    const char *text = hdl_args_str(j->args, "prompt", "");
    hdl_err err = hdl_tokenizer_encode(j->tok,
                                       &(hdl_encode_args){.text = text,
                                                          .len = strlen(text),
                                                          .scratch = scratch,
                                                          .add_special = true,
                                                          .parse_special = true},
                                       &j->prompt, why);
    hdl_tok_scratch_free(scratch);
    if (err == HDL_OK && j->prompt.n == 0)
        err = hdl_fail(HDL_INVALID, why, "the prompt is empty; give a text to go on with");
    return err;
}

static hdl_err make_request(job *j, hdl_request **out)
{
    hdl_request *req = calloc(1, sizeof *req);
    if (req == NULL)
        return HDL_NOMEM;
    size_t n = 0;
    req->max_new = (uint32_t)j->max_new;
    req->sampling = j->sampling;
    req->prompt = hdl_ids_steal(&j->prompt, &n);
    req->n_prompt = (uint32_t)n;
    if (hdl_args_has(j->args, "ignore-eos")) {
        req->submit_flags = HDL_SUBMIT_IGNORE_EOS;
    } else if (j->tok != NULL) {
        const hdl_tok_info *info = hdl_tokenizer_info(j->tok);
        req->n_stop_ids = info->n_eos_ids;
        memcpy(req->stop_ids, info->eos_ids, info->n_eos_ids * sizeof info->eos_ids[0]);
    }
    *out = req;
    return HDL_OK;
}

static hdl_err print_token(job *j, hdl_detok *detok, hdl_token token, hdl_buf *text)
{
    if (j->print_ids || j->tok == NULL) {
        printf("%d\n", token);
        return HDL_OK;
    }
    hdl_buf_clear(text);
    HDL_TRY(hdl_detok_push(detok, j->tok, token, text));
    return cli_print(text) == CLI_OK ? HDL_OK : HDL_IO;
}

/* Prints what comes until the request has ended. */
static hdl_err stream(job *j, hdl_local *local, hdl_errmsg *why)
{
    hdl_buf text;
    hdl_detok detok;
    hdl_buf_init(&text, 1 << 20);
    hdl_detok_init(&detok, true);
    hdl_emit emit = {.kind = HDL_EMIT_TOKEN};
    hdl_err err = HDL_OK;
    while (err == HDL_OK) {
        err = hdl_local_next(local, &emit, why);
        if (err != HDL_OK || emit.kind == HDL_EMIT_DONE)
            break;
        if (emit.kind == HDL_EMIT_ERROR)
            err = hdl_fail(emit.error.err, why, "%s", emit.error.text);
        else if (emit.kind == HDL_EMIT_TOKEN)
            err = print_token(j, &detok, emit.token.token, &text);
    }
    if (err == HDL_OK && !j->print_ids && j->tok != NULL) {
        hdl_buf_clear(&text);
        err = hdl_detok_flush(&detok, j->tok, &text);
        hdl_buf_puts(&text, "\n");
        if (cli_print(&text) != CLI_OK)
            err = HDL_IO;
    }
    hdl_buf_deinit(&text);
    if (err == HDL_OK && fflush(stdout) != 0)
        err = HDL_IO;
    if (err == HDL_IO)
        return hdl_fail(err, why,
                        "the answer cannot be written; standard output is closed or full");
    return err;
}

static hdl_err generate(job *j, hdl_errmsg *why)
{
    hdl_errmsg tok_why = {0};
    hdl_err tok_err = hdl_tokenizer_open(&j->tok, j->args->positionals[0], &tok_why);
    if (tok_err != HDL_OK && hdl_args_has(j->args, "prompt"))
        return hdl_fail(tok_err, why, "%s", tok_why.text);
    HDL_TRY(read_prompt(j, why));

    hdl_cfg *cfg = NULL;
    hdl_config config;
    hdl_local *local = NULL;
    hdl_request *req = NULL;
    HDL_TRY(cli_config_open(&cfg, &config, j->args, why));
    config.model_path = j->args->positionals[0];
    hdl_err err = make_request(j, &req);
    if (err == HDL_OK)
        err = hdl_local_open(&local, &config, why);
    if (err == HDL_OK) {
        err = hdl_local_submit(local, req, why);
        req = NULL;
    }
    if (err == HDL_OK)
        err = stream(j, local, why);
    hdl_request_free(req);
    hdl_local_close(local);
    hdl_cfg_close(cfg);
    return err;
}

int cli_generate(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &generate_spec, argv);
    if (rc >= 0)
        return rc;
    job j = {.args = &args};
    hdl_errmsg why = {0};
    hdl_ids_init(&j.prompt, CLI_IDS_MAX);
    hdl_err err = read_options(&j, &why);
    if (err != HDL_OK)
        return cli_usage(&generate_spec, &why);
    err = generate(&j, &why);
    hdl_ids_deinit(&j.prompt);
    hdl_tokenizer_free(j.tok);
    return err == HDL_OK ? CLI_OK : cli_fail(err, &why);
}
