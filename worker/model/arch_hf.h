/* SPDX-License-Identifier: Apache-2.0 */
/* Names and keys that many architectures of transformers share, as rows for their tables. `p`
 * stands before every name: "", or what a bigger model puts before its text model's
 * ("language_model."). Constant data. */
#pragma once

#include "worker/model/arch_list.h"

#define HDL_HF_LAYER(p) p "model.layers.{l}."

#define HDL_HF_MODEL(p)                                                                            \
    HDL_W(EMBED, p "model.embed_tokens.weight"), HDL_W(FINAL_NORM, p "model.norm.weight"),         \
        HDL_W(LM_HEAD, p "lm_head.weight")

/* Norms before both blocks. */
#define HDL_HF_NORMS(p)                                                                            \
    HDL_W(ATTN_NORM, HDL_HF_LAYER(p) "input_layernorm.weight"),                                    \
        HDL_W(FFN_NORM, HDL_HF_LAYER(p) "post_attention_layernorm.weight")

/* Norms before and after both blocks, as Gemma names them. */
#define HDL_HF_SANDWICH(p)                                                                         \
    HDL_W(ATTN_NORM, HDL_HF_LAYER(p) "input_layernorm.weight"),                                    \
        HDL_W(ATTN_POST_NORM, HDL_HF_LAYER(p) "post_attention_layernorm.weight"),                  \
        HDL_W(FFN_NORM, HDL_HF_LAYER(p) "pre_feedforward_layernorm.weight"),                       \
        HDL_W(FFN_POST_NORM, HDL_HF_LAYER(p) "post_feedforward_layernorm.weight")

#define HDL_HF_QKVO(p)                                                                             \
    HDL_W(Q, HDL_HF_LAYER(p) "self_attn.q_proj.weight"),                                           \
        HDL_W(K, HDL_HF_LAYER(p) "self_attn.k_proj.weight"),                                       \
        HDL_W(V, HDL_HF_LAYER(p) "self_attn.v_proj.weight"),                                       \
        HDL_W(O, HDL_HF_LAYER(p) "self_attn.o_proj.weight")

/* Norms before both blocks; q, k, v and o apart. */
#define HDL_HF_ATTENTION(p) HDL_HF_NORMS(p), HDL_HF_QKVO(p)

#define HDL_HF_QKV_BIAS(p)                                                                         \
    HDL_W(Q_BIAS, HDL_HF_LAYER(p) "self_attn.q_proj.bias"),                                        \
        HDL_W(K_BIAS, HDL_HF_LAYER(p) "self_attn.k_proj.bias"),                                    \
        HDL_W(V_BIAS, HDL_HF_LAYER(p) "self_attn.v_proj.bias")

#define HDL_HF_O_BIAS(p) HDL_W(O_BIAS, HDL_HF_LAYER(p) "self_attn.o_proj.bias")

#define HDL_HF_HEAD_NORMS(p)                                                                       \
    HDL_W(Q_NORM, HDL_HF_LAYER(p) "self_attn.q_norm.weight"),                                      \
        HDL_W(K_NORM, HDL_HF_LAYER(p) "self_attn.k_norm.weight")

/* block: "mlp.", "feed_forward." */
#define HDL_HF_DENSE(p, block)                                                                     \
    HDL_W(GATE, HDL_HF_LAYER(p) block "gate_proj.weight"),                                         \
        HDL_W(UP, HDL_HF_LAYER(p) block "up_proj.weight"),                                         \
        HDL_W(DOWN, HDL_HF_LAYER(p) block "down_proj.weight")

#define HDL_HF_DENSE_BIAS(p, block)                                                                \
    HDL_W(GATE_BIAS, HDL_HF_LAYER(p) block "gate_proj.bias"),                                      \
        HDL_W(UP_BIAS, HDL_HF_LAYER(p) block "up_proj.bias"),                                      \
        HDL_W(DOWN_BIAS, HDL_HF_LAYER(p) block "down_proj.bias")

/* shared: "mlp.shared_experts." */
#define HDL_HF_SHARED(p, shared)                                                                   \
    HDL_W(SHARED_GATE, HDL_HF_LAYER(p) shared "gate_proj.weight"),                                 \
        HDL_W(SHARED_UP, HDL_HF_LAYER(p) shared "up_proj.weight"),                                 \
        HDL_W(SHARED_DOWN, HDL_HF_LAYER(p) shared "down_proj.weight")

/* Experts one by one, as Qwen, GLM and DeepSeek name them. */
#define HDL_HF_EXPERTS(p)                                                                          \
    HDL_W(ROUTER, HDL_HF_LAYER(p) "mlp.gate.weight"),                                              \
        HDL_W(EXPERT_GATE, HDL_HF_LAYER(p) "mlp.experts.{e}.gate_proj.weight"),                    \
        HDL_W(EXPERT_UP, HDL_HF_LAYER(p) "mlp.experts.{e}.up_proj.weight"),                        \
        HDL_W(EXPERT_DOWN, HDL_HF_LAYER(p) "mlp.experts.{e}.down_proj.weight")

/* ... or one behind the other, gate rows before up rows. */
#define HDL_HF_EXPERTS_STACKED(p)                                                                  \
    HDL_W(ROUTER, HDL_HF_LAYER(p) "mlp.gate.weight"),                                              \
        HDL_W_FUSED(EXPERT_GATE, HDL_HF_LAYER(p) "mlp.experts.gate_up_proj", HDL_FORM_STACKED, 2,  \
                    HDL_WSLOT_EXPERT_GATE, HDL_WSLOT_EXPERT_UP),                                   \
        HDL_W_FUSED(EXPERT_UP, HDL_HF_LAYER(p) "mlp.experts.gate_up_proj", HDL_FORM_STACKED, 2,    \
                    HDL_WSLOT_EXPERT_GATE, HDL_WSLOT_EXPERT_UP),                                   \
        HDL_W_AS(EXPERT_DOWN, HDL_HF_LAYER(p) "mlp.experts.down_proj", HDL_FORM_STACKED)

/* ... and Mixtral and MiniMax. */
#define HDL_HF_SPARSE_BLOCK(p)                                                                     \
    HDL_W(ROUTER, HDL_HF_LAYER(p) "block_sparse_moe.gate.weight"),                                 \
        HDL_W(EXPERT_GATE, HDL_HF_LAYER(p) "block_sparse_moe.experts.{e}.w1.weight"),              \
        HDL_W(EXPERT_UP, HDL_HF_LAYER(p) "block_sparse_moe.experts.{e}.w3.weight"),                \
        HDL_W(EXPERT_DOWN, HDL_HF_LAYER(p) "block_sparse_moe.experts.{e}.w2.weight")

/* What Mistral3ForConditionalGeneration has around its text model: a tower and what joins it. */
#define HDL_HF_MISTRAL3_OUTER                                                                      \
    HDL_K_SKIP("vision_config"), HDL_K_SKIP("vision_feature_layer"),                               \
        HDL_K_SKIP("multimodal_projector_bias"), HDL_K_SKIP("projector_hidden_act"),               \
        HDL_K_SKIP("spatial_merge_size"), HDL_K_SKIP("image_token_index"),                         \
        HDL_K_SKIP("image_token_id")
