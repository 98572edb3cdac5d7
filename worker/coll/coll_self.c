/* SPDX-License-Identifier: Apache-2.0 */
/* A group of one rank. coll.c answers every collective of a part of one; what is left is opening,
 * splitting and closing. */
#include <stdlib.h>

#include "base/assert.h"
#include "worker/coll/coll_impl.h"

static hdl_err self_open(hdl_coll **out, const hdl_coll_opts *opts, hdl_errmsg *why)
{
    if (opts->n_ranks != 1)
        return hdl_fail(HDL_INVALID, why,
                        "collectives \"self\" are for one rank; the group has %u; use \"shm\"",
                        opts->n_ranks);
    hdl_coll *c = calloc(1, sizeof(*c));
    if (!c)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    c->root = c;
    c->size = 1;
    c->stride = 1;
    c->timeout_us = opts->timeout_us;
    *out = c;
    return HDL_OK;
}

static hdl_err self_split(hdl_coll **out, hdl_coll *parent, const hdl_coll_part *part)
{
    (void)parent;
    (void)part;
    *out = calloc(1, sizeof(**out));
    return *out ? HDL_OK : HDL_NOMEM;
}

static void self_close(hdl_coll *coll) { free(coll); }

const hdl_coll_backend hdl_coll_self = {
    .name = "self",
    .open = self_open,
    .split = self_split,
    .close = self_close,
};
