/* SPDX-License-Identifier: Apache-2.0 */
/* Mistral 7B, NeMo, Small, Ministral: Llama without biases, with a head_dim of its own and perhaps
 * a window, on every layer (Mistral) or on those that layer_types names (Ministral). Ministral 3
 * scales queries by their position. Mistral3ForConditionalGeneration is an image tower around a
 * Mistral or a Ministral 3; only the text model is run. HF: modeling_mistral.py,
 * modeling_ministral.py, modeling_ministral3.py, modeling_mistral3.py. */
#include <string.h>

#include "worker/model/arch_hf.h"

static const hdl_config_key mistral_keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_EXPECT("attention_bias", "false", "biases of the attention are not supported"),
    HDL_K_EXPECT("mlp_bias", "false", "biases of the feed-forward layers are not supported"),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
};

static const hdl_config_key ministral_keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_SKIP("sliding_window"), /* both read by finish */
    HDL_K_SKIP("layer_types"),
};

static const hdl_config_key ministral3_keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope_and_q_temp),
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope_and_q_temp),
};

static const hdl_config_key image_keys[] = {HDL_HF_MISTRAL3_OUTER};

static hdl_err key_text_type(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    const char *type = "";
    (void)desc;
    HDL_TRY(hdl_jv_string(v, &type, NULL, why));
    if (strcmp(type, "mistral") == 0 || strcmp(type, "ministral3") == 0)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "config.json: the text model is a \"%.40s\"; inside of this architecture "
                    "mistral, ministral3 and mistral4 are supported; choose another model",
                    type);
}

static const hdl_config_key text_keys[] = {
    HDL_K_CALL("model_type", key_text_type),
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("sliding_window", hdl_arch_window_all),
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope_and_q_temp),
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope_and_q_temp),
};

/* HF: MinistralConfig. */
static hdl_err ministral_finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    bool given = false;
    HDL_TRY(hdl_arch_layer_types(desc, root, &given, why));
    hdl_jv window = hdl_jv_get(root, "sliding_window");
    return given ? HDL_OK : hdl_arch_window_all(desc, &window, why);
}

static const hdl_weight_name names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_DENSE("", "mlp."),
};

static const hdl_weight_name text_names[] = {
    HDL_HF_MODEL("language_model."),
    HDL_HF_ATTENTION("language_model."),
    HDL_HF_DENSE("language_model.", "mlp."),
};

#define MISTRAL(name_, type_, keys_)                                                               \
    .name = (name_), .model_type = (type_), .keys = (keys_), .n_keys = HDL_ARRAY_LEN(keys_),       \
    .names = names, .n_names = HDL_ARRAY_LEN(names), .mixer = HDL_MIXER_ATTENTION,                 \
    .ffn = HDL_FFN_DENSE

const hdl_arch hdl_arch_mistral = {
    MISTRAL("MistralForCausalLM", "mistral", mistral_keys),
};

const hdl_arch hdl_arch_ministral = {
    MISTRAL("MinistralForCausalLM", "ministral", ministral_keys),
    .finish = ministral_finish,
};

const hdl_arch hdl_arch_ministral3 = {
    MISTRAL("Ministral3ForCausalLM", "ministral3", ministral3_keys),
};

const hdl_arch hdl_arch_mistral3 = {
    .name = "Mistral3ForConditionalGeneration",
    .model_type = "mistral3",
    .keys = text_keys,
    .n_keys = HDL_ARRAY_LEN(text_keys),
    .names = text_names,
    .n_names = HDL_ARRAY_LEN(text_names),
    .text = "text_config",
    .outer_keys = image_keys,
    .n_outer_keys = HDL_ARRAY_LEN(image_keys),
    .skips = {"vision_tower.", "multi_modal_projector."},
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
};
