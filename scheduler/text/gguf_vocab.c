/* SPDX-License-Identifier: Apache-2.0 */
/* "tokenizer.ggml.*" of a GGUF file -> hdl_tokenizer. The models: gpt2 (byte-level BPE with merges,
 * its patterns in gguf_pre.c), llama (SentencePiece's BPE, where every token is a merge and scores
 * are the order) and t5 (Unigram). The others are refused by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/gguf.h"
#include "scheduler/text/gguf_pre.h"
#include "scheduler/text/tokenizer_impl.h"
#include "scheduler/text/utf8.h"

#define KEY(name) "tokenizer.ggml." name
static const char SPACE[] = "\xe2\x96\x81"; /* U+2581 */

/* "tokenizer.ggml.token_type". */
typedef enum token_type { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE } token_type;

typedef struct loader {
    hdl_tokenizer *tok;
    const hdl_gguf *gguf;
    const hdl_gguf_kv *tokens, *types, *scores; /* types and scores: NULL where there are none */
    const hdl_gguf_pre *pre;                    /* gpt2 */
    bool add_bos, add_eos, add_space;
    hdl_errmsg *why;
} loader;

/* Absent keys leave the default. */
static hdl_err optional(hdl_err err) { return err == HDL_NOTFOUND ? HDL_OK : err; }

static hdl_err read_bool(const loader *l, const char *key, bool *out)
{
    return optional(hdl_gguf_bool(l->gguf, key, out, l->why));
}

static hdl_err find_array(const loader *l, const char *key, hdl_gguf_type type,
                          const hdl_gguf_kv **out)
{
    hdl_gguf_want want = {key, type};
    hdl_err err = hdl_gguf_array(l->gguf, want, out, l->why);
    if (err == HDL_OK && (*out)->count < l->tokens->count)
        return hdl_fail(HDL_INVALID, l->why,
                        "%s: there are fewer than tokens; the file is broken; convert it again",
                        key);
    return optional(err);
}

static token_type type_of(const loader *l, uint64_t i)
{
    return l->types != NULL ? (token_type)hdl_gguf_int_at(l->types, i) : NORMAL;
}

static bool is_added(token_type type)
{
    return type == CONTROL || type == USER_DEFINED || type == UNKNOWN;
}

static hdl_err add_token(loader *l, uint32_t id, hdl_gguf_str str)
{
    token_type type = type_of(l, id);
    hdl_vocab *vocab = &l->tok->vocab;
    hdl_vocab_entry entry = {.text = str.data,
                             .len = str.len,
                             .id = id,
                             .special = type == CONTROL || type == UNKNOWN,
                             .learned = type != CONTROL && type != UNKNOWN && type != BYTE};
    if (str.len == 0)
        return HDL_OK; /* an id that nothing is written with */
    if (str.len > UINT16_MAX ||
        (vocab->plain && hdl_utf8_valid_prefix(str.data, str.len) < str.len))
        return hdl_fail(HDL_INVALID, l->why,
                        KEY("tokens") ": %u is too long or no text; the file is broken", id);
    HDL_TRY(hdl_vocab_add(vocab, &l->tok->arena, &entry, l->why));
    hdl_vocab_token *t = &vocab->tokens[id];
    if (is_added(type)) { /* written as it is, whatever the alphabet of the others */
        t->decoded = t->text;
        t->decoded_len = t->text_len;
    }
    return HDL_OK;
}

static hdl_err add_tokens(loader *l)
{
    if (l->tokens->count == 0 || l->tokens->count > HDL_VOCAB_IDS_MAX)
        return hdl_fail(HDL_INVALID, l->why, KEY("tokens") ": %llu of them; at most %d are taken",
                        (unsigned long long)l->tokens->count, HDL_VOCAB_IDS_MAX);
    HDL_TRY(hdl_vocab_init(&l->tok->vocab, &l->tok->arena, (uint32_t)l->tokens->count));
    hdl_gguf_str str;
    size_t at = 0;
    for (uint32_t id = 0; hdl_gguf_next_string(l->tokens, &at, &str); id++)
        HDL_TRY(add_token(l, id, str));
    l->tok->vocab.n_ids = (uint32_t)l->tokens->count; /* also when the last ones are empty */
    return HDL_OK;
}

