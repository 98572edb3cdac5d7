/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a Hugging Face model folder -> hdl_model_desc, by the architecture's tables. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "worker/load/desc.h"
#include "worker/load/quant_config.h"

enum { CONFIG_BYTES_MAX = 4 << 20, PATH_BYTES = 4096 };

static const hdl_config_key *find_key(const hdl_config_key *keys, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

static hdl_err read_u32(hdl_model_desc *desc, const hdl_config_key *key, const hdl_jv *v,
                        hdl_errmsg *why)
{
    int64_t n = 0;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_int(v, (hdl_jv_range){key->min, key->max}, &n, why));
    uint32_t value = (uint32_t)n;
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err read_f32(hdl_model_desc *desc, const hdl_config_key *key, const hdl_jv *v,
                        hdl_errmsg *why)
{
    double d = 0;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_double(v, &d, why));
    float value = (float)d;
    if (!(value > 0) || !isfinite(value))
        return hdl_jv_fail(v, why, "must be greater than 0");
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err read_bool(hdl_model_desc *desc, const hdl_config_key *key, const hdl_jv *v,
                         hdl_errmsg *why)
{
    bool value = false;
    if (!hdl_jv_given(v))
        return HDL_OK;
    HDL_TRY(hdl_jv_bool(v, &value, why));
    memcpy((char *)desc + key->at, &value, sizeof(value));
    return HDL_OK;
}

static hdl_err refuse(const hdl_config_key *key, hdl_errmsg *why)
{
    return hdl_fail(HDL_UNSUPPORTED, why, "config.json: %s cannot be honoured; %s", key->name,
                    key->note);
}

static hdl_err expect_text(const hdl_config_key *key, const hdl_jv *v, hdl_errmsg *why)
{
    hdl_buf text;
    hdl_buf_init(&text, 4096);
    hdl_err err = hdl_jv_dump(v, &text);
    if (err != HDL_OK || strcmp(hdl_buf_cstr(&text), key->text) != 0)
        err = refuse(key, why);
    hdl_buf_deinit(&text);
    return err;
}

static hdl_err read_key(hdl_model_desc *desc, const hdl_config_key *key, const hdl_jv *v,
                        hdl_errmsg *why)
{
    switch (key->kind) {
    case HDL_KEY_U32: return read_u32(desc, key, v, why);
    case HDL_KEY_F32: return read_f32(desc, key, v, why);
    case HDL_KEY_BOOL: return read_bool(desc, key, v, why);
    case HDL_KEY_EXPECT: return hdl_jv_given(v) ? expect_text(key, v, why) : HDL_OK;
    case HDL_KEY_CALL: return key->call(desc, v, why);
    case HDL_KEY_SKIP: return HDL_OK;
    case HDL_KEY_REFUSE: return hdl_jv_given(v) ? refuse(key, why) : HDL_OK;
    }
    return HDL_BUG;
}

/* The keys of one object, by its own table and the common one. */
typedef struct key_table {
    const hdl_config_key *keys;
    size_t n_keys;
    const char *skip; /* a member that is read on its own; NULL: none */
} key_table;

static hdl_err read_keys(hdl_model_desc *desc, const key_table *table, const hdl_jv *obj,
                         hdl_errmsg *why)
{
    void *iter = NULL;
    hdl_jv v;
    while (hdl_jv_next(obj, &iter, &v)) {
        if (table->skip && strcmp(v.key, table->skip) == 0)
            continue;
        const hdl_config_key *key = find_key(table->keys, table->n_keys, v.key);
        if (!key)
            key = find_key(hdl_arch_common_keys, hdl_arch_common_key_count, v.key);
        if (!key)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: unknown key \"%.60s\" of %s; it might change the "
                            "mathematics, and a wrong answer is worse than none; remove it if it "
                            "does not, or report it",
                            v.key, desc->arch);
        HDL_TRY(read_key(desc, key, &v, why));
    }
    return HDL_OK;
}

static hdl_err find_arch(const hdl_jv *root, const hdl_arch **out, hdl_errmsg *why)
{
    const char *name = "", *inner = "";
    hdl_jv list = hdl_jv_get(root, "architectures");
    hdl_jv first = hdl_jv_at(&list, 0);
    if (!hdl_jv_present(&first))
        return hdl_fail(HDL_INVALID, why,
                        "config.json has no architectures; it does not say what the model is; "
                        "give the folder of a Hugging Face model");
    HDL_TRY(hdl_jv_string(&first, &name, NULL, why));
    hdl_jv text = hdl_jv_get(root, "text_config"), type = hdl_jv_get(&text, "model_type");
    if (hdl_jv_given(&type))
        HDL_TRY(hdl_jv_string(&type, &inner, NULL, why));
    *out = hdl_arch_find(name, inner);
    if (!*out)
        return hdl_fail(
            HDL_UNSUPPORTED, why,
            "architecture %.60s is not supported; this version lacks %s; choose another "
            "model: `heddle matrix` lists those that run",
            name, hdl_arch_lacks(name));
    return HDL_OK;
}

/* Of the whole model or of its text model, by the names of two tools. */
static hdl_err read_quantisation(hdl_model_desc *out, const hdl_jv *root, const hdl_jv *text,
                                 hdl_errmsg *why)
{
    static const char *const keys[] = {"quantization_config", "compression_config"};
    for (size_t i = 0; i < 2 * HDL_ARRAY_LEN(keys); i++) {
        hdl_jv v = hdl_jv_get(i % 2 ? text : root, keys[i / 2]);
        if (hdl_jv_given(&v))
            return hdl_quant_config_read(out, &v, why);
    }
    return HDL_OK;
}

