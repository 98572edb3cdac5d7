/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of a Hugging Face model folder -> hdl_model_desc, by the architecture's tables. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "worker/model/arch.h"

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
    const char *name = "";
    hdl_jv list = hdl_jv_get(root, "architectures");
    hdl_jv first = hdl_jv_at(&list, 0);
    if (!hdl_jv_present(&first))
        return hdl_fail(HDL_INVALID, why,
                        "config.json has no architectures; it does not say what the model is; "
                        "give the folder of a Hugging Face model");
    HDL_TRY(hdl_jv_string(&first, &name, NULL, why));
    *out = hdl_arch_find(name);
    char known[256];
    if (!*out)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "architecture %.60s is not supported; this version runs %s; choose a model "
                        "of one of them",
                        name, hdl_arch_names(known, sizeof(known)));
    return HDL_OK;
}

static void set_defaults(hdl_model_desc *desc, const hdl_arch *arch)
{
    *desc = (hdl_model_desc){
        .qk_norm = arch->qk_norm,
        .pre_norm = true,
        .router = {.kind = arch->router, .renorm = arch->router_renorm},
        .n_ropes = 1,
        .ropes = {{.theta = 10000.0}},
        .dtype = HDL_DTYPE_BF16,
        .bos_id = HDL_NONE_U32,
    };
    snprintf(desc->arch, sizeof(desc->arch), "%s", arch->name);
    for (unsigned i = 0; i < HDL_LAYERS_MAX; i++) {
        desc->layers[i].mixer = (uint8_t)arch->mixer;
        desc->layers[i].ffn = (uint8_t)arch->ffn;
    }
    if (arch->init)
        arch->init(desc);
}

static hdl_err lacks(const char *key, hdl_errmsg *why)
{
    return hdl_fail(HDL_INVALID, why,
                    "config.json lacks %s; the model cannot be built without it; "
                    "fetch the original file",
                    key);
}

static hdl_err check_present(const hdl_model_desc *desc, hdl_errmsg *why)
{
    if (desc->n_layers == 0)
        return lacks("num_hidden_layers", why);
    if (desc->hidden == 0)
        return lacks("hidden_size", why);
    if (desc->n_heads == 0)
        return lacks("num_attention_heads", why);
    if (desc->vocab == 0)
        return lacks("vocab_size", why);
    if (desc->max_len == 0)
        return lacks("max_position_embeddings", why);
    if (!(desc->norm_eps > 0))
        return lacks("rms_norm_eps", why);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        if (desc->layers[i].ffn == HDL_FFN_DENSE && desc->inter == 0)
            return lacks("intermediate_size", why);
        if (desc->layers[i].ffn != HDL_FFN_MOE)
            continue;
        if (desc->n_experts == 0 || desc->topk == 0 || desc->moe_inter == 0)
            return lacks("the number or size of experts", why);
    }
    return HDL_OK;
}

static hdl_err check_groups(const hdl_model_desc *desc, hdl_errmsg *why)
{
    const hdl_router_desc *r = &desc->router;
    uint32_t each = desc->n_experts / r->n_group;
    if (desc->n_experts % r->n_group != 0 || r->topk_group == 0 || r->topk_group > r->n_group ||
        desc->topk > r->topk_group * each || (r->group_top2 && each < 2))
        return hdl_fail(HDL_INVALID, why,
                        "config.json: %u of %u experts cannot be chosen from %u of %u groups; the "
                        "file is damaged; fetch the original",
                        desc->topk, desc->n_experts, r->topk_group, r->n_group);
    return HDL_OK;
}

static hdl_err check_shapes(const hdl_model_desc *desc, hdl_errmsg *why)
{
    if (desc->n_heads % desc->n_kv_heads != 0)
        return hdl_fail(HDL_INVALID, why,
                        "config.json: %u attention heads cannot share %u KV heads evenly; the file "
                        "is damaged or of another architecture; fetch the original",
                        desc->n_heads, desc->n_kv_heads);
    if (desc->head_dim % 2 != 0)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "config.json: head_dim is %u; rotary embedding needs an even one; choose "
                        "another model",
                        desc->head_dim);
    for (uint32_t i = 0; i < desc->n_ropes; i++)
        if (desc->ropes[i].dim == 0 || desc->ropes[i].dim % 2 != 0 ||
            desc->ropes[i].dim > desc->head_dim)
            return hdl_fail(HDL_UNSUPPORTED, why,
                            "config.json: %u of a head's %u values are rotated; it must be an even "
                            "number of them; choose another model",
                            desc->ropes[i].dim, desc->head_dim);
    if (desc->n_experts != 0 && desc->topk > desc->n_experts)
        return hdl_fail(HDL_INVALID, why,
                        "config.json: num_experts_per_tok is %u of only %u experts; the file is "
                        "damaged; fetch the original",
                        desc->topk, desc->n_experts);
    return desc->router.n_group > 1 ? check_groups(desc, why) : HDL_OK;
}

