/* SPDX-License-Identifier: Apache-2.0 */
/* DeepSeek-V2, V2-Lite, V3, V3.1, R1, and what is built like V3: Kimi-K2, the text part of
 * Kimi-K2.5 and later. Multi-head latent attention, leading dense layers, shared experts, YaRN with
 * a factor for the softmax. HF: modeling_deepseek_v2.py, modeling_deepseek_v3.py. */
#include <math.h>
#include <string.h>

#include "worker/model/arch_hf.h"

static const char no_bias[] = "biases of the latent attention are not supported";

#define MLA_KEYS                                                                                   \
    HDL_K_U32("q_lora_rank", mla.q_rank, 1, 1u << 16),                                             \
        HDL_K_U32("kv_lora_rank", mla.kv_rank, 1, 1u << 16),                                       \
        HDL_K_U32("qk_nope_head_dim", mla.nope_dim, 1, 4096),                                      \
        HDL_K_U32("qk_rope_head_dim", mla.rope_dim, 2, 4096),                                      \
        HDL_K_U32("v_head_dim", mla.v_dim, 1, 4096),                                               \
        HDL_K_EXPECT("attention_bias", "false", no_bias),                                          \
        HDL_K_BOOL("rope_interleave", ropes[0].interleaved), HDL_K_SKIP("qk_head_dim"),            \
        HDL_K_SKIP("head_dim") /* what follows from the keys above */

#define MOE_KEYS                                                                                   \
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),                                            \
        HDL_K_U32("moe_intermediate_size", moe_inter, 1, 1u << 20),                                \
        HDL_K_U32("n_routed_experts", n_experts, 1, 4096),                                         \
        HDL_K_U32("num_experts_per_tok", topk, 1, 64),                                             \
        HDL_K_U32("n_group", router.n_group, 0, 4096),                                             \
        HDL_K_U32("topk_group", router.topk_group, 0, 4096),                                       \
        HDL_K_F32("routed_scaling_factor", router.scale),                                          \
        HDL_K_EXPECT("moe_layer_freq", "1", "mixtures in some layers only are not supported"),     \
        HDL_K_EXPECT("pretraining_tp", "1", "sums cut up as in pre-training are not supported"),   \
        HDL_K_SKIP("n_shared_experts"), HDL_K_SKIP("first_k_dense_replace"),    /* finish */       \
        HDL_K_U32("num_nextn_predict_layers", n_mtp_layers, 0, HDL_LAYERS_MAX), /* skipped */      \
        HDL_K_SKIP("num_mtp_layers"), HDL_K_SKIP("ep_size"), HDL_K_SKIP("aux_loss_alpha"),         \
        HDL_K_SKIP("seq_aux")

static const hdl_config_key v3_keys[] = {
    MLA_KEYS,
    MOE_KEYS,
    HDL_K_BOOL("norm_topk_prob", router.renorm),
    HDL_K_EXPECT("scoring_func", "\"sigmoid\"", "V3's router scores by sigmoid"),
    HDL_K_EXPECT("topk_method", "\"noaux_tc\"", "V3's router corrects scores without a loss"),
};

static const hdl_config_key v2_keys[] = {
    MLA_KEYS,
    MOE_KEYS,
    HDL_K_SKIP("topk_method"), /* finish */
    HDL_K_EXPECT("norm_topk_prob", "false", "V2's router does not make its weights sum up to 1"),
    HDL_K_EXPECT("scoring_func", "\"softmax\"", "V2's router scores by softmax"),
    HDL_K_EXPECT("mlp_bias", "false", "biases of the feed-forward layers are not supported"),
};

/* V3's attention and shared experts with softmax scores and queries scaled by position. */
static const hdl_config_key mistral4_keys[] = {
    MLA_KEYS,
    MOE_KEYS,
    HDL_K_BOOL("norm_topk_prob", router.renorm),
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope_and_q_temp),
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope_and_q_temp),
};

static void init(hdl_model_desc *desc)
{
    desc->ropes[0].interleaved = true;
    desc->mla.norm_eps = 1e-6f; /* transformers' default, which the latents' norms keep */
}

static void init_v3(hdl_model_desc *desc)
{
    init(desc);
    desc->mtp_vocab = true;
    desc->router_correction = true;
    desc->router.group_top2 = true;
}

