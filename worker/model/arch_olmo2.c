/* SPDX-License-Identifier: Apache-2.0 */
/* OLMo 2: no norm before a block, one after it; RMS norms over all queries and all keys before
 * RoPE. HF: modeling_olmo2.py. */
#include "worker/model/arch_hf.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("attention_bias", hdl_arch_key_bias),
    HDL_K_REFUSE("clip_qkv", "clamped queries, keys and values are not supported"),
};

static void init(hdl_model_desc *desc)
{
    desc->pre_norm = false;
    desc->post_norm = true;
}

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_QKVO(""),
    HDL_HF_QKV_BIAS(""),
    HDL_HF_O_BIAS(""),
    HDL_W(Q_PROJ_NORM, HDL_HF_LAYER("") "self_attn.q_norm.weight"),
    HDL_W(K_PROJ_NORM, HDL_HF_LAYER("") "self_attn.k_norm.weight"),
    HDL_W(ATTN_POST_NORM, HDL_HF_LAYER("") "post_attention_layernorm.weight"),
    HDL_HF_DENSE("", "mlp."),
    HDL_W(FFN_POST_NORM, HDL_HF_LAYER("") "post_feedforward_layernorm.weight"),
};

const hdl_arch hdl_arch_olmo2 = {
    .name = "Olmo2ForCausalLM",
    .model_type = "olmo2",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .qk_norm = HDL_QK_NORM_PROJECTION,
    .init = init,
};
