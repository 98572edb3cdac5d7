/* SPDX-License-Identifier: Apache-2.0 */
/* heddle perplexity: how well a model foretells a text, through the same scheduler and workers that
 * serve. The text's tokens are cut into windows that follow each other; each token of a window but
 * the first is scored given those before it in the window. The figure is exp of minus the mean
 * log-probability. Where the tokenizer puts a first token before a text, it stands before each
 * window. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fs.h"
#include "base/json_write.h"
#include "cli/engine_options.h"
#include "cli/ids_file.h"
#include "cli/local.h"
#include "scheduler/text/tokenizer.h"

enum { TEXT_BYTES_MAX = 512 << 20, CONTEXT_DEFAULT = 2048, IN_FLIGHT = 8 };

static const hdl_arg_opt perplexity_opts[] = {
    {.name = "context", .value = "N", .doc = "tokens of a window (2048, or what the model takes)"},
    {.name = "ids", .doc = "FILE holds token ids instead of text"},
    {.name = "json", .doc = "one JSON document instead of a table"},
    CLI_ENGINE_OPTIONS,
};

static const hdl_args_spec perplexity_spec = {
    .command = "heddle perplexity",
    .usage = "MODEL FILE [options]",
    .about = "Prints the perplexity of a text under a model: exp of the mean of minus the "
             "log-probabilities of its tokens, in windows that follow each other.",
    .opts = perplexity_opts,
    .opts_count = HDL_ARRAY_LEN(perplexity_opts),
    .positionals_min = 2,
    .positionals_max = 2,
    .examples = "heddle perplexity MODEL wiki.test.raw --context 512\t\n",
};

typedef struct job {
    const hdl_args *args;
    hdl_local *local;
    hdl_ids ids;
    hdl_token bos; /* before each window; negative: none */
    uint32_t context, n_windows;
    double *sums; /* owned; [n_windows] of log-probabilities, each in order of position */
    uint64_t n_scored;
    bool show;
} job;

/* ---- the text ----------------------------------------------------------------------------- */

static hdl_err encode(job *j, const char *text, size_t len, hdl_errmsg *why)
{
    hdl_tokenizer *tok = NULL;
    hdl_tok_scratch *scratch = NULL;
    hdl_err err = hdl_tokenizer_open(&tok, j->args->positionals[0], why);
    if (err == HDL_OK)
        err = hdl_tok_scratch_new(&scratch);
    hdl_encode_args args = {.text = text, .len = len, .scratch = scratch, .add_special = true};
    if (err == HDL_OK)
        err = hdl_tokenizer_encode(tok, &args, &j->ids, why);
    if (err == HDL_OK && j->ids.n > 0 && j->ids.v[0] == hdl_tokenizer_info(tok)->bos_id)
        j->bos = j->ids.v[0];
    hdl_tok_scratch_free(scratch);
    hdl_tokenizer_free(tok);
    return err;
}

static hdl_err read_ids(job *j, hdl_errmsg *why)
{
    const char *path = j->args->positionals[1];
    if (hdl_args_has(j->args, "ids"))
        return cli_ids_read(path, &j->ids, why);
    char *text = NULL;
    size_t len = 0;
    HDL_TRY(hdl_fs_read(path, TEXT_BYTES_MAX, &text, &len, why));
    hdl_err err = encode(j, text, len, why);
    free(text);
    return err;
}

/* ---- windows ------------------------------------------------------------------------------ */

/* New tokens that a window holds, beside the first one. */
static uint32_t window_tokens(const job *j) { return j->bos >= 0 ? j->context - 1 : j->context; }

static hdl_err submit(job *j, uint32_t idx, hdl_errmsg *why)
{
    size_t from = j->bos >= 0 ? 1 : 0; /* the text's own first token */
    from += (size_t)idx * window_tokens(j);
    uint32_t n = (uint32_t)hdl_min_size(window_tokens(j), j->ids.n - from), first = j->bos >= 0;
    hdl_request *req = calloc(1, sizeof(*req));
    hdl_token *prompt = malloc((first + n) * sizeof(*prompt));
    if (!req || !prompt) {
        free(req);
        free(prompt);
        return HDL_NOMEM;
    }
    if (first)
        prompt[0] = j->bos;
    memcpy(prompt + first, j->ids.v + from, n * sizeof(*prompt));
    req->prompt = prompt;
    req->n_prompt = first + n;
    req->sampling = (hdl_sampling){.top_p = 1, .repetition_penalty = 1, .n_logprobs = 0};
    req->submit_flags = HDL_SUBMIT_SCORE | HDL_SUBMIT_NO_CACHE;
    req->sink.user = idx;
    return hdl_local_submit(j->local, req, why);
}

static void tell(const job *j, uint32_t n_done)
{
    if (!j->show)
        return;
    double sum = 0;
    for (uint32_t i = 0; i < j->n_windows; i++)
        sum += j->sums[i];
    fprintf(stderr, "\r%u of %u windows, perplexity so far %.4f ", n_done, j->n_windows,
            j->n_scored ? exp(-sum / (double)j->n_scored) : 0.0);
    if (n_done == j->n_windows)
        fprintf(stderr, "\n");
}

