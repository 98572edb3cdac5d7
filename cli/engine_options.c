/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/engine_options.h"

#include <string.h>

#include "base/config_keys.h"

static bool spec_has(const hdl_args_spec *spec, const char *name)
{
    for (size_t i = 0; i < spec->opts_count; i++)
        if (strcmp(spec->opts[i].name, name) == 0)
            return true;
    return false;
}

hdl_err cli_config_open(hdl_cfg **cfg, hdl_config *config, const hdl_args *args, hdl_errmsg *why)
{
    *config = (hdl_config){0};
    *cfg = NULL;
    HDL_TRY(hdl_cfg_open(cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                              .keys_count = hdl_config_keys_count,
                                              .values = config}));
    hdl_err err = HDL_OK;
    if (spec_has(args->spec, "config") && hdl_args_has(args, "config"))
        HDL_TRY_GOTO(hdl_cfg_load_file(*cfg, hdl_args_str(args, "config", ""), why), fail);
    HDL_TRY_GOTO(hdl_args_apply(args, *cfg, why), fail);
    return HDL_OK;

fail:
    hdl_cfg_close(*cfg);
    *cfg = NULL;
    return err;
}
