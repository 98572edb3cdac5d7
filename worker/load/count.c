/* SPDX-License-Identifier: Apache-2.0 */
/* What a model's files hold and what each rank makes of it, without loading: for heddle inspect. */
#include "worker/load/quant.h"

static bool is_f32(hdl_wslot slot)
{
    return hdl_slot_info_of(slot)->cols == HDL_DIM_NONE || slot == HDL_WSLOT_ROUTER ||
           slot == HDL_WSLOT_SHARED_ON;
}

typedef struct counter {
    hdl_files *files;
    const hdl_model_count *ask;
    hdl_model_stored *out;
    hdl_errmsg *why;
} counter;

static uint64_t rank_bytes(const counter *c, const hdl_found *found, hdl_wslot slot, uint32_t rank)
{
    hdl_shard shard = hdl_shard_of(c->ask->desc, &c->ask->layout, rank);
    hdl_slice s = hdl_slot_slice(c->ask->desc, &shard, slot);
    uint64_t n = (uint64_t)s.n_rows * s.n_cols;
    if (is_f32(slot))
        return 4 * n;
    uint32_t leaf_k = hdl_quant_unit(found, hdl_slot_leaf_k(c->ask->desc, slot));
    hdl_wformat format = hdl_quant_kind(&found->src, c->ask->format, leaf_k).format;
    if (slot == HDL_WSLOT_LM_HEAD)
        hdl_shard_count_head(&c->out->ranks[rank], &shard, s, format);
    return hdl_wformat_bytes(format, n);
}

static bool holds(const counter *c, hdl_weight_at at, uint32_t rank)
{
    hdl_shard shard = hdl_shard_of(c->ask->desc, &c->ask->layout, rank);
    return hdl_slot_info_of(at.slot)->scope != HDL_SCOPE_EXPERT ||
           (at.expert >= shard.expert_at && at.expert < shard.expert_at + shard.n_experts);
}

static hdl_err count_one(counter *c, hdl_weight_at at)
{
    hdl_found found;
    HDL_TRY(hdl_files_find(c->files, (hdl_files_ask){c->ask->desc, at}, &found, c->why));
    uint64_t bytes = hdl_source_bytes(&found.src);
    if (found.heads.tiles.each != 0) /* src is the whole tensor, others' heads too */
        bytes =
            bytes / found.src.n_rows * hdl_dim_size(c->ask->desc, hdl_slot_info_of(at.slot)->rows);
    else if (found.heads.each != 0)
        bytes = bytes / found.heads.step * found.heads.each;
    c->out->encoding_bytes[found.src.encoding] += bytes;
    for (uint32_t rank = 0; rank < hdl_layout_ranks(&c->ask->layout); rank++) {
        hdl_shard_bytes *b = &c->out->ranks[rank];
        if (at.slot == HDL_WSLOT_EMBED)
            b->mapped_bytes += bytes;
        else if (holds(c, at, rank))
            b->weight_bytes += rank_bytes(c, &found, at.slot, rank);
        /* A tied head is a packed copy of this rank's rows of the embedding. */
        if (at.slot == HDL_WSLOT_EMBED && c->ask->desc->tied)
            b->weight_bytes += rank_bytes(c, &found, HDL_WSLOT_LM_HEAD, rank);
    }
    return HDL_OK;
}

static hdl_err count_all(counter *c)
{
    const hdl_model_desc *d = c->ask->desc;
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : d->n_layers;
        uint32_t n_experts = info->scope == HDL_SCOPE_EXPERT ? d->n_experts : 1;
        for (uint32_t l = 0; l < n_layers; l++)
            for (uint32_t e = 0; e < n_experts && hdl_slot_used(d, slot, l); e++)
                HDL_TRY(count_one(c, (hdl_weight_at){slot, l, e}));
    }
    return hdl_files_check_unknown(c->files, d, c->why);
}

hdl_err hdl_model_count_stored(hdl_model_stored *out, const hdl_model_count *ask, hdl_errmsg *why)
{
    counter c = {.ask = ask, .out = out, .why = why};
    *out = (hdl_model_stored){0};
    for (uint32_t rank = 0; rank < hdl_layout_ranks(&ask->layout); rank++) {
        hdl_shard shard = hdl_shard_of(ask->desc, &ask->layout, rank);
        out->ranks[rank] = hdl_shard_count_bytes(ask->desc, &shard, ask->format);
        out->ranks[rank].weight_bytes = out->ranks[rank].mapped_bytes = 0;
        out->ranks[rank].head_bytes = out->ranks[rank].screen_bytes = 0;
    }
    HDL_TRY(hdl_files_open(&c.files, ask->model_path, why));
    hdl_err err = count_all(&c);
    hdl_files_close(c.files);
    return err;
}
