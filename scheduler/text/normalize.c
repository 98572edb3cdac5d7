/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/normalize.h"

#include <string.h>

#include "scheduler/text/base64.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

static hdl_err read_text(const hdl_jv *json, const char *key, hdl_pool_arena *arena, hdl_text *out,
                         hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(json, key);
    HDL_TRY(hdl_jv_string(&v, &out->p, &out->len, why));
    out->p = hdl_pool_arena_copy(arena, out->p, out->len);
    return out->p ? HDL_OK : HDL_NOMEM;
}

static hdl_err read_replace(hdl_normalize_step *step, hdl_pool_arena *arena, const hdl_jv *json,
                            hdl_errmsg *why)
{
    hdl_jv pattern = hdl_jv_get(json, "pattern");
    hdl_jv regex = hdl_jv_get(&pattern, "Regex"), literal = hdl_jv_get(&pattern, "String");
    HDL_TRY(read_text(json, "content", arena, &step->text, why));
    hdl_text text;
    if (hdl_jv_given(&regex)) {
        HDL_TRY(hdl_jv_string(&regex, &text.p, &text.len, why));
        return hdl_regex_open(&step->regex, text, why);
    }
    HDL_TRY(hdl_jv_string(&literal, &text.p, &text.len, why));
    return hdl_regex_open_literal(&step->regex, text, why);
}

static hdl_err read_precompiled(hdl_normalize_step *step, hdl_pool_arena *arena, const hdl_jv *json,
                                hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(json, "precompiled_charsmap");
    const char *text;
    size_t len, n;
    HDL_TRY(hdl_jv_string(&v, &text, &len, why));
    unsigned char *bytes = hdl_pool_arena_alloc(arena, len + 1);
    if (bytes == NULL)
        return HDL_NOMEM;
    if (!hdl_base64_decode((hdl_text){text, len}, bytes, &n))
        return hdl_jv_fail(&v, why, "must be base64");
    HDL_TRY(hdl_charsmap_init(&step->map, (hdl_text){(const char *)bytes, n}, why));
    return hdl_regex_open_grapheme(&step->regex, why);
}

static hdl_err read_step(hdl_normalize_step *step, hdl_pool_arena *arena, const hdl_jv *json,
                         hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "type");
    const char *name;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    *step = (hdl_normalize_step){0};
    if (strcmp(name, "NFC") == 0) {
        step->kind = HDL_NORMALIZE_NFC;
    } else if (strcmp(name, "NFD") == 0) {
        step->kind = HDL_NORMALIZE_NFD;
    } else if (strcmp(name, "Lowercase") == 0) {
        step->kind = HDL_NORMALIZE_LOWERCASE;
    } else if (strcmp(name, "Strip") == 0) {
        hdl_jv left = hdl_jv_get(json, "strip_left"), right = hdl_jv_get(json, "strip_right");
        step->kind = HDL_NORMALIZE_STRIP;
        HDL_TRY(hdl_jv_bool(&left, &step->left, why));
        HDL_TRY(hdl_jv_bool(&right, &step->right, why));
    } else if (strcmp(name, "Prepend") == 0) {
        step->kind = HDL_NORMALIZE_PREPEND;
        HDL_TRY(read_text(json, "prepend", arena, &step->text, why));
    } else if (strcmp(name, "Replace") == 0) {
        step->kind = HDL_NORMALIZE_REPLACE;
        HDL_TRY(read_replace(step, arena, json, why));
    } else if (strcmp(name, "Precompiled") == 0) {
        step->kind = HDL_NORMALIZE_PRECOMPILED;
        HDL_TRY(read_precompiled(step, arena, json, why));
    } else {
        hdl_jv_fail(&type, why,
                    "is \"%.32s\"; heddle has Sequence, NFC, NFD, Lowercase, Strip, Prepend, "
                    "Replace and Precompiled",
                    name);
        return HDL_UNSUPPORTED;
    }
    return HDL_OK;
}

