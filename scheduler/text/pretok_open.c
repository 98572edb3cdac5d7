/* SPDX-License-Identifier: Apache-2.0 */
/* From "pre_tokenizer" of tokenizer.json to the steps of pretok.c. */
#include <string.h>

#include "scheduler/text/pattern.h"
#include "scheduler/text/pretok.h"
#include "scheduler/text/utf8.h"

static hdl_err read_flag(const hdl_jv *json, const char *key, bool fallback, bool *out,
                         hdl_errmsg *why)
{
    hdl_jv v = hdl_jv_get(json, key);
    *out = fallback;
    return hdl_jv_given(&v) ? hdl_jv_bool(&v, out, why) : HDL_OK;
}

static hdl_err add_step(hdl_pretok *pretok, hdl_pretok_step step, hdl_errmsg *why)
{
    if (pretok->n_steps == HDL_PRETOK_STEPS_MAX) {
        hdl_regex_free(step.regex);
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "tokenizer.json: more than %d pre-tokenisers in sequence",
                        HDL_PRETOK_STEPS_MAX);
    }
    pretok->steps[pretok->n_steps++] = step;
    return HDL_OK;
}

static hdl_err add_pattern(hdl_pretok *pretok, const char *pattern, hdl_split_behavior behavior,
                           hdl_errmsg *why)
{
    hdl_pretok_step step = {.behavior = behavior};
    HDL_TRY(hdl_regex_open(&step.regex, (hdl_text){pattern, strlen(pattern)}, why));
    return add_step(pretok, step, why);
}

static hdl_err read_behavior(const hdl_jv *json, hdl_split_behavior *out, hdl_errmsg *why)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    hdl_jv v = hdl_jv_get(json, "behavior");
    const char *name;
    HDL_TRY(hdl_jv_string(&v, &name, NULL, why));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (hdl_split_behavior)i;
            return HDL_OK;
        }
    }
    return hdl_jv_fail(&v, why,
                       "is \"%.32s\"; heddle knows Isolated, Removed, MergedWithPrevious, "
                       "MergedWithNext, Contiguous",
                       name);
}

static hdl_err add_split(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_pretok_step step = {0};
    HDL_TRY(read_behavior(json, &step.behavior, why));
    HDL_TRY(read_flag(json, "invert", false, &step.invert, why));
    hdl_jv pattern = hdl_jv_get(json, "pattern");
    hdl_jv regex = hdl_jv_get(&pattern, "Regex"), literal = hdl_jv_get(&pattern, "String");
    hdl_text text;
    if (hdl_jv_given(&regex)) {
        HDL_TRY(hdl_jv_string(&regex, &text.p, &text.len, why));
        HDL_TRY(hdl_regex_open(&step.regex, text, why));
    } else {
        HDL_TRY(hdl_jv_string(&literal, &text.p, &text.len, why));
        HDL_TRY(hdl_regex_open_literal(&step.regex, text, why));
    }
    return add_step(pretok, step, why);
}

static hdl_err add_byte_level(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why)
{
    bool use_regex;
    hdl_pretok_step step = {.behavior = HDL_SPLIT_ISOLATED};
    HDL_TRY(read_flag(json, "add_prefix_space", true, &step.prefix, why));
    HDL_TRY(read_flag(json, "use_regex", true, &use_regex, why));
    if (use_regex)
        HDL_TRY(hdl_regex_open(&step.regex,
                               (hdl_text){HDL_PATTERN_GPT2, sizeof HDL_PATTERN_GPT2 - 1}, why));
    pretok->byte_level = true;
    return step.regex || step.prefix ? add_step(pretok, step, why) : HDL_OK;
}

static hdl_err read_scheme(hdl_pretok_step *step, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv scheme = hdl_jv_get(json, "prepend_scheme"),
           legacy = hdl_jv_get(json, "add_prefix_space");
    const char *name = "always";
    bool adds = true;
    if (hdl_jv_given(&scheme))
        HDL_TRY(hdl_jv_string(&scheme, &name, NULL, why));
    if (hdl_jv_given(&legacy))
        HDL_TRY(hdl_jv_bool(&legacy, &adds, why));
    step->prefix = adds && strcmp(name, "always") == 0;
    step->prefix_once = adds && strcmp(name, "first") == 0;
    if (step->prefix || step->prefix_once || !adds || strcmp(name, "never") == 0)
        return HDL_OK;
    return hdl_jv_fail(&scheme, why, "is \"%.32s\"; heddle knows always, first and never", name);
}

