/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/quant_config.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "worker/load/quant.h"
#include "worker/load/quant_match.h"

enum { NAME_BYTES = 256 };
_Static_assert((int)HDL_WSLOT_COUNT <= (int)HDL_SLOTS_MAX, "slots fit into a set");

/* What is read besides the description. */
typedef struct reader {
    hdl_model_desc *desc;
    const hdl_jv *config;
    hdl_errmsg *why;
    hdl_match_style style;
    bool head;                             /* lm_head is a module like others */
    hdl_jv plain;                          /* modules that are not quantised */
    hdl_jv targets[HDL_QUANT_SCHEMES_MAX]; /* of a scheme; absent: all linear ones */
} reader;

static hdl_err unsupported(reader *r, const char *what, const char *value)
{
    return hdl_fail(HDL_UNSUPPORTED, r->why,
                    "config.json: quantization_config has %s %.60s, which this version does not "
                    "read; choose another quantisation of the model",
                    what, value);
}

/* A member that outlives the values on the way to it. */
static hdl_jv keep(const hdl_jv *obj, const char *key)
{
    hdl_jv v = hdl_jv_get(obj, key);
    v.parent = NULL;
    return v;
}

/* "" if absent or null. */
static hdl_err text_of(reader *r, const hdl_jv *obj, const char *key, const char **out)
{
    hdl_jv v = hdl_jv_get(obj, key);
    *out = "";
    return hdl_jv_given(&v) ? hdl_jv_string(&v, out, NULL, r->why) : HDL_OK;
}

static hdl_err number_of(reader *r, const hdl_jv *obj, const char *key, int64_t *out)
{
    hdl_jv v = hdl_jv_get(obj, key);
    return hdl_jv_given(&v) ? hdl_jv_int(&v, (hdl_jv_range){-1, 1 << 20}, out, r->why) : HDL_OK;
}

static hdl_err flag_of(reader *r, const hdl_jv *obj, const char *key, bool *out)
{
    hdl_jv v = hdl_jv_get(obj, key);
    return hdl_jv_given(&v) ? hdl_jv_bool(&v, out, r->why) : HDL_OK;
}

/* Every key is one of `known`: another one might change what the codes mean. */
static hdl_err check_keys(reader *r, const hdl_jv *obj, const char *const *known)
{
    void *iter = NULL;
    hdl_jv v;
    while (hdl_jv_next(obj, &iter, &v)) {
        const char *const *k = known;
        while (*k && strcmp(*k, v.key) != 0)
            k++;
        if (!*k && hdl_jv_given(&v))
            return unsupported(r, "the key", v.key);
    }
    return HDL_OK;
}

/* cols 0: all. */
static hdl_quant_scheme scheme(hdl_enc encoding, uint32_t rows, uint32_t cols)
{
    return (hdl_quant_scheme){.encoding = encoding, .scale_rows = rows, .scale_cols = cols};
}

static hdl_err add_scheme(reader *r, hdl_quant_scheme s)
{
    hdl_quant_desc *q = &r->desc->quant;
    if (q->n_schemes == HDL_QUANT_SCHEMES_MAX)
        return unsupported(r, "more groups than", "4");
    hdl_source like = {.encoding = s.encoding,
                       .scale_cols = s.scale_cols ? s.scale_cols : 1u << 30};
    s.format = hdl_quant_kind(&like, HDL_WFORMAT_COUNT, 128).format;
    q->schemes[q->n_schemes++] = s;
    return HDL_OK;
}

/* Two numbers, rows and columns; absent: of the whole tensor. */
static hdl_err block_of(reader *r, const hdl_jv *obj, const char *key, hdl_quant_scheme *s)
{
    hdl_jv v = hdl_jv_get(obj, key);
    int64_t n[2] = {0, 0};
    if (!hdl_jv_given(&v))
        return HDL_OK;
    if (hdl_jv_len(&v) != 2)
        return hdl_jv_fail(&v, r->why, "must hold two numbers");
    for (size_t i = 0; i < 2; i++) {
        hdl_jv item = hdl_jv_at(&v, i);
        HDL_TRY(hdl_jv_int(&item, (hdl_jv_range){1, 1 << 20}, &n[i], r->why));
    }
    s->scale_rows = (uint32_t)n[0];
    s->scale_cols = (uint32_t)n[1];
    return HDL_OK;
}

