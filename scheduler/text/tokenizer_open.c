/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.json -> hdl_tokenizer. Whatever the file asks for and heddle lacks is refused here by
 * name. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/json.h"
#include "scheduler/text/tokenizer_impl.h"

static const hdl_jv_range ID_RANGE = {0, HDL_VOCAB_IDS_MAX - 1};

static hdl_err unsupported(const hdl_jv *v, hdl_errmsg *why, const char *what)
{
    hdl_jv_fail(v, why, "%s", what);
    return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
}

static hdl_err read_id(const hdl_jv *v, uint32_t *out, hdl_errmsg *why)
{
    int64_t id;
    HDL_TRY(hdl_jv_int(v, ID_RANGE, &id, why));
    *out = (uint32_t)id;
    return HDL_OK;
}

/* Room for every id that the file names. Ids far beyond the number of tokens would only cost
 * memory: refused. */
static hdl_err size_vocab(hdl_tokenizer *tok, const hdl_jv *vocab, const hdl_jv *added,
                          hdl_errmsg *why)
{
    size_t count = hdl_jv_len(vocab) + hdl_jv_len(added);
    uint32_t id, id_max = 0;
    void *iter = NULL;
    for (hdl_jv member; hdl_jv_next(vocab, &iter, &member);) {
        HDL_TRY(read_id(&member, &id, why));
        id_max = id > id_max ? id : id_max;
    }
    for (size_t i = 0; i < hdl_jv_len(added); i++) {
        hdl_jv item = hdl_jv_at(added, i), v = hdl_jv_get(&item, "id");
        HDL_TRY(read_id(&v, &id, why));
        id_max = id > id_max ? id : id_max;
    }
    if (count > HDL_VOCAB_IDS_MAX || id_max > 4 * count + 4096)
        return hdl_fail(HDL_INVALID, why,
                        "tokenizer.json: %zu tokens with ids up to %u; ids must be dense", count,
                        id_max);
    return hdl_vocab_init(&tok->vocab, &tok->arena, id_max + 1);
}

static hdl_err read_vocab(hdl_tokenizer *tok, const hdl_jv *vocab, hdl_errmsg *why)
{
    void *iter = NULL;
    for (hdl_jv member; hdl_jv_next(vocab, &iter, &member);) {
        hdl_vocab_entry entry = {.text = member.key, .len = strlen(member.key), .learned = true};
        HDL_TRY(read_id(&member, &entry.id, why));
        HDL_TRY(hdl_vocab_add(&tok->vocab, &tok->arena, &entry, why));
    }
    return HDL_OK;
}

/* "a b", or ["a", "b"]. */
static hdl_err read_merge(const hdl_jv *v, hdl_bpe_rule *rule, hdl_errmsg *why)
{
    if (hdl_jv_kind(v) == HDL_JSON_ARRAY && hdl_jv_len(v) == 2) {
        hdl_jv left = hdl_jv_at(v, 0), right = hdl_jv_at(v, 1);
        HDL_TRY(hdl_jv_string(&left, &rule->left.p, &rule->left.len, why));
        return hdl_jv_string(&right, &rule->right.p, &rule->right.len, why);
    }
    const char *text;
    size_t len;
    HDL_TRY(hdl_jv_string(v, &text, &len, why));
    const char *space = memchr(text, ' ', len);
    if (space == NULL || memchr(space + 1, ' ', len - (size_t)(space + 1 - text)) != NULL)
        return hdl_jv_fail(v, why, "must be two symbols with one space between them");
    rule->left = (hdl_text){text, (size_t)(space - text)};
    rule->right = (hdl_text){space + 1, len - rule->left.len - 1};
    return HDL_OK;
}

