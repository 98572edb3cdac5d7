/* SPDX-License-Identifier: Apache-2.0 */
/* heddle template: the prompt that a chat is rendered to, as the server would render it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/json_write.h"
#include "cli/cli.h"
#include "cli/ids_file.h"
#include "scheduler/text/template.h"

enum { FILE_BYTES_MAX = 64 << 20 };

static const hdl_arg_opt template_opts[] = {
    {.name = "tools", .value = "F", .doc = "JSON array of tool definitions"},
    {.name = "documents", .value = "F", .doc = "JSON array of documents"},
    {.name = "kwargs",
     .value = "JSON",
     .doc = "object of further variables, e.g. '{\"enable_thinking\": false}'"},
    {.name = "reasoning-effort", .value = "LEVEL", .doc = "the variable reasoning_effort"},
    {.name = "no-generation-prompt", .doc = "leave out the opening of the assistant's turn"},
    {.name = "continue-final", .doc = "leave the last message open, for the model to go on with"},
    {.name = "ids", .doc = "the prompt's token ids, one a line: what the model gets"},
};

static const hdl_args_spec template_spec = {
    .command = "heddle template",
    .usage = "MODEL MESSAGES.json [options]",
    .about = "Prints the prompt that the model's chat template makes of an array of messages.",
    .opts = template_opts,
    .opts_count = HDL_ARRAY_LEN(template_opts),
    .positionals_min = 2,
    .positionals_max = 2,
};

static hdl_err load_json(const char *path, hdl_json **doc, hdl_errmsg *why)
{
    char *text = NULL;
    size_t len = 0;
    HDL_TRY(hdl_fs_read(path, FILE_BYTES_MAX, &text, &len, why));
    hdl_err err = hdl_json_parse(text, len, 0, doc, why);
    free(text);
    return err == HDL_OK ? err : hdl_fail_prefix(err, why, "%s", path);
}

typedef struct parts {
    hdl_tokenizer *tok;
    hdl_template *tpl;
    hdl_json *messages, *tools, *documents, *kwargs, *effort;
    hdl_ranges own; /* of the rendered text: where special tokens are read */
} parts;

/* The array in the file that an option names; no document without the option. */
static hdl_err load_option(const hdl_args *args, const char *name, hdl_json **doc, hdl_errmsg *why)
{
    if (!hdl_args_has(args, name))
        return HDL_OK;
    HDL_TRY(load_json(hdl_args_str(args, name, ""), doc, why));
    hdl_jv root = hdl_json_root(*doc);
    hdl_err err = hdl_jv_expect(&root, HDL_JSON_ARRAY, why);
    return err == HDL_OK ? err : hdl_fail_prefix(err, why, "--%s", name);
}

static hdl_jv root_of(const hdl_json *doc)
{
    return doc != NULL ? hdl_json_root(doc) : (hdl_jv){0};
}

/* As the server does: what the model's template cannot show to the model is refused, not left out;
 * further variables, which clients send to every model alike, are only spoken of. */
static hdl_err check_taken(const parts *p, hdl_errmsg *why)
{
    hdl_jv tools = root_of(p->tools);
    const struct {
        bool given;
        const char *option, *variable;
    } named[] = {{hdl_jv_len(&tools) > 0, "tools", "tools"},
                 {p->documents != NULL, "documents", "documents"},
                 {p->effort != NULL, "reasoning-effort", "reasoning_effort"}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(named); i++)
        if (named[i].given && !hdl_template_takes(p->tpl, named[i].variable))
            return hdl_fail(HDL_INVALID, why, "--%s " HDL_TEMPLATE_NOT_TAKEN, named[i].option);
    if (p->kwargs == NULL)
        return HDL_OK;
    hdl_jv root = hdl_json_root(p->kwargs), v;
    for (void *iter = NULL; hdl_jv_next(&root, &iter, &v);)
        if (!hdl_template_takes(p->tpl, v.key))
            fprintf(stderr, "heddle: --kwargs: %s " HDL_TEMPLATE_NOT_TAKEN "\n", v.key);
    return HDL_OK;
}