static hdl_err read_fp8(reader *r)
{
    static const char *const keys[] = {
        "quant_method",      "activation_scheme", "fmt",
        "weight_block_size", "scale_fmt",         "modules_to_not_convert",
        "ignored_layers",    "dequantize",        NULL};
    hdl_quant_scheme s = {.encoding = HDL_ENC_E4M3};
    const char *fmt = "";
    HDL_TRY(check_keys(r, r->config, keys));
    HDL_TRY(text_of(r, r->config, "fmt", &fmt));
    if (fmt[0] != '\0' && strcmp(fmt, "e4m3") != 0 && strcmp(fmt, "float8_e4m3fn") != 0)
        return unsupported(r, "the number format", fmt);
    HDL_TRY(block_of(r, r->config, "weight_block_size", &s));
    r->desc->quant.method = HDL_QUANT_FP8;
    return add_scheme(r, s);
}

static hdl_err read_mxfp4(reader *r)
{
    static const char *const keys[] = {"quant_method", "modules_to_not_convert", "dequantize",
                                       NULL};
    HDL_TRY(check_keys(r, r->config, keys));
    r->desc->quant.method = HDL_QUANT_MXFP4;
    return add_scheme(r, scheme(HDL_ENC_MXFP4, 1, 32));
}

static hdl_err read_awq(reader *r)
{
    static const char *const keys[] = {"quant_method",
                                       "bits",
                                       "w_bit",
                                       "group_size",
                                       "q_group_size",
                                       "zero_point",
                                       "version",
                                       "backend",
                                       "do_fuse",
                                       "modules_to_not_convert",
                                       "exllama_config",
                                       "modules_to_fuse",
                                       "fuse_max_seq_len",
                                       NULL};
    int64_t bits = 4, group = 128;
    bool zeros = true;
    const char *version = "";
    HDL_TRY(check_keys(r, r->config, keys));
    HDL_TRY(number_of(r, r->config, "bits", &bits));
    HDL_TRY(number_of(r, r->config, "w_bit", &bits));
    HDL_TRY(number_of(r, r->config, "group_size", &group));
    HDL_TRY(number_of(r, r->config, "q_group_size", &group));
    HDL_TRY(flag_of(r, r->config, "zero_point", &zeros));
    HDL_TRY(text_of(r, r->config, "version", &version));
    if (version[0] != '\0' && strcasecmp(version, "gemm") != 0)
        return unsupported(r, "AWQ of the version", version);
    if (bits != 4 || !zeros)
        return unsupported(r, "AWQ", bits != 4 ? "of other than 4 bits" : "without zero points");
    r->desc->quant.method = HDL_QUANT_AWQ;
    return add_scheme(r, scheme(HDL_ENC_AWQ4, 1, group > 0 ? (uint32_t)group : 0));
}