static hdl_err read_merges(hdl_tokenizer *tok, const hdl_jv *merges, hdl_errmsg *why)
{
    size_t n = hdl_jv_len(merges);
    if (n > HDL_VOCAB_IDS_MAX)
        return hdl_fail(HDL_INVALID, why, "tokenizer.json: more than %d merges", HDL_VOCAB_IDS_MAX);
    HDL_TRY(hdl_bpe_init(&tok->bpe, &tok->arena, &tok->vocab, (uint32_t)n, why));
    for (size_t i = 0; i < n; i++) {
        hdl_jv v = hdl_jv_at(merges, i);
        hdl_bpe_rule rule = {.rank = (uint32_t)i};
        HDL_TRY(read_merge(&v, &rule, why));
        HDL_TRY(hdl_bpe_add_merge(&tok->bpe, &rule, why));
    }
    hdl_bpe_finish(&tok->bpe);
    return HDL_OK;
}

/* Model options that change what comes out and that no byte-level model uses. */
static hdl_err refuse_options(const hdl_jv *model, hdl_errmsg *why)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        hdl_jv v = hdl_jv_get(model, affixes[i]);
        const char *text = "";
        if (hdl_jv_given(&v))
            HDL_TRY(hdl_jv_string(&v, &text, NULL, why));
        if (*text)
            return unsupported(&v, why, "is set; heddle has BPE without affixes only");
    }
    hdl_jv dropout = hdl_jv_get(model, "dropout");
    double p = 0;
    if (hdl_jv_given(&dropout))
        HDL_TRY(hdl_jv_double(&dropout, &p, why));
    return p > 0 ? unsupported(&dropout, why, "is set; random merges are for training only")
                 : HDL_OK;
}

static hdl_err read_model(hdl_tokenizer *tok, const hdl_jv *model, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(model, "type"), vocab = hdl_jv_get(model, "vocab");
    hdl_jv merges = hdl_jv_get(model, "merges"), ignore = hdl_jv_get(model, "ignore_merges");
    const char *name = "BPE"; /* files of before 2020 do not say it */
    if (hdl_jv_given(&type))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "BPE") != 0) {
        hdl_jv_fail(&type, why, "is \"%.32s\"; heddle has byte-level BPE", name);
        return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
    }
    HDL_TRY(refuse_options(model, why));
    HDL_TRY(hdl_jv_expect(&vocab, HDL_JSON_OBJECT, why));
    HDL_TRY(hdl_jv_expect(&merges, HDL_JSON_ARRAY, why));
    HDL_TRY(read_vocab(tok, &vocab, why));
    HDL_TRY(read_merges(tok, &merges, why));
    return hdl_jv_given(&ignore) ? hdl_jv_bool(&ignore, &tok->bpe.ignore_merges, why) : HDL_OK;
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
    HDL_TRY(read_id(&id, &entry.id, why));
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
        HDL_TRY(normalize_content(tok, work, &token.text));
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

/* One piece of a TemplateProcessing: the text itself, or a special token with its ids. */
static hdl_err read_post_piece(hdl_post *post, const hdl_jv *json, const hdl_jv *piece, bool *seen,
                               hdl_errmsg *why)
{
    hdl_jv special = hdl_jv_get(piece, "SpecialToken"), sequence = hdl_jv_get(piece, "Sequence");
    if (hdl_jv_given(&sequence) && !*seen) {
        *seen = true;
        return HDL_OK;
    }
    if (!hdl_jv_given(&special))
        return unsupported(piece, why,
                           "is not supported; heddle knows one Sequence and SpecialTokens");
    hdl_jv name = hdl_jv_get(&special, "id"), table = hdl_jv_get(json, "special_tokens");
    const char *text;
    HDL_TRY(hdl_jv_string(&name, &text, NULL, why));
    hdl_jv entry = hdl_jv_get(&table, text), ids = hdl_jv_get(&entry, "ids");
    HDL_TRY(hdl_jv_expect(&ids, HDL_JSON_ARRAY, why));
    for (size_t i = 0; i < hdl_jv_len(&ids); i++) {
        hdl_jv v = hdl_jv_at(&ids, i);
        uint32_t id, *n = *seen ? &post->n_after : &post->n_before;
        HDL_TRY(read_id(&v, &id, why));
        if (*n == HDL_POST_IDS_MAX)
            return unsupported(&v, why, "is one of more than 8 added ids");
        (*seen ? post->after : post->before)[(*n)++] = (hdl_token)id;
    }
    return HDL_OK;
}

