/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/decode.h"

#include <string.h>

#include "scheduler/text/utf8.h"

static const char METASPACE[] = "\xe2\x96\x81"; /* U+2581 */

/* How far a sequence of decoders has come. */
typedef enum stage { TOKENS, BYTES_JOINED, FUSED } stage;

typedef struct reader {
    hdl_decoder *decoder;
    hdl_vocab *vocab;
    hdl_pool_arena *arena;
    stage stage;
    hdl_errmsg *why;
} reader;

static hdl_err unsupported(const reader *r, const hdl_jv *v, const char *what)
{
    hdl_jv_fail(v, r->why, "%s", what);
    return hdl_fail_prefix(HDL_UNSUPPORTED, r->why, "tokenizer.json");
}

static size_t count_in(hdl_text text, hdl_text part)
{
    size_t n = 0;
    const char *end = text.p + text.len;
    for (const char *p = text.p; (p = memmem(p, (size_t)(end - p), part.p, part.len)) != NULL;
         p += part.len)
        n++;
    return n;
}

static hdl_err replace_in(hdl_vocab_token *t, hdl_pool_arena *arena, const hdl_decoder_rule *rule)
{
    hdl_text text = {t->decoded, t->decoded_len};
    size_t n = count_in(text, rule->from);
    if (n == 0)
        return HDL_OK;
    char *to = hdl_pool_arena_alloc(arena, text.len + n * rule->to.len + 1), *at = to;
    if (to == NULL)
        return HDL_NOMEM;
    const char *from = text.p, *end = text.p + text.len;
    for (; n > 0; n--) {
        const char *hit = memmem(from, (size_t)(end - from), rule->from.p, rule->from.len);
        at = mempcpy(at, from, (size_t)(hit - from));
        at = mempcpy(at, rule->to.p, rule->to.len);
        from = hit + rule->from.len;
    }
    at = mempcpy(at, from, (size_t)(end - from));
    t->decoded = to;
    t->decoded_len = (uint32_t)(at - to);
    return HDL_OK;
}

