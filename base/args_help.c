/* SPDX-License-Identifier: Apache-2.0 */
/* The help text of a command, made from its option table. */
#include <stdio.h>
#include <string.h>

#include "base/args.h"

enum { WIDTH = 100, COLUMN_MAX = 34 };

/* Writes text wrapped to WIDTH, continued at `column`; the cursor stands at `column` already. */
static void wrap(hdl_buf *out, size_t column, const char *text)
{
    size_t at = column;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (at > column && at + 1 + word > WIDTH) {
            hdl_buf_printf(out, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            hdl_buf_puts(out, " ");
            at++;
        }
        hdl_buf_append(out, text, word);
        at += word;
        text += word;
        text += strspn(text, " ");
    }
    hdl_buf_puts(out, "\n");
}

/* `  -p, --port N`; returns its length. */
static size_t option_text(const hdl_arg_opt *opt, char out[128])
{
    char letter[8] = "    ";
    if (opt->letter)
        snprintf(letter, sizeof letter, "-%c, ", opt->letter);
    int n = snprintf(out, 128, "  %s--%s%s%s", letter, opt->name, opt->value ? " " : "",
                     opt->value ? opt->value : "");
    return n > 0 ? (size_t)n : 0;
}

static const char *group_of(const hdl_arg_opt *opt) { return opt->group ? opt->group : "Options"; }

static size_t doc_column(const hdl_args_spec *spec)
{
    size_t column = 0;
    for (size_t i = 0; i < spec->opts_count; i++) {
        char text[128];
        size_t len = option_text(&spec->opts[i], text) + 2;
        if (!spec->opts[i].refuse && len <= COLUMN_MAX && len > column)
            column = len;
    }
    return column;
}

static void write_option(hdl_buf *out, const hdl_arg_opt *opt, size_t column)
{
    char text[128];
    size_t len = option_text(opt, text);
    hdl_buf_puts(out, text);
    if (len + 2 > column)
        hdl_buf_printf(out, "\n%*s", (int)column, "");
    else
        hdl_buf_printf(out, "%*s", (int)(column - len), "");
    wrap(out, column, opt->doc ? opt->doc : "");
}

/* Lines "command<TAB>what it does", printed in two columns. */
static void write_examples(hdl_buf *out, const char *lines)
{
    hdl_buf_puts(out, "\nExamples:\n");
    while (*lines) {
        size_t len = strcspn(lines, "\n");
        const char *tab = memchr(lines, '\t', len);
        size_t command = tab ? (size_t)(tab - lines) : len;
        hdl_buf_printf(out, "  %.*s\n", (int)command, lines);
        if (tab)
            hdl_buf_printf(out, "      %.*s\n", (int)(len - command - 1), tab + 1);
        lines += len + (lines[len] == '\n');
    }
}

hdl_err hdl_args_help(const hdl_args_spec *spec, hdl_buf *out)
{
    hdl_buf_printf(out, "usage: %s %s\n\n", spec->command, spec->usage);
    wrap(out, 0, spec->about);
    size_t column = doc_column(spec);
    for (size_t i = 0; i < spec->opts_count; i++) {
        const char *group = group_of(&spec->opts[i]);
        bool first = !spec->opts[i].refuse;
        for (size_t j = 0; j < i && first; j++)
            first = spec->opts[j].refuse || strcmp(group_of(&spec->opts[j]), group) != 0;
        if (!first)
            continue;
        hdl_buf_printf(out, "\n%s:\n", group);
        for (size_t j = i; j < spec->opts_count; j++)
            if (!spec->opts[j].refuse && strcmp(group_of(&spec->opts[j]), group) == 0)
                write_option(out, &spec->opts[j], column);
    }
    if (spec->examples)
        write_examples(out, spec->examples);
    return hdl_buf_ok(out) ? HDL_OK : HDL_BUSY;
}
