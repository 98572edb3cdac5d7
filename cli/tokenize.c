/* SPDX-License-Identifier: Apache-2.0 */
/* heddle tokenize: text on stdin becomes one id a line; with --decode, ids become text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/ids_file.h"
#include "scheduler/text/tokenizer.h"

enum { TEXT_BYTES_MAX = 256 << 20 };

static const hdl_arg_opt tokenize_opts[] = {
    {.name = "decode", .doc = "ids on stdin, separated by blanks or lines, become text"},
    {.name = "special",
     .doc = "written special tokens become their ids, bos is added where the "
            "model has one; with --decode they are written out"},
    {.name = "lines", .doc = "every line is a text of its own: its ids on one line"},
};

static const hdl_args_spec tokenize_spec = {
    .command = "heddle tokenize",
    .usage = "MODEL [options]",
    .about = "Reads text from standard input and prints one token id a line, or the way back.",
    .opts = tokenize_opts,
    .opts_count = HDL_ARRAY_LEN(tokenize_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "echo -n \"Hello there\" | heddle tokenize MODEL\tids\n"
                "... | heddle tokenize MODEL --decode\tand back\n",
};

typedef struct job {
    hdl_tokenizer *tok;
    hdl_tok_scratch *scratch;
    bool special;
} job;

static hdl_err read_stdin(hdl_buf *text)
{
    char bytes[65536];
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, stdin)) > 0;)
        HDL_TRY(hdl_buf_append(text, bytes, n));
    return ferror(stdin) ? HDL_IO : HDL_OK;
}

static hdl_err encode_one(const job *j, const char *text, size_t len, char separator,
                          hdl_errmsg *why)
{
    hdl_ids ids;
    hdl_ids_init(&ids, CLI_IDS_MAX);
    hdl_err err = hdl_tokenizer_encode(j->tok,
                                       &(hdl_encode_args){.text = text,
                                                          .len = len,
                                                          .scratch = j->scratch,
                                                          .add_special = j->special,
                                                          .parse_special = j->special},
                                       &ids, why);
    for (size_t i = 0; err == HDL_OK && i < ids.n; i++)
        printf("%d%c", ids.v[i], separator == '\n' || i + 1 == ids.n ? '\n' : separator);
    if (err == HDL_OK && ids.n == 0 && separator != '\n')
        putchar('\n');
    hdl_ids_deinit(&ids);
    return err;
}

static hdl_err encode_lines(const job *j, const char *text, size_t len, hdl_errmsg *why)
{
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end != NULL ? (size_t)(end - text) : len;
        size_t used = end != NULL ? line_len + 1 : line_len;
        HDL_TRY(encode_one(j, text, line_len, ' ', why));
        text += used;
        len -= used;
    }
    return HDL_OK;
}

static hdl_err decode_one(const job *j, const char *text, hdl_errmsg *why)
{
    hdl_ids ids;
    hdl_buf out;
    hdl_ids_init(&ids, CLI_IDS_MAX);
    hdl_buf_init(&out, TEXT_BYTES_MAX);
    hdl_err err = cli_ids_parse(text, &ids, why);
    if (err == HDL_OK)
        err = hdl_tokenizer_decode(
            j->tok, &(hdl_decode_args){.ids = ids.v, .n = ids.n, .skip_special = !j->special},
            &out);
    if (err == HDL_OK && cli_print(&out) != CLI_OK)
        err = HDL_IO;
    hdl_buf_deinit(&out);
    hdl_ids_deinit(&ids);
    return err;
}

static hdl_err decode_lines(const job *j, char *text, hdl_errmsg *why)
{
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        HDL_TRY(decode_one(j, line, why));
        putchar('\n');
    }
    return HDL_OK;
}

static hdl_err tokenize(const hdl_args *args, job *j, hdl_errmsg *why)
{
    HDL_TRY(hdl_tokenizer_open(&j->tok, args->positionals[0], why));
    HDL_TRY(hdl_tok_scratch_new(&j->scratch));
    bool lines = hdl_args_has(args, "lines");
    hdl_buf text;
    hdl_buf_init(&text, TEXT_BYTES_MAX);
    hdl_err err = read_stdin(&text);
    size_t len = text.len;
    char *input = err == HDL_OK ? strdup(hdl_buf_cstr(&text)) : NULL;
    if (err != HDL_OK || input == NULL)
        err = hdl_fail(HDL_IO, why,
                       "cannot take standard input; it is unreadable or longer than "
                       "%d MiB; give less at once",
                       TEXT_BYTES_MAX >> 20);
    else if (hdl_args_has(args, "decode"))
        err = lines ? decode_lines(j, input, why) : decode_one(j, input, why);
    else
        err = lines ? encode_lines(j, (const char *)hdl_buf_data(&text), len, why)
                    : encode_one(j, (const char *)hdl_buf_data(&text), len, '\n', why);
    free(input);
    hdl_buf_deinit(&text);
    return err;
}

int cli_tokenize(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &tokenize_spec, argv);
    if (rc >= 0)
        return rc;
    job j = {.special = hdl_args_has(&args, "special")};
    hdl_errmsg why = {0};
    hdl_err err = tokenize(&args, &j, &why);
    hdl_tok_scratch_free(j.scratch);
    hdl_tokenizer_free(j.tok);
    if (err == HDL_OK && fflush(stdout) != 0)
        err = HDL_IO;
    return err == HDL_OK ? CLI_OK : cli_fail(err, &why);
}
