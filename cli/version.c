/* SPDX-License-Identifier: Apache-2.0 */
/* heddle version: what this build is and which kernels this machine gets. */
#include <stdio.h>

#include <heddle/coll.h>
#include <heddle/ops.h>

#include "base/json_write.h"
#include "cli/cli.h"

static const hdl_arg_opt version_opts[] = {
    {.name = "json", .doc = "one JSON document"},
};

static const hdl_args_spec version_spec = {
    .command = "heddle version",
    .usage = "[options]",
    .about =
        "Version, compiler, the CPU kernels that this machine gets, and the UCX that a group over "
        "several hosts would use.",
    .opts = version_opts,
    .opts_count = HDL_ARRAY_LEN(version_opts),
};

int cli_version(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &version_spec, argv);
    if (rc >= 0)
        return rc;
    hdl_errmsg why = {0};
    const hdl_ops *ops = hdl_ops_cpu(HDL_ISA_AUTO, &why);
    const char *kernels = ops != NULL ? ops->name : "none";
    char ucx[HDL_COLL_ADDRESS_BYTES];
    hdl_errmsg no_ucx = {0};
    bool have_ucx = hdl_coll_ucx_version(ucx, &no_ucx) == HDL_OK;
    if (!hdl_args_has(&args, "json")) {
        printf("heddle %s (%s), CPU kernels: %s, UCX: %s\n", HDL_VERSION, __VERSION__, kernels,
               have_ucx ? ucx : "none");
        return CLI_OK;
    }
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, 4096);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "version", HDL_VERSION);
    hdl_jw_kv_cstr(&w, "compiler", __VERSION__);
    hdl_jw_kv_cstr(&w, "cpu_kernels", kernels);
    hdl_jw_kv_cstr(&w, "ucx", ucx);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}
