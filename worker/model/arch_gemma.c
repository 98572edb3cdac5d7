/* SPDX-License-Identifier: Apache-2.0 */
/* Gemma 2 and 3: norms stored as w - 1 before and after both blocks, embeddings times sqrt(hidden),
 * GeGLU, windows on all but every second (Gemma 2) or sixth layer. Gemma 2 caps scores and logits;
 * Gemma 3 norms q and k heads and has a rotary table of its own for the layers with a window.
 * Gemma3ForConditionalGeneration is an image tower around the latter; only the text model is run.
 * HF: modeling_gemma2.py, modeling_gemma3.py. */
#include <math.h>
#include <string.h>

#include "worker/model/arch_hf.h"

enum { ROPE_GLOBAL, ROPE_LOCAL }; /* Gemma 3's tables */

/* null: no cap, whatever the default. */
static hdl_err read_cap(float *out, const hdl_jv *v, hdl_errmsg *why)
{
    double cap = 0;
    if (hdl_jv_given(v)) {
        HDL_TRY(hdl_jv_double(v, &cap, why));
        if (!(cap > 0) || !isfinite(cap))
            return hdl_jv_fail(v, why, "must be greater than 0");
    }
    *out = (float)cap;
    return HDL_OK;
}

static hdl_err key_attn_cap(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return read_cap(&desc->attn_softcap, v, why);
}

static hdl_err key_logit_cap(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    return read_cap(&desc->logit_softcap, v, why);
}

static hdl_err key_query_scale(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    double scalar = 0;
    HDL_TRY(hdl_jv_double(v, &scalar, why));
    if (!(scalar > 0) || !isfinite(scalar))
        return hdl_jv_fail(v, why, "must be greater than 0");
    desc->attn_scale = (float)(1 / sqrt(scalar));
    return HDL_OK;
}

#define GEMMA_KEYS                                                                                 \
    HDL_K_U32("intermediate_size", inter, 1, 1u << 20),                                            \
        HDL_K_CALL("attention_bias", hdl_arch_key_bias),                                           \
        HDL_K_CALL("attn_logit_softcapping", key_attn_cap),                                        \
        HDL_K_CALL("final_logit_softcapping", key_logit_cap),                                      \
        HDL_K_CALL("query_pre_attn_scalar", key_query_scale),                                      \
        HDL_K_EXPECT("hidden_act", "\"gelu_pytorch_tanh\"", GELU_ONLY),                            \
        HDL_K_EXPECT("hidden_activation", "\"gelu_pytorch_tanh\"", GELU_ONLY),                     \
        HDL_K_EXPECT("use_bidirectional_attention", "false",                                       \
                     "attention to later tokens is not supported"),                                \
        HDL_K_SKIP("cache_implementation"), HDL_K_SKIP("sliding_window"), /* read by finish */     \
        HDL_K_SKIP("layer_types")
#define GELU_ONLY "only the tanh form of gelu is supported"

static const hdl_config_key gemma2_keys[] = {GEMMA_KEYS};

static hdl_err key_local_theta(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    double theta = 0;
    HDL_TRY(hdl_jv_double(v, &theta, why));
    if (!(theta > 1) || !isfinite(theta))
        return hdl_jv_fail(v, why, "must be greater than 1");
    desc->ropes[ROPE_LOCAL].theta = theta;
    return HDL_OK;
}

/* transformers 5: an object for each type of layer. Before it rope_scaling spoke of the layers
 * without a window alone. */
static hdl_err key_ropes(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    void *iter = NULL;
    hdl_jv m;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_OBJECT, why));
    while (hdl_jv_next(v, &iter, &m)) {
        bool local = strcmp(m.key, "sliding_attention") == 0;
        if (!local && strcmp(m.key, "full_attention") != 0)
            return hdl_fail(
                HDL_UNSUPPORTED, why,
                "config.json: unknown key \"%.60s\" of rope_parameters; it might change "
                "the mathematics; remove it if it does not, or report it",
                m.key);
        HDL_TRY(hdl_arch_read_rope(&desc->ropes[local ? ROPE_LOCAL : ROPE_GLOBAL], &m, why));
    }
    return HDL_OK;
}

static const hdl_config_key gemma3_keys[] = {
    GEMMA_KEYS,
    HDL_K_CALL("rope_local_base_freq", key_local_theta),
    HDL_K_CALL("rope_parameters", key_ropes),
    HDL_K_SKIP("sliding_window_pattern"), /* read by finish */
    HDL_K_SKIP("_sliding_window_pattern"),
};

static const hdl_config_key image_keys[] = {
    HDL_K_CALL("vision_config", hdl_arch_key_gemma3_tower),
    HDL_K_SKIP("mm_tokens_per_image"),
    HDL_K_SKIP("boi_token_index"),
    HDL_K_SKIP("eoi_token_index"),
    HDL_K_SKIP("image_token_index"),
};