static hdl_err read_count(const hdl_jv *root, const char *key, int64_t *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(root, key);
    return hdl_jv_given(&v) ? hdl_jv_int(&v, (hdl_jv_range){0, 4096}, out, why) : HDL_OK;
}

/* HF: yarn_apply_mscale. Scores are larger by the square of a factor that grows with the length
 * that YaRN stretches to. */
static hdl_err softmax_factor(const hdl_model_desc *desc, const hdl_jv *root, double *out,
                              hdl_errmsg *why)
{
    double all_dim = 0;
    hdl_jv rope = hdl_jv_get(root, "rope_parameters");
    if (!hdl_jv_given(&rope))
        rope = hdl_jv_get(root, "rope_scaling");
    hdl_jv v = hdl_jv_get(&rope, "mscale_all_dim");
    *out = 1;
    if (desc->ropes[0].kind == HDL_ROPE_PLAIN || !hdl_jv_given(&v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(&v, &all_dim, why));
    *out = all_dim == 0 ? 1 : hdl_arch_yarn_mscale(desc->ropes[0].factor, all_dim);
    return HDL_OK;
}

static hdl_err finish_attention(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    hdl_mla_desc *m = &desc->mla;
    double factor = 1;
    if (m->kv_rank == 0 || m->nope_dim == 0 || m->rope_dim == 0 || m->v_dim == 0)
        return hdl_fail(HDL_INVALID, why,
                        "config.json lacks kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim or "
                        "v_head_dim; the model cannot be built without; fetch the original file");
    desc->head_dim = m->nope_dim + m->rope_dim;
    desc->ropes[0].dim = m->rope_dim;
    HDL_TRY(softmax_factor(desc, root, &factor, why));
    desc->attn_scale = (float)(factor * factor / sqrt((double)desc->head_dim));
    return HDL_OK;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t n_shared = 0, n_dense = 0;
    HDL_TRY(finish_attention(desc, root, why));
    HDL_TRY(read_count(root, "n_shared_experts", &n_shared, why));
    HDL_TRY(read_count(root, "first_k_dense_replace", &n_dense, why));
    desc->shared_inter = (uint32_t)n_shared * desc->moe_inter;
    for (uint32_t i = 0; i < desc->n_layers && i < n_dense; i++)
        desc->layers[i].ffn = HDL_FFN_DENSE;
    return HDL_OK;
}

static hdl_err finish_v2(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    const char *method = "greedy";
    hdl_jv v = hdl_jv_get(root, "topk_method");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_string(&v, &method, NULL, why));
    if (strcmp(method, "greedy") == 0)
        desc->router.n_group = desc->router.topk_group = 0;
    else if (strcmp(method, "group_limited_greedy") != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "config.json: topk_method \"%.40s\" is not supported; greedy and "
                        "group_limited_greedy are; choose another model",
                        method);
    return finish(desc, root, why);
}

#define ATTN(slot, p, name) HDL_W(slot, HDL_HF_LAYER(p) "self_attn." name ".weight")
#define KV_B(slot, p)                                                                              \
    HDL_W_FUSED(slot, HDL_HF_LAYER(p) "self_attn.kv_b_proj.weight", HDL_FORM_HEADS, 2,             \
                HDL_WSLOT_MLA_K_B, HDL_WSLOT_MLA_V_B)
#define NAMES(p)                                                                                   \
    HDL_HF_MODEL(p), HDL_W(ATTN_NORM, HDL_HF_LAYER(p) "input_layernorm.weight"),                   \
        HDL_W(FFN_NORM, HDL_HF_LAYER(p) "post_attention_layernorm.weight"),                        \
        ATTN(MLA_Q, p, "q_proj"), ATTN(MLA_Q_A, p, "q_a_proj"),                                    \
        ATTN(MLA_Q_A_NORM, p, "q_a_layernorm"), ATTN(MLA_Q_B, p, "q_b_proj"),                      \
        ATTN(MLA_KV_A, p, "kv_a_proj_with_mqa"), ATTN(MLA_KV_A_NORM, p, "kv_a_layernorm"),         \
        KV_B(MLA_K_B, p), KV_B(MLA_V_B, p), ATTN(MLA_O, p, "o_proj"), HDL_HF_DENSE(p, "mlp."),     \
        HDL_HF_SHARED(p, "mlp.shared_experts."),                                                   \
        HDL_W(CORRECTION, HDL_HF_LAYER(p) "mlp.gate.e_score_correction_bias")

