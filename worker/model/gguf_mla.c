/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF tables of the architectures with latent attention. llama.cpp describes the absorbed form,
 * one KV head of latent and rotary part; the heads' own widths are in keys that end in _mla. */
#include <math.h>

#include "worker/model/arch_gguf_list.h"
#include "worker/model/arch_list.h"

#define MLA_KEYS                                                                                   \
    HDL_G_U32("attention.kv_lora_rank", mla.kv_rank, 1, 1u << 16),                                 \
        HDL_G_U32("attention.q_lora_rank", mla.q_rank, 1, 1u << 16),                               \
        HDL_G_SKIP("attention.key_length"), /* these: finish */                                    \
        HDL_G_SKIP("attention.value_length"), HDL_G_SKIP("attention.key_length_mla"),              \
        HDL_G_SKIP("attention.value_length_mla"), HDL_G_SKIP("attention.temperature_scale"),       \
        HDL_G_SKIP("attention.temperature_length"),                                                \
        HDL_G_SKIP("rope.scaling.yarn_log_multiplier"), HDL_G_SKIP("expert_shared_count"),         \
        HDL_G_SKIP("leading_dense_block_count"), /* the tensors say it */                          \
        HDL_G_U32("expert_count", n_experts, 1, 4096),                                             \
        HDL_G_U32("expert_used_count", topk, 1, 64),                                               \
        HDL_G_U32("expert_feed_forward_length", moe_inter, 1, 1u << 20),                           \
        HDL_G_U32("expert_group_count", router.n_group, 0, 4096),                                  \
        HDL_G_U32("expert_group_used_count", router.topk_group, 0, 4096),                          \
        HDL_G_F32("expert_weights_scale", router.scale),                                           \
        HDL_G_BOOL("expert_weights_norm", router.renorm)

#define OTHER "other scores are another architecture's"
static const hdl_gguf_key softmax_keys[] = {MLA_KEYS, HDL_G_EXPECT("expert_gating_func", 1, OTHER)};
static const hdl_gguf_key sigmoid_keys[] = {MLA_KEYS, HDL_G_EXPECT("expert_gating_func", 2, OTHER)};

/* The keys of before the absorbed form give the widths of heads by their plain names. */
static hdl_err read_width(const hdl_gguf *gguf, const char *mla, const char *plain, uint32_t *out,
                          hdl_errmsg *why)
{
    hdl_err err = hdl_gguf_arch_u32(gguf, mla, out, why);
    if (err == HDL_NOTFOUND)
        err = hdl_gguf_arch_u32(gguf, plain, out, why);
    return err;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_mla_desc *m = &desc->mla;
    uint32_t key = 0, value = 0, n_shared = 0;
    double log_mul = 0;
    m->rope_dim = desc->ropes[0].dim;
    HDL_TRY(read_width(gguf, "attention.key_length_mla", "attention.key_length", &key, why));
    HDL_TRY(read_width(gguf, "attention.value_length_mla", "attention.value_length", &value, why));
    if (m->kv_rank == 0 || m->rope_dim == 0 || key <= m->rope_dim || key > 4096 || value == 0 ||
        value > 4096)
        return hdl_fail(HDL_INVALID, why,
                        "the widths of latent attention do not fit together (keys %u, of which %u "
                        "rotate, values %u); the file is damaged; fetch it again",
                        key, m->rope_dim, value);
    m->nope_dim = key - m->rope_dim;
    m->v_dim = value;
    desc->head_dim = key;
    desc->n_kv_heads = desc->n_heads;
    HDL_TRY(hdl_gguf_yarn_log_mul(desc, gguf, &log_mul, why));
    /* A tenth of mscale_all_dim is in the key, here and not in Mistral 3's. */
    double factor = desc->ropes[0].kind == HDL_ROPE_YARN && log_mul > 0
                        ? hdl_arch_yarn_mscale(desc->ropes[0].factor, log_mul * 10)
                        : 1;
    desc->attn_scale = (float)(factor * factor / sqrt((double)key));
    hdl_err err = hdl_gguf_arch_u32(gguf, "expert_shared_count", &n_shared, why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    desc->shared_inter = n_shared <= 64 ? n_shared * desc->moe_inter : 0;
    return hdl_gguf_q_temp(desc, gguf, why);
}

static const hdl_weight_name names[] = {
    HDL_W(MLA_Q, "blk.{l}.attn_q.weight"),
    HDL_W(MLA_Q_A, "blk.{l}.attn_q_a.weight"),
    HDL_W(MLA_Q_A_NORM, "blk.{l}.attn_q_a_norm.weight"),
    HDL_W(MLA_Q_B, "blk.{l}.attn_q_b.weight"),
    HDL_W(MLA_KV_A, "blk.{l}.attn_kv_a_mqa.weight"),
    HDL_W(MLA_KV_A_NORM, "blk.{l}.attn_kv_a_norm.weight"),
    HDL_W_AS(MLA_K_B, "blk.{l}.attn_k_b.weight", HDL_FORM_HEADS_TRANSPOSED),
    HDL_W_FUSED(MLA_K_B, "blk.{l}.attn_kv_b.weight", HDL_FORM_HEADS, 2, HDL_WSLOT_MLA_K_B,
                HDL_WSLOT_MLA_V_B),
    HDL_W_AS(MLA_V_B, "blk.{l}.attn_v_b.weight", HDL_FORM_HEADS),
    HDL_W_FUSED(MLA_V_B, "blk.{l}.attn_kv_b.weight", HDL_FORM_HEADS, 2, HDL_WSLOT_MLA_K_B,
                HDL_WSLOT_MLA_V_B),
    HDL_W(MLA_O, "blk.{l}.attn_output.weight"),
};

static bool scores_by_sigmoid(const hdl_gguf *gguf)
{
    uint32_t number = 0;
    return hdl_gguf_arch_u32(gguf, "expert_gating_func", &number, NULL) == HDL_OK && number == 2;
}

#define TABLES .names = names, .n_names = HDL_ARRAY_LEN(names), .finish = finish

/* V3, R1, Kimi-K2. */
const hdl_gguf_arch hdl_gguf_arch_deepseek_v3 = {
    .name = "deepseek2",
    .arch = &hdl_arch_deepseek_v3,
    .is = scores_by_sigmoid,
    .keys = sigmoid_keys,
    .n_keys = HDL_ARRAY_LEN(sigmoid_keys),
    TABLES,
};

/* V2, V2-Lite, and Mistral Large 3. */
const hdl_gguf_arch hdl_gguf_arch_deepseek_v2 = {
    .name = "deepseek2",
    .arch = &hdl_arch_deepseek_v2,
    .keys = softmax_keys,
    .n_keys = HDL_ARRAY_LEN(softmax_keys),
    TABLES,
};

const hdl_gguf_arch hdl_gguf_arch_mistral4 = {
    .name = "mistral4",
    .arch = &hdl_arch_mistral4,
    .keys = softmax_keys,
    .n_keys = HDL_ARRAY_LEN(softmax_keys),
    TABLES,
};
