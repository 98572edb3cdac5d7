/* SPDX-License-Identifier: Apache-2.0 */
/* The hybrids of the Qwen line: Gated DeltaNet in most layers, and attention with an output gate in
 * every fourth.
 *  Qwen3-Next (80B-A3B): q, k, v and z of a k head lie together in one tensor, b and a in another.
 *  HF: modeling_qwen3_next.py.
 *  Qwen3.5, dense (27B) and mixtures (35B-A3B, 122B-A10B, 397B-A17B), published as the text part of
 *  a model that also sees. HF: modeling_qwen3_5.py, modeling_qwen3_5_moe.py. Its rotary embedding
 *  takes each frequency from one of three positions (time, height, width); the three of a token of
 *  text are equal, so that this is plain rotary embedding. */
#include <string.h>

#include "worker/model/arch_hf.h"

// clang-format off
#define HYBRID_KEYS                                                                                \
    HDL_K_U32("linear_num_key_heads", gdn.n_k_heads, 1, 4096),                                     \
    HDL_K_U32("linear_num_value_heads", gdn.n_v_heads, 1, 4096),                                   \
    HDL_K_U32("linear_key_head_dim", gdn.k_dim, 1, 4096),                                          \
    HDL_K_U32("linear_value_head_dim", gdn.v_dim, 1, 4096),                                        \
    HDL_K_U32("linear_conv_kernel_dim", gdn.conv, 2, 64),                                          \
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),                                            \
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope_text),                                         \
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope_text),                                            \
    HDL_K_CALL("partial_rotary_factor", hdl_arch_key_partial),                                     \
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),          \
    HDL_K_EXPECT("attn_output_gate", "true", "attention without its output gate is not supported"),\
    HDL_K_EXPECT("mamba_ssm_dtype", "\"float32\"", "recurrent states are float32"),                \
    HDL_K_EXPECT("use_sliding_window", "false", "windows on some layers are not supported"),       \
    HDL_K_SKIP("sliding_window"), /* of no effect while use_sliding_window is false */             \
    HDL_K_SKIP("max_window_layers"),                                                               \
    HDL_K_SKIP("layer_types"), /* these read by finish */                                          \
    HDL_K_SKIP("full_attention_interval"),                                                         \
    HDL_K_SKIP("decoder_sparse_step"),                                                             \
    HDL_K_SKIP("mlp_only_layers"),                                                                 \
    HDL_K_U32("mtp_num_hidden_layers", n_mtp_layers, 0, HDL_LAYERS_MAX), /* skipped */             \
    HDL_K_SKIP("mtp_use_dedicated_embeddings")

#define MOE_KEYS                                                                                   \
    HDL_K_U32("moe_intermediate_size", moe_inter, 1, 1u << 20),                                    \
    HDL_K_U32("num_experts", n_experts, 1, 4096),                                                  \
    HDL_K_U32("num_local_experts", n_experts, 1, 4096), /* as transformers 5 writes it */          \
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),                                                 \
    HDL_K_U32("shared_expert_intermediate_size", shared_inter, 1, 1u << 20)
// clang-format on

static const hdl_config_key next_keys[] = {
    HYBRID_KEYS,
    MOE_KEYS,
    HDL_K_BOOL("norm_topk_prob", router.renorm),
};
static const hdl_config_key dense_keys[] = {HYBRID_KEYS};
static const hdl_config_key moe_keys[] = {
    HYBRID_KEYS,
    MOE_KEYS,
    HDL_K_EXPECT("norm_topk_prob", "true", "weights that do not sum up to 1 are not supported"),
};

static const hdl_config_key outer_keys[] = {
    HDL_K_SKIP("vision_config"),       HDL_K_SKIP("image_token_id"),
    HDL_K_SKIP("video_token_id"),      HDL_K_SKIP("vision_start_token_id"),
    HDL_K_SKIP("vision_end_token_id"),
};

static void init(hdl_model_desc *desc)
{
    desc->norm_plus_one = true;
    desc->attn_gate = true;
    desc->shared_gate = true;
    desc->ropes[0].partial = 0.25; /* the defaults of transformers */
    desc->gdn =
        (hdl_gdn_desc){.n_k_heads = 16, .n_v_heads = 32, .k_dim = 128, .v_dim = 128, .conv = 4};
}

