/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/ids.h"

#include <stdlib.h>

#include "base/checked.h"

void hdl_ids_init(hdl_ids *ids, size_t cap) { *ids = (hdl_ids){.cap = cap}; }

void hdl_ids_deinit(hdl_ids *ids)
{
    free(ids->v);
    *ids = (hdl_ids){.cap = ids->cap};
}

hdl_err hdl_ids_grow(hdl_ids *ids)
{
    if (ids->n >= ids->cap)
        return HDL_BUSY;
    size_t size = ids->size < 64 ? 64 : ids->size * 2, bytes;
    if (size > ids->cap)
        size = ids->cap;
    if (!hdl_mul_size(size, sizeof(hdl_token), &bytes))
        return HDL_NOMEM;
    hdl_token *v = realloc(ids->v, bytes);
    if (v == NULL)
        return HDL_NOMEM;
    ids->v = v;
    ids->size = size;
    return HDL_OK;
}

hdl_token *hdl_ids_steal(hdl_ids *ids, size_t *n)
{
    hdl_token *v = ids->v;
    *n = ids->n;
    *ids = (hdl_ids){.cap = ids->cap};
    return v;
}