/* White space behind Phi-3's special tokens is swallowed; the file has no place to say so. */
static bool strips_behind(const loader *l, const char *text)
{
    hdl_gguf_str name;
    if (hdl_gguf_string(l->gguf, "general.name", &name, NULL) != HDL_OK || name.len < 4)
        return false;
    bool phi3 = false;
    for (size_t i = 0; i + 4 <= name.len; i++) {
        phi3 |= strncasecmp(name.data + i, "phi3", 4) == 0;
        phi3 |= i + 5 <= name.len && strncasecmp(name.data + i, "phi-3", 5) == 0;
    }
    return phi3 && strcmp(text, "<unk>") != 0 && strcmp(text, "<s>") != 0 &&
           strcmp(text, "<|endoftext|>") != 0;
}

static hdl_err add_added(loader *l)
{
    hdl_tokenizer *tok = l->tok;
    uint32_t n = 0;
    for (uint32_t id = 0; id < tok->vocab.n_ids; id++)
        n += is_added(type_of(l, id));
    if (n > HDL_ADDED_MAX)
        return hdl_fail(HDL_INVALID, l->why, KEY("token_type") ": more than %d added tokens",
                        HDL_ADDED_MAX);
    HDL_TRY(hdl_added_init(&tok->added_raw, &tok->arena, n));
    HDL_TRY(hdl_added_init(&tok->added_normalized, &tok->arena, 0));
    for (uint32_t id = 0; id < tok->vocab.n_ids; id++) {
        const hdl_vocab_token *t = &tok->vocab.tokens[id];
        if (!is_added(type_of(l, id)) || t->text == NULL)
            continue;
        hdl_added_token token = {.text = {t->text, t->text_len},
                                 .id = (hdl_token)id,
                                 .special = t->special,
                                 .rstrip = strips_behind(l, t->text)};
        hdl_added_put(&tok->added_raw, &token);
    }
    HDL_TRY(hdl_added_finish(&tok->added_raw, l->why));
    return hdl_added_finish(&tok->added_normalized, l->why);
}

/* ---- gpt2 ---- */

static hdl_err read_pre(loader *l)
{
    hdl_gguf_str name = {"default", 7};
    hdl_tokenizer *tok = l->tok;
    HDL_TRY(optional(hdl_gguf_string(l->gguf, KEY("pre"), &name, l->why)));
    l->pre = hdl_gguf_pre_find(name.data, name.len);
    if (l->pre == NULL)
        return hdl_fail(HDL_UNSUPPORTED, l->why,
                        KEY("pre") " is \"%.*s\"; heddle has no pre-tokeniser of that name; use "
                                   "the model's Hugging Face folder",
                        (int)(name.len < 64 ? name.len : 64), name.data);
    l->add_bos = l->pre->add_bos;
    if (l->pre->nfc)
        HDL_TRY(hdl_normalizer_add(&tok->normalizer,
                                   &(hdl_normalize_step){.kind = HDL_NORMALIZE_NFC}, l->why));
    for (size_t i = 0; i < HDL_GGUF_PATTERNS_MAX && l->pre->patterns[i] != NULL; i++) {
        hdl_text pattern = {l->pre->patterns[i], strlen(l->pre->patterns[i])};
        HDL_TRY(hdl_pretok_add_split(&tok->pretok, pattern, l->why));
    }
    return HDL_OK;
}

static hdl_err read_merges(loader *l, const hdl_gguf_kv *merges)
{
    hdl_gguf_str str;
    size_t at = 0;
    for (uint32_t rank = 0; hdl_gguf_next_string(merges, &at, &str); rank++) {
        const char *space = str.len > 1 ? memchr(str.data + 1, ' ', str.len - 1) : NULL;
        if (space == NULL)
            return hdl_fail(HDL_INVALID, l->why,
                            KEY("merges") ": number %u is not two parts; the file is broken", rank);
        size_t left = (size_t)(space - str.data);
        hdl_bpe_rule rule = {{str.data, left}, {space + 1, str.len - left - 1}, rank};
        HDL_TRY(hdl_bpe_add_merge(&l->tok->bpe, &rule, l->why));
    }
    return HDL_OK;
}

static hdl_err open_gpt2(loader *l)
{
    const hdl_gguf_kv *merges;
    hdl_tokenizer *tok = l->tok;
    HDL_TRY(read_pre(l));
    HDL_TRY(add_tokens(l));
    HDL_TRY(
        hdl_gguf_array(l->gguf, (hdl_gguf_want){KEY("merges"), HDL_GGUF_STRING}, &merges, l->why));
    if (merges->count > HDL_VOCAB_IDS_MAX)
        return hdl_fail(HDL_INVALID, l->why, KEY("merges") ": more than %d", HDL_VOCAB_IDS_MAX);
    hdl_bpe_options opt = {
        .ignore_merges = l->pre->ignore_merges, .unk = -1, .n_merges = (uint32_t)merges->count};
    HDL_TRY(hdl_bpe_init(&tok->bpe, &tok->arena, &tok->vocab, &opt, l->why));
    HDL_TRY(read_merges(l, merges));
    tok->decoder.byte_level = true;
    return hdl_bpe_finish(&tok->bpe, &tok->arena);
}

