/* SPDX-License-Identifier: Apache-2.0 */
/* GLM-4.5, 4.6, 4.7 (355B-A32B) and Air (106B-A12B): grouped-query attention with biases of q, k
 * and v, half of each head rotated, norms of q and k in the large one; the first layers dense, then
 * sigmoid routing with a correction that only selects, and a shared expert. The layers after the
 * last, which predict further tokens, are not run. HF: modeling_glm4_moe.py. */
#include "worker/model/arch_hf.h"

static hdl_err key_qk_norm(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    bool on = false;
    if (hdl_jv_given(v))
        HDL_TRY(hdl_jv_bool(v, &on, why));
    desc->qk_norm = on ? HDL_QK_NORM_HEAD : HDL_QK_NORM_NONE;
    return HDL_OK;
}

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_U32("moe_intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("n_routed_experts", n_experts, 1, 4096),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_U32("n_group", router.n_group, 1, 4096),
    HDL_K_U32("topk_group", router.topk_group, 1, 4096),
    HDL_K_F32("routed_scaling_factor", router.scale),
    HDL_K_BOOL("norm_topk_prob", router.renorm),
    HDL_K_BOOL("attention_bias", qkv_bias),
    HDL_K_CALL("use_qk_norm", key_qk_norm),
    HDL_K_CALL("partial_rotary_factor", hdl_arch_key_partial),
    HDL_K_SKIP("n_shared_experts"), /* both read by finish */
    HDL_K_SKIP("first_k_dense_replace"),
    HDL_K_U32("num_nextn_predict_layers", n_mtp_layers, 0, HDL_LAYERS_MAX), /* not run */
    HDL_K_SKIP("num_mtp_layers"),
};

static void init(hdl_model_desc *desc)
{
    desc->ropes[0].partial = 0.5; /* the defaults of transformers */
    desc->mtp_vocab = true;
    desc->router_correction = true;
    desc->router.group_top2 = true;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t n_shared = 1, n_dense = 1;
    hdl_jv v = hdl_jv_get(root, "n_shared_experts");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, 64}, &n_shared, why));
    v = hdl_jv_get(root, "first_k_dense_replace");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){0, HDL_LAYERS_MAX}, &n_dense, why));
    desc->shared_inter = (uint32_t)n_shared * desc->moe_inter;
    for (uint32_t i = 0; i < desc->n_layers && i < n_dense; i++)
        desc->layers[i].ffn = HDL_FFN_DENSE;
    return HDL_OK;
}

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_QKV_BIAS(""),
    HDL_HF_HEAD_NORMS(""),
    HDL_HF_DENSE("", "mlp."),
    HDL_HF_EXPERTS(""),
    HDL_W(CORRECTION, HDL_HF_LAYER("") "mlp.gate.e_score_correction_bias"),
    HDL_HF_SHARED("", "mlp.shared_experts."),
};

const hdl_arch hdl_arch_glm4moe = {
    .name = "Glm4MoeForCausalLM",
    .model_type = "glm4_moe",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .skips = {"model.layers.{l}."},
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SIGMOID_TOPK,
    .router_renorm = true,
    .init = init,
    .finish = finish,
};
