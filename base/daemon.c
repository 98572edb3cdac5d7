/* SPDX-License-Identifier: Apache-2.0 */
#include "base/daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config_keys.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/thread.h"

static hdl_err apply_set(hdl_cfg *cfg, const char *pair, hdl_errmsg *why)
{
    char key[128];
    const char *equals = strchr(pair, '=');
    if (!equals || equals == pair || (size_t)(equals - pair) >= sizeof key)
        return hdl_fail(HDL_INVALID, why,
                        "--set %.60s is not KEY=VALUE; write for example --set kv.bytes=1GiB",
                        pair);
    memcpy(key, pair, (size_t)(equals - pair));
    key[equals - pair] = '\0';
    return hdl_cfg_set(cfg, (hdl_cfg_assign){.path = key, .value = equals + 1, .origin = "--set"},
                       why);
}

/* File, then flags, then pairs: the later wins. */
static hdl_err load_config(hdl_daemon *d, hdl_errmsg *why)
{
    const char *pair;
    size_t at = 0;
    HDL_TRY(hdl_cfg_open(&d->cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                  .keys_count = hdl_config_keys_count,
                                                  .values = &d->config}));
    if (hdl_args_has(&d->args, "config"))
        HDL_TRY(hdl_cfg_load_file(d->cfg, hdl_args_str(&d->args, "config", ""), why));
    HDL_TRY(hdl_args_apply(&d->args, d->cfg, why));
    while ((pair = hdl_args_next(&d->args, "set", &at)) != NULL)
        HDL_TRY(apply_set(d->cfg, pair, why));
    return HDL_OK;
}

static hdl_err start_log(const hdl_config *config, hdl_errmsg *why)
{
    const hdl_log_opts opts = {.path = config->log_file[0] ? config->log_file : NULL,
                               .level = (hdl_log_level)config->log_level,
                               .json = config->log_format == 1};
    HDL_TRY(hdl_log_setup(&opts, why));
    return hdl_log_start(why);
}

static int print_help(const hdl_args_spec *spec)
{
    hdl_buf text;
    hdl_buf_init(&text, 1 << 20);
    bool ok = hdl_args_help(spec, &text) == HDL_OK &&
              fwrite(hdl_buf_data(&text), 1, text.len, stdout) == text.len;
    hdl_buf_deinit(&text);
    return ok && fflush(stdout) == 0 ? 0 : 1;
}

int hdl_daemon_start(hdl_daemon *d, const hdl_args_spec *spec, char **argv)
{
    hdl_errmsg why = {0};
    *d = (hdl_daemon){.name = spec->command};
    hdl_err err = hdl_args_parse(&d->args, spec, argv, &why);
    if (err == HDL_OK && d->args.help)
        return print_help(spec);
    if (err == HDL_OK && hdl_args_has(&d->args, "version")) {
        printf("%s %s\n", spec->command, HDL_VERSION);
        return 0;
    }
    if (err == HDL_OK)
        err = load_config(d, &why);
    int exit_code = 2;
    if (err == HDL_OK) {
        hdl_thread_block_signals(); /* libraries' threads inherit the mask */
        exit_code = 1;
        err = start_log(&d->config, &why);
    }
    if (err == HDL_OK) {
        hdl_metrics_build_info(HDL_VERSION, spec->command);
        hdl_metric_set(HDL_METRIC_START_TIME, 0, (int64_t)hdl_clock_wall_us());
        return -1;
    }
    fprintf(stderr, "%s: %s\n", spec->command, why.text[0] ? why.text : hdl_err_text(err));
    hdl_cfg_close(d->cfg);
    return exit_code;
}

void hdl_daemon_stop(hdl_daemon *d)
{
    hdl_log_stop();
    hdl_cfg_close(d->cfg);
}
