/* SPDX-License-Identifier: Apache-2.0 */
/* Llama 4 Scout and Maverick, the text model: three of four layers rotate pairs of neighbours, norm
 * q and k without weights after it (Scout) and see chunks of the positions; every fourth has no
 * positions, sees all and scales its queries by position. Mixtures route to one expert by a sigmoid
 * that multiplies the expert's input, beside a shared expert; Maverick's every second layer is
 * dense. The files' vision tower is not run. HF: modeling_llama4.py. */
#include "worker/model/arch_hf.h"

static hdl_err key_qk_norm(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    bool on = true;
    if (hdl_jv_given(v))
        HDL_TRY(hdl_jv_bool(v, &on, why));
    desc->qk_norm = on ? HDL_QK_NORM_L2_AFTER : HDL_QK_NORM_NONE;
    return HDL_OK;
}

/* The published files say true, or the number 4 of Meta's own code. */
static hdl_err key_tuning(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    bool on = true;
    double number = 0;
    if (hdl_jv_kind(v) == HDL_JSON_INT || hdl_jv_kind(v) == HDL_JSON_REAL) {
        HDL_TRY(hdl_jv_double(v, &number, why));
        on = number != 0;
    } else if (hdl_jv_given(v)) {
        HDL_TRY(hdl_jv_bool(v, &on, why));
    }
    for (unsigned i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].q_temp = on;
    return HDL_OK;
}

static hdl_err key_positive(const hdl_jv *v, double *out, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(v, out, why));
    return *out > 0 ? HDL_OK : hdl_jv_fail(v, why, "must be greater than 0");
}
static hdl_err key_attn_scale(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return key_positive(v, &desc->q_temp.beta, why);
}
static hdl_err key_floor_scale(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return key_positive(v, &desc->q_temp.floor_scale, why);
}

static const hdl_config_key keys[] = {
    HDL_K_U32("intermediate_size", moe_inter, 1, 1u << 20),
    HDL_K_U32("intermediate_size_mlp", inter, 1, 1u << 20),
    HDL_K_U32("num_local_experts", n_experts, 1, 4096),
    HDL_K_U32("num_experts_per_tok", topk, 1, 64),
    HDL_K_CALL("use_qk_norm", key_qk_norm),
    HDL_K_CALL("attn_temperature_tuning", key_tuning),
    HDL_K_CALL("attn_scale", key_attn_scale),
    HDL_K_CALL("floor_scale", key_floor_scale),
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_SKIP("no_rope_layers"), /* read by finish */
    HDL_K_SKIP("no_rope_layer_interval"),
    HDL_K_SKIP("moe_layers"),
    HDL_K_SKIP("interleave_moe_layer_step"),
    HDL_K_SKIP("attention_chunk_size"),
    HDL_K_SKIP("layer_types"),
    HDL_K_SKIP("router_jitter_noise"), /* training only */
    HDL_K_SKIP("for_llm_compression"),
};

static const hdl_config_key outer_keys[] = {
    HDL_K_CALL("vision_config", hdl_arch_key_llama4_tower),
    HDL_K_SKIP("image_token_index"),
    HDL_K_SKIP("image_token_id"),
    HDL_K_SKIP("boi_token_index"),
    HDL_K_SKIP("boi_token_id"),
    HDL_K_SKIP("eoi_token_index"),
    HDL_K_SKIP("eoi_token_id"),
};

static void init(hdl_model_desc *desc)
{
    desc->qk_norm = HDL_QK_NORM_L2_AFTER; /* the defaults of transformers */
    desc->q_temp = (hdl_q_temp){.beta = 0.1, .floor_scale = 8192, .offset = 1};
    desc->ropes[0].theta = 500000;
    desc->ropes[0].interleaved = true;
    desc->router_on_input = true;
    for (unsigned i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].q_temp = true;
}

static void outer_init(hdl_model_desc *desc)
{
    init(desc);
    desc->tower = hdl_arch_llama4_tower(); /* published without a vision_config */
}

static hdl_err read_step(const hdl_jv *root, const char *key, int64_t *step, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(root, key);
    return hdl_jv_given(&v) ? hdl_jv_int(&v, (hdl_jv_range){1, HDL_LAYERS_MAX}, step, why) : HDL_OK;
}

/* no_rope_layers has a 1 for each layer that rotates. Empty or absent: every interval-th does not.
 */
