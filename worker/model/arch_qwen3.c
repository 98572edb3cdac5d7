/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen3 dense, 0.6B to 32B: Llama with an RMS norm of each q and k head before RoPE and a head_dim
 * independent of hidden. HF: modeling_qwen3.py. */
#include "worker/model/arch_list.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("use_sliding_window", "false", "windows on some layers are not supported"),
    /* Of no effect while use_sliding_window is false. */
    HDL_K_SKIP("sliding_window"),
    HDL_K_SKIP("max_window_layers"),
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
    HDL_W(Q_NORM, "model.layers.{l}.self_attn.q_norm.weight"),
    HDL_W(K_NORM, "model.layers.{l}.self_attn.k_norm.weight"),
    HDL_W(FFN_NORM, "model.layers.{l}.post_attention_layernorm.weight"),
    HDL_W(GATE, "model.layers.{l}.mlp.gate_proj.weight"),
    HDL_W(UP, "model.layers.{l}.mlp.up_proj.weight"),
    HDL_W(DOWN, "model.layers.{l}.mlp.down_proj.weight"),
};

const hdl_arch hdl_arch_qwen3 = {
    .name = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .qk_norm = HDL_QK_NORM_HEAD,
};
