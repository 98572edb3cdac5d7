/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json -> hdl_tokenizer. Whatever the file asks for and heddle lacks is refused here by
 * name. The model is model_open.c's, the post-processor post_open.c's, the decoder decode.c's. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/tokenizer_impl.h"

hdl_err hdl_tokenizer_unsupported(const hdl_jv *v, hdl_errmsg *why, const char *what)
{
    hdl_jv_fail(v, why, "%s", what);
    return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
}

hdl_err hdl_tokenizer_read_id(const hdl_jv *v, uint32_t *out, hdl_errmsg *why)
{
    const hdl_jv_range range = {0, HDL_VOCAB_IDS_MAX - 1};
    int64_t id;
    HDL_TRY(hdl_jv_int(v, range, &id, why));
    *out = (uint32_t)id;
    return HDL_OK;
}

static hdl_err flag(const hdl_jv *item, const char *key, bool *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(item, key);
    return hdl_jv_given(&v) ? hdl_jv_bool(&v, out, why) : HDL_OK;
}

static hdl_err normalize_content(hdl_tokenizer *tok, hdl_normalize_work *work, hdl_text *text)
{
    HDL_TRY(hdl_normalizer_run(&tok->normalizer, work, text));
    text->p = hdl_pool_arena_copy(&tok->arena, text->p, text->len);
    return text->p ? HDL_OK : HDL_NOMEM;
}

static hdl_err read_added_token(hdl_tokenizer *tok, const hdl_jv *item, hdl_normalize_work *work,
                                hdl_errmsg *why)
{
    hdl_added_token token = {0};
    bool normalized = true;
    hdl_jv id = hdl_jv_get(item, "id"), content = hdl_jv_get(item, "content");
    hdl_vocab_entry entry = {0};
    HDL_TRY(hdl_tokenizer_read_id(&id, &entry.id, why));
    HDL_TRY(hdl_jv_string(&content, &entry.text, &entry.len, why));
    if (entry.len > HDL_ADDED_BYTES_MAX)
        return hdl_jv_fail(&content, why, "is longer than %d bytes", HDL_ADDED_BYTES_MAX);
    HDL_TRY(flag(item, "special", &token.special, why));
    normalized = !token.special;
    HDL_TRY(flag(item, "normalized", &normalized, why));
    HDL_TRY(flag(item, "single_word", &token.single_word, why));
    HDL_TRY(flag(item, "lstrip", &token.lstrip, why));
    HDL_TRY(flag(item, "rstrip", &token.rstrip, why));
    entry.special = token.special;
    HDL_TRY(hdl_vocab_add(&tok->vocab, &tok->arena, &entry, why));
    token.id = (hdl_token)entry.id;
    token.text = (hdl_text){tok->vocab.tokens[entry.id].text, entry.len};
    if (normalized) {
        if (normalize_content(tok, work, &token.text) != HDL_OK)
            return hdl_jv_fail(&content, why,
                               "cannot be normalized; it grows too long, or the normalizer's table "
                               "is damaged");
        HDL_TRY(hdl_vocab_set_decoded(&tok->vocab, &tok->arena, entry.id, token.text));
    }
    hdl_added_put(normalized ? &tok->added_normalized : &tok->added_raw, &token);
    return HDL_OK;
}

static hdl_err read_added(hdl_tokenizer *tok, const hdl_jv *added, hdl_errmsg *why)
{
    size_t n = hdl_jv_len(added);
    if (n > HDL_ADDED_MAX)
        return hdl_fail(HDL_INVALID, why, "tokenizer.json: more than %d added tokens",
                        HDL_ADDED_MAX);
    HDL_TRY(hdl_added_init(&tok->added_raw, &tok->arena, (uint32_t)n));
    HDL_TRY(hdl_added_init(&tok->added_normalized, &tok->arena, (uint32_t)n));
    hdl_normalize_work work = {0};
    HDL_TRY(hdl_regex_work_new(&work.regex));
    for (int i = 0; i < 2; i++)
        hdl_buf_init(&work.bufs[i], (size_t)64 * HDL_ADDED_BYTES_MAX);
    hdl_err err = HDL_OK;
    for (size_t i = 0; i < n && err == HDL_OK; i++) {
        hdl_jv item = hdl_jv_at(added, i);
        err = read_added_token(tok, &item, &work, why);
    }
    for (int i = 0; i < 2; i++)
        hdl_buf_deinit(&work.bufs[i]);
    hdl_regex_work_free(work.regex);
    HDL_TRY(err);
    HDL_TRY(hdl_added_finish(&tok->added_raw, why));
    return hdl_added_finish(&tok->added_normalized, why);
}

static hdl_err read_all(hdl_tokenizer *tok, const hdl_jv *root, hdl_errmsg *why)
{
    hdl_jv model = hdl_jv_get(root, "model"), added = hdl_jv_get(root, "added_tokens");
    hdl_jv normalizer = hdl_jv_get(root, "normalizer"), post = hdl_jv_get(root, "post_processor");
    hdl_jv pretok = hdl_jv_get(root, "pre_tokenizer"), decoder = hdl_jv_get(root, "decoder");
    HDL_TRY(hdl_jv_expect(&model, HDL_JSON_OBJECT, why));
    HDL_TRY(hdl_normalizer_init(&tok->normalizer, &tok->arena, &normalizer, why));
    HDL_TRY(hdl_pretok_init(&tok->pretok, &pretok, why));
    tok->vocab.plain = !tok->pretok.byte_level;
    HDL_TRY(hdl_model_read(tok, &model, &added, why));
    HDL_TRY(read_added(tok, &added, why));
    HDL_TRY(hdl_model_finish(tok));
    HDL_TRY(hdl_post_read(&tok->post, &post, why));
    return hdl_decoder_init(&tok->decoder, &tok->vocab, &tok->arena, &decoder, why);
}

hdl_err hdl_tokenizer_alloc(hdl_tokenizer **out)
{
    static atomic_uint_fast64_t serials;
    hdl_tokenizer *tok = calloc(1, sizeof *tok);
    if (tok == NULL)
        return HDL_NOMEM;
    hdl_pool_arena_init(&tok->arena, HDL_TOKENIZER_ARENA_MAX);
    tok->serial = atomic_fetch_add(&serials, 1) + 1;
    tok->info.bos_id = -1;
    *out = tok;
    return HDL_OK;
}

hdl_err hdl_tokenizer_open_json(hdl_tokenizer **out, const char *json, size_t len, hdl_errmsg *why)
{
    hdl_json *doc;
    hdl_tokenizer *tok = NULL;
    HDL_TRY(hdl_json_parse(json, len, HDL_TOKENIZER_JSON_MAX, &doc, why));
    hdl_err err = hdl_tokenizer_alloc(&tok);
    if (err == HDL_OK) {
        hdl_jv root = hdl_json_root(doc);
        err = read_all(tok, &root, why);
        tok->info.vocab_size = tok->vocab.n_ids;
    }
    hdl_json_close(doc);
    if (err != HDL_OK) {
        hdl_tokenizer_free(tok);
        return err == HDL_NOMEM ? hdl_fail(err, why, "tokenizer.json: out of memory") : err;
    }
    *out = tok;
    return HDL_OK;
}
