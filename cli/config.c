/* SPDX-License-Identifier: Apache-2.0 */
/* heddle config: every key of the configuration with its meaning, or what a file amounts to. */
#include <heddle/config.h>
#include <heddle/types.h>

#include "base/config.h"
#include "base/config_keys.h"
#include "cli/cli.h"

static const hdl_arg_opt config_opts[] = {
    {.name = "file",
     .letter = 'f',
     .value = "F",
     .doc = "check this file and print the values that result, each with its origin"},
};

static const hdl_args_spec config_spec = {
    .command = "heddle config",
    .usage = "[options]",
    .about = "Prints a commented configuration file with every key, its type, range and default. "
             "What it prints is itself a valid file for heddle-scheduler, heddle-worker and "
             "heddle serve --config.",
    .opts = config_opts,
    .opts_count = HDL_ARRAY_LEN(config_opts),
    .examples = "heddle config > heddle.yaml\tall keys, ready to be edited\n"
                "heddle config --file heddle.yaml\tis it right, and what does it say?\n",
};

int cli_config(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &config_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    hdl_buf out;
    hdl_buf_init(&out, 1 << 20);
    hdl_err err = hdl_cfg_open(&cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                     .keys_count = hdl_config_keys_count,
                                                     .values = &config});
    const char *file = hdl_args_str(&args, "file", NULL);
    if (err == HDL_OK && file != NULL)
        err = hdl_cfg_load_file(cfg, file, &why);
    if (err == HDL_OK)
        err = file != NULL ? hdl_cfg_dump(cfg, &out) : hdl_cfg_print_docs(cfg, &out);
    rc = err == HDL_OK ? cli_print(&out) : cli_fail(err, &why);
    hdl_buf_deinit(&out);
    hdl_cfg_close(cfg);
    return rc;
}
