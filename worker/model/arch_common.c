/* SPDX-License-Identifier: Apache-2.0 */
/* What the architectures share: keys of config.json that mean the same everywhere, and lookups. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "worker/model/arch_list.h"

static hdl_err read_number(const hdl_jv *obj, const char *key, double *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(obj, key);
    HDL_TRY(hdl_jv_double(&v, out, why));
    if (!(*out > 0) || !isfinite(*out))
        return hdl_jv_fail(&v, why, "must be greater than 0");
    return HDL_OK;
}

static hdl_err rope_llama3(hdl_rope *rope, const hdl_jv *v, hdl_errmsg *why)
{
    int64_t original = 0;
    rope->kind = HDL_ROPE_LLAMA3;
    HDL_TRY(read_number(v, "factor", &rope->factor, why));
    HDL_TRY(read_number(v, "low_freq_factor", &rope->low_freq_factor, why));
    HDL_TRY(read_number(v, "high_freq_factor", &rope->high_freq_factor, why));
    hdl_jv len = hdl_jv_get(v, "original_max_position_embeddings");
    HDL_TRY(hdl_jv_int(&len, (hdl_jv_range){1, 1 << 30}, &original, why));
    rope->original_max_len = (uint32_t)original;
    if (rope->high_freq_factor <= rope->low_freq_factor)
        return hdl_jv_fail(v, why, "has high_freq_factor <= low_freq_factor");
    return HDL_OK;
}

/* rope_scaling of transformers 4 (with "type" before 4.43), rope_parameters of transformers 5. */
static hdl_err key_rope(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_OBJECT, why));
    hdl_jv theta = hdl_jv_get(v, "rope_theta");
    if (hdl_jv_given(&theta))
        HDL_TRY(read_number(v, "rope_theta", &desc->ropes[0].theta, why));
    hdl_jv type = hdl_jv_get(v, "rope_type");
    if (!hdl_jv_given(&type))
        type = hdl_jv_get(v, "type");
    const char *name = "default";
    if (hdl_jv_given(&type))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "default") == 0)
        return HDL_OK;
    if (strcmp(name, "llama3") == 0)
        return rope_llama3(&desc->ropes[0], v, why);
    if (strcmp(name, "linear") == 0) {
        desc->ropes[0].kind = HDL_ROPE_LINEAR;
        return read_number(v, "factor", &desc->ropes[0].factor, why);
    }
    return hdl_fail(
        HDL_UNSUPPORTED, why,
        "config.json: rotary scaling \"%.40s\" is not supported; llama3 and linear are; "
        "choose a model that uses one of them or none",
        name);
}

static hdl_err key_theta(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(v, &desc->ropes[0].theta, why));
    if (!(desc->ropes[0].theta > 1) || !isfinite(desc->ropes[0].theta))
        return hdl_jv_fail(v, why, "must be greater than 1");
    return HDL_OK;
}

static hdl_err key_dtype(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    const char *name = "";
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_string(v, &name, NULL, why));
    if (strcmp(name, "bfloat16") == 0)
        desc->dtype = HDL_DTYPE_BF16;
    else if (strcmp(name, "float16") == 0)
        desc->dtype = HDL_DTYPE_F16;
    else if (strcmp(name, "float32") == 0)
        desc->dtype = HDL_DTYPE_F32;
    else
        return hdl_jv_fail(v, why, "must be bfloat16, float16 or float32");
    return HDL_OK;
}

static hdl_err key_bos(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    int64_t id = 0;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_int(v, (hdl_jv_range){-1, INT32_MAX}, &id, why));
    desc->bos_id = id < 0 ? HDL_NONE_U32 : (uint32_t)id;
    return HDL_OK;
}

/* One id or a list of them. */
static hdl_err key_eos(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    if (!hdl_jv_given(v))
        return HDL_OK;
    bool list = hdl_jv_kind(v) == HDL_JSON_ARRAY;
    size_t n = list ? hdl_jv_len(v) : 1;
    if (n > HDL_EOS_IDS_MAX)
        return hdl_jv_fail(v, why, "has more than %d ids", HDL_EOS_IDS_MAX);
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        hdl_jv item = list ? hdl_jv_at(v, i) : *v;
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){0, INT32_MAX}, &id, why));
        desc->eos_ids[desc->n_eos_ids++] = (uint32_t)id;
    }
    return HDL_OK;
}

static hdl_err key_layer_types(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    (void)desc;
    for (size_t i = 0; i < hdl_jv_len(v); i++) {
        const char *type = "";
        hdl_jv item = hdl_jv_at(v, i);
        HDL_TRY(hdl_jv_string(&item, &type, NULL, why));
        if (strcmp(type, "full_attention") != 0)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: layer %zu is of type \"%.40s\"; only full_attention is "
                            "supported for this architecture; choose another model",
                            i, type);
    }
    return HDL_OK;
}

hdl_err hdl_arch_window_all(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    int64_t window = 0;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_int(v, (hdl_jv_range){1, INT32_MAX}, &window, why));
    for (unsigned i = 0; i < HDL_LAYERS_MAX; i++)
        desc->layers[i].window = (uint32_t)window;
    return HDL_OK;
}

