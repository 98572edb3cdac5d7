/* SPDX-License-Identifier: Apache-2.0 */
/* "model" of tokenizer.json: BPE and Unigram. */
#include <math.h>
#include <string.h>

#include "scheduler/text/tokenizer_impl.h"

/* Room for every id that the file names. Ids far beyond the number of tokens would only cost
 * memory: refused. */
static hdl_err size_vocab(hdl_tokenizer *tok, const hdl_jv *vocab, const hdl_jv *added,
                          hdl_errmsg *why)
{
    bool list = hdl_jv_kind(vocab) == HDL_JSON_ARRAY; /* ids are places */
    size_t count = hdl_jv_len(vocab) + hdl_jv_len(added);
    uint32_t id, id_max = list && hdl_jv_len(vocab) > 0 ? (uint32_t)hdl_jv_len(vocab) - 1 : 0;
    void *iter = NULL;
    for (hdl_jv member; !list && hdl_jv_next(vocab, &iter, &member);) {
        HDL_TRY(hdl_tokenizer_read_id(&member, &id, why));
        id_max = id > id_max ? id : id_max;
    }
    for (size_t i = 0; i < hdl_jv_len(added); i++) {
        hdl_jv item = hdl_jv_at(added, i), v = hdl_jv_get(&item, "id");
        HDL_TRY(hdl_tokenizer_read_id(&v, &id, why));
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
        HDL_TRY(hdl_tokenizer_read_id(&member, &entry.id, why));
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
            return hdl_tokenizer_unsupported(&v, why,
                                             "is set; heddle has BPE without affixes only");
    }
    hdl_jv dropout = hdl_jv_get(model, "dropout");
    double p = 0;
    if (hdl_jv_given(&dropout))
        HDL_TRY(hdl_jv_double(&dropout, &p, why));
    return p > 0 ? hdl_tokenizer_unsupported(&dropout, why,
                                             "is set; random merges are for training only")
                 : HDL_OK;
}

static hdl_err flag(const hdl_jv *json, const char *key, bool *out, hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(json, key);
    return hdl_jv_given(&v) ? hdl_jv_bool(&v, out, why) : HDL_OK;
}

static hdl_err read_bpe_options(hdl_tokenizer *tok, const hdl_jv *model, hdl_bpe_options *opt,
                                hdl_errmsg *why)
{
    hdl_jv unk = hdl_jv_get(model, "unk_token");
    *opt = (hdl_bpe_options){.chars = tok->vocab.plain, .unk = -1};
    HDL_TRY(flag(model, "ignore_merges", &opt->ignore_merges, why));
    HDL_TRY(flag(model, "byte_fallback", &opt->byte_fallback, why));
    HDL_TRY(flag(model, "fuse_unk", &opt->fuse_unk, why));
    if (!hdl_jv_given(&unk))
        return HDL_OK;
    const char *text;
    size_t len;
    HDL_TRY(hdl_jv_string(&unk, &text, &len, why));
    opt->unk = hdl_vocab_find(&tok->vocab, text, len);
    if (opt->unk < 0 && opt->chars)
        return hdl_jv_fail(&unk, why, "is not in model.vocab");
    return HDL_OK;
}

static hdl_err read_bpe(hdl_tokenizer *tok, const hdl_jv *model, hdl_errmsg *why)
{
    hdl_jv vocab = hdl_jv_get(model, "vocab"), merges = hdl_jv_get(model, "merges");
    hdl_bpe_options opt;
    HDL_TRY(refuse_options(model, why));
    HDL_TRY(hdl_jv_expect(&vocab, HDL_JSON_OBJECT, why));
    HDL_TRY(hdl_jv_expect(&merges, HDL_JSON_ARRAY, why));
    HDL_TRY(read_vocab(tok, &vocab, why));
    HDL_TRY(read_bpe_options(tok, model, &opt, why));
    size_t n = hdl_jv_len(&merges);
    if (n > HDL_VOCAB_IDS_MAX)
        return hdl_fail(HDL_INVALID, why, "tokenizer.json: more than %d merges", HDL_VOCAB_IDS_MAX);
    opt.n_merges = (uint32_t)n;
    HDL_TRY(hdl_bpe_init(&tok->bpe, &tok->arena, &tok->vocab, &opt, why));
    for (size_t i = 0; i < n; i++) {
        hdl_jv v = hdl_jv_at(&merges, i);
        hdl_bpe_rule rule = {.rank = (uint32_t)i};
        HDL_TRY(read_merge(&v, &rule, why));
        HDL_TRY(hdl_bpe_add_merge(&tok->bpe, &rule, why));
    }
    return HDL_OK;
}

