/* SPDX-License-Identifier: Apache-2.0 */
/* Mixtral 8x7B, 8x22B: Mistral's attention, a mixture of experts in every layer, softmax over the
 * chosen experts only. HF: modeling_mixtral.py. */
#include "worker/model/arch_list.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_SKIP("router_jitter_noise"), /* training only */
};

static const hdl_weight_name names[] = {
    HDL_W(EMBED, "model.embed_tokens.weight"),
    HDL_W(FINAL_NORM, "model.norm.weight"),
    HDL_W(LM_HEAD, "lm_head.weight"),
    HDL_W(ATTN_NORM, "model.layers.{l}.input_layernorm.weight"),
    HDL_W(Q, "model.layers.{l}.self_attn.q_proj.weight"),
    HDL_W(K, "model.layers.{l}.self_attn.k_proj.weight"),
    HDL_W(V, "model.layers.{l}.self_attn.v_proj.weight"),
    HDL_W(O, "model.layers.{l}.self_attn.o_proj.weight"),
    HDL_W(FFN_NORM, "model.layers.{l}.post_attention_layernorm.weight"),
    HDL_W(ROUTER, "model.layers.{l}.block_sparse_moe.gate.weight"),
    HDL_W(EXPERT_GATE, "model.layers.{l}.block_sparse_moe.experts.{e}.w1.weight"),
    HDL_W(EXPERT_UP, "model.layers.{l}.block_sparse_moe.experts.{e}.w3.weight"),
    HDL_W(EXPERT_DOWN, "model.layers.{l}.block_sparse_moe.experts.{e}.w2.weight"),
};

const hdl_arch hdl_arch_mixtral = {
    .name = "MixtralForCausalLM",
    .model_type = "mixtral",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_TOPK_SOFTMAX,
    .router_renorm = true,
};
