/* SPDX-License-Identifier: Apache-2.0 */
/* The text files of a model folder: the only file of scheduler/text that reads any. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/gguf.h"
#include "base/json.h"
#include "scheduler/text/tokenizer_impl.h"

enum { CONFIG_BYTES_MAX = 16 << 20, PATH_BYTES = 4096 };

/* HDL_OK with *text NULL when there is no such file. The text is the caller's to free. */
static hdl_err read_optional(const char *dir, const char *name, size_t bytes_max, hdl_text *out,
                             hdl_errmsg *why)
{
    char path[PATH_BYTES];
    char *text = NULL;
    *out = (hdl_text){0};
    if (hdl_fs_join(path, sizeof path, dir, name) != HDL_OK)
        return hdl_fail(HDL_INVALID, why, "%.200s: the path is too long; move the model", dir);
    hdl_err err = hdl_fs_read(path, bytes_max, &text, &out->len, why);
    if (err == HDL_NOTFOUND)
        return HDL_OK;
    out->p = text;
    return err;
}

/* As read_optional, parsed; *out NULL when there is no such file. */
static hdl_err read_optional_json(const char *dir, const char *name, hdl_json **out,
                                  hdl_errmsg *why)
{
    hdl_text text;
    *out = NULL;
    HDL_TRY(read_optional(dir, name, CONFIG_BYTES_MAX, &text, why));
    if (text.p == NULL)
        return HDL_OK;
    hdl_err err = hdl_json_parse(text.p, text.len, CONFIG_BYTES_MAX, out, why);
    free((void *)text.p);
    return err == HDL_OK ? HDL_OK : hdl_fail_prefix(err, why, "%s", name);
}

/* A special token is a string, or an object with its string as "content"; what is already known
 * stays. */
static hdl_err take_special(hdl_tokenizer *tok, const hdl_jv *json, const char *key,
                            const char **out)
{
    hdl_jv v = hdl_jv_get(json, key), content = hdl_jv_get(&v, "content");
    const char *text;
    size_t len;
    if (*out != NULL)
        return HDL_OK;
    if (hdl_jv_string(hdl_jv_given(&content) ? &content : &v, &text, &len, NULL) != HDL_OK)
        return HDL_OK; /* absent or null: the model has none */
    *out = hdl_pool_arena_copy(&tok->arena, text, len);
    return *out ? HDL_OK : HDL_NOMEM;
}

static hdl_err take_specials(hdl_tokenizer *tok, const hdl_jv *json)
{
    hdl_special_texts *s = &tok->info.special;
    HDL_TRY(take_special(tok, json, "bos_token", &s->bos));
    HDL_TRY(take_special(tok, json, "eos_token", &s->eos));
    HDL_TRY(take_special(tok, json, "pad_token", &s->pad));
    return take_special(tok, json, "unk_token", &s->unk);
}

hdl_err hdl_tokenizer_set_template(hdl_tokenizer *tok, hdl_text source)
{
    tok->info.chat_template = hdl_pool_arena_copy(&tok->arena, source.p, source.len);
    tok->info.chat_template_len = source.len;
    return tok->info.chat_template ? HDL_OK : HDL_NOMEM;
}

/* "chat_template" is the source, or a list of {name, template} of which "default" is for chat. */
static hdl_err take_template(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(json, "chat_template");
    hdl_text source;
    if (!hdl_jv_given(&v))
        return HDL_OK;
    if (hdl_jv_kind(&v) != HDL_JSON_ARRAY) {
        HDL_TRY(hdl_jv_string(&v, &source.p, &source.len, why));
        return hdl_tokenizer_set_template(tok, source);
    }
    for (size_t i = 0; i < hdl_jv_len(&v); i++) {
        hdl_jv item = hdl_jv_at(&v, i), name = hdl_jv_get(&item, "name"),
               text = hdl_jv_get(&item, "template");
        const char *is;
        HDL_TRY(hdl_jv_string(&name, &is, NULL, why));
        if (strcmp(is, "default") == 0) {
            HDL_TRY(hdl_jv_string(&text, &source.p, &source.len, why));
            return hdl_tokenizer_set_template(tok, source);
        }
    }
    return HDL_OK;
}

hdl_err hdl_tokenizer_add_eos(hdl_tokenizer *tok, hdl_token id, hdl_errmsg *why)
{
    hdl_tok_info *info = &tok->info;
    for (uint32_t i = 0; i < info->n_eos_ids; i++)
        if (info->eos_ids[i] == id)
            return HDL_OK;
    if (info->n_eos_ids == HDL_STOP_IDS_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why, "eos_token_id: more than %d ids end an answer",
                        HDL_STOP_IDS_MAX);
    info->eos_ids[info->n_eos_ids++] = id;
    return HDL_OK;
}

/* One id or a list of them. -1 is how some files write "none". */
static hdl_err take_eos_ids(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    const hdl_jv_range range = {-1, HDL_VOCAB_IDS_MAX};
    hdl_jv v = hdl_jv_get(json, "eos_token_id");
    bool list = hdl_jv_kind(&v) == HDL_JSON_ARRAY;
    size_t n = list ? hdl_jv_len(&v) : hdl_jv_given(&v);
    for (size_t i = 0; i < n; i++) {
        hdl_jv item = list ? hdl_jv_at(&v, i) : v;
        int64_t id;
        HDL_TRY(hdl_jv_int(&item, range, &id, why));
        if (id >= 0)
            HDL_TRY(hdl_tokenizer_add_eos(tok, (hdl_token)id, why));
    }
    return HDL_OK;
}

static hdl_err take_tokenizer_config(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    HDL_TRY(take_specials(tok, json));
    return take_template(tok, json, why);
}

