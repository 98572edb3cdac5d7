/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

int cli_parse(hdl_args *args, const hdl_args_spec *spec, char **argv)
{
    hdl_errmsg why = {0};
    if (hdl_args_parse(args, spec, argv, &why) != HDL_OK)
        return cli_usage(spec, &why);
    if (!args->help)
        return -1;
    hdl_buf text;
    hdl_buf_init(&text, 1 << 20);
    if (hdl_args_help(spec, &text) != HDL_OK)
        return CLI_FAILED;
    int rc = cli_print(&text);
    hdl_buf_deinit(&text);
    return rc;
}

int cli_fail(hdl_err err, const hdl_errmsg *why)
{
    fprintf(stderr, "heddle: %s\n",
            why != NULL && why->text[0] != '\0' ? why->text : hdl_err_text(err));
    return CLI_FAILED;
}

int cli_usage(const hdl_args_spec *spec, const hdl_errmsg *why)
{
    fprintf(stderr, "%s: %s\n%s --help shows the options\n", spec->command, why->text,
            spec->command);
    return CLI_USAGE;
}

int cli_print(hdl_buf *buf)
{
    size_t len = buf->len;
    if (!hdl_buf_ok(buf) || fwrite(hdl_buf_data(buf), 1, len, stdout) != len || fflush(stdout) != 0)
        return CLI_FAILED;
    return CLI_OK;
}

hdl_err cli_program_path(char *out, size_t size, const char *name, hdl_errmsg *why)
{
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0)
        return hdl_fail(HDL_IO, why,
                        "cannot find the programs beside heddle; /proc/self/exe is "
                        "not readable; mount /proc");
    self[len] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = '\0';
    HDL_TRY(hdl_fs_join(out, size, self, name));
    if (access(out, X_OK) != 0)
        return hdl_fail(HDL_NOTFOUND, why,
                        "%s is missing; it is installed beside heddle; build the target %s", out,
                        name);
    return HDL_OK;
}