/* ---- llama ---- */

typedef struct scored {
    double score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x < y) - (x > y);
}

/* The highest score forms first; tokens of equal scores have equal ranks. */
static hdl_err rank_tokens(loader *l)
{
    hdl_tokenizer *tok = l->tok;
    scored *order = calloc(tok->vocab.n_ids, sizeof *order);
    if (order == NULL)
        return HDL_NOMEM;
    uint32_t n = 0, rank = 0;
    for (uint32_t id = 0; id < tok->vocab.n_ids; id++)
        if (tok->vocab.tokens[id].learned)
            order[n++] = (scored){l->scores ? hdl_gguf_float_at(l->scores, id) : 0, id};
    qsort(order, n, sizeof *order, by_score);
    for (uint32_t i = 0; i < n; i++) {
        rank += i > 0 && order[i].score < order[i - 1].score;
        hdl_bpe_set_rank(&tok->bpe, (hdl_token)order[i].id, rank);
    }
    free(order);
    return HDL_OK;
}

static hdl_err check_scores(const loader *l)
{
    for (uint64_t i = 0; l->scores != NULL && i < l->tokens->count; i++)
        if (isnan(hdl_gguf_float_at(l->scores, i)))
            return hdl_fail(HDL_INVALID, l->why, KEY("scores") ": one is no number");
    return HDL_OK;
}

static hdl_err token_id(const loader *l, const char *key, hdl_token fallback, hdl_token *out)
{
    uint64_t id = UINT64_MAX;
    *out = fallback;
    HDL_TRY(optional(hdl_gguf_u64(l->gguf, key, &id, l->why)));
    if (id < l->tok->vocab.n_ids)
        *out = (hdl_token)id;
    if (hdl_vocab_get(&l->tok->vocab, *out) == NULL)
        *out = -1;
    return HDL_OK;
}

/* Spaces come back out of tokens that are not written as they are. */
static hdl_err open_spaces(loader *l)
{
    hdl_vocab *vocab = &l->tok->vocab;
    hdl_decoder *decoder = &l->tok->decoder;
    HDL_TRY(hdl_decoder_replace(vocab, &l->tok->arena, &(hdl_decoder_rule){{SPACE, 3}, {" ", 1}}));
    for (uint32_t id = 0; id < vocab->n_ids; id++)
        if (is_added(type_of(l, id)) && vocab->tokens[id].text != NULL) {
            vocab->tokens[id].decoded = vocab->tokens[id].text;
            vocab->tokens[id].decoded_len = vocab->tokens[id].text_len;
        }
    HDL_TRY(hdl_decoder_mark_bytes(vocab, &l->tok->arena));
    decoder->byte_runs = true;
    decoder->strip[0] = ' ';
    decoder->n_strip = 1;
    decoder->strip_max = l->add_space;
    return HDL_OK;
}

static hdl_err replace_spaces(loader *l)
{
    hdl_tokenizer *tok = l->tok;
    hdl_normalize_step prepend = {.kind = HDL_NORMALIZE_PREPEND, .text = {SPACE, 3}},
                       replace = {.kind = HDL_NORMALIZE_REPLACE, .text = {SPACE, 3}};
    if (l->add_space)
        HDL_TRY(hdl_normalizer_add(&tok->normalizer, &prepend, l->why));
    HDL_TRY(hdl_regex_open_literal(&replace.regex, (hdl_text){" ", 1}, l->why));
    return hdl_normalizer_add(&tok->normalizer, &replace, l->why);
}

static hdl_err open_llama(loader *l)
{
    hdl_tokenizer *tok = l->tok;
    hdl_bpe_options opt = {.chars = true, .by_vocab = true, .byte_fallback = true};
    tok->vocab.plain = true;
    l->add_bos = l->add_space = true;
    HDL_TRY(read_bool(l, KEY("add_space_prefix"), &l->add_space));
    HDL_TRY(add_tokens(l));
    HDL_TRY(check_scores(l));
    HDL_TRY(replace_spaces(l));
    HDL_TRY(token_id(l, KEY("unknown_token_id"), 0, &opt.unk));
    HDL_TRY(hdl_bpe_init(&tok->bpe, &tok->arena, &tok->vocab, &opt, l->why));
    HDL_TRY(rank_tokens(l));
    HDL_TRY(hdl_bpe_finish(&tok->bpe, &tok->arena));
    return open_spaces(l);
}

