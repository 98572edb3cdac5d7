/* SPDX-License-Identifier: Apache-2.0 */
/* heddle template: the prompt that a chat is rendered to, as the server would render it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "cli/cli.h"
#include "scheduler/text/template.h"

enum { FILE_BYTES_MAX = 64 << 20 };

static const hdl_arg_opt template_opts[] = {
    {.name = "tools", .value = "F", .doc = "JSON array of tool definitions"},
    {.name = "no-generation-prompt", .doc = "leave out the opening of the assistant's turn"},
    {.name = "continue-final", .doc = "leave the last message open, for the model to go on with"},
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
    hdl_json *messages, *tools;
} parts;

static hdl_err render(const hdl_args *args, parts *p, hdl_buf *out, hdl_errmsg *why)
{
    HDL_TRY(hdl_tokenizer_open(&p->tok, args->positionals[0], why));
    const hdl_tok_info *info = hdl_tokenizer_info(p->tok);
    if (info->chat_template == NULL)
        return hdl_fail(HDL_NOTFOUND, why,
                        "%s has no chat template; it is a base model; use "
                        "heddle generate",
                        args->positionals[0]);
    HDL_TRY(hdl_template_open(&p->tpl, info->chat_template, info->chat_template_len, why));
    HDL_TRY(load_json(args->positionals[1], &p->messages, why));
    hdl_jv messages = hdl_json_root(p->messages), tools = {0};
    if (hdl_args_has(args, "tools")) {
        HDL_TRY(load_json(hdl_args_str(args, "tools", ""), &p->tools, why));
        tools = hdl_json_root(p->tools);
    }
    bool continue_final = hdl_args_has(args, "continue-final");
    return hdl_template_render(
        p->tpl,
        &(hdl_chat){.messages = &messages,
                    .tools = p->tools != NULL ? &tools : NULL,
                    .special = &info->special,
                    .continue_final = continue_final,
                    .add_generation_prompt =
                        !continue_final && !hdl_args_has(args, "no-generation-prompt"),
                    .now_wall_us = hdl_clock_wall_us()},
        out, why);
}

int cli_template(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &template_spec, argv);
    if (rc >= 0)
        return rc;
    parts p = {0};
    hdl_buf out;
    hdl_buf_init(&out, FILE_BYTES_MAX);
    hdl_errmsg why = {0};
    hdl_err err = render(&args, &p, &out, &why);
    rc = err == HDL_OK ? cli_print(&out) : cli_fail(err, &why);
    hdl_buf_deinit(&out);
    hdl_json_close(p.tools);
    hdl_json_close(p.messages);
    hdl_template_free(p.tpl);
    hdl_tokenizer_free(p.tok);
    return rc;
}
