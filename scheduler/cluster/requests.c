/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "scheduler/cluster/state.h"

void hdl_request_free(hdl_request *req)
{
    if (!req)
        return;
    free(req->prompt);
    free((void *)(uintptr_t)req->sampling.bias);
    free(req);
}

hdl_err hdl_requests_init(hdl_requests *r, uint32_t max)
{
    uint32_t size = 16;
    while (size < max * 2)
        size *= 2;
    *r = (hdl_requests){.mask = size - 1, .max = max};
    r->entries = calloc(size, sizeof *r->entries);
    return r->entries ? HDL_OK : HDL_NOMEM;
}

void hdl_requests_deinit(hdl_requests *r)
{
    for (uint32_t i = 0; r->entries && i <= r->mask; i++)
        hdl_request_free(r->entries[i].req);
    free(r->entries);
    *r = (hdl_requests){0};
}

static uint32_t home_of(const hdl_requests *r, hdl_req_id id)
{
    return (uint32_t)hdl_hash_mix(id.v) & r->mask;
}

hdl_entry *hdl_requests_add(hdl_requests *r, hdl_request *req)
{
    uint32_t at = home_of(r, req->id);
    if (r->count == r->max)
        return NULL;
    for (; r->entries[at].req; at = (at + 1) & r->mask)
        if (r->entries[at].req->id.v == req->id.v)
            return NULL;
    r->entries[at] = (hdl_entry){.req = req};
    r->count++;
    return &r->entries[at];
}

hdl_entry *hdl_requests_find(const hdl_requests *r, hdl_req_id id)
{
    for (uint32_t at = home_of(r, id); r->entries[at].req; at = (at + 1) & r->mask)
        if (r->entries[at].req->id.v == id.v)
            return &r->entries[at];
    return NULL;
}

hdl_request *hdl_requests_remove(hdl_requests *r, hdl_entry *entry)
{
    hdl_request *req = entry->req;
    uint32_t hole = (uint32_t)(entry - r->entries);
    HDL_ASSERT(req);
    /* Later entries of the run move up unless they would leave their home behind. */
    for (uint32_t at = (hole + 1) & r->mask; r->entries[at].req; at = (at + 1) & r->mask) {
        uint32_t home = home_of(r, r->entries[at].req->id);
        if (((at - home) & r->mask) < ((at - hole) & r->mask))
            continue;
        r->entries[hole] = r->entries[at];
        hole = at;
    }
    r->entries[hole] = (hdl_entry){0};
    r->count--;
    return req;
}