/* Windows run beside each other; that changes no bit of any of them. */
static hdl_err score_all(job *j, hdl_errmsg *why)
{
    uint32_t n_sent = 0, n_done = 0;
    hdl_emit emit;
    while (n_done < j->n_windows) {
        while (n_sent < j->n_windows && n_sent - n_done < IN_FLIGHT)
            HDL_TRY(submit(j, n_sent++, why));
        HDL_TRY(hdl_local_next(j->local, &emit, why));
        if (emit.kind == HDL_EMIT_ERROR)
            return hdl_fail(emit.error.err, why, "%s", emit.error.text);
        if (emit.kind == HDL_EMIT_SCORE) {
            j->sums[emit.user] += (double)emit.token.logprob;
            j->n_scored++;
        } else if (emit.kind == HDL_EMIT_DONE) {
            tell(j, ++n_done);
        }
    }
    return HDL_OK;
}

static hdl_err plan_windows(job *j, hdl_errmsg *why)
{
    hdl_engine_info info;
    int64_t context = 0;
    hdl_local_info(j->local, &info);
    j->context = hdl_min_u32(CONTEXT_DEFAULT, info.max_len);
    if (hdl_args_has(j->args, "context")) {
        HDL_TRY(hdl_args_int(j->args, (hdl_args_int_opt){"context", 2, INT32_MAX}, &context, why));
        if (context > info.max_len)
            return hdl_fail(HDL_INVALID, why,
                            "a window of %lld tokens does not fit; sequences have %u at most; give "
                            "a smaller --context or a larger --max-len",
                            (long long)context, info.max_len);
        j->context = (uint32_t)context;
    }
    size_t n = j->ids.n - (j->bos >= 0 ? 1 : 0);
    if (j->ids.n < 2)
        return hdl_fail(HDL_INVALID, why,
                        "%.200s has fewer than two tokens; nothing can be foretold; give a longer "
                        "text",
                        j->args->positionals[1]);
    j->n_windows = (uint32_t)((n + window_tokens(j) - 1) / window_tokens(j));
    j->sums = calloc(j->n_windows, sizeof(*j->sums));
    return j->sums ? HDL_OK : HDL_NOMEM;
}

/* ---- the figure --------------------------------------------------------------------------- */

static int print(const job *j)
{
    double sum = 0;
    for (uint32_t i = 0; i < j->n_windows; i++)
        sum += j->sums[i];
    double nll = -sum / (double)j->n_scored;
    hdl_buf out;
    hdl_buf_init(&out, 4096);
    if (hdl_args_has(j->args, "json")) {
        hdl_json_writer w;
        hdl_jw_init(&w, &out);
        hdl_jw_begin_object(&w);
        hdl_jw_key(&w, "perplexity");
        hdl_jw_double(&w, exp(nll));
        hdl_jw_key(&w, "nll_per_token");
        hdl_jw_double(&w, nll);
        hdl_jw_kv_uint(&w, "tokens_scored", j->n_scored);
        hdl_jw_kv_uint(&w, "windows", j->n_windows);
        hdl_jw_kv_uint(&w, "context", j->context);
        hdl_jw_end_object(&w);
        hdl_buf_puts(&out, "\n");
    } else {
        hdl_buf_printf(&out, "perplexity     %.4f\n", exp(nll));
        hdl_buf_printf(&out, "tokens         %llu scored, in %u windows of %u\n",
                       (unsigned long long)j->n_scored, j->n_windows, j->context);
    }
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

static hdl_err run(job *j, hdl_errmsg *why)
{
    hdl_cfg *cfg = NULL;
    hdl_config config;
    HDL_TRY(read_ids(j, why));
    HDL_TRY(cli_config_open(&cfg, &config, j->args, why));
    config.model_path = j->args->positionals[0];
    hdl_err err = hdl_local_open(&j->local, &config, why);
    if (err == HDL_OK)
        err = plan_windows(j, why);
    if (err == HDL_OK)
        err = score_all(j, why);
    hdl_local_close(j->local);
    hdl_cfg_close(cfg);
    if (err == HDL_OK && j->n_scored == 0)
        return hdl_fail(HDL_INVALID, why,
                        "no token was scored; the windows are too short; give a larger --context");
    return err;
}

int cli_perplexity(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &perplexity_spec, argv);
    if (rc >= 0)
        return rc;
    job j = {
        .args = &args, .bos = -1, .show = isatty(STDERR_FILENO) && !hdl_args_has(&args, "json")};
    hdl_errmsg why = {0};
    hdl_ids_init(&j.ids, CLI_IDS_MAX);
    hdl_err err = run(&j, &why);
    rc = err == HDL_OK ? print(&j) : cli_fail(err, &why);
    hdl_ids_deinit(&j.ids);
    free(j.sums);
    return rc;
}