static hdl_err add_step(hdl_normalizer *normalizer, hdl_pool_arena *arena, const hdl_jv *json,
                        hdl_errmsg *why)
{
    if (normalizer->n_steps == HDL_NORMALIZE_STEPS_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tokenizer.json: more than %d normalizers in sequence",
                        HDL_NORMALIZE_STEPS_MAX);
    return read_step(&normalizer->steps[normalizer->n_steps++], arena, json, why);
}

hdl_err hdl_normalizer_add(hdl_normalizer *normalizer, const hdl_normalize_step *step,
                           hdl_errmsg *why)
{
    if (normalizer->n_steps == HDL_NORMALIZE_STEPS_MAX) {
        hdl_regex_free(step->regex);
        return hdl_fail(HDL_UNSUPPORTED, why, "tokenizer: more than %d normalizers",
                        HDL_NORMALIZE_STEPS_MAX);
    }
    normalizer->steps[normalizer->n_steps++] = *step;
    return HDL_OK;
}

hdl_err hdl_normalizer_init(hdl_normalizer *normalizer, hdl_pool_arena *arena, const hdl_jv *json,
                            hdl_errmsg *why)
{
    *normalizer = (hdl_normalizer){0};
    if (!hdl_jv_given(json))
        return HDL_OK;
    hdl_jv type = hdl_jv_get(json, "type"), list = hdl_jv_get(json, "normalizers");
    const char *name;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "Sequence") != 0)
        return add_step(normalizer, arena, json, why);
    HDL_TRY(hdl_jv_expect(&list, HDL_JSON_ARRAY, why));
    for (size_t i = 0; i < hdl_jv_len(&list); i++) {
        hdl_jv item = hdl_jv_at(&list, i);
        HDL_TRY(add_step(normalizer, arena, &item, why));
    }
    return HDL_OK;
}

void hdl_normalizer_deinit(hdl_normalizer *normalizer)
{
    for (uint32_t i = 0; i < normalizer->n_steps; i++)
        hdl_regex_free(normalizer->steps[i].regex);
    *normalizer = (hdl_normalizer){0};
}

static hdl_err lower(hdl_text text, hdl_buf *out)
{
    for (size_t at = 0; at < text.len;) {
        uint32_t cps[2];
        size_t n = hdl_unicode_lower(hdl_utf8_next(text.p, &at), cps);
        for (size_t i = 0; i < n; i++) {
            char bytes[4];
            HDL_TRY(hdl_buf_append(out, bytes, hdl_utf8_write(cps[i], bytes)));
        }
    }
    return HDL_OK;
}

static hdl_text strip(const hdl_normalize_step *step, hdl_text text)
{
    while (step->left && text.len > 0) {
        size_t at = 0;
        if (!hdl_unicode_is_space(hdl_utf8_next(text.p, &at)))
            break;
        text = (hdl_text){text.p + at, text.len - at};
    }
    while (step->right && text.len > 0) {
        size_t start = hdl_utf8_before(text.p, text.len), at = start;
        if (!hdl_unicode_is_space(hdl_utf8_next(text.p, &at)))
            break;
        text.len = start;
    }
    return text;
}

static hdl_err replace(const hdl_normalize_step *step, hdl_regex_work *work, hdl_text text,
                       hdl_buf *out)
{
    hdl_regex_scan scan = {.regex = step->regex, .work = work, .subject = text};
    size_t done = 0;
    for (bool found;;) {
        HDL_TRY(hdl_regex_next(&scan, &found));
        if (!found)
            return hdl_buf_append(out, text.p + done, text.len - done);
        HDL_TRY(hdl_buf_append(out, text.p + done, scan.start - done));
        HDL_TRY(hdl_buf_append(out, step->text.p, step->text.len));
        done = scan.end;
    }
}

/* The longest rule at each place, then U+2581 for spaces: as SentencePiece normalises, and GGUF's
 * t5 with it. */
