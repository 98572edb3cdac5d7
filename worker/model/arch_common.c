/* SPDX-License-Identifier: Apache-2.0 */
/* What the architectures share: keys of config.json that mean the same everywhere, and lookups. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "worker/model/arch_list.h"

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
    desc->n_eos_ids = 0; /* a text model's own come after those of the file around it */
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

static hdl_err read_span(const hdl_jv *root, const char *key, uint32_t *out, hdl_errmsg *why)
{
    int64_t n = 0;
    hdl_jv v = hdl_jv_get(root, key);
    if (!hdl_jv_given(&v))
        return hdl_fail(HDL_INVALID, why,
                        "config.json lacks %s, though some of its layers need it; fetch the "
                        "original file",
                        key);
    HDL_TRY(hdl_jv_int(&v, (hdl_jv_range){1, INT32_MAX}, &n, why));
    *out = (uint32_t)n;
    return HDL_OK;
}

hdl_err hdl_arch_layer_types(hdl_model_desc *desc, const hdl_jv *root, bool *given, hdl_errmsg *why)
{
    hdl_jv list = hdl_jv_get(root, "layer_types");
    *given = hdl_jv_given(&list);
    if (!*given)
        return HDL_OK;
    HDL_TRY(hdl_jv_expect(&list, HDL_JSON_ARRAY, why));
    if (hdl_jv_len(&list) != desc->n_layers)
        return hdl_jv_fail(&list, why, "has %zu entries for %u layers", hdl_jv_len(&list),
                           desc->n_layers);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        const char *type = "";
        hdl_jv item = hdl_jv_at(&list, i);
        hdl_layer_desc *layer = &desc->layers[i];
        HDL_TRY(hdl_jv_string(&item, &type, NULL, why));
        layer->window = layer->chunk = 0;
        if (strcmp(type, "sliding_attention") == 0)
            HDL_TRY(read_span(root, "sliding_window", &layer->window, why));
        else if (strcmp(type, "chunked_attention") == 0)
            HDL_TRY(read_span(root, "attention_chunk_size", &layer->chunk, why));
        else if (strcmp(type, "full_attention") != 0)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: layer %u is of type \"%.40s\"; full, sliding and chunked "
                            "attention are supported; choose another model",
                            i, type);
    }
    return HDL_OK;
}

hdl_err hdl_arch_window_period(hdl_model_desc *desc, const hdl_jv *root, uint32_t period,
                               hdl_errmsg *why)
{
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if ((i + 1) % period != 0)
            HDL_TRY(read_span(root, "sliding_window", &desc->layers[i].window, why));
    return HDL_OK;
}

