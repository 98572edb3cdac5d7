/* SPDX-License-Identifier: Apache-2.0 */
/* tiktoken.model -> hdl_tokenizer: lines of a token's bytes as base64 and its rank. The pattern and
 * the special tokens are not in the file but in the model's Python code; heddle knows those of Kimi
 * (K2 and later), where 256 ids behind the ranks are special, named in tokenizer_config.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/pattern.h"
#include "scheduler/text/ranked.h"

enum { KIMI_SPECIALS = 256 };

/* One line from *at on: the base64 text and the rank; false: neither. */
static bool next_line(hdl_text text, size_t *at, hdl_text *base64, uint32_t *rank)
{
    const char *line = text.p + *at;
    const char *end = memchr(line, '\n', text.len - *at);
    size_t len = end != NULL ? (size_t)(end - line) : text.len - *at;
    *at += len + (end != NULL);
    len -= len > 0 && line[len - 1] == '\r';
    const char *space = memchr(line, ' ', len);
    uint64_t value = 0;
    if (space == NULL || space + 1 == line + len || line + len - space > 8)
        return false;
    for (const char *p = space + 1; p < line + len; p++) {
        if (*p < '0' || *p > '9')
            return false;
        value = value * 10 + (uint64_t)(*p - '0');
    }
    *base64 = (hdl_text){line, (size_t)(space - line)};
    *rank = (uint32_t)value;
    return value < HDL_VOCAB_IDS_MAX;
}

static hdl_err read_ranks(hdl_tokenizer *tok, hdl_text text, hdl_ranked *layout, hdl_errmsg *why)
{
    hdl_text base64;
    uint32_t rank;
    size_t line = 1;
    *layout = (hdl_ranked){.n_special = KIMI_SPECIALS};
    for (size_t at = 0; at < text.len;)
        layout->n_learned += next_line(text, &at, &base64, &rank);
    layout->first_special = layout->n_learned;
    HDL_TRY(hdl_ranked_begin(tok, layout, why));
    for (size_t at = 0; at < text.len; line++) {
        size_t from = at;
        if (next_line(text, &at, &base64, &rank))
            HDL_TRY(hdl_ranked_learn(tok, layout, rank, base64, why));
        else if (at > from + 1)
            return hdl_fail(HDL_INVALID, why, "line %zu is not a token and its rank", line);
    }
    return HDL_OK;
}

/* "added_tokens_decoder": {"163584": {"content": "[BOS]", "special": true}, ...}. Ids without an
 * entry are special tokens too. */
static hdl_err read_names(hdl_tokenizer *tok, const hdl_jv *config, const hdl_ranked *layout,
                          hdl_errmsg *why)
{
    hdl_jv named = hdl_jv_get(config, "added_tokens_decoder");
    for (uint32_t i = 0; i < layout->n_special; i++) {
        char key[16], filler[48];
        hdl_ranked_added added = {.id = layout->first_special + i, .special = true};
        snprintf(key, sizeof key, "%u", added.id);
        hdl_jv entry = hdl_jv_get(&named, key), content = hdl_jv_get(&entry, "content"),
               special = hdl_jv_get(&entry, "special");
        int len = snprintf(filler, sizeof filler, "<|reserved_token_%u|>", added.id);
        added.text = (hdl_text){filler, (size_t)len};
        if (hdl_jv_given(&content))
            HDL_TRY(hdl_jv_string(&content, &added.text.p, &added.text.len, why));
        if (hdl_jv_given(&special))
            HDL_TRY(hdl_jv_bool(&special, &added.special, why));
        HDL_TRY(hdl_ranked_add(tok, &added, why));
    }
    return HDL_OK;
}

/* The tokenizer's class is Kimi's, or the file says nothing of a pattern that heddle knows. */
static hdl_err check_kimi(const hdl_jv *config, hdl_errmsg *why)
{
    hdl_jv map = hdl_jv_get(config, "auto_map"), classes = hdl_jv_get(&map, "AutoTokenizer");
    hdl_jv first = hdl_jv_at(&classes, 0);
    const char *name = "";
    (void)!hdl_jv_string(hdl_jv_kind(&classes) == HDL_JSON_STRING ? &classes : &first, &name, NULL,
                         NULL);
    if (strncmp(name, "tokenization_kimi.", 18) == 0)
        return HDL_OK;
    return hdl_fail(HDL_UNSUPPORTED, why,
                    "its pattern is in the model's Python code (auto_map: \"%.64s\"); heddle knows "
                    "Kimi's; convert the tokenizer to tokenizer.json",
                    name);
}

static hdl_err read_all(hdl_tokenizer *tok, hdl_text text, const hdl_jv *config, hdl_errmsg *why)
{
    static const char pattern[] = HDL_PATTERN_KIMI;
    hdl_ranked layout;
    HDL_TRY(check_kimi(config, why));
    HDL_TRY(read_ranks(tok, text, &layout, why));
    HDL_TRY(read_names(tok, config, &layout, why));
    return hdl_ranked_finish(tok, &layout, (hdl_text){pattern, sizeof pattern - 1}, why);
}

hdl_err hdl_tokenizer_open_tiktoken(hdl_tokenizer **out, hdl_text text, const hdl_jv *config,
                                    hdl_errmsg *why)
{
    hdl_tokenizer *tok = NULL;
    HDL_TRY(hdl_tokenizer_alloc(&tok));
    hdl_err err = read_all(tok, text, config, why);
    if (err != HDL_OK) {
        hdl_tokenizer_free(tok);
        return err == HDL_NOMEM ? hdl_fail(err, why, "tiktoken.model: out of memory")
                                : hdl_fail_prefix(err, why, "tiktoken.model");
    }
    *out = tok;
    return HDL_OK;
}
