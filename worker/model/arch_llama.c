/* SPDX-License-Identifier: Apache-2.0 */
/* Llama 2 to 3.3 and Mistral 7B, NeMo, Small 3: dense, grouped-query attention, SwiGLU.
 * HF: modeling_llama.py, modeling_mistral.py. */
#include "worker/model/arch_list.h"

#define DENSE_KEYS                                                                                 \
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),                                            \
        HDL_K_EXPECT("mlp_bias", "false", "biases of the feed-forward layers are not supported"),  \
        HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),      \
        HDL_K_EXPECT("pretraining_tp", "1", "sums cut up as in pre-training are not supported")

static const hdl_config_key llama_keys[] = {
    DENSE_KEYS,
    HDL_K_REFUSE("sliding_window", "Llama has no sliding window; is this another architecture?"),
};

static const hdl_config_key mistral_keys[] = {
    DENSE_KEYS,
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
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
    HDL_W(GATE, "model.layers.{l}.mlp.gate_proj.weight"),
    HDL_W(UP, "model.layers.{l}.mlp.up_proj.weight"),
    HDL_W(DOWN, "model.layers.{l}.mlp.down_proj.weight"),
};

const hdl_arch hdl_arch_llama = {
    .name = "LlamaForCausalLM",
    .model_type = "llama",
    .keys = llama_keys,
    .n_keys = HDL_ARRAY_LEN(llama_keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
};

const hdl_arch hdl_arch_mistral = {
    .name = "MistralForCausalLM",
    .model_type = "mistral",
    .keys = mistral_keys,
    .n_keys = HDL_ARRAY_LEN(mistral_keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
};