/* ---- t5 ---- */

static hdl_err read_charsmap(loader *l, hdl_normalize_step *step)
{
    const hdl_gguf_kv *map = hdl_gguf_find(l->gguf, KEY("precompiled_charsmap"));
    if (map == NULL)
        return HDL_OK;
    bool bytes = map->is_array && (map->type == HDL_GGUF_U8 || map->type == HDL_GGUF_I8);
    if (!bytes || map->count == 0)
        return bytes ? HDL_OK
                     : hdl_fail(HDL_INVALID, l->why, "precompiled_charsmap is no array of bytes");
    const char *copy = hdl_pool_arena_copy(&l->tok->arena, (const char *)map->data, map->bytes);
    if (copy == NULL)
        return HDL_NOMEM;
    return hdl_charsmap_init(&step->map, (hdl_text){copy, map->bytes}, l->why);
}

static hdl_err open_t5(loader *l)
{
    hdl_tokenizer *tok = l->tok;
    hdl_normalize_step step = {.kind = HDL_NORMALIZE_SENTENCEPIECE};
    hdl_unigram_options opt = {.score_min = INFINITY};
    tok->kind = HDL_MODEL_UNIGRAM;
    tok->vocab.plain = true;
    l->add_eos = true;
    HDL_TRY(read_bool(l, KEY("add_space_prefix"), &l->add_space));
    HDL_TRY(read_bool(l, KEY("remove_extra_whitespaces"), &step.merge_spaces));
    step.add_prefix = l->add_space;
    HDL_TRY(read_charsmap(l, &step));
    HDL_TRY(hdl_normalizer_add(&tok->normalizer, &step, l->why));
    HDL_TRY(add_tokens(l));
    HDL_TRY(check_scores(l));
    HDL_TRY(token_id(l, KEY("unknown_token_id"), 2, &opt.unk));
    double *scores = hdl_pool_arena_alloc_array(&tok->arena, tok->vocab.n_ids, sizeof *scores);
    if (scores == NULL)
        return HDL_NOMEM;
    for (uint32_t id = 0; id < tok->vocab.n_ids; id++) {
        double score = l->scores != NULL ? hdl_gguf_float_at(l->scores, id) : 0;
        scores[id] = type_of(l, id) == USER_DEFINED ? 0 : score;
        if (type_of(l, id) == NORMAL && score < opt.score_min)
            opt.score_min = score;
    }
    tok->unigram.scores = scores;
    HDL_TRY(hdl_unigram_init(&tok->unigram, &tok->arena, &tok->vocab, &opt));
    return open_spaces(l);
}

/* ---- what all have ---- */

static hdl_err put_special(loader *l, const char *key, hdl_token fallback, hdl_token *id,
                           const char **text)
{
    HDL_TRY(token_id(l, key, fallback, id));
    *text = *id >= 0 ? l->tok->vocab.tokens[*id].text : NULL;
    return HDL_OK;
}

static hdl_err read_specials(loader *l, bool llama)
{
    hdl_tok_info *info = &l->tok->info;
    hdl_special_texts *s = &info->special;
    hdl_post *post = &l->tok->post;
    hdl_token eos, other;
    bool add_bos = l->add_bos, add_eos = l->add_eos;
    HDL_TRY(put_special(l, KEY("bos_token_id"), llama ? 1 : -1, &info->bos_id, &s->bos));
    HDL_TRY(put_special(l, KEY("eos_token_id"), llama ? 2 : -1, &eos, &s->eos));
    HDL_TRY(put_special(l, KEY("padding_token_id"), -1, &other, &s->pad));
    HDL_TRY(put_special(l, KEY("unknown_token_id"), -1, &other, &s->unk));
    HDL_TRY(read_bool(l, KEY("add_bos_token"), &add_bos));
    HDL_TRY(read_bool(l, KEY("add_eos_token"), &add_eos));
    if (add_bos && info->bos_id >= 0)
        post->before[post->n_before++] = info->bos_id;
    if (add_eos && eos >= 0)
        post->after[post->n_after++] = eos;
    return eos >= 0 ? hdl_tokenizer_add_eos(l->tok, eos, l->why) : HDL_OK;
}