/* HF: Qwen3NextConfig. Without layer_types every full_attention_interval-th layer is attention. */
static hdl_err finish_mixers(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t interval = 4;
    hdl_jv list = hdl_jv_get(root, "layer_types"),
           every = hdl_jv_get(root, "full_attention_interval");
    if (hdl_jv_given(&every))
        HDL_TRY(hdl_jv_int(&every, (hdl_jv_range){1, HDL_LAYERS_MAX}, &interval, why));
    bool given = hdl_jv_given(&list);
    if (given && hdl_jv_len(&list) != desc->n_layers)
        return hdl_jv_fail(&list, why, "has %zu entries for %u layers", hdl_jv_len(&list),
                           desc->n_layers);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        const char *type = (i + 1) % interval ? "linear_attention" : "full_attention";
        hdl_jv item = hdl_jv_at(&list, i);
        if (given)
            HDL_TRY(hdl_jv_string(&item, &type, NULL, why));
        if (strcmp(type, "linear_attention") == 0)
            desc->layers[i].mixer = HDL_MIXER_GDN;
        else if (strcmp(type, "full_attention") != 0)
            return hdl_jv_fail(&item, why, "must be linear_attention or full_attention");
    }
    return HDL_OK;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    HDL_TRY(finish_mixers(desc, root, why));
    if (desc->gdn.n_v_heads % desc->gdn.n_k_heads != 0)
        return hdl_fail(HDL_INVALID, why,
                        "config.json: %u value heads of recurrent layers cannot share %u key heads "
                        "evenly; the file is damaged; fetch the original",
                        desc->gdn.n_v_heads, desc->gdn.n_k_heads);
    if (desc->layers[0].ffn == HDL_FFN_DENSE)
        return HDL_OK;
    return hdl_arch_sparse_layers(desc, root, why);
}

/* model: "model.", "model.language_model." */
#define LAYER(model) model "layers.{l}."
#define HYBRID_NAMES(model)                                                                        \
    HDL_W(EMBED, model "embed_tokens.weight"), HDL_W(FINAL_NORM, model "norm.weight"),             \
        HDL_W(LM_HEAD, "lm_head.weight"), HDL_W(ATTN_NORM, LAYER(model) "input_layernorm.weight"), \
        HDL_W(Q_GATE, LAYER(model) "self_attn.q_proj.weight"),                                     \
        HDL_W(K, LAYER(model) "self_attn.k_proj.weight"),                                          \
        HDL_W(V, LAYER(model) "self_attn.v_proj.weight"),                                          \
        HDL_W(O, LAYER(model) "self_attn.o_proj.weight"),                                          \
        HDL_W(Q_NORM, LAYER(model) "self_attn.q_norm.weight"),                                     \
        HDL_W(K_NORM, LAYER(model) "self_attn.k_norm.weight"),                                     \
        HDL_W(FFN_NORM, LAYER(model) "post_attention_layernorm.weight"),                           \
        HDL_W(GATE, LAYER(model) "mlp.gate_proj.weight"),                                          \
        HDL_W(UP, LAYER(model) "mlp.up_proj.weight"),                                              \
        HDL_W(DOWN, LAYER(model) "mlp.down_proj.weight"), CONV(GDN_CONV_Q, model),                 \
        CONV(GDN_CONV_K, model), CONV(GDN_CONV_V, model),                                          \
        HDL_W(GDN_A_LOG, LAYER(model) "linear_attn.A_log"),                                        \
        HDL_W(GDN_DT_BIAS, LAYER(model) "linear_attn.dt_bias"),                                    \
        HDL_W(GDN_NORM, LAYER(model) "linear_attn.norm.weight"),                                   \
        HDL_W(GDN_OUT, LAYER(model) "linear_attn.out_proj.weight")
#define CONV(slot, model)                                                                          \
    HDL_W_FUSED(slot, LAYER(model) "linear_attn.conv1d.weight", 0, 3, HDL_WSLOT_GDN_CONV_Q,        \
                HDL_WSLOT_GDN_CONV_K, HDL_WSLOT_GDN_CONV_V)

#define QKV(slot, model)                                                                           \
    HDL_W_FUSED(slot, LAYER(model) "linear_attn.in_proj_qkv.weight", 0, 3, HDL_WSLOT_GDN_Q,        \
                HDL_WSLOT_GDN_K, HDL_WSLOT_GDN_V)
#define SPLIT_NAMES(model)                                                                         \
    QKV(GDN_Q, model), QKV(GDN_K, model), QKV(GDN_V, model),                                       \
        HDL_W(GDN_Z, LAYER(model) "linear_attn.in_proj_z.weight"),                                 \
        HDL_W(GDN_B, LAYER(model) "linear_attn.in_proj_b.weight"),                                 \
        HDL_W(GDN_A, LAYER(model) "linear_attn.in_proj_a.weight")

#define QKVZ(slot)                                                                                 \
    HDL_W_FUSED(slot, LAYER("model.") "linear_attn.in_proj_qkvz.weight", HDL_FORM_HEADS, 4,        \
                HDL_WSLOT_GDN_Q, HDL_WSLOT_GDN_K, HDL_WSLOT_GDN_V, HDL_WSLOT_GDN_Z)
