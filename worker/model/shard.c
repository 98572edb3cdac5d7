/* SPDX-License-Identifier: Apache-2.0 */
/* Which part of a model each rank holds, and what that costs in bytes. Pure. */
#include <heddle/config.h>
#include <inttypes.h>

#include "base/assert.h"
#include "base/checked.h"
#include "worker/model/slots.h"

static uint32_t moe_tp_of(const hdl_layout *layout)
{
    uint32_t n_ranks = hdl_layout_ranks(layout);
    return hdl_max_u32(1, n_ranks / layout->ep);
}

static bool has_ffn(const hdl_model_desc *desc, hdl_ffn_kind kind)
{
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (desc->layers[i].ffn == kind)
            return true;
    return false;
}

static hdl_err check_numbers(const hdl_layout *layout, hdl_errmsg *why)
{
    const uint32_t n[] = {layout->tp, layout->ep, layout->pp, layout->dp};
    static const char *const name[] = {"tp", "ep", "pp", "dp"};
    for (unsigned i = 0; i < 4; i++)
        if (!hdl_is_pow2(n[i]) || n[i] > HDL_RANKS_MAX)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "%s is %u; it must be a power of two from 1 to %d; choose one of them",
                            name[i], n[i], HDL_RANKS_MAX);
    if (layout->pp != 1)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "pp is %u; pipeline stages are not implemented yet; use tp and ep",
                        layout->pp);
    return HDL_OK;
}

/* A row-parallel matrix: tp may not exceed the leaves of its inner dimension (N2). */
static hdl_err check_leaves(const char *what, uint32_t k, uint32_t parts, hdl_errmsg *why)
{
    uint32_t leaves = hdl_leaf_count(k);
    if (parts > leaves || k % parts != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "the %s of %u values cannot be shared by %u ranks; exact sums allow %u "
                        "leaves of multiples of %d values there; use at most %u ranks for it",
                        what, k, parts, leaves, HDL_LEAF_UNIT, leaves);
    return HDL_OK;
}

static hdl_err check_attention(const hdl_model_desc *desc, uint32_t tp, hdl_errmsg *why)
{
    if (desc->n_heads % tp != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tp is %u; the model's %u attention heads do not divide by it; choose a tp "
                        "that divides them",
                        tp, desc->n_heads);
    if (desc->n_kv_heads % tp != 0 && tp % desc->n_kv_heads != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tp is %u; the model's %u KV heads can neither be divided nor replicated "
                        "evenly; choose a tp that divides them or is a multiple of them",
                        tp, desc->n_kv_heads);
    if (desc->qk_norm == HDL_QK_NORM_PROJECTION && tp > desc->n_kv_heads)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tp is %u; the norm over all keys would count KV heads twice that several "
                        "ranks hold; use a tp of at most the model's %u KV heads",
                        tp, desc->n_kv_heads);
    if (desc->qk_norm == HDL_QK_NORM_PROJECTION)
        HDL_TRY(check_leaves("norm over all keys", desc->n_kv_heads * desc->head_dim, tp, why));
    return check_leaves("attention output", hdl_desc_attn_width(desc), tp, why);
}

static hdl_err check_gdn(const hdl_model_desc *desc, uint32_t tp, hdl_errmsg *why)
{
    const hdl_gdn_desc *g = &desc->gdn;
    if (g->n_k_heads % tp != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tp is %u; the %u key heads of the model's recurrent layers do not divide "
                        "by it; choose a tp that divides them",
                        tp, g->n_k_heads);
    return check_leaves("recurrent layers' output", g->n_v_heads * g->v_dim, tp, why);
}

/* Dense layers of a mixture and its shared expert are a small part of it: where tp exceeds their
 * leaves, the ranks between those that hold one have nothing to add. */
static bool may_idle(const hdl_model_desc *desc)
{
    return has_ffn(desc, HDL_FFN_MOE) && !desc->sub_norm;
}