static hdl_err read_gptq(reader *r)
{
    static const char *const keys[] = {"quant_method",
                                       "bits",
                                       "group_size",
                                       "desc_act",
                                       "sym",
                                       "damp_percent",
                                       "lm_head",
                                       "meta",
                                       "checkpoint_format",
                                       "static_groups",
                                       "true_sequential",
                                       "pack_dtype",
                                       "model_name_or_path",
                                       "model_file_base_name",
                                       "use_cuda_fp16",
                                       "use_exllama",
                                       "max_input_length",
                                       "exllama_config",
                                       "cache_block_outputs",
                                       "modules_in_block_to_quantize",
                                       "dataset",
                                       "tokenizer",
                                       "batch_size",
                                       "pad_token_id",
                                       "module_name_preceding_first_block",
                                       "model_seqlen",
                                       "block_name_to_quantize",
                                       "damp_auto_increment",
                                       "quantizer",
                                       "is_marlin_format",
                                       "backend",
                                       "modules_to_not_convert",
                                       "version",
                                       NULL};
    int64_t bits = 4, group = 128;
    bool sym = true, act = false, head = false, marlin = false;
    const char *format = "", *pack = "";
    HDL_TRY(check_keys(r, r->config, keys));
    HDL_TRY(number_of(r, r->config, "bits", &bits));
    HDL_TRY(number_of(r, r->config, "group_size", &group));
    HDL_TRY(flag_of(r, r->config, "sym", &sym));
    HDL_TRY(flag_of(r, r->config, "desc_act", &act));
    HDL_TRY(flag_of(r, r->config, "lm_head", &head));
    HDL_TRY(flag_of(r, r->config, "is_marlin_format", &marlin));
    HDL_TRY(text_of(r, r->config, "checkpoint_format", &format));
    HDL_TRY(text_of(r, r->config, "pack_dtype", &pack));
    bool v2 = strcmp(format, "gptq_v2") == 0;
    if (marlin || (format[0] != '\0' && !v2 && strcmp(format, "gptq") != 0))
        return unsupported(r, "GPTQ in the format", marlin ? "marlin" : format);
    if ((bits != 4 && bits != 8) || (pack[0] != '\0' && strcmp(pack, "int32") != 0))
        return unsupported(r, "GPTQ", "of other than 4 or 8 bits in words of 32");
    hdl_enc plain[] = {HDL_ENC_GPTQ4, HDL_ENC_GPTQ8}, zero[] = {HDL_ENC_GPTQ4Z, HDL_ENC_GPTQ8Z},
            by_column[] = {HDL_ENC_GPTQ4G, HDL_ENC_GPTQ8G};
    const hdl_enc *encoding = act && group > 0 ? by_column : sym ? plain : zero;
    r->desc->quant.method = HDL_QUANT_GPTQ;
    r->desc->quant.zero_add = v2 ? 0 : 1;
    r->head = head;
    return add_scheme(r, scheme(encoding[bits == 8], 1, group > 0 ? (uint32_t)group : 0));
}

static hdl_err read_bitnet(reader *r)
{
    static const char *const keys[] = {"quant_method",
                                       "linear_class",
                                       "quantization_mode",
                                       "modules_to_not_convert",
                                       "use_rms_norm",
                                       "rms_norm_eps",
                                       NULL};
    const char *class = "", *mode = "";
    bool norm = false;
    HDL_TRY(check_keys(r, r->config, keys));
    HDL_TRY(text_of(r, r->config, "linear_class", &class));
    HDL_TRY(text_of(r, r->config, "quantization_mode", &mode));
    HDL_TRY(flag_of(r, r->config, "use_rms_norm", &norm));
    bool is_auto = strcmp(class, "autobitlinear") == 0;
    if (norm)
        return unsupported(r, "norms inside of its linear layers,", "use_rms_norm");
    if (class[0] != '\0' && !is_auto && strcmp(class, "bitlinear") != 0)
        return unsupported(r, "the linear class", class);
    if (strcmp(mode, "online") == 0)
        return unsupported(r, "weights that are quantised at every step,",
                           "quantization_mode online");
    r->desc->quant.method = HDL_QUANT_BITNET;
    r->desc->quant.scale_divides = !is_auto; /* BitLinear, AutoBitLinear */
    r->desc->quant.int8_inputs = true;
    return add_scheme(r, (hdl_quant_scheme){.encoding = HDL_ENC_TERNARY});
}

/* ---- compressed-tensors, modelopt --------------------------------------------------------- */

static hdl_err read_float_weights(reader *r, const hdl_jv *w, int64_t bits, hdl_quant_scheme *s)
{
    int64_t group = 0;
    const char *strategy = "";
    HDL_TRY(number_of(r, w, "group_size", &group));
    HDL_TRY(text_of(r, w, "strategy", &strategy));
    if (bits == 4 && (group == 16 || group == 32)) {
        *s = scheme(group == 16 ? HDL_ENC_NVFP4 : HDL_ENC_MXFP4, 1, (uint32_t)group);
        return HDL_OK;
    }
    if (bits != 8)
        return unsupported(r, "weights of", "float with other than 4 or 8 bits");
    s->encoding = HDL_ENC_E4M3;
    HDL_TRY(block_of(r, w, "block_structure", s));
    if (s->scale_cols == 0 && group > 0) { /* MXFP8 */
        s->scale_rows = 1;
        s->scale_cols = (uint32_t)group;
    }
    if (strcmp(strategy, "channel") == 0)
        s->scale_rows = 1;
    return HDL_OK;
}