static void init(hdl_model_desc *desc)
{
    desc->tied = true;
    desc->norm_plus_one = true;
    desc->post_norm = true;
    desc->glu = HDL_GLU_GELU;
    desc->attn_scale = 1.0f / 16; /* query_pre_attn_scalar 256 */
}

static void gemma2_init(hdl_model_desc *desc)
{
    init(desc);
    desc->attn_softcap = 50; /* the defaults of transformers */
    desc->logit_softcap = 30;
}

static void gemma3_init(hdl_model_desc *desc)
{
    init(desc);
    desc->n_ropes = 2;
    desc->ropes[ROPE_GLOBAL].theta = 1e6;
    desc->ropes[ROPE_LOCAL].theta = 1e4;
}

/* The published files leave out whatever is a default of Gemma3TextConfig. */
static void gemma3_text_init(hdl_model_desc *desc)
{
    gemma3_init(desc);
    desc->vocab = 262208;
    desc->n_heads = 8;
    desc->n_kv_heads = 4;
    desc->head_dim = 256;
    desc->max_len = 131072;
    desc->norm_eps = 1e-6f;
}

static hdl_err read_windows(hdl_model_desc *desc, const hdl_jv *root, uint32_t period,
                            hdl_errmsg *why)
{
    bool given = false;
    desc->embed_scale = sqrtf((float)desc->hidden);
    HDL_TRY(hdl_arch_layer_types(desc, root, &given, why));
    return given ? HDL_OK : hdl_arch_window_period(desc, root, period, why);
}

static hdl_err gemma2_finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    return read_windows(desc, root, 2, why);
}

static hdl_err gemma3_finish(hdl_model_desc *desc, const hdl_jv *root, hdl_errmsg *why)
{
    int64_t period = 6;
    hdl_jv v = hdl_jv_get(root, "sliding_window_pattern");
    if (hdl_jv_given(&v))
        HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, HDL_LAYERS_MAX}, &period, why));
    HDL_TRY(read_windows(desc, root, (uint32_t)period, why));
    for (uint32_t i = 0; i < desc->n_layers; i++)
        desc->layers[i].rope = desc->layers[i].window ? ROPE_LOCAL : ROPE_GLOBAL;
    return HDL_OK;
}

static const hdl_weight_name gemma2_names[] = {
    HDL_HF_MODEL(""),    HDL_HF_SANDWICH(""), HDL_HF_QKVO(""),
    HDL_HF_QKV_BIAS(""), HDL_HF_O_BIAS(""),   HDL_HF_DENSE("", "mlp."),
};

#define GEMMA3_NAMES(p)                                                                            \
    HDL_HF_MODEL(p), HDL_HF_SANDWICH(p), HDL_HF_QKVO(p), HDL_HF_QKV_BIAS(p), HDL_HF_O_BIAS(p),     \
        HDL_HF_HEAD_NORMS(p), HDL_HF_DENSE(p, "mlp.")

static const hdl_weight_name gemma3_names[] = {GEMMA3_NAMES("")};
static const hdl_weight_name gemma3_text_names[] = {GEMMA3_NAMES("language_model.")};

const hdl_arch hdl_arch_gemma2 = {
    .name = "Gemma2ForCausalLM",
    .model_type = "gemma2",
    .keys = gemma2_keys,
    .n_keys = HDL_ARRAY_LEN(gemma2_keys),
    .names = gemma2_names,
    .n_names = HDL_ARRAY_LEN(gemma2_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .init = gemma2_init,
    .finish = gemma2_finish,
};

const hdl_arch hdl_arch_gemma3 = {
    .name = "Gemma3ForCausalLM",
    .model_type = "gemma3_text",
    .keys = gemma3_keys,
    .n_keys = HDL_ARRAY_LEN(gemma3_keys),
    .names = gemma3_names,
    .n_names = HDL_ARRAY_LEN(gemma3_names),
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .qk_norm = HDL_QK_NORM_HEAD,
    .init = gemma3_init,
    .finish = gemma3_finish,
};

const hdl_arch hdl_arch_gemma3text = {
    .name = "Gemma3ForConditionalGeneration",
    .model_type = "gemma3",
    .keys = gemma3_keys,
    .n_keys = HDL_ARRAY_LEN(gemma3_keys),
    .names = gemma3_text_names,
    .n_names = HDL_ARRAY_LEN(gemma3_text_names),
    .text = "text_config",
    .outer_keys = image_keys,
    .n_outer_keys = HDL_ARRAY_LEN(image_keys),
    .skips = {"vision_tower.", "multi_modal_projector."},
    .mixer = HDL_MIXER_ATTENTION,
    .ffn = HDL_FFN_DENSE,
    .qk_norm = HDL_QK_NORM_HEAD,
    .init = gemma3_text_init,
    .finish = gemma3_finish,
};
