/* SPDX-License-Identifier: Apache-2.0 */
/* Phi-3 mini and medium, Phi-3.5 mini, Phi-4, Phi-4 mini: Llama with q, k and v in one tensor, gate
 * and up in another, perhaps a window on every layer, perhaps LongRoPE over a part of a head.
 * HF: modeling_phi3.py. */
#include "worker/model/arch_hf.h"

/* Goes before the member of rope_scaling with the same name, whichever is read first. */
static hdl_err key_original_len(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    int64_t len = 0;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_int(v, (hdl_jv_range){1, 1 << 30}, &len, why));
    desc->ropes[0].original_max_len = (uint32_t)len;
    return HDL_OK;
}

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope_phi3),
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope_phi3),
    HDL_K_CALL("original_max_position_embeddings", key_original_len),
    HDL_K_CALL("partial_rotary_factor", hdl_arch_key_partial),
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("mlp_bias", "false", "biases of the feed-forward layers are not supported"),
    HDL_K_EXPECT("lm_head_bias", "false", "a bias of the logits is not supported"),
    HDL_K_EXPECT("full_attn_mod", "1", "layers that share the cache of others are not supported"),
    HDL_K_EXPECT("interpolate_factor", "1", "interpolated positions are not supported"),
};

#define QKV     HDL_HF_LAYER("") "self_attn.qkv_proj.weight"
#define GATE_UP HDL_HF_LAYER("") "mlp.gate_up_proj.weight"

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_NORMS(""),
    HDL_W_FUSED(Q, QKV, 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W_FUSED(K, QKV, 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W_FUSED(V, QKV, 0, 3, HDL_WSLOT_Q, HDL_WSLOT_K, HDL_WSLOT_V),
    HDL_W(O, HDL_HF_LAYER("") "self_attn.o_proj.weight"),
    HDL_W_FUSED(GATE, GATE_UP, 0, 2, HDL_WSLOT_GATE, HDL_WSLOT_UP),
    HDL_W_FUSED(UP, GATE_UP, 0, 2, HDL_WSLOT_GATE, HDL_WSLOT_UP),
    HDL_W(DOWN, HDL_HF_LAYER("") "mlp.down_proj.weight"),
};

const hdl_arch hdl_arch_phi3 = {
    .name = "Phi3ForCausalLM",
    .model_type = "phi3",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
};