static hdl_err take_specials_map(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    (void)why;
    return take_specials(tok, json);
}

/* generation_config.json speaks for itself; config.json is asked only where it is silent. */
static hdl_err take_model_config(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "model_type");
    hdl_text text;
    if (hdl_jv_string(&type, &text.p, &text.len, NULL) == HDL_OK) {
        tok->info.model_type = hdl_pool_arena_copy(&tok->arena, text.p, text.len);
        if (tok->info.model_type == NULL)
            return HDL_NOMEM;
    }
    return tok->info.n_eos_ids == 0 ? take_eos_ids(tok, json, why) : HDL_OK;
}

static hdl_err load_beside(hdl_tokenizer *tok, const char *dir, hdl_errmsg *why)
{
    static const struct {
        const char *name;
        hdl_err (*take)(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why);
    } files[] = {
        {"tokenizer_config.json", take_tokenizer_config},
        {"special_tokens_map.json", take_specials_map},
        {"generation_config.json", take_eos_ids},
        {"config.json", take_model_config},
    };
    for (size_t i = 0; i < HDL_ARRAY_LEN(files); i++) {
        hdl_json *doc;
        HDL_TRY(read_optional_json(dir, files[i].name, &doc, why));
        if (doc == NULL)
            continue;
        hdl_jv root = hdl_json_root(doc);
        hdl_err err = files[i].take(tok, &root, why);
        hdl_json_close(doc);
        if (err != HDL_OK)
            return hdl_fail_prefix(err, why, "%s", files[i].name);
    }
    /* Newer folders keep the template in a file of its own, which then counts. */
    hdl_text source;
    HDL_TRY(read_optional(dir, "chat_template.jinja", HDL_TOKENIZER_TEMPLATE_MAX, &source, why));
    hdl_err err = source.p ? hdl_tokenizer_set_template(tok, source) : HDL_OK;
    free((void *)source.p);
    return err;
}

static hdl_err finish(hdl_tokenizer *tok, hdl_errmsg *why)
{
    hdl_tok_info *info = &tok->info;
    if (info->special.bos != NULL)
        info->bos_id = hdl_tokenizer_find(tok, info->special.bos);
    hdl_token eos = info->special.eos ? hdl_tokenizer_find(tok, info->special.eos) : -1;
    return eos >= 0 ? hdl_tokenizer_add_eos(tok, eos, why) : HDL_OK;
}

static hdl_err open_tokenizer_json(hdl_tokenizer **out, const char *dir, hdl_text text,
                                   hdl_errmsg *why)
{
    (void)dir;
    return hdl_tokenizer_open_json(out, text.p, text.len, why);
}

static hdl_err open_tekken(hdl_tokenizer **out, const char *dir, hdl_text text, hdl_errmsg *why)
{
    (void)dir;
    return hdl_tokenizer_open_tekken(out, text.p, text.len, why);
}

static hdl_err open_tiktoken(hdl_tokenizer **out, const char *dir, hdl_text text, hdl_errmsg *why)
{
    hdl_json *doc;
    HDL_TRY(read_optional_json(dir, "tokenizer_config.json", &doc, why));
    hdl_jv root = doc != NULL ? hdl_json_root(doc) : (hdl_jv){0};
    hdl_err err = hdl_tokenizer_open_tiktoken(out, text, &root, why);
    hdl_json_close(doc);
    return err;
}

/* The first vocabulary file that there is. */
static hdl_err open_vocabulary(hdl_tokenizer **out, const char *dir, hdl_errmsg *why)
{
    static const struct {
        const char *name;
        hdl_err (*open)(hdl_tokenizer **out, const char *dir, hdl_text text, hdl_errmsg *why);
    } files[] = {{"tokenizer.json", open_tokenizer_json},
                 {"tekken.json", open_tekken},
                 {"tiktoken.model", open_tiktoken}};
    for (size_t i = 0; i < HDL_ARRAY_LEN(files); i++) {
        hdl_text text;
        HDL_TRY(read_optional(dir, files[i].name, HDL_TOKENIZER_JSON_MAX, &text, why));
        if (text.p == NULL)
            continue;
        hdl_err err = files[i].open(out, dir, text, why);
        free((void *)text.p);
        return err;
    }
    return hdl_fail(HDL_NOTFOUND, why,
                    "%.200s/tokenizer.json: not found, nor tekken.json or tiktoken.model; heddle "
                    "needs one to turn text into tokens; give a complete Hugging Face model folder",
                    dir);
}

static hdl_err open_folder(hdl_tokenizer **out, const char *dir, hdl_errmsg *why)
{
    hdl_tokenizer *tok = NULL;
    hdl_err err = open_vocabulary(&tok, dir, why);
    if (err == HDL_NOTFOUND)
        return err;
    if (err == HDL_OK)
        err = load_beside(tok, dir, why);
    if (err == HDL_OK)
        err = finish(tok, why);
    if (err != HDL_OK) {
        hdl_tokenizer_free(tok);
        return hdl_fail_prefix(err, why, "%.200s", dir);
    }
    *out = tok;
    return HDL_OK;
}

hdl_err hdl_tokenizer_open(hdl_tokenizer **out, const char *model, hdl_errmsg *why)
{
    hdl_gguf *gguf;
    if (hdl_fs_is_dir(model) || !hdl_fs_exists(model))
        return open_folder(out, model, why);
    HDL_TRY(hdl_gguf_open(&gguf, model, why));
    hdl_err err = hdl_tokenizer_open_gguf(out, gguf, why);
    hdl_gguf_close(gguf);
    return err == HDL_OK ? HDL_OK : hdl_fail_prefix(err, why, "%.200s", model);
}