static hdl_err read_template(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv single = hdl_jv_get(json, "single");
    HDL_TRY(hdl_jv_expect(&single, HDL_JSON_ARRAY, why));
    if (tok->post.n_before + tok->post.n_after > 0)
        return unsupported(json, why, "is a second TemplateProcessing; heddle takes one");
    bool seen = false;
    for (size_t i = 0; i < hdl_jv_len(&single); i++) {
        hdl_jv piece = hdl_jv_at(&single, i);
        HDL_TRY(read_post_piece(&tok->post, json, &piece, &seen, why));
    }
    return seen ? HDL_OK : unsupported(&single, why, "has no Sequence; the text would be lost");
}

/* ByteLevel as a post-processor only moves offsets. */
static hdl_err read_post(hdl_tokenizer *tok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "type"), list = hdl_jv_get(json, "processors");
    const char *name;
    if (!hdl_jv_given(json))
        return HDL_OK;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "ByteLevel") == 0)
        return HDL_OK;
    if (strcmp(name, "TemplateProcessing") == 0)
        return read_template(tok, json, why);
    if (strcmp(name, "Sequence") != 0) {
        hdl_jv_fail(&type, why,
                    "is \"%.32s\"; heddle has ByteLevel, TemplateProcessing and Sequence", name);
        return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
    }
    for (size_t i = 0; i < hdl_jv_len(&list); i++) {
        hdl_jv item = hdl_jv_at(&list, i), inner = hdl_jv_get(&item, "type");
        HDL_TRY(hdl_jv_string(&inner, &name, NULL, why));
        if (strcmp(name, "Sequence") == 0)
            return unsupported(&inner, why, "is a Sequence inside a Sequence");
        HDL_TRY(read_post(tok, &item, why));
    }
    return HDL_OK;
}

static hdl_err check_decoder(const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "type"), list = hdl_jv_get(json, "decoders");
    const char *name = "null";
    if (hdl_jv_given(json))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "Sequence") == 0 && hdl_jv_len(&list) == 1) {
        hdl_jv only = hdl_jv_at(&list, 0);
        type = hdl_jv_get(&only, "type");
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    }
    if (strcmp(name, "ByteLevel") == 0)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "tokenizer.json: decoder \"%.32s\" is not supported; heddle has ByteLevel",
                    name);
}

static hdl_err read_all(hdl_tokenizer *tok, const hdl_jv *root, hdl_errmsg *why)
{
    hdl_jv model = hdl_jv_get(root, "model"), vocab = hdl_jv_get(&model, "vocab");
    hdl_jv added = hdl_jv_get(root, "added_tokens"), normalizer = hdl_jv_get(root, "normalizer");
    hdl_jv pretok = hdl_jv_get(root, "pre_tokenizer"), post = hdl_jv_get(root, "post_processor");
    hdl_jv decoder = hdl_jv_get(root, "decoder");
    HDL_TRY(hdl_jv_expect(&model, HDL_JSON_OBJECT, why));
    HDL_TRY(size_vocab(tok, &vocab, &added, why));
    HDL_TRY(hdl_normalizer_init(&tok->normalizer, &tok->arena, &normalizer, why));
    HDL_TRY(hdl_pretok_init(&tok->pretok, &pretok, why));
    HDL_TRY(read_model(tok, &model, why));
    HDL_TRY(read_added(tok, &added, why));
    HDL_TRY(read_post(tok, &post, why));
    return check_decoder(&decoder, why);
}

hdl_err hdl_tokenizer_open_json(hdl_tokenizer **out, const char *json, size_t len, hdl_errmsg *why)
{
    static atomic_uint_fast64_t serials;
    hdl_json *doc;
    HDL_TRY(hdl_json_parse(json, len, HDL_TOKENIZER_JSON_MAX, &doc, why));
    hdl_tokenizer *tok = calloc(1, sizeof *tok);
    hdl_err err = tok ? HDL_OK : HDL_NOMEM;
    if (tok != NULL) {
        hdl_pool_arena_init(&tok->arena, HDL_TOKENIZER_ARENA_MAX);
        tok->serial = atomic_fetch_add(&serials, 1) + 1;
        tok->info.bos_id = -1;
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
