/* SPDX-License-Identifier: Apache-2.0 */
/* heddle doctor: is this host fit to run heddle, and if not, what to do. */
#include "cli/doctor.h"

#include <string.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/assert.h"
#include "base/config_keys.h"
#include "base/json_write.h"
#include "cli/cli.h"

static const hdl_arg_opt doctor_opts[] = {
    {.name = "config", .letter = 'c', .value = "FILE", .doc = "check what this file names, too"},
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec doctor_spec = {
    .command = "heddle doctor",
    .usage = "[--config FILE] [options]",
    .about = "Looks at this host: CPU features, GPUs and driver, NUMA, memory, huge pages, limits, "
             "clock; with a configuration also its model, ports, certificates and key files. Says "
             "what to fix. Changes nothing. Exit 1 when something must be fixed.",
    .opts = doctor_opts,
    .opts_count = HDL_ARRAY_LEN(doctor_opts),
    .examples = "heddle doctor\tthis machine\n"
                "heddle doctor --config /etc/heddle/scheduler.yaml\tand what the scheduler needs\n",
};

doctor_finding *doctor_add(doctor_report *r, doctor_level level, const char *what)
{
    HDL_ASSERT_LT(r->n, (size_t)DOCTOR_FINDINGS_MAX);
    doctor_finding *f = &r->findings[r->n++];
    *f = (doctor_finding){.level = level, .what = what};
    return f;
}

static doctor_check *const checks[] = {
    doctor_cpu,   doctor_gpu,          doctor_topology, doctor_memory, doctor_huge_pages,
    doctor_shm,   doctor_ucx,          doctor_limits,   doctor_clock,  doctor_model,
    doctor_ports, doctor_certificates, doctor_secrets,
};

static const char *const level_text[] = {"ok", "warn", "fail"};

static size_t count(const doctor_report *r, doctor_level level)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->findings[i].level == level;
    return n;
}

static int print_json(const doctor_report *r)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, 1 << 20);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_key(&w, "findings");
    hdl_jw_begin_array(&w);
    for (size_t i = 0; i < r->n; i++) {
        const doctor_finding *f = &r->findings[i];
        hdl_jw_begin_object(&w);
        hdl_jw_kv_cstr(&w, "level", level_text[f->level]);
        hdl_jw_kv_cstr(&w, "what", f->what);
        hdl_jw_kv_cstr(&w, "found", f->found);
        hdl_jw_kv_cstr(&w, "advice", f->advice);
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_kv_uint(&w, "warnings", count(r, DOCTOR_WARN));
    hdl_jw_kv_uint(&w, "failures", count(r, DOCTOR_FAIL));
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

static void print_table(const doctor_report *r)
{
    static const char *const colour[] = {"\033[32m", "\033[33m", "\033[31m"};
    bool colours = isatty(STDOUT_FILENO);
    for (size_t i = 0; i < r->n; i++) {
        const doctor_finding *f = &r->findings[i];
        printf("%s%-4s%s  %-14s %s\n", colours ? colour[f->level] : "", level_text[f->level],
               colours ? "\033[0m" : "", f->what, f->found);
        if (f->advice[0])
            printf("      %-14s -> %s\n", "", f->advice);
    }
    printf("\n%zu to fix, %zu to look at\n", count(r, DOCTOR_FAIL), count(r, DOCTOR_WARN));
}

int cli_doctor(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &doctor_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    hdl_cfg *cfg = NULL;
    hdl_config config;
    hdl_err err = hdl_cfg_open(&cfg, &(hdl_cfg_opts){.keys = hdl_config_keys,
                                                     .keys_count = hdl_config_keys_count,
                                                     .values = &config});
    const char *file = hdl_args_str(&args, "config", NULL);
    if (err == HDL_OK && file)
        err = hdl_cfg_load_file(cfg, file, &why);
    if (err != HDL_OK) {
        hdl_cfg_close(cfg);
        return cli_fail(err, &why);
    }
    doctor_report report = {.config = &config, .has_config = file != NULL};
    for (size_t i = 0; i < HDL_ARRAY_LEN(checks); i++)
        checks[i](&report);
    if (hdl_args_has(&args, "json"))
        rc = print_json(&report);
    else
        print_table(&report);
    hdl_cfg_close(cfg);
    rc = rc > 0 ? rc : CLI_OK;
    return count(&report, DOCTOR_FAIL) > 0 ? CLI_FAILED : rc;
}
