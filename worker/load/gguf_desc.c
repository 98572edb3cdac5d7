/* SPDX-License-Identifier: Apache-2.0 */
/* Metadata of a GGUF file -> hdl_model_desc, by the tables of worker/model/arch_gguf.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "worker/load/desc.h"
#include "worker/load/gguf_desc.h"

static hdl_err fail_value(const hdl_gguf_kv *kv, const char *should, hdl_errmsg *why)
{
    return hdl_fail(HDL_INVALID, why, "%.150s must be %s; the file is damaged; fetch it again",
                    kv->key, should);
}

static bool is_number(const hdl_gguf_kv *kv)
{
    return !kv->is_array && kv->type != HDL_GGUF_STRING;
}

static hdl_err read_u32(hdl_model_desc *desc, const hdl_gguf_key *key, const hdl_gguf_kv *kv,
                        hdl_errmsg *why)
{
    uint32_t value = 0;
    HDL_TRY(hdl_gguf_kv_u32(kv, (hdl_gguf_range){key->min, key->max}, &value, why));
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err read_f32(hdl_model_desc *desc, const hdl_gguf_key *key, const hdl_gguf_kv *kv,
                        hdl_errmsg *why)
{
    float value = is_number(kv) ? (float)hdl_gguf_float_at(kv, 0) : 0;
    if (!(value > 0) || !isfinite(value))
        return fail_value(kv, "a number greater than 0", why);
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err read_bool(hdl_model_desc *desc, const hdl_gguf_key *key, const hdl_gguf_kv *kv,
                         hdl_errmsg *why)
{
    if (kv->is_array || kv->type != HDL_GGUF_BOOL)
        return fail_value(kv, "a truth value", why);
    bool value = kv->data[0] != 0;
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err refuse(const hdl_gguf_key *key, const hdl_gguf_kv *kv, hdl_errmsg *why)
{
    return hdl_fail(HDL_UNSUPPORTED, why, "%.100s cannot be honoured; %s; choose another model",
                    kv->key, key->note);
}

static hdl_err read_key(hdl_model_desc *desc, const hdl_gguf_key *key, const hdl_gguf_kv *kv,
                        hdl_errmsg *why)
{
    switch (key->kind) {
    case HDL_KEY_U32: return read_u32(desc, key, kv, why);
    case HDL_KEY_F32: return read_f32(desc, key, kv, why);
    case HDL_KEY_BOOL: return read_bool(desc, key, kv, why);
    case HDL_KEY_EXPECT:
        if (is_number(kv) && hdl_gguf_float_at(kv, 0) == key->expected)
            return HDL_OK;
        return refuse(key, kv, why);
    case HDL_KEY_CALL: return key->call(desc, kv, why);
    case HDL_KEY_SKIP: return HDL_OK;
    case HDL_KEY_REFUSE: return refuse(key, kv, why);
    }
    return HDL_BUG;
}

static const hdl_gguf_key *find_key(const hdl_gguf_key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Who made the file and how; the vocabulary; how it was cut into parts; how it was quantised. */
static bool is_about_the_file(const char *key)
{
    return starts(key, "general.") || starts(key, "tokenizer.") || starts(key, "split.") ||
           starts(key, "quantize.");
}

static hdl_err read_keys(hdl_model_desc *desc, const hdl_gguf *gguf, const hdl_gguf_arch *arch,
                         hdl_errmsg *why)
{
    size_t prefix = strlen(arch->name);
    for (size_t i = 0; i < hdl_gguf_kv_count(gguf); i++) {
        const hdl_gguf_kv *kv = hdl_gguf_kv_at(gguf, i);
        if (is_about_the_file(kv->key))
            continue;
        const hdl_gguf_key *key = NULL;
        if (starts(kv->key, arch->name) && kv->key[prefix] == '.') {
            const char *name = kv->key + prefix + 1;
            key = find_key(arch->keys, arch->n_keys, name);
            if (!key)
                key = find_key(hdl_gguf_common_keys, hdl_gguf_common_key_count, name);
        }
        if (!key)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "unknown key \"%.100s\"; it might change the mathematics, and a wrong "
                            "answer is worse than none; choose another model, or report it",
                            kv->key);
        HDL_TRY(read_key(desc, key, kv, why));
    }
    return HDL_OK;
}

/* Files without a model inside, and what the file says of its own kind. */
static hdl_err check_kind(const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_gguf_str type;
    hdl_err err = hdl_gguf_string(gguf, "general.type", &type, why);
    if (err == HDL_NOTFOUND)
        return HDL_OK;
    HDL_TRY(err);
    if (type.len != 5 || memcmp(type.data, "model", 5) != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "the file holds no model but a %.*s; give the path of the model's own file",
                        type.len < 40 ? (int)type.len : 40, type.data);
    return HDL_OK;
}

