/* SPDX-License-Identifier: Apache-2.0 */
/* tekken.json (Mistral's own format) -> hdl_tokenizer: special tokens first, then ranked byte
 * strings, and the pattern that cuts words. */
#include <stdio.h>
#include <string.h>

#include "scheduler/text/ranked.h"

/* What files of the first versions do not list, by id. */
static const char *const OLD_SPECIALS[] = {"<unk>",
                                           "<s>",
                                           "</s>",
                                           "[INST]",
                                           "[/INST]",
                                           "[AVAILABLE_TOOLS]",
                                           "[/AVAILABLE_TOOLS]",
                                           "[TOOL_RESULTS]",
                                           "[/TOOL_RESULTS]",
                                           "[TOOL_CALLS]",
                                           "[IMG]",
                                           "<pad>",
                                           "[IMG_BREAK]",
                                           "[IMG_END]",
                                           "[PREFIX]",
                                           "[MIDDLE]",
                                           "[SUFFIX]",
                                           "[SYSTEM_PROMPT]",
                                           "[/SYSTEM_PROMPT]",
                                           "[TOOL_CONTENT]"};

typedef struct config {
    const char *pattern;
    size_t pattern_len;
    uint32_t vocab_size, n_special;
    const char *version;
} config;

static hdl_err read_config(const hdl_jv *root, config *c, hdl_errmsg *why)
{
    const hdl_jv_range range = {1, HDL_VOCAB_IDS_MAX};
    hdl_jv v = hdl_jv_get(root, "config"), pattern = hdl_jv_get(&v, "pattern");
    hdl_jv size = hdl_jv_get(&v, "default_vocab_size"),
           n = hdl_jv_get(&v, "default_num_special_tokens"), version = hdl_jv_get(&v, "version");
    int64_t vocab_size, n_special;
    HDL_TRY(hdl_jv_expect(&v, HDL_JSON_OBJECT, why));
    HDL_TRY(hdl_jv_string(&pattern, &c->pattern, &c->pattern_len, why));
    HDL_TRY(hdl_jv_int(&size, range, &vocab_size, why));
    HDL_TRY(hdl_jv_int(&n, range, &n_special, why));
    HDL_TRY(hdl_jv_string(&version, &c->version, NULL, why));
    if (n_special >= vocab_size)
        return hdl_jv_fail(&n, why, "must be below default_vocab_size");
    c->vocab_size = (uint32_t)vocab_size;
    c->n_special = (uint32_t)n_special;
    return HDL_OK;
}

static hdl_err read_special(hdl_tokenizer *tok, const hdl_jv *item, uint32_t n_special,
                            hdl_errmsg *why)
{
    hdl_jv rank = hdl_jv_get(item, "rank"), text = hdl_jv_get(item, "token_str");
    hdl_ranked_added added = {.special = true};
    HDL_TRY(hdl_tokenizer_read_id(&rank, &added.id, why));
    if (added.id >= n_special)
        return hdl_jv_fail(&rank, why, "must be below default_num_special_tokens");
    HDL_TRY(hdl_jv_string(&text, &added.text.p, &added.text.len, why));
    return hdl_ranked_add(tok, &added, why);
}

/* Listed ones, or those of old; ids that have none get a name too, as in mistral-common. */
static hdl_err read_specials(hdl_tokenizer *tok, const hdl_jv *root, uint32_t n_special,
                             hdl_errmsg *why)
{
    hdl_jv list = hdl_jv_get(root, "special_tokens");
    size_t n = hdl_jv_given(&list) ? hdl_jv_len(&list) : HDL_ARRAY_LEN(OLD_SPECIALS);
    if (n > n_special)
        return hdl_jv_fail(&list, why, "has more than default_num_special_tokens");
    for (uint32_t i = 0; i < n; i++) {
        hdl_jv item = hdl_jv_at(&list, i);
        if (hdl_jv_given(&list))
            HDL_TRY(read_special(tok, &item, n_special, why));
        else
            HDL_TRY(hdl_ranked_add(
                tok, &(hdl_ranked_added){i, {OLD_SPECIALS[i], strlen(OLD_SPECIALS[i])}, true},
                why));
    }
    for (uint32_t id = 0; id < n_special; id++) {
        char name[32];
        if (hdl_vocab_get(&tok->vocab, (hdl_token)id) != NULL)
            continue;
        int len = snprintf(name, sizeof name, "<SPECIAL_%u>", id);
        HDL_TRY(hdl_ranked_add(tok, &(hdl_ranked_added){id, {name, (size_t)len}, true}, why));
    }
    return HDL_OK;
}