#define BA(slot)                                                                                   \
    HDL_W_FUSED(slot, LAYER("model.") "linear_attn.in_proj_ba.weight", HDL_FORM_HEADS, 2,          \
                HDL_WSLOT_GDN_B, HDL_WSLOT_GDN_A)

#define STACK(slot, model, name)                                                                   \
    HDL_W_FUSED(slot, LAYER(model) "mlp.experts." name, HDL_FORM_STACKED, 2,                       \
                HDL_WSLOT_EXPERT_GATE, HDL_WSLOT_EXPERT_UP)
#define MOE_NAMES(model)                                                                           \
    HDL_W(ROUTER, LAYER(model) "mlp.gate.weight"),                                                 \
        HDL_W(EXPERT_GATE, LAYER(model) "mlp.experts.{e}.gate_proj.weight"),                       \
        HDL_W(EXPERT_UP, LAYER(model) "mlp.experts.{e}.up_proj.weight"),                           \
        HDL_W(EXPERT_DOWN, LAYER(model) "mlp.experts.{e}.down_proj.weight"),                       \
        STACK(EXPERT_GATE, model, "gate_up_proj"), STACK(EXPERT_UP, model, "gate_up_proj"),        \
        HDL_W_AS(EXPERT_DOWN, LAYER(model) "mlp.experts.down_proj", HDL_FORM_STACKED),             \
        HDL_W(SHARED_GATE, LAYER(model) "mlp.shared_expert.gate_proj.weight"),                     \
        HDL_W(SHARED_UP, LAYER(model) "mlp.shared_expert.up_proj.weight"),                         \
        HDL_W(SHARED_DOWN, LAYER(model) "mlp.shared_expert.down_proj.weight"),                     \
        HDL_W(SHARED_ON, LAYER(model) "mlp.shared_expert_gate.weight")

static const hdl_weight_name next_names[] = {
    HYBRID_NAMES("model."),
    QKVZ(GDN_Q),
    QKVZ(GDN_K),
    QKVZ(GDN_V),
    QKVZ(GDN_Z),
    BA(GDN_B),
    BA(GDN_A),
    MOE_NAMES("model."),
};
static const hdl_weight_name dense_names[] = {HYBRID_NAMES("model."), SPLIT_NAMES("model.")};
static const hdl_weight_name moe_names[] = {HYBRID_NAMES("model."), SPLIT_NAMES("model."),
                                            MOE_NAMES("model.")};
static const hdl_weight_name inner_dense_names[] = {HYBRID_NAMES("model.language_model."),
                                                    SPLIT_NAMES("model.language_model.")};
static const hdl_weight_name inner_moe_names[] = {HYBRID_NAMES("model.language_model."),
                                                  SPLIT_NAMES("model.language_model."),
                                                  MOE_NAMES("model.language_model.")};

#define HYBRID(name_, type_, keys_, names_)                                                        \
    .name = (name_), .model_type = (type_), .keys = (keys_), .n_keys = HDL_ARRAY_LEN(keys_),       \
    .names = (names_), .n_names = HDL_ARRAY_LEN(names_), .mixer = HDL_MIXER_ATTENTION,             \
    .router = HDL_ROUTER_SOFTMAX_TOPK, .router_renorm = true, .qk_norm = HDL_QK_NORM_HEAD,         \
    .init = init, .finish = finish
#define INNER                                                                                      \
    .text = "text_config", .outer_keys = outer_keys, .n_outer_keys = HDL_ARRAY_LEN(outer_keys),    \
    .skips = {"model.visual.", "mtp."}

const hdl_arch hdl_arch_qwen3next = {
    HYBRID("Qwen3NextForCausalLM", "qwen3_next", next_keys, next_names),
    .ffn = HDL_FFN_MOE,
    .skips = {"mtp."},
};

const hdl_arch hdl_arch_qwen35 = {
    HYBRID("Qwen3_5ForCausalLM", "qwen3_5_text", dense_keys, dense_names),
    .ffn = HDL_FFN_DENSE,
    .skips = {"mtp."},
};

const hdl_arch hdl_arch_qwen35moe = {
    HYBRID("Qwen3_5MoeForCausalLM", "qwen3_5_moe_text", moe_keys, moe_names),
    .ffn = HDL_FFN_MOE,
    .skips = {"mtp."},
};

const hdl_arch hdl_arch_qwen35_vl = {
    HYBRID("Qwen3_5ForConditionalGeneration", "qwen3_5", dense_keys, inner_dense_names),
    .ffn = HDL_FFN_DENSE,
    INNER,
};

const hdl_arch hdl_arch_qwen35moe_vl = {
    HYBRID("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", moe_keys, inner_moe_names),
    .ffn = HDL_FFN_MOE,
    INNER,
};