#define QUANTISED                                                                                  \
    "weights that are already quantised are not supported yet; use the bf16 release of the model " \
    "(heddle quantises it at load with --weights q8)"

const hdl_config_key hdl_arch_common_keys[] = {
    HDL_K_U32("num_hidden_layers", n_layers, 1, HDL_LAYERS_MAX),
    HDL_K_U32("hidden_size", hidden, 1, 1u << 17),
    HDL_K_U32("num_attention_heads", n_heads, 1, 4096),
    HDL_K_U32("num_key_value_heads", n_kv_heads, 1, 4096),
    HDL_K_U32("head_dim", head_dim, 2, 1024),
    HDL_K_U32("vocab_size", vocab, 1, 1u << 22),
    HDL_K_U32("max_position_embeddings", max_len, 1, 1u << 24),
    HDL_K_F32("rms_norm_eps", norm_eps),
    HDL_K_BOOL("tie_word_embeddings", tied),
    HDL_K_CALL("rope_theta", key_theta),
    HDL_K_CALL("rope_scaling", key_rope),
    HDL_K_CALL("rope_parameters", key_rope),
    HDL_K_CALL("dtype", key_dtype),
    HDL_K_CALL("torch_dtype", key_dtype),
    HDL_K_CALL("bos_token_id", key_bos),
    HDL_K_CALL("eos_token_id", key_eos),
    HDL_K_CALL("layer_types", key_layer_types),
    HDL_K_EXPECT("hidden_act", "\"silu\"", "only the silu activation is supported"),
    HDL_K_EXPECT("is_encoder_decoder", "false", "encoder-decoder models are not supported"),
    HDL_K_EXPECT("add_cross_attention", "false", "cross-attention is not supported"),
    HDL_K_REFUSE("quantization_config", QUANTISED),
    HDL_K_REFUSE("compression_config", QUANTISED),
    HDL_K_SKIP("architectures"),
    HDL_K_SKIP("model_type"),
    HDL_K_SKIP("transformers_version"),
    HDL_K_SKIP("_name_or_path"),
    HDL_K_SKIP("use_cache"),
    HDL_K_SKIP("pad_token_id"),
    HDL_K_SKIP("unk_token_id"),
    HDL_K_SKIP("initializer_range"),
    HDL_K_SKIP("attention_dropout"),
    HDL_K_SKIP("hidden_dropout"),
    HDL_K_SKIP("resid_pdrop"),
    HDL_K_SKIP("embd_pdrop"),
    HDL_K_SKIP("output_attentions"),
    HDL_K_SKIP("output_hidden_states"),
    HDL_K_SKIP("output_router_logits"),
    HDL_K_SKIP("router_aux_loss_coef"),
    HDL_K_SKIP("return_dict"),
    HDL_K_SKIP("chunk_size_feed_forward"),
    HDL_K_SKIP("id2label"),
    HDL_K_SKIP("label2id"),
    HDL_K_SKIP("problem_type"),
    HDL_K_SKIP("task_specific_params"),
    HDL_K_SKIP("max_new_tokens"),
    HDL_K_SKIP("use_bfloat16"),
    HDL_K_SKIP("torchscript"),
};
const size_t hdl_arch_common_key_count = HDL_ARRAY_LEN(hdl_arch_common_keys);

static const hdl_arch *const archs[] = {
#define ARCH(name) &hdl_arch_##name,
    HDL_ARCH_LIST(ARCH)
#undef ARCH
};

const hdl_arch *hdl_arch_find(const char *name)
{
    for (size_t i = 0; i < HDL_ARRAY_LEN(archs); i++)
        if (strcmp(archs[i]->name, name) == 0)
            return archs[i];
    return NULL;
}

const hdl_arch *hdl_arch_of(const hdl_model_desc *desc)
{
    const hdl_arch *arch = hdl_arch_find(desc->arch);
    HDL_ASSERT(arch != NULL);
    return arch;
}

const char *hdl_arch_names(char *out, size_t size)
{
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < HDL_ARRAY_LEN(archs) && at < size; i++) {
        int n = snprintf(out + at, size - at, "%s%s", i ? ", " : "", archs[i]->name);
        at += n > 0 ? (size_t)n : 0;
    }
    return out;
}

const hdl_weight_name *hdl_arch_weight(const hdl_arch *arch, hdl_wslot slot)
{
    for (size_t i = 0; i < arch->n_names; i++)
        if (arch->names[i].slot == slot)
            return &arch->names[i];
    return NULL;
}

bool hdl_weight_name_write(const hdl_weight_name *name, hdl_weight_at at, char *out, size_t size)
{
    const char *p = name->pattern;
    size_t len = 0;
    while (*p) {
        int n = 1;
        if (strncmp(p, "{l}", 3) == 0 || strncmp(p, "{e}", 3) == 0) {
            n = snprintf(out + len, size - len, "%u", p[1] == 'l' ? at.layer : at.expert);
            p += 3;
        } else {
            out[len] = *p++;
        }
        len += (size_t)n;
        if (len >= size)
            return false;
    }
    out[len] = '\0';
    return true;
}