hdl_err hdl_decoder_replace(hdl_vocab *vocab, hdl_pool_arena *arena, const hdl_decoder_rule *rule)
{
    for (uint32_t i = 0; i < vocab->n_ids; i++)
        if (vocab->tokens[i].text != NULL)
            HDL_TRY(replace_in(&vocab->tokens[i], arena, rule));
    return HDL_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

/* The byte of "<0x0A>", or -1. Rust reads "+A" as a number too. */
static int fallback_byte(const hdl_vocab_token *t)
{
    const char *p = t->decoded;
    if (t->decoded_len != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>')
        return -1;
    int high = p[3] == '+' ? 0 : hex_digit(p[3]), low = hex_digit(p[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

hdl_err hdl_decoder_mark_bytes(hdl_vocab *vocab, hdl_pool_arena *arena)
{
    char *bytes = hdl_pool_arena_alloc(arena, 256);
    if (bytes == NULL)
        return HDL_NOMEM;
    for (int b = 0; b < 256; b++)
        bytes[b] = (char)b;
    for (uint32_t i = 0; i < vocab->n_ids; i++) {
        hdl_vocab_token *t = &vocab->tokens[i];
        int b = t->text != NULL ? fallback_byte(t) : -1;
        if (b < 0)
            continue;
        t->byte = true;
        t->decoded = bytes + b;
        t->decoded_len = 1;
    }
    return HDL_OK;
}

static hdl_err read_replace(reader *r, const hdl_jv *json)
{
    hdl_jv pattern = hdl_jv_get(json, "pattern"), content = hdl_jv_get(json, "content");
    hdl_jv literal = hdl_jv_get(&pattern, "String");
    hdl_decoder_rule rule;
    if (r->stage != TOKENS || r->decoder->first_bare)
        return unsupported(r, json, "is a Replace that does not come first");
    if (!hdl_jv_given(&literal))
        return unsupported(r, &pattern, "is no String; heddle decodes with literal patterns");
    HDL_TRY(hdl_jv_string(&literal, &rule.from.p, &rule.from.len, r->why));
    HDL_TRY(hdl_jv_string(&content, &rule.to.p, &rule.to.len, r->why));
    if (rule.from.len == 0)
        return unsupported(r, &literal, "is empty");
    return hdl_decoder_replace(r->vocab, r->arena, &rule);
}

/* A character given as a string. */
static hdl_err read_char(reader *r, const hdl_jv *v, char out[4], uint8_t *n)
{
    const char *text;
    size_t len, at = 0;
    HDL_TRY(hdl_jv_string(v, &text, &len, r->why));
    if (len > 0)
        hdl_utf8_next(text, &at);
    if (len == 0 || at != len)
        return hdl_jv_fail(v, r->why, "must be one character");
    memcpy(out, text, len);
    *n = (uint8_t)len;
    return HDL_OK;
}

/* Strip of each token: up to `start` characters at its start, up to `stop` at its end. */
static void strip_tokens(hdl_vocab *vocab, hdl_text content, int64_t start, int64_t stop)
{
    for (uint32_t i = 0; i < vocab->n_ids; i++) {
        hdl_vocab_token *t = &vocab->tokens[i];
        const size_t n = content.len;
        for (int64_t k = 0; k < start && t->decoded_len >= n; k++) {
            if (memcmp(t->decoded, content.p, n) != 0)
                break;
            t->decoded += n;
            t->decoded_len -= (uint32_t)n;
        }
        for (int64_t k = 0; k < stop && t->decoded_len >= n; k++) {
            if (memcmp(t->decoded + t->decoded_len - n, content.p, n) != 0)
                break;
            t->decoded_len -= (uint32_t)n;
        }
    }
}

static hdl_err read_strip(reader *r, const hdl_jv *json)
{
    const hdl_jv_range range = {0, 255};
    hdl_jv content = hdl_jv_get(json, "content"), left = hdl_jv_get(json, "start"),
           right = hdl_jv_get(json, "stop");
    int64_t start = 0, stop = 0;
    char text[4];
    uint8_t n = 0;
    HDL_TRY(read_char(r, &content, text, &n));
    HDL_TRY(hdl_jv_int(&left, range, &start, r->why));
    HDL_TRY(hdl_jv_int(&right, range, &stop, r->why));
    if (r->stage == TOKENS && !r->decoder->first_bare) {
        strip_tokens(r->vocab, (hdl_text){text, n}, start, stop);
        return HDL_OK;
    }
    if (r->stage != FUSED || r->decoder->strip_max > 0 || stop > 0)
        return unsupported(r, json, "is a Strip that a stream cannot follow");
    memcpy(r->decoder->strip, text, n);
    r->decoder->n_strip = n;
    r->decoder->strip_max = (uint8_t)start;
    return HDL_OK;
}

static hdl_err read_metaspace(reader *r, const hdl_jv *json)
{
    hdl_jv replacement = hdl_jv_get(json, "replacement"),
           scheme = hdl_jv_get(json, "prepend_scheme"),
           legacy = hdl_jv_get(json, "add_prefix_space");
    hdl_decoder *d = r->decoder;
    const char *name = "always";
    bool adds = true;
    if (r->stage != TOKENS || d->first_bare)
        return unsupported(r, json, "is a Metaspace that does not come first");
    memcpy(d->space, METASPACE, 3);
    d->n_space = 3;
    if (hdl_jv_given(&replacement))
        HDL_TRY(read_char(r, &replacement, d->space, &d->n_space));
    if (hdl_jv_given(&scheme))
        HDL_TRY(hdl_jv_string(&scheme, &name, NULL, r->why));
    if (hdl_jv_given(&legacy))
        HDL_TRY(hdl_jv_bool(&legacy, &adds, r->why));
    d->first_bare = adds && strcmp(name, "never") != 0;
    hdl_decoder_rule rule = {{d->space, d->n_space}, {" ", 1}};
    return hdl_decoder_replace(r->vocab, r->arena, &rule);
}

static hdl_err read_one(reader *r, const hdl_jv *json)
{
    hdl_jv type = hdl_jv_get(json, "type");
    const char *name;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, r->why));
    if (strcmp(name, "ByteLevel") == 0 && r->stage == TOKENS && !r->vocab->plain) {
        r->decoder->byte_level = true;
        r->stage = FUSED;
        return HDL_OK;
    }
    if (strcmp(name, "Fuse") == 0) {
        r->stage = FUSED;
        return HDL_OK;
    }
    if (strcmp(name, "ByteFallback") == 0 && r->stage == TOKENS) {
        r->decoder->byte_runs = true;
        r->stage = BYTES_JOINED;
        return hdl_decoder_mark_bytes(r->vocab, r->arena);
    }
    if (strcmp(name, "Replace") == 0)
        return read_replace(r, json);
    if (strcmp(name, "Strip") == 0)
        return read_strip(r, json);
    if (strcmp(name, "Metaspace") == 0)
        return read_metaspace(r, json);
    hdl_jv_fail(&type, r->why,
                "is \"%.32s\", here not supported; heddle has ByteLevel (for ByteLevel "
                "pre-tokenisers), Replace, Strip, Metaspace, ByteFallback, Fuse, and Sequence",
                name);
    return hdl_fail_prefix(HDL_UNSUPPORTED, r->why, "tokenizer.json");
}

hdl_err hdl_decoder_init(hdl_decoder *decoder, hdl_vocab *vocab, hdl_pool_arena *arena,
                         const hdl_jv *json, hdl_errmsg *why)
{
    reader r = {.decoder = decoder, .vocab = vocab, .arena = arena, .why = why};
    hdl_jv type = hdl_jv_get(json, "type"), list = hdl_jv_get(json, "decoders");
    const char *name;
    *decoder = (hdl_decoder){0};
    if (!hdl_jv_given(json))
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tokenizer.json: there is no decoder; tokens would be joined by spaces");
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    bool sequence = strcmp(name, "Sequence") == 0;
    if (!sequence)
        HDL_TRY(read_one(&r, json));
    for (size_t i = 0; i < hdl_jv_len(&list) && sequence; i++) {
        hdl_jv item = hdl_jv_at(&list, i);
        HDL_TRY(read_one(&r, &item));
    }
    if (!vocab->plain && !decoder->byte_level)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tokenizer.json: decoder is \"%.32s\"; what a ByteLevel pre-tokeniser made "
                        "is decoded by ByteLevel",
                        name);
    return HDL_OK;
}
