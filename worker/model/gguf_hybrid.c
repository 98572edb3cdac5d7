/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the hybrids with Gated DeltaNet. llama.cpp calls its parts by Mamba's names:
 * state_size is the width of a key head, group_count the number of key heads, time_step_rank the
 * number of value heads and inner_size the width of all of them together. */
#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

#define HYBRID_KEYS                                                                                \
    HDL_G_U32("ssm.conv_kernel", gdn.conv, 2, 64),                                                 \
        HDL_G_U32("ssm.state_size", gdn.k_dim, 1, 4096),                                           \
        HDL_G_U32("ssm.group_count", gdn.n_k_heads, 1, 4096),                                      \
        HDL_G_U32("ssm.time_step_rank", gdn.n_v_heads, 1, 4096),                                   \
        HDL_G_SKIP("ssm.inner_size"), /* these read by finish */                                   \
        HDL_G_SKIP("attention.recurrent_layers"),                                                  \
        HDL_G_SKIP(                                                                                \
            "full_attention_interval"), /* of three positions a token; those of text are equal */  \
        HDL_G_SKIP("rope.dimension_sections")

#define MOE_KEYS                                                                                   \
    HDL_G_U32("expert_count", n_experts, 1, 4096), HDL_G_U32("expert_used_count", topk, 1, 64),    \
        HDL_G_U32("expert_feed_forward_length", moe_inter, 1, 1u << 20),                           \
        HDL_G_U32("expert_shared_feed_forward_length", shared_inter, 1, 1u << 20)

static const hdl_gguf_key dense_keys[] = {HYBRID_KEYS};
static const hdl_gguf_key moe_keys[] = {HYBRID_KEYS, MOE_KEYS};

/* Newer files list the layers, those that predict further tokens included; older ones have the
 * period of attention, or mean four. */
static hdl_err read_mixers(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    uint32_t period = 4;
    const hdl_gguf_kv *list = hdl_gguf_arch_kv(gguf, "attention.recurrent_layers");
    hdl_err err = hdl_gguf_arch_u32(gguf, "full_attention_interval", &period, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    if (period == 0 ||
        (list && (!list->is_array || list->type != HDL_GGUF_BOOL || list->count < desc->n_layers)))
        return hdl_fail(HDL_INVALID, why,
                        "attention.recurrent_layers or full_attention_interval does not say which "
                        "of %u layers are recurrent; the file is damaged; fetch it again",
                        desc->n_layers);
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (list ? hdl_gguf_int_at(list, i) != 0 : (i + 1) % period != 0)
            desc->layers[i].mixer = HDL_MIXER_GDN;
    return HDL_OK;
}

/* The converter adds the one to norms. */
static hdl_err finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_gdn_desc *g = &desc->gdn;
    uint32_t values = 0;
    desc->norm_plus_one = false;
    HDL_TRY(hdl_gguf_arch_u32(gguf, "ssm.inner_size", &values, why));
    if (g->n_v_heads % g->n_k_heads != 0 || values % g->n_v_heads != 0 || values == 0 ||
        values / g->n_v_heads > 4096)
        return hdl_fail(HDL_INVALID, why,
                        "ssm.inner_size %u, time_step_rank %u and group_count %u do not fit "
                        "together; the file is damaged; fetch it again",
                        values, g->n_v_heads, g->n_k_heads);
    g->v_dim = values / g->n_v_heads;
    return read_mixers(desc, gguf, why);
}

#define BLK "blk.{l}."
#define QKV(slot, form)                                                                            \
    HDL_W_FUSED(slot, BLK "attn_qkv.weight", form, 3, HDL_WSLOT_GDN_Q, HDL_WSLOT_GDN_K,            \
                HDL_WSLOT_GDN_V)
#define CONV(slot, form)                                                                           \
    HDL_W_FUSED(slot, BLK "ssm_conv1d.weight", form, 3, HDL_WSLOT_GDN_CONV_Q,                      \
                HDL_WSLOT_GDN_CONV_K, HDL_WSLOT_GDN_CONV_V)
/* form: of what lies by value heads */
#define HYBRID_NAMES(form)                                                                         \
    QKV(GDN_Q, 0), QKV(GDN_K, 0), QKV(GDN_V, form), HDL_W_AS(GDN_Z, BLK "attn_gate.weight", form), \
        CONV(GDN_CONV_Q, 0), CONV(GDN_CONV_K, 0), CONV(GDN_CONV_V, form),                          \
        HDL_W_AS(GDN_A_LOG, BLK "ssm_a", HDL_FORM_NEG_EXP | (form)),                               \
        HDL_W_AS(GDN_DT_BIAS, BLK "ssm_dt.bias", form), HDL_W(GDN_NORM, BLK "ssm_norm.weight"),    \
        HDL_W_AS(GDN_OUT, BLK "ssm_out.weight", form)

/* q, k, v and z of a key head together, as the published files have them: before 2026. */
#define QKVZ(slot)                                                                                 \
    HDL_W_FUSED(slot, BLK "ssm_in.weight", HDL_FORM_HEADS, 4, HDL_WSLOT_GDN_Q, HDL_WSLOT_GDN_K,    \
                HDL_WSLOT_GDN_V, HDL_WSLOT_GDN_Z)
#define BA(slot)                                                                                   \
    HDL_W_FUSED(slot, BLK "ssm_ba.weight", HDL_FORM_HEADS, 2, HDL_WSLOT_GDN_B, HDL_WSLOT_GDN_A)

static const hdl_weight_name next_names[] = {
    HYBRID_NAMES(0), QKVZ(GDN_Q), QKVZ(GDN_K), QKVZ(GDN_V), QKVZ(GDN_Z), BA(GDN_B), BA(GDN_A),
};
static const hdl_weight_name tiled_names[] = {
    HYBRID_NAMES(HDL_FORM_TILED),
    HDL_W_AS(GDN_B, BLK "ssm_beta.weight", HDL_FORM_TILED),
    HDL_W_AS(GDN_A, BLK "ssm_alpha.weight", HDL_FORM_TILED),
};

#define HYBRID(name_, arch_, keys_, names_)                                                        \
    .name = (name_), .arch = (arch_), .keys = (keys_), .n_keys = HDL_ARRAY_LEN(keys_),             \
    .names = (names_), .n_names = HDL_ARRAY_LEN(names_), .finish = finish

const hdl_gguf_arch hdl_gguf_arch_qwen3next = {
    HYBRID("qwen3next", &hdl_arch_qwen3next, moe_keys, next_names)};
const hdl_gguf_arch hdl_gguf_arch_qwen35 = {
    HYBRID("qwen35", &hdl_arch_qwen35, dense_keys, tiled_names)};
const hdl_gguf_arch hdl_gguf_arch_qwen35moe = {
    HYBRID("qwen35moe", &hdl_arch_qwen35moe, moe_keys, tiled_names)};
