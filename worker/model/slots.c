/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/model/slots.h"

#include "base/assert.h"

static const hdl_slot_info slots[HDL_WSLOT_COUNT] = {
#define SLOT(name_, scope_, rows_, cols_, when_)                                                   \
    {.name = #name_,                                                                               \
     .scope = HDL_SCOPE_##scope_,                                                                  \
     .rows = HDL_DIM_##rows_,                                                                      \
     .cols = HDL_DIM_##cols_,                                                                      \
     .when = HDL_WHEN_##when_},
    HDL_WSLOT_LIST(SLOT)
#undef SLOT
};

const hdl_slot_info *hdl_slot_info_of(hdl_wslot slot)
{
    HDL_ASSERT_LT((unsigned)slot, (unsigned)HDL_WSLOT_COUNT);
    return &slots[slot];
}

uint32_t hdl_dim_size(const hdl_model_desc *desc, hdl_dim dim)
{
    switch (dim) {
    case HDL_DIM_NONE: return 1;
    case HDL_DIM_HIDDEN: return desc->hidden;
    case HDL_DIM_Q: return desc->n_heads * desc->head_dim;
    case HDL_DIM_KV: return desc->n_kv_heads * desc->head_dim;
    case HDL_DIM_HEAD: return desc->head_dim;
    case HDL_DIM_HEADS: return desc->n_heads;
    case HDL_DIM_Q_GATE: return 2 * desc->n_heads * desc->head_dim;
    case HDL_DIM_ONE: return 1;
    case HDL_DIM_INTER: return desc->inter;
    case HDL_DIM_SHARED: return desc->shared_inter;
    case HDL_DIM_EXPERTS: return desc->n_experts;
    case HDL_DIM_MOE_INTER: return desc->moe_inter;
    case HDL_DIM_VOCAB: return desc->vocab;
    case HDL_DIM_Q_RANK: return desc->mla.q_rank;
    case HDL_DIM_KV_RANK: return desc->mla.kv_rank;
    case HDL_DIM_KV_A: return desc->mla.kv_rank + desc->mla.rope_dim;
    case HDL_DIM_MLA_Q: return desc->n_heads * (desc->mla.nope_dim + desc->mla.rope_dim);
    case HDL_DIM_MLA_NOPE: return desc->n_heads * desc->mla.nope_dim;
    case HDL_DIM_MLA_V: return desc->n_heads * desc->mla.v_dim;
    case HDL_DIM_GDN_K: return desc->gdn.n_k_heads * desc->gdn.k_dim;
    case HDL_DIM_GDN_V: return desc->gdn.n_v_heads * desc->gdn.v_dim;
    case HDL_DIM_GDN_HEADS: return desc->gdn.n_v_heads;
    case HDL_DIM_GDN_HEAD: return desc->gdn.v_dim;
    case HDL_DIM_GDN_TAPS: return desc->gdn.conv;
    }
    HDL_UNREACHABLE("dimension");
}

bool hdl_desc_has_mixer(const hdl_model_desc *desc, hdl_mixer_kind mixer)
{
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (desc->layers[i].mixer == mixer)
            return true;
    return false;
}

uint32_t hdl_desc_attn_width(const hdl_model_desc *desc)
{
    bool latent = hdl_desc_has_mixer(desc, HDL_MIXER_MLA);
    return hdl_dim_size(desc, latent ? HDL_DIM_MLA_V : HDL_DIM_Q);
}

bool hdl_slot_used(const hdl_model_desc *desc, hdl_wslot slot, uint32_t layer)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    bool moe = false, attention = false, mla = false, gdn = false;
    if (info->scope != HDL_SCOPE_MODEL) {
        HDL_ASSERT_LT(layer, desc->n_layers);
        moe = desc->layers[layer].ffn == HDL_FFN_MOE;
        attention = desc->layers[layer].mixer == HDL_MIXER_ATTENTION;
        mla = desc->layers[layer].mixer == HDL_MIXER_MLA;
        gdn = desc->layers[layer].mixer == HDL_MIXER_GDN;
    }
    switch (info->when) {
    case HDL_WHEN_ALWAYS: return true;
    case HDL_WHEN_UNTIED: return !desc->tied;
    case HDL_WHEN_PRE_NORM: return desc->pre_norm;
    case HDL_WHEN_POST_NORM: return desc->post_norm;
    case HDL_WHEN_ATTENTION: return attention;
    case HDL_WHEN_PLAIN_Q: return attention && !desc->attn_gate;
    case HDL_WHEN_GATED_Q: return attention && desc->attn_gate;
    case HDL_WHEN_HEAD_NORM: return attention && desc->qk_norm == HDL_QK_NORM_HEAD;
    case HDL_WHEN_PROJ_NORM: return attention && desc->qk_norm == HDL_QK_NORM_PROJECTION;
    case HDL_WHEN_QKV_BIAS: return attention && desc->qkv_bias;
    case HDL_WHEN_O_BIAS: return attention && desc->o_bias;
    case HDL_WHEN_SINKS: return attention && desc->attn_sinks;
    case HDL_WHEN_ATTN_SUB_NORM: return attention && desc->sub_norm;
    case HDL_WHEN_DENSE: return !moe;
    case HDL_WHEN_DENSE_BIAS: return !moe && desc->ffn_bias;
    case HDL_WHEN_FFN_SUB_NORM: return !moe && desc->sub_norm;
    case HDL_WHEN_MOE: return moe;
    case HDL_WHEN_ROUTER_BIAS: return moe && desc->router_bias;
    case HDL_WHEN_CORRECTION: return moe && desc->router_correction;
    case HDL_WHEN_EXPERT_BIAS: return moe && desc->expert_bias;
    case HDL_WHEN_SHARED: return moe && desc->shared_inter != 0;
    case HDL_WHEN_SHARED_GATE: return moe && desc->shared_gate;
    case HDL_WHEN_MLA: return mla;
    case HDL_WHEN_MLA_PLAIN_Q: return mla && desc->mla.q_rank == 0;
    case HDL_WHEN_MLA_Q_RANK: return mla && desc->mla.q_rank != 0;
    case HDL_WHEN_GDN: return gdn;
    }
    HDL_UNREACHABLE("when");
}