static hdl_err read_weights(reader *r, const hdl_jv *w, hdl_quant_scheme *s)
{
    int64_t bits = 0, group = 0;
    bool symmetric = true;
    const char *type = "";
    HDL_TRY(hdl_jv_expect(w, HDL_JSON_OBJECT, r->why));
    HDL_TRY(number_of(r, w, "num_bits", &bits));
    HDL_TRY(number_of(r, w, "group_size", &group));
    HDL_TRY(flag_of(r, w, "symmetric", &symmetric));
    HDL_TRY(text_of(r, w, "type", &type));
    if (strcmp(type, "float") == 0)
        return read_float_weights(r, w, bits, s);
    if (strcmp(type, "int") != 0 && type[0] != '\0')
        return unsupported(r, "weights of type", type);
    if (bits != 4 && (bits != 8 || !symmetric))
        return unsupported(r, "weights of", "integers other than of 4 bits, or symmetric of 8");
    *s = (hdl_quant_scheme){.encoding = bits == 8   ? HDL_ENC_INT8
                                        : symmetric ? HDL_ENC_INT4
                                                    : HDL_ENC_INT4Z,
                            .scale_rows = 1,
                            .scale_cols = group > 0 ? (uint32_t)group : 0};
    return HDL_OK;
}

static hdl_err read_groups(reader *r)
{
    hdl_jv groups = hdl_jv_get(r->config, "config_groups"), group;
    void *iter = NULL;
    HDL_TRY(hdl_jv_expect(&groups, HDL_JSON_OBJECT, r->why));
    while (hdl_jv_next(&groups, &iter, &group)) {
        hdl_quant_scheme s = {0};
        hdl_jv weights = hdl_jv_get(&group, "weights");
        hdl_jv outputs = hdl_jv_get(&group, "output_activations");
        if (hdl_jv_given(&outputs))
            return unsupported(r, "the key", "output_activations");
        if (!hdl_jv_given(&weights))
            continue;
        HDL_TRY(read_weights(r, &weights, &s));
        HDL_TRY(add_scheme(r, s));
        hdl_jv targets = keep(&group, "targets"), first = hdl_jv_at(&targets, 0);
        const char *name = "Linear";
        if (hdl_jv_given(&first))
            HDL_TRY(hdl_jv_string(&first, &name, NULL, r->why));
        if (strcmp(name, "Linear") != 0)
            r->targets[r->desc->quant.n_schemes - 1] = targets;
    }
    return HDL_OK;
}

static hdl_err read_compressed(reader *r)
{
    static const char *const keys[] = {"quant_method",
                                       "config_groups",
                                       "format",
                                       "ignore",
                                       "kv_cache_scheme",
                                       "quantization_status",
                                       "global_compression_ratio",
                                       "sparsity_config",
                                       "transform_config",
                                       "version",
                                       NULL};
    static const char *const formats[] = {"pack-quantized",
                                          "float-quantized",
                                          "naive-quantized",
                                          "int-quantized",
                                          "nvfp4-pack-quantized",
                                          "mxfp4-pack-quantized",
                                          "mxfp8-quantized",
                                          "mixed-precision",
                                          "dense",
                                          NULL};
    const char *format = "", *const *f = formats;
    HDL_TRY(check_keys(r, r->config, keys));
    HDL_TRY(text_of(r, r->config, "format", &format));
    while (*f && strcmp(*f, format) != 0)
        f++;
    if (!*f)
        return unsupported(r, "the format", format);
    hdl_jv sparsity = hdl_jv_get(r->config, "sparsity_config");
    hdl_jv transform = hdl_jv_get(r->config, "transform_config");
    const char *sparse = "";
    if (hdl_jv_len(&sparsity) > 0)
        HDL_TRY(text_of(r, &sparsity, "format", &sparse));
    if (sparse[0] != '\0' && strcmp(sparse, "dense") != 0)
        return unsupported(r, "sparse weights,", sparse);
    if (hdl_jv_len(&transform) > 0)
        return unsupported(r, "rotated weights,", "transform_config");
    r->desc->quant.method = HDL_QUANT_COMPRESSED;
    r->style = HDL_MATCH_COMPRESSED;
    r->head = true;
    r->plain = keep(r->config, "ignore");
    return read_groups(r);
}

