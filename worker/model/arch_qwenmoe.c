/* SPDX-License-Identifier: Apache-2.0 */
/* Mixtures of the Qwen line. Layers are mixtures except those that mlp_only_layers or
 * decoder_sparse_step leave dense; softmax over all experts, the topk largest, renormalised if
 * norm_topk_prob.
 *  Qwen2-MoE (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B): Qwen2's attention with biases of q, k and v; a
 *  shared expert times the sigmoid of its gate. HF: modeling_qwen2_moe.py.
 *  Qwen3-MoE (30B-A3B, 235B-A22B, Coder-480B-A35B): Qwen3's attention with norms of q and k, no
 *  shared expert. HF: modeling_qwen3_moe.py. */
#include "worker/model/arch_hf.h"

// clang-format off
#define MOE_KEYS                                                                                   \
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),                                            \
    HDL_K_U32("moe_intermediate_size", moe_inter, 1, 1u << 20),                                    \
    HDL_K_U32("num_experts", n_experts, 1, 4096),                                                  \
    HDL_K_U32("num_local_experts", n_experts, 1, 4096), /* as transformers 5 writes it */          \
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),                                                 \
    HDL_K_BOOL("norm_topk_prob", router.renorm),                                                   \
    HDL_K_EXPECT("use_sliding_window", "false", "windows on some layers are not supported"),       \
    HDL_K_SKIP("sliding_window"), /* of no effect while use_sliding_window is false */             \
    HDL_K_SKIP("max_window_layers"),                                                               \
    HDL_K_SKIP("decoder_sparse_step"), /* both read by hdl_arch_sparse_layers */                   \
    HDL_K_SKIP("mlp_only_layers")
// clang-format on

static const hdl_config_key qwen2_keys[] = {
    MOE_KEYS,
    HDL_K_U32("shared_expert_intermediate_size", shared_inter, 1, 1u << 20),
    HDL_K_BOOL("qkv_bias", qkv_bias),
};

static const hdl_config_key qwen3_keys[] = {
    MOE_KEYS,
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("qkv_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("use_qk_norm", "true", "the model's norms of q and k cannot be left out"),
    HDL_K_EXPECT("shared_expert_intermediate_size", "0", "a shared expert is not supported"),
};

/* HF: Qwen3MoeDecoderLayer. */
hdl_err hdl_arch_sparse_layers(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t step = 1;
    hdl_jv v = hdl_jv_get(root, "decoder_sparse_step");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, HDL_LAYERS_MAX}, &step, why));
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if ((i + 1) % (uint32_t)step != 0)
            desc->layers[i].ffn = HDL_FFN_DENSE;
    hdl_jv only = hdl_jv_get(root, "mlp_only_layers");
    if (hdl_jv_given(&only))
        HDL_TRY(hdl_jv_expect(&only, HDL_JSON_ARRAY, why));
    for (size_t i = 0; i < hdl_jv_len(&only); i++) {
        int64_t layer = 0;
        hdl_jv item = hdl_jv_at(&only, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, (int64_t)desc->n_layers - 1}, &layer, why));
        desc->layers[layer].ffn = HDL_FFN_DENSE;
    }
    return HDL_OK;
}

/* The defaults of transformers: Qwen1.5-MoE's file names neither key. */
static void init_qwen2(hdl_model_desc *desc)
{
    desc->qkv_bias = true;
    desc->shared_gate = true;
}

static const hdl_weight_name qwen2_names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_QKV_BIAS(""),
    HDL_HF_DENSE("", "mlp."),
    HDL_HF_EXPERTS(""),
    HDL_HF_SHARED("", "mlp.shared_expert."),
    HDL_W(SHARED_ON, HDL_HF_LAYER("") "mlp.shared_expert_gate.weight"),
};

static const hdl_weight_name qwen3_names[] = {
    HDL_HF_MODEL(""),         HDL_HF_ATTENTION(""), HDL_HF_HEAD_NORMS(""),
    HDL_HF_DENSE("", "mlp."), HDL_HF_EXPERTS(""),
};

const hdl_arch hdl_arch_qwen2moe = {
    .name = "Qwen2MoeForCausalLM",
    .model_type = "qwen2_moe",
    .keys = qwen2_keys,
    .n_keys = HDL_ARRAY_LEN(qwen2_keys),
    .names = qwen2_names,
    .n_names = HDL_ARRAY_LEN(qwen2_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .router_renorm = false, /* the default of transformers */
    .init = init_qwen2,
    .finish = hdl_arch_sparse_layers,
};

const hdl_arch hdl_arch_qwen3moe = {
    .name = "Qwen3MoeForCausalLM",
    .model_type = "qwen3_moe",
    .keys = qwen3_keys,
    .n_keys = HDL_ARRAY_LEN(qwen3_keys),
    .names = qwen3_names,
    .n_names = HDL_ARRAY_LEN(qwen3_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .router_renorm = false, /* the default of transformers */
    .qk_norm = HDL_QK_NORM_HEAD,
    .finish = hdl_arch_sparse_layers,
};