typedef struct range {
    uint32_t at, n;
} range;

/* The rank's query heads, `each` values of every one. */
static range heads(const hdl_shard *shard, uint32_t each)
{
    return (range){shard->head_at * each, shard->n_heads * each};
}

/* n heads of the rank, `each` values of every one. */
static range gdn_heads(const hdl_shard *shard, uint32_t n, uint32_t each)
{
    return (range){shard->tp_idx * n * each, n * each};
}

static range cut(const hdl_model_desc *desc, const hdl_shard *shard, hdl_wslot slot, hdl_dim dim)
{
    uint32_t hd = desc->head_dim, qk = desc->mla.nope_dim + desc->mla.rope_dim;
    switch (dim) {
    case HDL_DIM_MLA_Q: return heads(shard, qk);
    case HDL_DIM_MLA_NOPE: return heads(shard, desc->mla.nope_dim);
    case HDL_DIM_MLA_V: return heads(shard, desc->mla.v_dim);
    case HDL_DIM_GDN_K: return gdn_heads(shard, shard->gdn_k_heads, desc->gdn.k_dim);
    case HDL_DIM_GDN_V: return gdn_heads(shard, shard->gdn_v_heads, desc->gdn.v_dim);
    case HDL_DIM_GDN_HEADS: return gdn_heads(shard, shard->gdn_v_heads, 1);
    case HDL_DIM_Q: return heads(shard, hd);
    case HDL_DIM_Q_GATE: return heads(shard, 2 * hd);
    case HDL_DIM_HEADS: return heads(shard, 1);
    case HDL_DIM_SHARED: return (range){shard->shared_at, shard->shared};
    case HDL_DIM_KV: return (range){shard->kv_head_at * hd, shard->n_kv_heads * hd};
    case HDL_DIM_INTER: return (range){shard->inter_at, shard->inter};
    case HDL_DIM_MOE_INTER: return (range){shard->moe_inter_at, shard->moe_inter};
    case HDL_DIM_VOCAB:
        if (slot == HDL_WSLOT_LM_HEAD)
            return (range){shard->vocab_at, shard->vocab};
        break;
    default: break;
    }
    return (range){0, hdl_dim_size(desc, dim)};
}

hdl_slice hdl_slot_slice(const hdl_model_desc *desc, const hdl_shard *shard, hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    range rows = cut(desc, shard, slot, info->rows);
    range cols = cut(desc, shard, slot, info->cols);
    return (hdl_slice){rows.at, rows.n, cols.at, cols.n};
}

uint32_t hdl_slot_leaf_k(const hdl_model_desc *desc, hdl_wslot slot)
{
    hdl_dim dim = hdl_slot_info_of(slot)->cols;
    uint32_t k = hdl_dim_size(desc, dim);
    switch (dim) {
    case HDL_DIM_Q:
    case HDL_DIM_KV:
    case HDL_DIM_MLA_V:
    case HDL_DIM_INTER:
    case HDL_DIM_SHARED:
    case HDL_DIM_GDN_V:
    case HDL_DIM_MOE_INTER: return k / hdl_leaf_count(k);
    default: return k;
    }
}