static hdl_err read_modelopt(reader *r)
{
    const char *algo = "";
    hdl_jv nested = hdl_jv_get(r->config, "quantization"); /* hf_quant_config.json */
    hdl_jv at = hdl_jv_given(&nested) ? nested : *r->config;
    HDL_TRY(text_of(r, &at, "quant_algo", &algo));
    r->desc->quant.method = HDL_QUANT_MODELOPT;
    r->style = HDL_MATCH_GLOB;
    r->head = true;
    r->plain = keep(&at, "exclude_modules");
    if (!hdl_jv_given(&r->plain))
        r->plain = keep(&at, "ignore");
    if (strcmp(algo, "FP8") == 0)
        return add_scheme(r, (hdl_quant_scheme){.encoding = HDL_ENC_E4M3});
    if (strcmp(algo, "FP8_PB_WO") == 0)
        return add_scheme(r, scheme(HDL_ENC_E4M3, 128, 128));
    if (strcmp(algo, "NVFP4") == 0)
        return add_scheme(r, scheme(HDL_ENC_NVFP4, 1, 16));
    return unsupported(r, "modelopt's algorithm", algo[0] != '\0' ? algo : "none");
}

static hdl_err read_method(reader *r)
{
    static const struct {
        const char *name;
        hdl_err (*read)(reader *r);
    } methods[] = {
        {"fp8", read_fp8},           {"mxfp4", read_mxfp4},
        {"awq", read_awq},           {"gptq", read_gptq},
        {"bitnet", read_bitnet},     {"compressed-tensors", read_compressed},
        {"modelopt", read_modelopt},
    };
    const char *method = "";
    hdl_jv algo = hdl_jv_get(r->config, "quant_algo"),
           nested = hdl_jv_get(r->config, "quantization");
    HDL_TRY(text_of(r, r->config, "quant_method", &method));
    if (method[0] == '\0' && (hdl_jv_given(&algo) || hdl_jv_given(&nested)))
        method = "modelopt";
    for (size_t i = 0; i < HDL_ARRAY_LEN(methods); i++)
        if (strcmp(methods[i].name, method) == 0)
            return methods[i].read(r);
    return hdl_fail(HDL_UNSUPPORTED, r->why,
                    "config.json: the weights are quantised by \"%.40s\"; this version reads fp8, "
                    "mxfp4, awq, gptq, bitnet, compressed-tensors and modelopt; choose one of "
                    "them, or the bf16 release",
                    method);
}

/* ---- which modules ------------------------------------------------------------------------- */

typedef struct marker {
    const reader *reader;
    hdl_match *plain, *targets[HDL_QUANT_SCHEMES_MAX]; /* owned */
} marker;

/* A linear layer that quantisers look at, by its slot. */
static bool is_linear(const reader *r, hdl_wslot slot)
{
    const hdl_slot_info *info = hdl_slot_info_of(slot);
    if (info->cols == HDL_DIM_NONE || slot == HDL_WSLOT_EMBED)
        return false;
    if (r->desc->quant.method == HDL_QUANT_MXFP4)
        return info->scope == HDL_SCOPE_EXPERT;
    if (slot == HDL_WSLOT_LM_HEAD)
        return r->head;
    return slot != HDL_WSLOT_ROUTER && slot != HDL_WSLOT_SHARED_ON;
}