static hdl_err read_variables(const hdl_args *args, parts *p, hdl_errmsg *why)
{
    const char *kwargs = hdl_args_str(args, "kwargs", NULL);
    if (kwargs != NULL) {
        hdl_err err = hdl_json_parse(kwargs, strlen(kwargs), 0, &p->kwargs, why);
        hdl_jv root = err == HDL_OK ? hdl_json_root(p->kwargs) : (hdl_jv){0};
        if (err == HDL_OK)
            err = hdl_jv_expect(&root, HDL_JSON_OBJECT, why);
        if (err != HDL_OK)
            return hdl_fail_prefix(err, why, "--kwargs");
    }
    if (!hdl_args_has(args, "reasoning-effort"))
        return HDL_OK;
    hdl_buf text;
    hdl_json_writer w;
    hdl_buf_init(&text, 4096);
    hdl_jw_init(&w, &text);
    hdl_jw_cstr(&w, hdl_args_str(args, "reasoning-effort", ""));
    hdl_err err = hdl_json_parse((const char *)hdl_buf_data(&text), text.len, 0, &p->effort, why);
    hdl_buf_deinit(&text);
    return err;
}

static hdl_err render(const hdl_args *args, parts *p, hdl_buf *out, hdl_errmsg *why)
{
    HDL_TRY(hdl_tokenizer_open(&p->tok, args->positionals[0], why));
    const hdl_tok_info *info = hdl_tokenizer_info(p->tok);
    hdl_err err = hdl_template_open_model(&p->tpl, info, why);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", args->positionals[0]);
    HDL_TRY(load_json(args->positionals[1], &p->messages, why));
    HDL_TRY(load_option(args, "tools", &p->tools, why));
    HDL_TRY(load_option(args, "documents", &p->documents, why));
    HDL_TRY(read_variables(args, p, why));
    HDL_TRY(check_taken(p, why));
    hdl_jv messages = hdl_json_root(p->messages), tools = root_of(p->tools);
    hdl_jv documents = root_of(p->documents), kwargs = root_of(p->kwargs);
    hdl_jv effort = root_of(p->effort);
    bool continue_final = hdl_args_has(args, "continue-final");
    return hdl_template_render(
        p->tpl,
        &(hdl_chat){.messages = &messages,
                    .tools = hdl_jv_len(&tools) > 0 ? &tools : NULL,
                    .documents = p->documents != NULL ? &documents : NULL,
                    .kwargs = p->kwargs != NULL ? &kwargs : NULL,
                    .reasoning_effort = p->effort != NULL ? &effort : NULL,
                    .special = &info->special,
                    .continue_final = continue_final,
                    .add_generation_prompt =
                        !continue_final && !hdl_args_has(args, "no-generation-prompt"),
                    .now_wall_us = hdl_clock_wall_us(),
                    .own = &p->own},
        out, why);
}

/* As the server encodes a chat: special tokens from the template's own words alone. */
static hdl_err print_ids(const parts *p, const hdl_buf *text, hdl_errmsg *why)
{
    hdl_tok_scratch *scratch;
    hdl_ids ids;
    HDL_TRY(hdl_tok_scratch_new(&scratch));
    hdl_ids_init(&ids, CLI_IDS_MAX);
    hdl_encode_args args = {.text = (const char *)hdl_buf_data(text),
                            .len = text->len,
                            .scratch = scratch,
                            .parse_special = true,
                            .special_in = &p->own};
    hdl_err err = hdl_tokenizer_encode(p->tok, &args, &ids, why);
    for (size_t i = 0; i < ids.n && err == HDL_OK; i++)
        printf("%d\n", ids.v[i]);
    hdl_ids_deinit(&ids);
    hdl_tok_scratch_free(scratch);
    return err;
}

int cli_template(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &template_spec, argv);
    if (rc >= 0)
        return rc;
    parts p = {0};
    hdl_ranges_init(&p.own);
    hdl_buf out;
    hdl_buf_init(&out, FILE_BYTES_MAX);
    hdl_errmsg why = {0};
    hdl_err err = render(&args, &p, &out, &why);
    bool ids = hdl_args_has(&args, "ids");
    if (err == HDL_OK && ids)
        err = print_ids(&p, &out, &why);
    rc = err != HDL_OK ? cli_fail(err, &why) : ids ? CLI_OK : cli_print(&out);
    hdl_buf_deinit(&out);
    hdl_ranges_deinit(&p.own);
    hdl_json_close(p.effort);
    hdl_json_close(p.kwargs);
    hdl_json_close(p.documents);
    hdl_json_close(p.tools);
    hdl_json_close(p.messages);
    hdl_template_free(p.tpl);
    hdl_tokenizer_free(p.tok);
    return rc;
}