static const hdl_weight_name names[] = {NAMES(""), HDL_HF_EXPERTS("")};
static const hdl_weight_name kimi_names[] = {NAMES("language_model."),
                                             HDL_HF_EXPERTS("language_model.")};
static const hdl_weight_name mistral4_names[] = {NAMES(""), HDL_HF_EXPERTS_STACKED(""),
                                                 HDL_HF_EXPERTS("")};
static const hdl_weight_name mistral3_names[] = {NAMES("language_model."),
                                                 HDL_HF_EXPERTS_STACKED("language_model."),
                                                 HDL_HF_EXPERTS("language_model.")};

const hdl_arch hdl_arch_deepseek_v2 = {
    .name = "DeepseekV2ForCausalLM",
    .model_type = "deepseek_v2",
    .keys = v2_keys,
    .n_keys = HDL_ARRAY_LEN(v2_keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .mixer = HDL_MIXER_MLA,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .init = init,
    .finish = finish_v2,
};

const hdl_arch hdl_arch_deepseek_v3 = {
    .name = "DeepseekV3ForCausalLM",
    .model_type = "deepseek_v3",
    .keys = v3_keys,
    .n_keys = HDL_ARRAY_LEN(v3_keys),
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .skips = {"model.layers.{l}."}, /* prediction of further tokens */
    .mixer = HDL_MIXER_MLA,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SIGMOID_TOPK,
    .router_renorm = true,
    .init = init_v3,
    .finish = finish,
};

static const hdl_config_key kimi_outer_keys[] = {
    HDL_K_SKIP("vision_config"),
    HDL_K_SKIP("ignore_index"),
    HDL_K_SKIP("media_placeholder_token_id"),
    HDL_K_SKIP("use_unified_vision_chunk"),
    HDL_K_SKIP("video_placeholder"),
};

const hdl_arch hdl_arch_kimi_k25 = {
    .name = "KimiK25ForConditionalGeneration",
    .model_type = "kimi_k25",
    .keys = v3_keys,
    .n_keys = HDL_ARRAY_LEN(v3_keys),
    .names = kimi_names,
    .n_names = HDL_ARRAY_LEN(kimi_names),
    .text = "text_config",
    .outer_keys = kimi_outer_keys,
    .n_outer_keys = HDL_ARRAY_LEN(kimi_outer_keys),
    .skips = {"vision_tower.", "mm_projector.", "language_model.model.layers.{l}."},
    .mixer = HDL_MIXER_MLA,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SIGMOID_TOPK,
    .router_renorm = true,
    .init = init_v3,
    .finish = finish,
};

static const hdl_config_key mistral3_outer_keys[] = {HDL_HF_MISTRAL3_OUTER};

static void init_mistral4(hdl_model_desc *desc)
{
    init(desc);
    desc->router.group_top2 = true;
}

const hdl_arch hdl_arch_mistral4 = {
    .name = "Mistral4ForCausalLM",
    .model_type = "mistral4",
    .keys = mistral4_keys,
    .n_keys = HDL_ARRAY_LEN(mistral4_keys),
    .names = mistral4_names,
    .n_names = HDL_ARRAY_LEN(mistral4_names),
    .mixer = HDL_MIXER_MLA,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .router_renorm = true,
    .init = init_mistral4,
    .finish = finish,
};

const hdl_arch hdl_arch_mistral3_mistral4 = {
    .name = "Mistral3ForConditionalGeneration",
    .inner = "mistral4",
    .model_type = "mistral3",
    .keys = mistral4_keys,
    .n_keys = HDL_ARRAY_LEN(mistral4_keys),
    .names = mistral3_names,
    .n_names = HDL_ARRAY_LEN(mistral3_names),
    .text = "text_config",
    .outer_keys = mistral3_outer_keys,
    .n_outer_keys = HDL_ARRAY_LEN(mistral3_outer_keys),
    .skips = {"vision_tower.", "multi_modal_projector."},
    .mixer = HDL_MIXER_MLA,
    .ffn = HDL_FFN_MOE,
    .router = HDL_ROUTER_SOFTMAX_TOPK,
    .router_renorm = true,
    .init = init_mistral4,
    .finish = finish,
};
