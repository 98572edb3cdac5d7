/* SPDX-License-Identifier: Apache-2.0 */
/* In place of coll_ucx.c and ucx_link.c where UCX's headers were missing when this was built. */
#include "worker/coll/coll_impl.h"

static hdl_err refuse(hdl_errmsg *why)
{
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "this build has no UCX, which ranks on several hosts need; its headers were "
                    "missing; install libucx-dev and build again");
}

static hdl_err ucx_open(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    (void)out;
    (void)opts;
    return refuse(why);
}

const hdl_coll_backend hdl_coll_ucx = {.name = "ucx", .open = ucx_open};

hdl_err hdl_coll_door_open(hdl_coll_door **out, const hdl_coll_door_opts *opts,
                           char address[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why)
{
    (void)opts;
    *out = NULL;
    address[0] = '\0';
    return refuse(why);
}

void hdl_coll_door_close(hdl_coll_door *door) { (void)door; }

void hdl_coll_ucx_prepare(const char *transports) { (void)transports; }

hdl_err hdl_coll_ucx_version(char text[HDL_COLL_ADDRESS_BYTES], hdl_errmsg *why)
{
    text[0] = '\0';
    return refuse(why);
}