static hdl_err complete(hdl_model_desc *desc, const hdl_arch *arch, const hdl_jv *root,
                        hdl_errmsg *why)
{
    if (arch->finish)
        HDL_TRY(arch->finish(desc, root, why));
    HDL_TRY(check_present(desc, why));
    if (desc->n_kv_heads == 0)
        desc->n_kv_heads = desc->n_heads;
    if (desc->head_dim == 0)
        desc->head_dim = desc->hidden / desc->n_heads;
    if (desc->head_dim == 0)
        return lacks("head_dim", why);
    for (uint32_t i = 0; i < desc->n_ropes; i++) {
        hdl_rope *rope = &desc->ropes[i];
        if (rope->dim == 0)
            rope->dim = (uint32_t)(desc->head_dim * (rope->partial > 0 ? rope->partial : 1.0));
    }
    if (desc->attn_scale == 0)
        desc->attn_scale = (float)(1.0 / sqrt((double)desc->head_dim));
    HDL_TRY(check_shapes(desc, why));
    return hdl_cache_groups_make(desc, why);
}

static hdl_err parse(hdl_model_desc *out, const hdl_jv *root, hdl_errmsg *why)
{
    const hdl_arch *arch = NULL;
    HDL_TRY(hdl_jv_expect(root, HDL_JSON_OBJECT, why));
    HDL_TRY(find_arch(root, &arch, why));
    set_defaults(out, arch);
    key_table table = {.keys = arch->keys, .n_keys = arch->n_keys};
    if (!arch->text) {
        HDL_TRY(read_keys(out, &table, root, why));
        return complete(out, arch, root, why);
    }
    key_table outer = {.keys = arch->outer_keys, .n_keys = arch->n_outer_keys, .skip = arch->text};
    hdl_jv text = hdl_jv_get(root, arch->text);
    if (!hdl_jv_given(&text))
        return lacks(arch->text, why);
    HDL_TRY(hdl_jv_expect(&text, HDL_JSON_OBJECT, why));
    HDL_TRY(read_keys(out, &outer, root, why));
    HDL_TRY(read_keys(out, &table, &text, why));
    return complete(out, arch, &text, why);
}

hdl_err hdl_model_desc_parse(hdl_model_desc *out, const char *json, size_t len, hdl_errmsg *why)
{
    hdl_json *doc = NULL;
    HDL_TRY(hdl_json_parse(json, len, CONFIG_BYTES_MAX, &doc, why));
    hdl_jv root = hdl_json_root(doc);
    hdl_err err = parse(out, &root, why);
    hdl_json_close(doc);
    return err;
}

hdl_err hdl_model_desc_load(hdl_model_desc *out, const char *model_path, hdl_errmsg *why)
{
    char path[PATH_BYTES];
    char *text = NULL;
    size_t len = 0;
    if (!hdl_fs_is_dir(model_path))
        return hdl_fail(HDL_NOTFOUND, why,
                        "%s is not a folder; a model is a Hugging Face folder with config.json and "
                        "*.safetensors; give the path of one",
                        model_path);
    if (hdl_fs_join(path, sizeof(path), model_path, "config.json") != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "the model's path is too long; use a shorter one");
    if (hdl_fs_read(path, CONFIG_BYTES_MAX, &text, &len, why) != HDL_OK)
        return hdl_fail(HDL_NOTFOUND, why,
                        "%s cannot be read; a model is a Hugging Face folder with config.json and "
                        "*.safetensors; give the path of one",
                        path);
    hdl_err err = hdl_model_desc_parse(out, text, len, why);
    free(text);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", path);
    return HDL_OK;
}