hdl_err hdl_arch_key_bias(hdl_model_desc *desc, const hdl_jv *v, hdl_errmsg *why)
{
    bool on = false;
    if (hdl_jv_given(v))
        HDL_TRY(hdl_jv_bool(v, &on, why));
    desc->qkv_bias = desc->o_bias = on;
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
    HDL_K_CALL("rope_theta", hdl_arch_key_theta),
    HDL_K_CALL("rope_scaling", hdl_arch_key_rope),
    HDL_K_CALL("rope_parameters", hdl_arch_key_rope),
    HDL_K_CALL("dtype", key_dtype),
    HDL_K_CALL("torch_dtype", key_dtype),
    HDL_K_CALL("bos_token_id", key_bos),
    HDL_K_CALL("eos_token_id", key_eos),
    HDL_K_CALL("layer_types", key_layer_types),
    HDL_K_EXPECT("hidden_act", "\"silu\"", "only the silu activation is supported"),
    HDL_K_EXPECT("is_encoder_decoder", "false", "encoder-decoder models are not supported"),
    HDL_K_EXPECT("add_cross_attention", "false", "cross-attention is not supported"),
    HDL_K_SKIP("quantization_config"), /* both read by worker/load/quant_config.c */
    HDL_K_SKIP("compression_config"),
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
    HDL_K_SKIP("cross_attention_hidden_size"),
    HDL_K_SKIP("finetuning_task"),
    HDL_K_SKIP("is_decoder"),
    HDL_K_SKIP("sep_token_id"),
    HDL_K_SKIP("tf_legacy_loss"),
    HDL_K_SKIP("tie_encoder_decoder"),
    HDL_K_SKIP("tokenizer_class"),
    HDL_K_SKIP("auto_map"), /* code beside the weights: the architecture is run by its name */
    HDL_K_SKIP("transformers.js_config"),
    HDL_K_SKIP("unsloth_fixed"),
    HDL_K_SKIP("unsloth_version"),
    HDL_K_EXPECT("pruned_heads", "{}", "heads that were cut out are not supported"),
    /* How text is generated, as transformers 4 wrote it into every file. */
    HDL_K_SKIP("bad_words_ids"),
    HDL_K_SKIP("begin_suppress_tokens"),
    HDL_K_SKIP("decoder_start_token_id"),
    HDL_K_SKIP("diversity_penalty"),
    HDL_K_SKIP("do_sample"),
    HDL_K_SKIP("early_stopping"),
    HDL_K_SKIP("encoder_no_repeat_ngram_size"),
    HDL_K_SKIP("exponential_decay_length_penalty"),
    HDL_K_SKIP("forced_bos_token_id"),
    HDL_K_SKIP("forced_eos_token_id"),
    HDL_K_SKIP("length_penalty"),
    HDL_K_SKIP("max_length"),
    HDL_K_SKIP("min_length"),
    HDL_K_SKIP("no_repeat_ngram_size"),
    HDL_K_SKIP("num_beam_groups"),
    HDL_K_SKIP("num_beams"),
    HDL_K_SKIP("num_return_sequences"),
    HDL_K_SKIP("output_scores"),
    HDL_K_SKIP("prefix"),
    HDL_K_SKIP("remove_invalid_values"),
    HDL_K_SKIP("repetition_penalty"),
    HDL_K_SKIP("return_dict_in_generate"),
    HDL_K_SKIP("suppress_tokens"),
    HDL_K_SKIP("temperature"),
    HDL_K_SKIP("top_k"),
    HDL_K_SKIP("top_p"),
    HDL_K_SKIP("typical_p"),
};
const size_t hdl_arch_common_key_count = HDL_ARRAY_LEN(hdl_arch_common_keys);

static const hdl_arch *const archs[] = {
#define ARCH(name) &hdl_arch_##name,
    HDL_ARCH_LIST(ARCH)
#undef ARCH
};

const hdl_arch *hdl_arch_find(const char *name, const char *inner)
{
    const hdl_arch *any = NULL;
    for (size_t i = 0; i < HDL_ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i]->name, name) != 0)
            continue;
        if (archs[i]->inner && strcmp(archs[i]->inner, inner) == 0)
            return archs[i];
        if (!archs[i]->inner)
            any = archs[i];
    }
    return any;
}

const hdl_arch *hdl_arch_of(const hdl_model_desc *desc)
{
    const hdl_arch *arch = hdl_arch_find(desc->arch, desc->inner);
    HDL_ASSERT(arch != NULL);
    return arch;
}

static bool begins(const char *name, const char *pattern, uint32_t n_layers)
{
    const char *l = strstr(pattern, "{l}");
    size_t head = l ? (size_t)(l - pattern) : strlen(pattern);
    if (strncmp(name, pattern, head) != 0)
        return false;
    if (!l)
        return true;
    char *end = NULL;
    unsigned long layer = strtoul(name + head, &end, 10);
    return end != name + head && layer >= n_layers && strncmp(end, l + 3, strlen(l + 3)) == 0;
}

bool hdl_arch_skips(const hdl_model_desc *desc, const char *tensor)
{
    const hdl_arch *arch = hdl_arch_of(desc);
    for (size_t i = 0; i < HDL_ARCH_SKIPS_MAX && arch->skips[i]; i++)
        if (begins(tensor, arch->skips[i], desc->n_layers))
            return true;
    return false;
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