static bool module_of(const hdl_model_desc *desc, hdl_weight_at at, char *out)
{
    static const char tail[] = ".weight";
    const hdl_weight_name *name = hdl_arch_weight(hdl_arch_of(desc), at.slot);
    if (!name || !hdl_weight_name_write(name, at, out, NAME_BYTES))
        return false;
    size_t len = strlen(out), n = sizeof(tail) - 1;
    if (len > n && strcmp(out + len - n, tail) == 0)
        out[len - n] = '\0';
    return true;
}

static void mark(const marker *m, hdl_weight_at at)
{
    char module[NAME_BYTES];
    hdl_model_desc *desc = m->reader->desc;
    hdl_slot_set *sets = hdl_slot_info_of(at.slot)->scope == HDL_SCOPE_MODEL
                             ? desc->quant.quantised
                             : desc->layers[at.layer].quantised;
    if (!module_of(desc, at, module) || hdl_match_any(m->plain, module))
        return;
    for (uint32_t i = 0; i < desc->quant.n_schemes; i++)
        if (!m->targets[i] || hdl_match_any(m->targets[i], module)) {
            sets[i].bits[at.slot / 64] |= UINT64_C(1) << at.slot % 64;
            return;
        }
}

static void mark_all(const marker *m)
{
    const hdl_model_desc *desc = m->reader->desc;
    for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
        bool in_layers = hdl_slot_info_of(slot)->scope != HDL_SCOPE_MODEL;
        for (uint32_t layer = 0; layer < (in_layers ? desc->n_layers : 1); layer++)
            if (is_linear(m->reader, slot) && hdl_slot_used(desc, slot, layer))
                mark(m, (hdl_weight_at){slot, layer, 0});
    }
}

static hdl_err read_modules(reader *r)
{
    marker m = {.reader = r};
    hdl_err err = hdl_match_new(&m.plain, &r->plain, r->style, r->why);
    for (uint32_t i = 0; i < r->desc->quant.n_schemes && err == HDL_OK; i++)
        if (hdl_jv_given(&r->targets[i]))
            err = hdl_match_new(&m.targets[i], &r->targets[i], r->style, r->why);
    if (err == HDL_OK)
        mark_all(&m);
    hdl_match_free(m.plain);
    for (uint32_t i = 0; i < HDL_QUANT_SCHEMES_MAX; i++)
        hdl_match_free(m.targets[i]);
    return err;
}

/* Dense layers alone make their inputs int8, and all of a layer's matrices alike. */
static hdl_err check_int8(reader *r)
{
    const hdl_model_desc *desc = r->desc;
    for (uint32_t l = 0; l < desc->n_layers; l++) {
        const hdl_layer_desc *layer = &desc->layers[l];
        if (layer->mixer != HDL_MIXER_ATTENTION || layer->ffn != HDL_FFN_DENSE)
            return unsupported(r, "int8 activations in", "mixtures or other mixers than attention");
        for (hdl_wslot slot = 0; slot < HDL_WSLOT_COUNT; slot++) {
            bool in_layer = hdl_slot_info_of(slot)->scope != HDL_SCOPE_MODEL;
            bool marked = (layer->quantised[0].bits[slot / 64] >> slot % 64 & 1) != 0;
            if (in_layer && is_linear(r, slot) && hdl_slot_used(desc, slot, l) && !marked)
                return unsupported(r, "layers left out by", "modules_to_not_convert");
        }
    }
    return HDL_OK;
}

hdl_err hdl_quant_config_read(hdl_model_desc *desc, const hdl_jv *config, hdl_errmsg *why)
{
    reader r = {.desc = desc, .config = config, .why = why};
    HDL_TRY(hdl_jv_expect(config, HDL_JSON_OBJECT, why));
    r.plain = keep(config, "modules_to_not_convert");
    if (!hdl_jv_given(&r.plain))
        r.plain = keep(config, "ignored_layers");
    desc->quant = (hdl_quant_desc){0};
    HDL_TRY(read_method(&r));
    HDL_TRY(read_modules(&r));
    return desc->quant.int8_inputs ? check_int8(&r) : HDL_OK;
}