/* Spaces become U+2581; then each piece is cut before every one of them. */
static hdl_err add_metaspace(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_pretok_step step = {.behavior = HDL_SPLIT_MERGED_NEXT};
    hdl_jv replacement = hdl_jv_get(json, "replacement");
    const char *text = "\xe2\x96\x81";
    size_t len = 3, at = 0;
    bool split;
    if (hdl_jv_given(&replacement))
        HDL_TRY(hdl_jv_string(&replacement, &text, &len, why));
    if (len > 0)
        hdl_utf8_next(text, &at);
    if (len == 0 || at != len)
        return hdl_jv_fail(&replacement, why, "must be one character");
    memcpy(step.space, text, len);
    step.n_space = (uint8_t)len;
    HDL_TRY(read_scheme(&step, json, why));
    HDL_TRY(read_flag(json, "split", true, &split, why));
    if (split)
        HDL_TRY(hdl_regex_open_literal(&step.regex, (hdl_text){text, len}, why));
    return add_step(pretok, step, why);
}

static hdl_err add_one(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "type");
    const char *name;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (pretok->byte_level)
        return hdl_jv_fail(
            &type, why, "is \"%.32s\" after ByteLevel; heddle takes ByteLevel only as the last one",
            name);
    if (strcmp(name, "Split") == 0)
        return add_split(pretok, json, why);
    if (strcmp(name, "ByteLevel") == 0)
        return add_byte_level(pretok, json, why);
    if (strcmp(name, "Digits") == 0) {
        bool individual;
        HDL_TRY(read_flag(json, "individual_digits", false, &individual, why));
        return add_pattern(pretok, "\\p{N}", individual ? HDL_SPLIT_ISOLATED : HDL_SPLIT_CONTIGUOUS,
                           why);
    }
    if (strcmp(name, "Punctuation") == 0) {
        hdl_split_behavior behavior = HDL_SPLIT_ISOLATED;
        hdl_jv given = hdl_jv_get(json, "behavior");
        if (hdl_jv_given(&given))
            HDL_TRY(read_behavior(json, &behavior, why));
        return add_pattern(pretok, "[!-/:-@\\[-`{-~\\p{P}]", behavior, why);
    }
    if (strcmp(name, "WhitespaceSplit") == 0)
        return add_pattern(pretok, "\\s", HDL_SPLIT_REMOVED, why);
    if (strcmp(name, "Metaspace") == 0)
        return add_metaspace(pretok, json, why);
    hdl_jv_fail(&type, why,
                "is \"%.32s\"; heddle has Sequence, Split, ByteLevel, Metaspace, Digits, "
                "Punctuation and WhitespaceSplit",
                name);
    return HDL_UNSUPPORTED;
}

hdl_err hdl_pretok_init(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why)
{
    *pretok = (hdl_pretok){0};
    hdl_jv type = hdl_jv_get(json, "type");
    const char *name = "";
    if (hdl_jv_given(json))
        HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "Sequence") != 0 && hdl_jv_given(json))
        HDL_TRY(add_one(pretok, json, why));
    hdl_jv list = hdl_jv_get(json, "pretokenizers");
    for (size_t i = 0; i < hdl_jv_len(&list); i++) {
        hdl_jv item = hdl_jv_at(&list, i);
        HDL_TRY(add_one(pretok, &item, why));
    }
    return HDL_OK;
}

hdl_err hdl_pretok_add_split(hdl_pretok *pretok, hdl_text pattern, hdl_errmsg *why)
{
    hdl_pretok_step step = {.behavior = HDL_SPLIT_ISOLATED};
    HDL_TRY(hdl_regex_open(&step.regex, pattern, why));
    return add_step(pretok, step, why);
}