/* Tokens that end a turn. Files name one of them and leave out the others. */
static hdl_err read_ends(loader *l)
{
    static const char *const keys[] = {KEY("eot_token_id"), KEY("eom_token_id")};
    static const char *const texts[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|eom_id|>",
                                        "<turn|>",
                                        "<|end_of_text|>",
                                        "<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "[e~[",
                                        "<|end|>",
                                        "<\xef\xbd\x9c"
                                        "end\xe2\x96\x81of\xe2"
                                        "\x96\x81sentence\xef"
                                        "\xbd\x9c>"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(keys); i++) {
        hdl_token id;
        HDL_TRY(token_id(l, keys[i], -1, &id));
        if (id >= 0)
            HDL_TRY(hdl_tokenizer_add_eos(l->tok, id, l->why));
    }
    /* In Harmony <|end|> ends a message and not the turn. */
    bool harmony = hdl_tokenizer_find(l->tok, "<|return|>") >= 0 &&
                   hdl_tokenizer_find(l->tok, "<|call|>") >= 0;
    for (size_t i = 0; i < HDL_ARRAY_LEN(texts); i++) {
        hdl_token id = hdl_tokenizer_find(l->tok, texts[i]);
        bool message = harmony && strcmp(texts[i], "<|end|>") == 0;
        if (id >= 0 && !message && hdl_tokenizer_is_special(l->tok, id))
            HDL_TRY(hdl_tokenizer_add_eos(l->tok, id, l->why));
    }
    return HDL_OK;
}

static hdl_err read_template(loader *l)
{
    hdl_gguf_str source;
    hdl_err err = hdl_gguf_string(l->gguf, "tokenizer.chat_template", &source, l->why);
    if (err != HDL_OK)
        return optional(err);
    if (source.len > HDL_TOKENIZER_TEMPLATE_MAX)
        return hdl_fail(HDL_INVALID, l->why, "tokenizer.chat_template: longer than %d bytes",
                        HDL_TOKENIZER_TEMPLATE_MAX);
    return hdl_tokenizer_set_template(l->tok, (hdl_text){source.data, source.len});
}

static hdl_err read_model_type(loader *l)
{
    hdl_gguf_str type;
    hdl_err err = hdl_gguf_string(l->gguf, "general.architecture", &type, l->why);
    if (err != HDL_OK)
        return optional(err);
    l->tok->info.model_type = hdl_pool_arena_copy(&l->tok->arena, type.data, type.len);
    return l->tok->info.model_type != NULL ? HDL_OK : HDL_NOMEM;
}

static hdl_err open_all(loader *l)
{
    static const struct {
        const char *name;
        hdl_err (*open)(loader *l);
    } models[] = {{"gpt2", open_gpt2}, {"llama", open_llama}, {"t5", open_t5}};
    hdl_gguf_str name;
    HDL_TRY(hdl_gguf_string(l->gguf, KEY("model"), &name, l->why));
    HDL_TRY(hdl_gguf_array(l->gguf, (hdl_gguf_want){KEY("tokens"), HDL_GGUF_STRING}, &l->tokens,
                           l->why));
    HDL_TRY(find_array(l, KEY("token_type"), HDL_GGUF_I64, &l->types));
    HDL_TRY(find_array(l, KEY("scores"), HDL_GGUF_F64, &l->scores));
    size_t i = 0;
    while (i < HDL_ARRAY_LEN(models) &&
           (strlen(models[i].name) != name.len || memcmp(models[i].name, name.data, name.len) != 0))
        i++;
    if (i == HDL_ARRAY_LEN(models))
        return hdl_fail(HDL_UNSUPPORTED, l->why,
                        KEY("model") " is \"%.*s\"; heddle has gpt2, llama and t5; use another "
                                     "file",
                        (int)(name.len < 64 ? name.len : 64), name.data);
    HDL_TRY(models[i].open(l));
    HDL_TRY(add_added(l));
    HDL_TRY(read_specials(l, models[i].open == open_llama));
    HDL_TRY(read_ends(l));
    HDL_TRY(read_model_type(l));
    return read_template(l);
}

hdl_err hdl_tokenizer_open_gguf(hdl_tokenizer **out, const hdl_gguf *gguf, hdl_errmsg *why)
{
    hdl_errmsg ignored;
    hdl_tokenizer *tok;
    if (why == NULL)
        why = &ignored;
    HDL_TRY(hdl_tokenizer_alloc(&tok));
    loader l = {.tok = tok, .gguf = gguf, .why = why};
    hdl_err err = open_all(&l);
    tok->info.vocab_size = tok->vocab.n_ids;
    if (err != HDL_OK) {
        hdl_tokenizer_free(tok);
        return err == HDL_NOMEM ? hdl_fail(err, why, "tokenizer: out of memory") : err;
    }
    why->text[0] = '\0'; /* of keys that are absent and need not be there */
    *out = tok;
    return HDL_OK;
}
