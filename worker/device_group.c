/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/device_group.h"

#include "base/log.h"

/* What the ranks tell each other: rank 0 the id, everybody how far it came. */
typedef struct word {
    uint32_t err;
    uint8_t id[HDL_PLUGIN_COLL_ID_BYTES];
} word;

/* Did all ranks come so far? *err becomes the first one's trouble. */
static hdl_err agree(hdl_coll *world, hdl_err *err)
{
    uint32_t mine = (uint32_t)*err, all[HDL_RANKS_MAX];
    HDL_TRY(hdl_coll_all_gather(world, &mine, all, sizeof mine));
    for (uint32_t r = 0; r < hdl_coll_size(world); r++)
        if (all[r] != HDL_OK) {
            *err = (hdl_err)all[r];
            break;
        }
    return HDL_OK;
}

static hdl_err share_id(hdl_groups *g, word *w, hdl_errmsg *reason)
{
    if (hdl_coll_rank(g->world) == 0)
        w->err = (uint32_t)g->colls->make_id(w->id, reason);
    return hdl_coll_broadcast(g->world, w, sizeof *w, 0);
}

static hdl_err connect_ranks(hdl_groups *g, const hdl_device_group_opts *opts, const word *w,
                             hdl_errmsg *reason)
{
    hdl_plugin_coll_opts coll = {.id = w->id,
                                 .rank = hdl_coll_rank(g->world),
                                 .n_ranks = hdl_coll_size(g->world),
                                 .timeout_us = opts->timeout_us,
                                 .cancel = opts->cancel};
    return g->colls->open(&g->dev_world, hdl_device_remote(opts->device), &coll, reason);
}

/* The parts that the host's groups have; those of one rank need none. */
static hdl_err split(hdl_groups *g, const hdl_shard *s)
{
    const hdl_plugin_colls *c = g->colls;
    if (s->tp > 1)
        HDL_TRY(c->split(&g->dev_tp, g->dev_world, s->rank - s->tp_idx, 1, s->tp));
    if (s->moe_tp > 1)
        HDL_TRY(c->split(&g->dev_moe_tp, g->dev_world, s->rank - s->moe_tp_idx, 1, s->moe_tp));
    if (s->ep > 1)
        HDL_TRY(c->split(&g->dev_ep, g->dev_world, s->moe_tp_idx, s->moe_tp, s->ep));
    return HDL_OK;
}

static hdl_err open_all(hdl_groups *g, const hdl_device_group_opts *opts, hdl_err *err,
                        hdl_errmsg *reason)
{
    word w = {0};
    HDL_TRY(share_id(g, &w, reason));
    *err = (hdl_err)w.err;
    if (*err != HDL_OK)
        return HDL_OK;
    *err = connect_ranks(g, opts, &w, reason);
    HDL_TRY(agree(g->world, err));
    if (*err != HDL_OK)
        return HDL_OK;
    *err = split(g, opts->shard);
    return agree(g->world, err);
}

hdl_err hdl_device_group_open(hdl_groups *g, const hdl_device_group_opts *opts, hdl_errmsg *why)
{
    g->colls = hdl_device_colls(opts->device);
    if (hdl_coll_size(g->world) == 1 ||
        (!opts->required && (!g->colls || g->colls->within_process))) {
        g->colls = NULL;
        return HDL_OK;
    }
    if (!g->colls)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "worker.collectives is nccl; this device has no such library; say auto");
    hdl_errmsg reason = {0};
    hdl_err err = HDL_OK, broken = open_all(g, opts, &err, &reason);
    if (broken == HDL_OK && err == HDL_OK) {
        HDL_LOG(INFO, WORKER, "device_collectives", "ranks=%u", hdl_coll_size(g->world));
        return HDL_OK;
    }
    hdl_device_group_close(g);
    if (broken != HDL_OK)
        return hdl_fail(broken, why,
                        "the ranks cannot agree on collectives between devices; %s; "
                        "start the group again",
                        hdl_err_text(broken));
    const char *said = reason.text[0] ? reason.text : "another rank has none";
    if (opts->required)
        return hdl_fail(err, why, "%s", said);
    HDL_LOG(WARN, WORKER, "device_collectives_off", "why=%s", HDL_LOG_QUOTE(said));
    return HDL_OK;
}

void hdl_device_group_close(hdl_groups *g)
{
    hdl_plugin_coll *all[] = {g->dev_ep, g->dev_moe_tp, g->dev_tp, g->dev_world};
    for (size_t i = 0; g->colls && i < HDL_ARRAY_LEN(all); i++)
        g->colls->close(all[i]);
    g->colls = NULL;
    g->dev_ep = g->dev_moe_tp = g->dev_tp = g->dev_world = NULL;
}