static hdl_err read_learned(hdl_tokenizer *tok, const hdl_jv *root, const hdl_ranked *layout,
                            hdl_errmsg *why)
{
    hdl_jv vocab = hdl_jv_get(root, "vocab");
    HDL_TRY(hdl_jv_expect(&vocab, HDL_JSON_ARRAY, why));
    if (hdl_jv_len(&vocab) < layout->n_learned)
        return hdl_jv_fail(&vocab, why, "has fewer than the %u tokens that config promises",
                           layout->n_learned);
    for (size_t i = 0; i < hdl_jv_len(&vocab); i++) {
        hdl_jv item = hdl_jv_at(&vocab, i), rank = hdl_jv_get(&item, "rank");
        hdl_jv bytes = hdl_jv_get(&item, "token_bytes");
        uint32_t r;
        hdl_text base64;
        HDL_TRY(hdl_tokenizer_read_id(&rank, &r, why));
        if (r >= layout->n_learned)
            continue; /* files carry more than a model uses */
        HDL_TRY(hdl_jv_string(&bytes, &base64.p, &base64.len, why));
        HDL_TRY(hdl_ranked_learn(tok, layout, r, base64, why));
    }
    return HDL_OK;
}

static const char *special(const hdl_tokenizer *tok, const char *text)
{
    hdl_token id = hdl_tokenizer_find(tok, text);
    return id >= 0 ? tok->vocab.tokens[id].text : NULL;
}

static hdl_err read_all(hdl_tokenizer *tok, const hdl_jv *root, hdl_errmsg *why)
{
    config c;
    hdl_special_texts *s = &tok->info.special;
    HDL_TRY(read_config(root, &c, why));
    hdl_ranked layout = {.n_learned = c.vocab_size - c.n_special,
                         .first_learned = c.n_special,
                         .n_special = c.n_special};
    HDL_TRY(hdl_ranked_begin(tok, &layout, why));
    HDL_TRY(read_specials(tok, root, c.n_special, why));
    HDL_TRY(read_learned(tok, root, &layout, why));
    HDL_TRY(hdl_ranked_finish(tok, &layout, (hdl_text){c.pattern, c.pattern_len}, why));
    *s = (hdl_special_texts){special(tok, "<s>"), special(tok, "</s>"), special(tok, "<pad>"),
                             special(tok, "<unk>")};
    tok->info.tekken_version = hdl_pool_arena_copy(&tok->arena, c.version, strlen(c.version));
    if (tok->info.tekken_version == NULL)
        return HDL_NOMEM;
    if (s->bos != NULL)
        tok->post.before[tok->post.n_before++] = hdl_tokenizer_find(tok, "<s>");
    return HDL_OK;
}

hdl_err hdl_tokenizer_open_tekken(hdl_tokenizer **out, const char *json, size_t len,
                                  hdl_errmsg *why)
{
    hdl_json *doc;
    hdl_tokenizer *tok = NULL;
    HDL_TRY(hdl_json_parse_nul(json, len, HDL_TOKENIZER_JSON_MAX, &doc, why));
    hdl_err err = hdl_tokenizer_alloc(&tok);
    if (err == HDL_OK) {
        hdl_jv root = hdl_json_root(doc);
        err = read_all(tok, &root, why);
    }
    hdl_json_close(doc);
    if (err != HDL_OK) {
        hdl_tokenizer_free(tok);
        return err == HDL_NOMEM ? hdl_fail(err, why, "tekken.json: out of memory")
                                : hdl_fail_prefix(err, why, "tekken.json");
    }
    *out = tok;
    return HDL_OK;
}
