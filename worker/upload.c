/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/upload.h"

#include <stdlib.h>

#include "worker/carve.h"

static void place(hdl_upload *u, const hdl_batch *b, hdl_carve *c)
{
    const hdl_batch_opts *o = &b->opts;
    u->ids = hdl_carve_take(c, o->step_tokens, sizeof *u->ids);
    for (uint32_t i = 0; i < o->n_caches; i++) {
        hdl_upload_group *g = &u->groups[i];
        g->tables =
            hdl_carve_take(c, (size_t)o->max_seqs * b->groups[i].per_seq, sizeof *g->tables);
        g->rows = hdl_carve_take(c, o->max_seqs, sizeof *g->rows);
        g->src = hdl_carve_take(c, o->caches[i].n_blocks, sizeof *g->src);
        g->dst = hdl_carve_take(c, o->caches[i].n_blocks, sizeof *g->dst);
    }
}

hdl_err hdl_upload_open(hdl_upload *out, hdl_device *device, const hdl_batch *batch,
                        hdl_errmsg *why)
{
    *out = (hdl_upload){0};
    if (hdl_device_is_host(device))
        return HDL_OK;
    hdl_carve c = {0};
    place(out, batch, &c);
    out->device = device;
    out->bytes = c.at;
    out->rows = calloc(batch->opts.max_seqs, sizeof *out->rows);
    out->memory = c.overflow ? NULL : hdl_device_alloc(device, c.at);
    if (!out->memory || !out->rows) {
        hdl_upload_close(out);
        return hdl_fail(HDL_NOMEM, why,
                        "no memory for block tables of %zu bytes; the device is full; lower "
                        "max_seqs",
                        c.at);
    }
    c = (hdl_carve){.base = out->memory};
    place(out, batch, &c);
    return HDL_OK;
}

void hdl_upload_close(hdl_upload *u)
{
    if (u->memory)
        hdl_device_free(u->device, u->memory, u->bytes);
    free(u->rows);
    *u = (hdl_upload){0};
}

/* What the plan granted: the entries as the batch has them now. */
static hdl_err write_tables(const hdl_upload *u, const hdl_batch *b, const hdl_plan *p)
{
    for (uint32_t i = 0; i < p->n_grants; i++) {
        const hdl_plan_grant *g = &p->grants[i];
        const hdl_batch_group *from = &b->groups[g->cache];
        size_t at = (size_t)g->slot * from->per_seq + g->table_at;
        HDL_TRY(hdl_device_write(u->device, u->groups[g->cache].tables + at, from->tables + at,
                                 g->n_blocks * sizeof *from->tables));
    }
    return HDL_OK;
}

static hdl_err write_rows(const hdl_upload *u, const hdl_batch *b, uint32_t cache)
{
    const hdl_batch_group *from = &b->groups[cache];
    const hdl_upload_group *to = &u->groups[cache];
    for (uint32_t i = 0; i < b->n_rows; i++) {
        u->rows[i] = from->rows[i];
        u->rows[i].table = to->tables + (from->rows[i].table - from->tables);
    }
    return hdl_device_write(u->device, to->rows, u->rows, b->n_rows * sizeof *u->rows);
}

static hdl_err write_copies(const hdl_upload *u, const hdl_batch *b, uint32_t cache)
{
    const hdl_batch_group *from = &b->groups[cache];
    const hdl_upload_group *to = &u->groups[cache];
    size_t bytes = from->n_copies * sizeof *from->src;
    if (bytes == 0)
        return HDL_OK;
    HDL_TRY(hdl_device_write(u->device, to->src, from->src, bytes));
    return hdl_device_write(u->device, to->dst, from->dst, bytes);
}

static hdl_err write_all(const hdl_upload *u, const hdl_batch *b, const hdl_plan *p)
{
    HDL_TRY(write_tables(u, b, p));
    HDL_TRY(hdl_device_write(u->device, u->ids, b->ids, b->n_tokens * sizeof *u->ids));
    for (uint32_t i = 0; i < b->opts.n_caches; i++) {
        HDL_TRY(write_rows(u, b, i));
        HDL_TRY(write_copies(u, b, i));
    }
    return HDL_OK;
}

hdl_err hdl_upload_step(hdl_upload *u, const hdl_batch *b, const hdl_plan *p, hdl_uploaded *out)
{
    out->tokens = hdl_batch_tokens(b);
    for (uint32_t i = 0; i < b->opts.n_caches; i++) {
        out->copies[i].src = b->groups[i].src;
        out->copies[i].dst = b->groups[i].dst;
    }
    if (!u->device)
        return HDL_OK;
    HDL_TRY(write_all(u, b, p));
    out->tokens.ids = u->ids;
    for (uint32_t i = 0; i < b->opts.n_caches; i++) {
        out->tokens.rows[i] = u->groups[i].rows;
        out->copies[i].src = u->groups[i].src;
        out->copies[i].dst = u->groups[i].dst;
    }
    return HDL_OK;
}