hdl_err hdl_layout_check(const hdl_model_desc *desc, const hdl_layout *layout, hdl_errmsg *why)
{
    HDL_TRY(check_numbers(layout, why));
    HDL_TRY(check_attention(desc, layout->tp, why));
    if (hdl_desc_has_mixer(desc, HDL_MIXER_GDN))
        HDL_TRY(check_gdn(desc, layout->tp, why));
    if (has_ffn(desc, HDL_FFN_DENSE) && !may_idle(desc))
        HDL_TRY(check_leaves("dense feed-forward layer", desc->inter, layout->tp, why));
    if (!has_ffn(desc, HDL_FFN_MOE)) {
        if (layout->ep != 1)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "ep is %u; this model has no experts; use tp alone", layout->ep);
        return HDL_OK;
    }
    uint32_t expert_leaves = hdl_expert_leaf_count(desc->n_experts);
    if (layout->ep > expert_leaves)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "ep is %u; exact sums over the model's %u experts have %u leaves; use an "
                        "ep of at most %u",
                        layout->ep, desc->n_experts, expert_leaves, expert_leaves);
    return check_leaves("expert", desc->moe_inter, moe_tp_of(layout), why);
}

static void place_attention(hdl_shard *s, const hdl_model_desc *desc)
{
    s->n_heads = desc->n_heads / s->tp;
    s->head_at = s->tp_idx * s->n_heads;
    s->n_kv_heads = hdl_max_u32(1, desc->n_kv_heads / s->tp);
    /* With fewer KV heads than ranks, several ranks hold the head that their queries read. */
    s->kv_head_at = (uint32_t)((uint64_t)s->tp_idx * desc->n_kv_heads / s->tp);
    s->o_leaves = hdl_leaf_count(hdl_desc_attn_width(desc)) / s->tp;
    s->kv_leaves = hdl_leaf_count(desc->n_kv_heads * desc->head_dim) / s->tp;
}

static void place_gdn(hdl_shard *s, const hdl_model_desc *desc)
{
    const hdl_gdn_desc *g = &desc->gdn;
    s->gdn_k_heads = g->n_k_heads / s->tp;
    s->gdn_v_heads = g->n_v_heads / s->tp;
    s->gdn_leaves = hdl_leaf_count(g->n_v_heads * g->v_dim) / s->tp;
}

typedef struct part {
    uint32_t at, n, leaves;
} part;

/* Of k values shared over tp. Idle ranks (may_idle) stand behind the one that holds their leaf, so
 * that the ranks' tree adds nothing else to it. */
static part part_of(const hdl_shard *s, uint32_t k)
{
    uint32_t leaves = hdl_leaf_count(k), n_parts = hdl_min_u32(s->tp, leaves);
    uint32_t ranks = s->tp / n_parts, n = k / n_parts, at = s->tp_idx / ranks * n;
    if (s->tp_idx % ranks != 0)
        return (part){.at = at};
    return (part){.at = at, .n = n, .leaves = leaves / n_parts};
}

static void place_ffn(hdl_shard *s, const hdl_model_desc *desc)
{
    if (desc->inter != 0 && has_ffn(desc, HDL_FFN_DENSE)) {
        part p = part_of(s, desc->inter);
        s->inter_at = p.at, s->inter = p.n, s->down_leaves = p.leaves;
    }
    if (desc->shared_inter != 0) {
        part p = part_of(s, desc->shared_inter);
        s->shared_at = p.at, s->shared = p.n, s->shared_leaves = p.leaves;
    }
    if (has_ffn(desc, HDL_FFN_MOE)) {
        s->n_experts = desc->n_experts / s->ep;
        s->expert_at = s->ep_idx * s->n_experts;
        s->moe_inter = desc->moe_inter / s->moe_tp;
        s->moe_inter_at = s->moe_tp_idx * s->moe_inter;
        s->moe_down_leaves = hdl_leaf_count(desc->moe_inter) / s->moe_tp;
    }
}

hdl_shard hdl_shard_of(const hdl_model_desc *desc, const hdl_layout *layout, uint32_t rank)
{
    uint32_t n_ranks = hdl_layout_ranks(layout);
    HDL_ASSERT_LT(rank, n_ranks);
    hdl_shard s = {.rank = rank, .n_ranks = n_ranks, .tp = layout->tp, .ep = layout->ep};
    s.moe_tp = moe_tp_of(layout);
    s.tp_idx = rank % s.tp;
    s.ep_idx = rank / s.moe_tp;
    s.moe_tp_idx = rank % s.moe_tp;
    place_attention(&s, desc);
    if (hdl_desc_has_mixer(desc, HDL_MIXER_GDN))
        place_gdn(&s, desc);
    place_ffn(&s, desc);
    s.vocab_padded = hdl_div_ceil_u32(desc->vocab, s.tp);
    s.vocab_at = hdl_min_u32(desc->vocab, s.tp_idx * s.vocab_padded);
    s.vocab = hdl_min_u32(desc->vocab - s.vocab_at, s.vocab_padded);
    return s;
}