/* [text, log probability], the id is the place. */
static hdl_err read_piece(hdl_tokenizer *tok, const hdl_jv *vocab, size_t i, double *score,
                          hdl_errmsg *why)
{
    hdl_jv pair = hdl_jv_at(vocab, i), text = hdl_jv_at(&pair, 0), value = hdl_jv_at(&pair, 1);
    hdl_vocab_entry entry = {.id = (uint32_t)i, .learned = true};
    HDL_TRY(hdl_jv_string(&text, &entry.text, &entry.len, why));
    HDL_TRY(hdl_jv_double(&value, score, why));
    return hdl_vocab_add(&tok->vocab, &tok->arena, &entry, why);
}

static hdl_err read_unigram(hdl_tokenizer *tok, const hdl_jv *model, hdl_errmsg *why)
{
    hdl_jv vocab = hdl_jv_get(model, "vocab"), unk = hdl_jv_get(model, "unk_id");
    hdl_unigram_options opt = {.unk = -1, .score_min = INFINITY};
    HDL_TRY(hdl_jv_expect(&vocab, HDL_JSON_ARRAY, why));
    if (!tok->vocab.plain)
        return hdl_tokenizer_unsupported(model, why, "is Unigram behind a ByteLevel pre-tokeniser");
    size_t n = hdl_jv_len(&vocab);
    double *scores = hdl_pool_arena_alloc_array(&tok->arena, n + 1, sizeof *scores);
    if (scores == NULL)
        return HDL_NOMEM;
    for (size_t i = 0; i < n; i++) {
        HDL_TRY(read_piece(tok, &vocab, i, &scores[i], why));
        opt.score_min = scores[i] < opt.score_min ? scores[i] : opt.score_min;
    }
    if (hdl_jv_given(&unk)) {
        uint32_t id;
        HDL_TRY(hdl_tokenizer_read_id(&unk, &id, why));
        if (id >= n)
            return hdl_jv_fail(&unk, why, "is not in model.vocab");
        opt.unk = (hdl_token)id;
    }
    HDL_TRY(flag(model, "byte_fallback", &opt.byte_fallback, why));
    tok->unigram.scores = scores;
    tok->kind = HDL_MODEL_UNIGRAM;
    return hdl_unigram_init(&tok->unigram, &tok->arena, &tok->vocab, &opt);
}

hdl_err hdl_model_read(hdl_tokenizer *tok, const hdl_jv *model, const hdl_jv *added,
                       hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(model, "type"), vocab = hdl_jv_get(model, "vocab");
    const char *name = "BPE"; /* files of before 2020 do not say it */
    if (hdl_jv_given(&type))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    HDL_TRY(size_vocab(tok, &vocab, added, why));
    if (strcmp(name, "BPE") == 0)
        return read_bpe(tok, model, why);
    if (strcmp(name, "Unigram") == 0)
        return read_unigram(tok, model, why);
    hdl_jv_fail(&type, why, "is \"%.32s\"; heddle has BPE and Unigram", name);
    return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
}

hdl_err hdl_model_finish(hdl_tokenizer *tok)
{
    return tok->kind == HDL_MODEL_BPE ? hdl_bpe_finish(&tok->bpe, &tok->arena) : HDL_OK;
}