static hdl_err sentencepiece(const hdl_normalize_step *step, hdl_text text, bool part, hdl_buf *out)
{
    static const char space[] = "\xe2\x96\x81";
    bool in_word = false, begun = part || !step->add_prefix;
    for (size_t at = 0; at < text.len;) {
        hdl_charsmap_hit hit = {0};
        size_t next = at;
        if (step->map.n_units > 0)
            HDL_TRY(
                hdl_charsmap_find(&step->map, (hdl_text){text.p + at, text.len - at}, true, &hit));
        if (hit.len == 0) {
            hdl_utf8_next(text.p, &next);
            hit = (hdl_charsmap_hit){next - at, {text.p + at, next - at}};
        }
        at += hit.len;
        for (size_t i = 0; i < hit.with.len; i++) {
            bool is_space = hit.with.p[i] == ' ';
            if (!is_space && !in_word && (step->merge_spaces || !begun))
                HDL_TRY(hdl_buf_append(out, space, 3));
            if (is_space && !step->merge_spaces)
                HDL_TRY(hdl_buf_append(out, space, 3));
            if (!is_space)
                HDL_TRY(hdl_buf_append(out, hit.with.p + i, 1));
            begun |= !is_space;
            in_word = !is_space;
        }
    }
    return HDL_OK;
}

static hdl_err run_step(const hdl_normalize_step *step, const hdl_normalize_work *normalize,
                        hdl_text text, hdl_buf *out)
{
    hdl_regex_work *work = normalize->regex;
    switch (step->kind) {
    case HDL_NORMALIZE_NFC: return hdl_unicode_normalize(HDL_NFC, text, out);
    case HDL_NORMALIZE_NFD: return hdl_unicode_normalize(HDL_NFD, text, out);
    case HDL_NORMALIZE_LOWERCASE: return lower(text, out);
    case HDL_NORMALIZE_REPLACE: return replace(step, work, text, out);
    case HDL_NORMALIZE_PREPEND:
        HDL_TRY(hdl_buf_append(out, step->text.p, step->text.len));
        return hdl_buf_append(out, text.p, text.len);
    case HDL_NORMALIZE_PRECOMPILED: {
        hdl_regex_scan scan = {.regex = step->regex, .work = work, .subject = text};
        return hdl_charsmap_graphemes(&step->map, &scan, out);
    }
    case HDL_NORMALIZE_SENTENCEPIECE: return sentencepiece(step, text, normalize->part, out);
    case HDL_NORMALIZE_STRIP: break;
    }
    return HDL_BUG;
}

/* True for most texts and NFC: nothing is copied then. */
static bool leaves_alone(const hdl_normalize_step *step, hdl_text text)
{
    if (text.len == 0)
        return true;
    if (step->kind == HDL_NORMALIZE_NFC)
        return hdl_unicode_normal_prefix(HDL_NFC, text) == text.len;
    if (step->kind == HDL_NORMALIZE_NFD)
        return hdl_unicode_normal_prefix(HDL_NFD, text) == text.len;
    return false;
}

hdl_err hdl_normalizer_run(const hdl_normalizer *normalizer, hdl_normalize_work *work,
                           hdl_text *text)
{
    int to = 0;
    for (uint32_t i = 0; i < normalizer->n_steps; i++) {
        const hdl_normalize_step *step = &normalizer->steps[i];
        if (leaves_alone(step, *text) || (step->kind == HDL_NORMALIZE_PREPEND && work->part))
            continue;
        if (step->kind == HDL_NORMALIZE_STRIP) {
            *text = strip(step, *text);
            continue;
        }
        hdl_buf *out = &work->bufs[to];
        to = !to;
        hdl_buf_clear(out);
        HDL_TRY(run_step(step, work, *text, out));
        *text = (hdl_text){(const char *)hdl_buf_data(out), out->len};
    }
    return HDL_OK;
}