/* ---- counting ----------------------------------------------------------------------------- */

/* A layer that predicts a further token is one more of the layers with attention, behind a matrix
 * that joins the last hidden state to the next token's embedding, and three norms (DeepSeek-V3,
 * arXiv 2412.19437, section 2.2). */
static uint64_t mtp_params(const hdl_model_desc *desc)
{
    uint64_t n = (uint64_t)desc->hidden * (2 * desc->hidden + 3);
    uint32_t like = desc->n_layers - 1;
    while (like > 0 && desc->layers[like].mixer == HDL_MIXER_GDN)
        like--;
    if (desc->mtp_vocab)
        n += 2 * (uint64_t)desc->vocab * desc->hidden;
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        uint64_t one = (uint64_t)hdl_dim_size(desc, info->rows) * hdl_dim_size(desc, info->cols);
        if (info->scope != HDL_SCOPE_MODEL && hdl_slot_used(desc, slot, like))
            n += one * (info->scope == HDL_SCOPE_EXPERT ? desc->n_experts : 1);
    }
    return n;
}

hdl_model_params hdl_model_count_params(const hdl_model_desc *desc)
{
    hdl_model_params params = {0};
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        uint64_t one = (uint64_t)hdl_dim_size(desc, info->rows) * hdl_dim_size(desc, info->cols);
        uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : desc->n_layers;
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            if (!hdl_slot_used(desc, slot, layer))
                continue;
            bool expert = info->scope == HDL_SCOPE_EXPERT;
            params.total += one * (expert ? desc->n_experts : 1);
            params.active += one * (expert ? desc->topk : 1);
            if (slot == HDL_WSLOT_EMBED && !desc->tied)
                params.embedding = one;
            if (slot == (desc->tied ? HDL_WSLOT_EMBED : HDL_WSLOT_LM_HEAD))
                params.head = one;
        }
    }
    params.published =
        params.total + desc->tower.n_params + (uint64_t)desc->tower.out_dim * desc->hidden;
    if (desc->n_mtp_layers > 0)
        params.published += desc->n_mtp_layers * mtp_params(desc);
    params.vocabularies = params.embedding + params.head;
    if (desc->mtp_vocab)
        params.vocabularies += 2 * (uint64_t)desc->n_mtp_layers * desc->vocab * desc->hidden;
    return params;
}

/* What a long sequence takes on one of tp ranks: for each token in the groups that keep all, and
 * besides that in windows and states. */
static uint64_t kv_bytes(const hdl_model_desc *desc, uint32_t tp, bool per_token)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < desc->n_cache_groups; i++) {
        const hdl_cache_group *g = &desc->cache_groups[i];
        uint64_t one = hdl_cache_block_bytes(g, hdl_cache_rank_heads(g, tp), 1) * g->n_layers;
        uint32_t span = hdl_max_u32(g->rule.window, g->rule.chunk);
        if (hdl_cache_keeps_all(&g->rule) == per_token)
            bytes += one * (span ? span : 1);
    }
    return bytes;
}

static const hdl_quant_scheme *scheme_of(const hdl_model_desc *desc, hdl_wslot slot, uint32_t layer)
{
    bool of_model = hdl_slot_info_of(slot)->scope == HDL_SCOPE_MODEL;
    const hdl_slot_set *sets = of_model ? desc->quant.quantised : desc->layers[layer].quantised;
    for (uint32_t i = 0; i < desc->quant.n_schemes; i++)
        if (sets[i].bits[slot / 64] >> slot % 64 & 1)
            return &desc->quant.schemes[i];
    return NULL;
}

/* What a matrix is held in when it is kept as config.json says: worker/load/quant.c decides so of
 * files that are there. */
static hdl_wformat kept_format(const hdl_model_desc *desc, hdl_wslot slot, uint32_t layer)
{
    const hdl_quant_scheme *s = scheme_of(desc, slot, layer);
    uint32_t leaf_k = hdl_slot_leaf_k(desc, slot);
    if (!s)
        return desc->dtype == HDL_DTYPE_BF16 ? HDL_WFORMAT_BF16 : HDL_WFORMAT_F32;
    hdl_wformat f = s->format;
    while (f >= HDL_WFORMAT_FP8 && f <= HDL_WFORMAT_FP8_32 &&
           leaf_k % hdl_wformat_info_of(f)->group != 0)
        f = f == HDL_WFORMAT_FP8_32 ? HDL_WFORMAT_F32 : f + 1;
    return f;
}