static hdl_err add_eos(hdl_model_desc *desc, uint64_t id)
{
    for (uint32_t i = 0; i < desc->n_eos_ids; i++)
        if (desc->eos_ids[i] == id)
            return HDL_OK;
    if (desc->n_eos_ids < HDL_EOS_IDS_MAX && id < INT32_MAX)
        desc->eos_ids[desc->n_eos_ids++] = (uint32_t)id;
    return HDL_OK;
}

/* What the vocabulary and the tensors say. */
static hdl_err read_vocab(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const hdl_gguf_tensor *embed = hdl_gguf_tensor_find(gguf, "token_embd.weight");
    const hdl_gguf_kv *tokens = hdl_gguf_find(gguf, "tokenizer.ggml.tokens");
    uint64_t id = 0, n = embed ? embed->dims[1] : tokens && tokens->is_array ? tokens->count : 0;
    if (n != 0) {
        if (n > UINT32_C(1) << 22)
            return hdl_fail(HDL_INVALID, why,
                            "the vocabulary has %" PRIu64 " tokens; that cannot be; fetch the file "
                            "again",
                            n);
        desc->vocab = (uint32_t)n;
    }
    if (hdl_gguf_u64(gguf, "tokenizer.ggml.bos_token_id", &id, NULL) == HDL_OK && id < INT32_MAX)
        desc->bos_id = (uint32_t)id;
    for (size_t i = 0; i < HDL_ARRAY_LEN(ends); i++)
        if (hdl_gguf_u64(gguf, ends[i], &id, NULL) == HDL_OK)
            HDL_TRY(add_eos(desc, id));
    desc->tied = embed && !hdl_gguf_has(gguf, "output.weight");
    return HDL_OK;
}

/* Layers that predict further tokens are counted and not run. */
static hdl_err drop_nextn(hdl_model_desc *desc, const hdl_gguf *gguf, hdl_errmsg *why)
{
    uint32_t n = 0;
    hdl_err err = hdl_gguf_arch_u32(gguf, "nextn_predict_layers", &n, why);
    if (err == HDL_NOTFOUND)
        return HDL_OK;
    HDL_TRY(err);
    if (n >= desc->n_layers)
        return hdl_fail(HDL_INVALID, why,
                        "all %u layers predict further tokens; that cannot be; fetch the file "
                        "again",
                        desc->n_layers);
    desc->n_layers -= n;
    desc->n_mtp_layers = n;
    return HDL_OK;
}

/* Mixtures have layers without experts; only their tensors say which. */
static void read_layers(hdl_model_desc *desc, const hdl_gguf *gguf)
{
    for (uint32_t i = 0; i < desc->n_layers; i++)
        if (hdl_gguf_layer_tensor(gguf, i, "ffn_down.weight"))
            desc->layers[i].ffn = HDL_FFN_DENSE;
}

static void read_dtype(hdl_model_desc *desc, const hdl_gguf *gguf)
{
    const hdl_gguf_tensor *t = hdl_gguf_layer_tensor(gguf, 0, "attn_output.weight");
    if (t && t->type <= 1)
        desc->dtype = t->type == 0 ? HDL_DTYPE_F32 : HDL_DTYPE_F16;
}

hdl_err hdl_desc_of_gguf(hdl_model_desc *out, const hdl_gguf *gguf, hdl_errmsg *why)
{
    const hdl_gguf_arch *arch = NULL;
    HDL_TRY(check_kind(gguf, why));
    HDL_TRY(hdl_gguf_arch_find(gguf, &arch, why));
    hdl_desc_begin(out, arch->arch);
    HDL_TRY(read_keys(out, gguf, arch, why));
    HDL_TRY(read_vocab(out, gguf, why));
    HDL_TRY(drop_nextn(out, gguf, why));
    read_layers(out, gguf);
    read_dtype(out, gguf);
    HDL_TRY(hdl_gguf_rope(out, gguf, why));
    if (arch->finish)
        HDL_TRY(arch->finish(out, gguf, why));
    return hdl_desc_complete(out, why);
}

hdl_err hdl_desc_load_gguf(hdl_model_desc *out, const char *path, hdl_errmsg *why)
{
    hdl_gguf *gguf = NULL;
    HDL_TRY(hdl_gguf_open(&gguf, path, why));
    hdl_err err = hdl_desc_of_gguf(out, gguf, why);
    hdl_gguf_close(gguf);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return HDL_OK;
}