static hdl_err parse(hdl_model_desc *out, const hdl_jv *root, hdl_errmsg *why)
{
    const hdl_arch *arch = NULL;
    HDL_TRY(hdl_jv_expect(root, HDL_JSON_OBJECT, why));
    HDL_TRY(find_arch(root, &arch, why));
    hdl_desc_begin(out, arch);
    key_table table = {.keys = arch->keys, .n_keys = arch->n_keys};
    hdl_jv text = *root;
    if (arch->text) {
        key_table outer = {
            .keys = arch->outer_keys, .n_keys = arch->n_outer_keys, .skip = arch->text};
        text = hdl_jv_get(root, arch->text);
        if (!hdl_jv_given(&text))
            return hdl_desc_lacks(arch->text, why);
        HDL_TRY(hdl_jv_expect(&text, HDL_JSON_OBJECT, why));
        HDL_TRY(read_keys(out, &outer, root, why));
    }
    HDL_TRY(read_keys(out, &table, &text, why));
    if (arch->finish)
        HDL_TRY(arch->finish(out, &text, why));
    HDL_TRY(hdl_desc_complete(out, why));
    return read_quantisation(out, root, &text, why);
}

/* Python writes Infinity and NaN, which are not JSON. They become strings, so that who ignores the
 * key can and who needs a number refuses it. */
static void quote_words(const char *json, size_t len, hdl_buf *out)
{
    static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        size_t word = 0;
        for (size_t w = 0; !in_string && word == 0 && w < HDL_ARRAY_LEN(words); w++) {
            size_t n = strlen(words[w]);
            word = n <= len - i && memcmp(json + i, words[w], n) == 0 ? n : 0;
        }
        if (word > 0) {
            hdl_buf_printf(out, "\"%.*s\"", (int)word, json + i);
            i += word - 1;
            continue;
        }
        if (json[i] == '"')
            in_string = !in_string;
        hdl_buf_append(out, json + i, in_string && json[i] == '\\' && i + 1 < len ? 2 : 1);
        i += in_string && json[i] == '\\' && i + 1 < len;
    }
}

hdl_err hdl_model_desc_parse(hdl_model_desc *out, const char *json, size_t len, hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    hdl_buf text;
    hdl_buf_init(&text, CONFIG_BYTES_MAX);
    quote_words(json, len, &text);
    hdl_err err = HDL_INVALID;
    if (hdl_buf_ok(&text))
        err = hdl_json_parse((const char *)hdl_buf_data(&text), text.len, CONFIG_BYTES_MAX, &doc,
                             why);
    else
        hdl_fail(err, why,
                 "config.json has more than %d bytes; no model's does; is it another file?",
                 CONFIG_BYTES_MAX);
    if (err == HDL_OK) {
        hdl_jv root = hdl_json_root(doc);
        err = parse(out, &root, why);
        hdl_json_close(doc);
    }
    hdl_buf_deinit(&text);
    return err;
}

/* Until 2025 modelopt wrote what others write into config.json to a file of its own. */
static hdl_err read_modelopt_file(hdl_model_desc *out, const char *model_path, hdl_errmsg *why)
{
    char path[PATH_BYTES], *text = NULL;
    size_t len = 0;
    hdl_json *doc = NULL;
    if (hdl_fs_join(path, sizeof(path), model_path, "hf_quant_config.json") != HDL_OK ||
        !hdl_fs_exists(path))
        return HDL_OK;
    HDL_TRY(hdl_fs_read(path, CONFIG_BYTES_MAX, &text, &len, why));
    hdl_err err = hdl_json_parse(text, len, CONFIG_BYTES_MAX, &doc, why);
    if (err == HDL_OK) {
        hdl_jv root = hdl_json_root(doc);
        err = hdl_quant_config_read(out, &root, why);
        hdl_json_close(doc);
    }
    free(text);
    return err == HDL_OK ? HDL_OK : hdl_fail_prefix(err, why, "%s", path);
}

/* Why there is no folder and no file at the path; errno is stat's. */
static hdl_err fail_absent(const char *model_path, hdl_errmsg *why)
{
    if (errno != ENOENT && errno != ENOTDIR)
        return hdl_fail(HDL_IO, why, "cannot look at %s; %s; check who may read it and its folders",
                        model_path, strerror(errno));
    return hdl_fail(HDL_NOTFOUND, why,
                    "%s does not exist; a model is a Hugging Face folder with config.json and "
                    "*.safetensors, or a .gguf file; give the path of one",
                    model_path);
}

/* What is there and cannot be read says why itself. */
static hdl_err read_config(const char *path, char **text, size_t *len, hdl_errmsg *why)
{
    hdl_err err = hdl_fs_read(path, CONFIG_BYTES_MAX, text, len, why);
    if (err != HDL_NOTFOUND)
        return err;
    return hdl_fail(err, why,
                    "%s does not exist; a model is a Hugging Face folder with config.json and "
                    "*.safetensors; give the path of one",
                    path);
}

hdl_err hdl_model_desc_load(hdl_model_desc *out, const char *model_path, hdl_errmsg *why)
{
    char path[PATH_BYTES];
    char *text = NULL;
    size_t len = 0;
    if (!hdl_fs_is_dir(model_path)) {
        if (hdl_fs_exists(model_path))
            return hdl_desc_load_gguf(out, model_path, why);
        return fail_absent(model_path, why);
    }
    if (hdl_fs_join(path, sizeof(path), model_path, "config.json") != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "the model's path is too long; use a shorter one");
    HDL_TRY(read_config(path, &text, &len, why));
    hdl_err err = hdl_model_desc_parse(out, text, len, why);
    free(text);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return out->quant.method == HDL_QUANT_NONE ? read_modelopt_file(out, model_path, why) : HDL_OK;
}