/* Vectors, and matrices that are f32 in every format. */
static bool is_f32(hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    return info->cols == HDL_DIM_NONE || info->cols == HDL_DIM_GDN_TAPS ||
           slot == HDL_WSLOT_ROUTER || slot == HDL_WSLOT_SHARED_ON || slot == HDL_WSLOT_GDN_B ||
           slot == HDL_WSLOT_GDN_A;
}

static uint64_t slot_bytes(const hdl_model_desc *desc, hdl_weight_at at, hdl_wformat format,
                           hdl_slice s)
{
    uint64_t n = (uint64_t)s.n_rows * s.n_cols;
    if (is_f32(at.slot))
        return 4 * n;
    return hdl_wformat_bytes(
        format == HDL_WFORMAT_COUNT ? kept_format(desc, at.slot, at.layer) : format, n);
}

/* What is worth it: a head that no cache holds, and a copy that is a small part of the whole. It
 * takes as much memory as it saves reading, and a smaller model has more to gain and less to lose.
 */
enum { SCREEN_BYTES_MIN = 16 << 20, SCREEN_SHARE = 5 };

uint64_t hdl_shard_screen_bytes(const hdl_shard_bytes *b, int choice)
{
    bool pays =
        b->head_bytes >= SCREEN_BYTES_MIN && b->screen_bytes <= b->weight_bytes / SCREEN_SHARE;
    bool made = choice == HDL_HEAD_SCREEN_ON || (choice == HDL_HEAD_SCREEN_AUTO && pays);
    return made && b->head_bytes != 0 ? b->screen_bytes : 0;
}

void hdl_shard_count_head(hdl_shard_bytes *to, const hdl_shard *shard, hdl_slice head,
                          hdl_wformat format)
{
    uint64_t n = (uint64_t)head.n_rows * head.n_cols;
    bool floats = format == HDL_WFORMAT_F32 || format == HDL_WFORMAT_BF16;
    if (!floats || shard->rank >= shard->tp || head.n_cols % HDL_Q8_GROUP != 0)
        return;
    to->head_bytes = hdl_wformat_bytes(format, n);
    to->screen_bytes =
        hdl_wformat_bytes(HDL_WFORMAT_Q8, n) + 2 * sizeof(float) * (uint64_t)head.n_rows;
}

hdl_shard_bytes hdl_shard_count_bytes(const hdl_model_desc *desc, const hdl_shard *shard,
                                      hdl_wformat format)
{
    hdl_shard_bytes bytes = {0};
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        const hdl_slot_info *info = hdl_slot_info_of(slot);
        hdl_slice s = hdl_slot_slice(desc, shard, slot);
        uint32_t n_layers = info->scope == HDL_SCOPE_MODEL ? 1 : desc->n_layers;
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            /* A tied head is a packed copy of this rank's rows of the embedding. */
            bool used = hdl_slot_used(desc, slot, layer) || slot == HDL_WSLOT_LM_HEAD;
            if (slot == HDL_WSLOT_EMBED)
                bytes.mapped_bytes = (uint64_t)s.n_rows * s.n_cols * hdl_dtype_bytes(desc->dtype);
            else if (used)
                bytes.weight_bytes += slot_bytes(desc, (hdl_weight_at){slot, layer, 0}, format, s) *
                                      (info->scope == HDL_SCOPE_EXPERT ? shard->n_experts : 1);
        }
    }
    hdl_shard_count_head(&bytes, shard, hdl_slot_slice(desc, shard, HDL_WSLOT_LM_HEAD),
                         format == HDL_WFORMAT_COUNT ? kept_format(desc, HDL_WSLOT_LM_HEAD, 0)
                                                     : format);
    bytes.kv_bytes_per_token = kv_bytes(desc, shard->tp, true);
    bytes.kv_bytes_fixed = kv_bytes(desc, shard->tp, false);
    return bytes;
}

uint64_t hdl_model_kv_bytes_per_token(const hdl_model_desc *desc)
{
    return kv_bytes(desc, 1, true);
}

uint64_t hdl_model_kv_bytes_fixed(const hdl_model_desc *desc) { return kv_bytes(desc, 1, false); }
