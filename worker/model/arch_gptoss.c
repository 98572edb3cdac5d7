/* SPDX-License-Identifier: Apache-2.0 */
/* gpt-oss 20b and 120b: grouped-query attention with biases everywhere, a learned sink for each
 * head, windows on the layers that layer_types names; every layer a mixture with a biased router,
 * biased experts and the clamped activation. Experts are stacked tensors: gate and up take turns in
 * the rows of one, and the files of transformers hold both matrices transposed.
 * HF: modeling_gpt_oss.py. */
#include "worker/model/arch_hf.h"

static hdl_err key_bias(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    bool on = true;
    if (hdl_jv_given(v))
        HDL_TRY(hdl_jv_bool(v, &on, why));
    desc->qkv_bias = desc->o_bias = on;
    return HDL_OK;
}

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_F32("swiglu_limit", glu_limit),
    HDL_K_F32("swiglu_alpha", glu_alpha),
    HDL_K_CALL("attention_bias", key_bias),
    HDL_K_SKIP("experts_per_token"), /* num_experts_per_tok once more */
    HDL_K_SKIP("sliding_window"),    /* both read by finish */
    HDL_K_SKIP("layer_types"),
    HDL_K_SKIP("initial_context_length"), /* what rotary scaling says too */
};

static void init(hdl_model_desc *desc)
{
    desc->qkv_bias = desc->o_bias = true;
    desc->attn_sinks = true;
    desc->router_bias = true;
    desc->expert_bias = true;
    desc->glu = HDL_GLU_OAI;
    desc->glu_limit = 7; /* the defaults of transformers */
    desc->glu_alpha = 1.702f;
    desc->ropes[0].theta = 150000;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    bool given = false;
    HDL_TRY(hdl_arch_layer_types(desc, root, &given, why));
    if (!given)
        return hdl_fail(HDL_INVALID, why,
                        "config.json lacks layer_types; which layers see a window is not known "
                        "without it; fetch the original file");
    return HDL_OK;
}

#define EXPERTS HDL_HF_LAYER("") "mlp.experts."
#define BOTH    (HDL_FORM_STACKED | HDL_FORM_TRANSPOSED)

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_QKV_BIAS(""),
    HDL_W(O_BIAS, HDL_HF_LAYER("") "self_attn.o_proj.bias"),
    HDL_W(SINKS, HDL_HF_LAYER("") "self_attn.sinks"),
    HDL_W(ROUTER, HDL_HF_LAYER("") "mlp.router.weight"),
    HDL_W(ROUTER_BIAS, HDL_HF_LAYER("") "mlp.router.bias"),
    HDL_W_AS(EXPERT_GATE, EXPERTS "gate_up_proj", BOTH | HDL_FORM_EVEN),
    HDL_W_AS(EXPERT_UP, EXPERTS "gate_up_proj", BOTH | HDL_FORM_ODD),
    HDL_W_AS(EXPERT_DOWN, EXPERTS "down_proj", BOTH),
    HDL_W_AS(EXPERT_GATE_BIAS, EXPERTS "gate_up_proj_bias", HDL_FORM_STACKED | HDL_FORM_EVEN),
    HDL_W_AS(EXPERT_UP_BIAS, EXPERTS "gate_up_proj_bias", HDL_FORM_STACKED | HDL_FORM_ODD),
    HDL_W_AS(EXPERT_DOWN_BIAS, EXPERTS "down_proj_bias", HDL_FORM_STACKED),
};

const hdl_arch hdl_arch_gptoss = {
    .name = "GptOssForCausalLM",
    .model_type = "gpt_oss",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_TOPK_SOFTMAX,
    .router_renorm = true,
    .init = init,
    .finish = finish,
};
