/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen3-MoE: 30B-A3B, 235B-A22B, Coder-480B-A35B. Qwen3's attention; layers are mixtures except
 * those that mlp_only_layers or decoder_sparse_step leave dense; softmax over all experts, the topk
 * largest, renormalised if norm_topk_prob. HF: modeling_qwen3_moe.py. */
#include "worker/model/arch_list.h"

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_U32("moe_intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("num_experts", n_experts, 1, 4096),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096), /* as transformers 5 writes it */
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_BOOL("norm_topk_prob", router.renorm),
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("qkv_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("use_qk_norm", "true", "the model's norms of q and k cannot be left out"),
    HDL_K_EXPECT("shared_expert_intermediate_size", "0", "a shared expert is not supported"),
    HDL_K_EXPECT("use_sliding_window", "false", "windows on some layers are not supported"),
    HDL_K_SKIP("sliding_window"), /* of no effect while use_sliding_window is false */
    HDL_K_SKIP("max_window_layers"),
    HDL_K_SKIP("decoder_sparse_step"), /* both read by finish */
    HDL_K_SKIP("mlp_only_layers"),
};

/* HF: Qwen3MoeDecoderLayer. A layer is a mixture when it is not listed and (layer + 1) divides by
 * the step. */
static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
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
    HDL_W(ROUTER, "model.layers.{l}.mlp.gate.weight"),
    HDL_W(EXPERT_GATE, "model.layers.{l}.mlp.experts.{e}.gate_proj.weight"),
    HDL_W(EXPERT_UP, "model.layers.{l}.mlp.experts.{e}.up_proj.weight"),
    HDL_W(EXPERT_DOWN, "model.layers.{l}.mlp.experts.{e}.down_proj.weight"),
};

const hdl_arch hdl_arch_qwen3moe = {
    .name = "Qwen3MoeForCausalLM",
    .model_type = "qwen3_moe",
    .keys = keys,
    .n_keys = HDL_ARRAY_LEN(keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .router_renorm = false, /* the default of transformers */
    .qk_norm = HDL_QK_NORM_HEAD,
    .finish = finish,
};