static hdl_err read_ropes(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t interval = 4;
    HDL_TRY(read_step(root, "no_rope_layer_interval", &interval, why));
    hdl_jv list = hdl_jv_get(root, "no_rope_layers");
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        int64_t rotates = (i + 1) % interval != 0;
        if (hdl_jv_len(&list) > 0) {
            hdl_jv item = hdl_jv_at(&list, i);
            HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, 1}, &rotates, why));
        }
        desc->layers[i].rope = rotates ? 0 : HDL_ROPE_NONE;
        desc->layers[i].q_temp = desc->layers[i].q_temp && !rotates;
    }
    return HDL_OK;
}

/* layer_types, or chunks where positions are. */
static hdl_err read_chunks(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    bool given = false;
    int64_t chunk = 8192;
    HDL_TRY(hdl_arch_layer_types(desc, root, &given, why));
    if (given)
        return HDL_OK;
    hdl_jv v = hdl_jv_get(root, "attention_chunk_size");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, 1 << 24}, &chunk, why));
    else if (hdl_jv_present(&v)) /* null */
        return HDL_OK;
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (desc->layers[i].rope != HDL_ROPE_NONE)
            desc->layers[i].chunk = (uint32_t)chunk;
    return HDL_OK;
}

static hdl_err read_mixtures(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t step = 1;
    HDL_TRY(read_step(root, "interleave_moe_layer_step", &step, why));
    hdl_jv list = hdl_jv_get(root, "moe_layers");
    bool listed = hdl_jv_given(&list);
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (listed || (i + 1) % step != 0)
            desc->layers[i].ffn = HDL_FFN_DENSE;
    for (size_t i = 0; listed && i < hdl_jv_len(&list); i++) {
        int64_t layer = 0;
        hdl_jv item = hdl_jv_at(&list, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, (int64_t)desc->n_layers - 1}, &layer, why));
        desc->layers[layer].ffn = HDL_FFN_MOE;
    }
    return HDL_OK;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    desc->shared_inter = desc->moe_inter;
    HDL_TRY(read_ropes(desc, root, why));
    HDL_TRY(read_chunks(desc, root, why));
    return read_mixtures(desc, root, why);
}

/* Quantised releases hold the experts one by one: the second name of each. */
#define BOTH (HDL_FORM_STACKED | HDL_FORM_TRANSPOSED)
#define NAMES(p)                                                                                   \
    HDL_HF_MODEL(p), HDL_HF_ATTENTION(p), HDL_HF_DENSE(p, "feed_forward."),                        \
        HDL_HF_SHARED(p, "feed_forward.shared_expert."),                                           \
        HDL_W(ROUTER, HDL_HF_LAYER(p) "feed_forward.router.weight"),                               \
        HDL_W_FUSED(EXPERT_GATE, HDL_HF_LAYER(p) "feed_forward.experts.gate_up_proj", BOTH, 2,     \
                    HDL_WSLOT_EXPERT_GATE, HDL_WSLOT_EXPERT_UP),                                   \
        HDL_W_FUSED(EXPERT_UP, HDL_HF_LAYER(p) "feed_forward.experts.gate_up_proj", BOTH, 2,       \
                    HDL_WSLOT_EXPERT_GATE, HDL_WSLOT_EXPERT_UP),                                   \
        HDL_W_AS(EXPERT_DOWN, HDL_HF_LAYER(p) "feed_forward.experts.down_proj", BOTH),             \
        HDL_W(EXPERT_GATE, HDL_HF_LAYER(p) "feed_forward.experts.{e}.gate_proj.weight"),           \
        HDL_W(EXPERT_UP, HDL_HF_LAYER(p) "feed_forward.experts.{e}.up_proj.weight"),               \
        HDL_W(EXPERT_DOWN, HDL_HF_LAYER(p) "feed_forward.experts.{e}.down_proj.weight")

static const hdl_weight_name names[] = {NAMES("")}, inner_names[] = {NAMES("language_model.")};

#define LLAMA4                                                                                     \
    .keys = keys, .n_keys = HDL_ARRAY_LEN(keys), .mixer = HDL_MIXER_ATTENTION, .ffn = HDL_FFN_MOE, \
    .router = HDL_ROUTER_TOPK_SIGMOID, .finish = finish

const hdl_arch hdl_arch_llama4text = {
    .name = "Llama4ForCausalLM",
    .model_type = "llama4_text",
    .names = names,
    .n_names = HDL_ARRAY_LEN(names),
    .init = init,
    LLAMA4,
};

const hdl_arch hdl_arch_llama4 = {
    .name = "Llama4ForConditionalGeneration",
    .model_type = "llama4",
    .text = "text_config",
    .outer_keys = outer_keys,
    .n_outer_keys = HDL_ARRAY_LEN(outer_keys),
    .names = inner_names,
    .n_names = HDL_ARRAY_LEN(inner_names),
    .skips = {"vision_model.", "multi_modal_projector."},
    .init = outer_init,
    LLAMA4,
};
