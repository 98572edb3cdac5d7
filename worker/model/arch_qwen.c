/* SPDX-License-Identifier: Apache-2.0 */
/* Qwen2, Qwen2.5 and what is distilled into them: Llama with biases on q, k and v. Qwen3: Llama
 * with an RMS norm of each q and k head before RoPE and a head_dim independent of hidden. Both may
 * have a window on the layers from max_window_layers on. HF: modeling_qwen2.py, modeling_qwen3.py.
 */
#include "worker/model/arch_hf.h"

#define WINDOW_KEYS                                                                                \
    HDL_K_SKIP("use_sliding_window"), /* all read by finish */                                     \
        HDL_K_SKIP("sliding_window"), HDL_K_SKIP("max_window_layers"), HDL_K_SKIP("layer_types")

static const hdl_config_key qwen2_keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_EXPECT("use_mrope", "false", "positions in three dimensions are not supported"),
    WINDOW_KEYS,
};

static const hdl_config_key qwen3_keys[] = {
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),
    HDL_K_CALL("attention_bias", hdl_arch_key_bias),
    WINDOW_KEYS,
};

static void qwen2_init(hdl_model_desc *desc) { desc->qkv_bias = true; }

/* Layers from `from` on have the window. HF: Qwen2Config; its default for max_window_layers is 28.
 */
static hdl_err late_windows(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t from = 28, window = 0;
    hdl_jv v = hdl_jv_get(root, "sliding_window");
    if (!hdl_jv_given(&v))
        return HDL_OK;
    HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, INT32_MAX}, &window, why));
    v = hdl_jv_get(root, "max_window_layers");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){0, INT32_MAX}, &from, why));
    for (uint32_t i = 0; i < desc->n_layers; i++)
        desc->layers[i].window = i >= from ? (uint32_t)window : 0;
    return HDL_OK;
}

static hdl_err finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    bool on = false, given = false;
    hdl_jv use = hdl_jv_get(root, "use_sliding_window");
    if (hdl_jv_given(&use))
        HDL_TRY(hdl_jv_bool(&use, &on, why));
    HDL_TRY(hdl_arch_layer_types(desc, root, &given, why));
    if (on)
        return given ? HDL_OK : late_windows(desc, root, why);
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (desc->layers[i].window != 0)
            return hdl_fail(HDL_INVALID, why,
                            "config.json: layer %u is of type sliding_attention, but "
                            "use_sliding_window is false; the file contradicts itself; fetch the "
                            "original",
                            i);
    return HDL_OK;
}

static const hdl_weight_name qwen2_names[] = {
    HDL_HF_MODEL(""),
    HDL_HF_ATTENTION(""),
    HDL_HF_QKV_BIAS(""),
    HDL_HF_DENSE("", "mlp."),
};

static const hdl_weight_name qwen3_names[] = {
    HDL_HF_MODEL(""),  HDL_HF_ATTENTION(""),  HDL_HF_QKV_BIAS(""),
    HDL_HF_O_BIAS(""), HDL_HF_HEAD_NORMS(""), HDL_HF_DENSE("", "mlp."),
};

const hdl_arch hdl_arch_qwen2 = {
    .name = "Qwen2ForCausalLM",
    .model_type = "qwen2",
    .keys = qwen2_keys,
    .n_keys = HDL_ARRAY_LEN(qwen2_keys),
    .names = qwen2_names,
    .n_names = HDL_ARRAY_LEN(qwen2_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .init = qwen2_init,
    .finish = finish,
};

const hdl_arch hdl_arch_qwen3 = {
    .name = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .keys = qwen3_keys,
    .n_keys = HDL_ARRAY_LEN(qwen3_keys),
    .names = qwen3_names,
    .n_names = HDL_ARRAY_LEN(qwen3_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .qk_norm = HDL_QK_NORM_HEAD,
    .finish = finish,
};
