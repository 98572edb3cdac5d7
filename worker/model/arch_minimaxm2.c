/* SPDX-License-Identifier: Apache-2.0 */
/* MiniMax-M2, M2.1, M2.5, M2.7 (230B-A10B): grouped-query attention with norms over the whole of
 * the q and k projections, the first half of each head rotated; every layer a mixture with sigmoid
 * routing and a correction that only selects. The modules that predict further tokens are not run.
 * HF: modeling_minimax_m2.py. */
#include <string.h>

#include "worker/model/arch_hf.h"

/* 1: softmax attention; 0 would be the linear attention of MiniMax-Text-01. */
static hdl_err key_attn_types(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    (void)desc;
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        int64_t type = 0;
        hdl_jv item = hdl_jv_at(v, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){1, 1}, &type, why));
    }
    return HDL_OK;
}

#define NO_BETA "scales of the residual stream are not supported"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_U32("rotary_dim", ropes[0].dim, 2, 1024),
    HDL_K_CALL("partial_rotary_factor", hdl_arch_key_partial),
    HDL_K_CALL("attn_type_list", key_attn_types),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_EXPECT("use_qk_norm", "true", "the norms of q and k cannot be left out"),
    HDL_K_EXPECT("qk_norm_type", "\"per_layer\"", "norms of single heads are not this family's"),
    HDL_K_EXPECT("scoring_func", "\"sigmoid\"", "only sigmoid scores are this family's"),
    HDL_K_EXPECT("use_routing_bias", "true", "the router's correction cannot be left out"),
    HDL_K_EXPECT("shared_intermediate_size", "0", "a shared expert is not supported here"),
    HDL_K_EXPECT("layernorm_full_attention_beta", "1.0", NO_BETA),
    HDL_K_EXPECT("layernorm_linear_attention_beta", "1.0", NO_BETA),
    HDL_K_EXPECT("layernorm_mlp_beta", "1.0", NO_BETA),
    HDL_K_EXPECT("postnorm", "false", "norms after the blocks are not supported here"),
    HDL_K_SKIP("shared_moe_mode"), /* of a shared expert */
    HDL_K_SKIP("mlp_intermediate_size"),
    HDL_K_SKIP("swa_rope_theta"),
    HDL_K_SKIP("max_model_len"),
    HDL_K_SKIP("router_jitter_noise"), /* training only */
    HDL_K_SKIP("use_mtp"),             /* declared, but not in the published files; not run */
    HDL_K_SKIP("mtp_transformer_layers"),
    HDL_K_SKIP("num_mtp_modules"),
};

static void init(hdl_model_desc *desc)
{
    desc->router_correction = true;
    desc->ropes[0].theta = 5e6; /* the default of transformers */
}

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_W(Q_PROJ_NORM, HDL_HF_LAYER("") "self_attn.q_norm.weight"),
    HDL_W(K_PROJ_NORM, HDL_HF_LAYER("") "self_attn.k_norm.weight"),
    HDL_HF_SPARSE_BLOCK(""),
    HDL_W(CORRECTION, HDL_HF_LAYER("") "block_sparse_moe.e_score_correction_bias"),
};

const hdl_arch hdl_arch_minimaxm2 = {
    .name = "MiniMaxM2ForCausalLM",
    .model_type = "minimax_m2",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .skips = {"model.layers.{l}.", "model.mtp."},
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SIGMOID_TOPK,
    .router_renorm = true,
    .qk_norm = HDL_QK_NORM_PROJECTION,
    .init = init,
};
