/* SPDX-License-Identifier: Apache-2.0 */
/* BitNet b1.58: Llama's blocks with max(g, 0)^2 in its gate and an RMS norm before o_proj and
 * before down_proj. That its weights are ternary and its activations int8 is the quantisation's
 * business (HDL_QUANT_BITNET). HF: modeling_bitnet.py. */
#include <string.h>

#include "worker/model/arch_hf.h"

/* The published models have the squared ReLU; the first of their kind had SiLU. */
static hdl_err key_act(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    const char *act = "";
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_string(v, &act, NULL, why));
    if (strcmp(act, "relu2") != 0 && strcmp(act, "silu") != 0)
        return hdl_jv_fail(v, why, "must be relu2 or silu");
    desc->glu = act[0] == 'r' ? HDL_GLU_RELU2 : HDL_GLU_SILU;
    return HDL_OK;
}

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("attention_bias", hdl_arch_key_bias),
    HDL_K_CALL("hidden_act", key_act),
};

static void init(hdl_model_desc *desc)
{
    desc->sub_norm = true;
    desc->glu = HDL_GLU_RELU2;
    desc->ropes[0].theta = 500000.0;
}

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_QKV_BIAS(""),
    HDL_HF_O_BIAS(""),
    HDL_W(ATTN_SUB_NORM, HDL_HF_LAYER("") "self_attn.attn_sub_norm.weight"),
    HDL_HF_DENSE("", "mlp."),
    HDL_W(FFN_SUB_NORM, HDL_HF_LAYER("") "mlp.ffn_sub_norm.weight"),
};

const hdl_arch hdl_arch_bitnet = {
    .name = "BitNetForCausalLM",
    .model_type = "bitnet",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .init = init,
};
