/* SPDX-License-Identifier: Apache-2.0 */
/* "post_processor" of tokenizer.json: what is put around the ids of one text. */
#include <string.h>

#include "scheduler/text/tokenizer_impl.h"

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
        return hdl_tokenizer_unsupported(
            piece, why, "is not supported; heddle knows one Sequence and SpecialTokens");
    hdl_jv name = hdl_jv_get(&special, "id"), table = hdl_jv_get(json, "special_tokens");
    const char *text;
    HDL_TRY(hdl_jv_string(&name, &text, NULL, why));
    hdl_jv entry = hdl_jv_get(&table, text), ids = hdl_jv_get(&entry, "ids");
    HDL_TRY(hdl_jv_expect(&ids, HDL_JSON_ARRAY, why));
    for (size_t i = 0; i < hdl_jv_len(&ids); i++) {
        hdl_jv v = hdl_jv_at(&ids, i);
        uint32_t id, *n = *seen ? &post->n_after : &post->n_before;
        HDL_TRY(hdl_tokenizer_read_id(&v, &id, why));
        if (*n == HDL_POST_IDS_MAX)
            return hdl_tokenizer_unsupported(&v, why, "is one of more than 8 added ids");
        (*seen ? post->after : post->before)[(*n)++] = (hdl_token)id;
    }
    return HDL_OK;
}

static hdl_err read_template(hdl_post *post, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv single = hdl_jv_get(json, "single");
    HDL_TRY(hdl_jv_expect(&single, HDL_JSON_ARRAY, why));
    if (post->n_before + post->n_after > 0)
        return hdl_tokenizer_unsupported(json, why,
                                         "is a second TemplateProcessing; heddle takes one");
    bool seen = false;
    for (size_t i = 0; i < hdl_jv_len(&single); i++) {
        hdl_jv piece = hdl_jv_at(&single, i);
        HDL_TRY(read_post_piece(post, json, &piece, &seen, why));
    }
    return seen
               ? HDL_OK
               : hdl_tokenizer_unsupported(&single, why, "has no Sequence; the text would be lost");
}

/* BertProcessing and RobertaProcessing: one id before, one after, each as [text, id]. */
static hdl_err read_around(hdl_post *post, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv cls = hdl_jv_get(json, "cls"), sep = hdl_jv_get(json, "sep");
    hdl_jv first = hdl_jv_at(&cls, 1), last = hdl_jv_at(&sep, 1);
    uint32_t before, after;
    HDL_TRY(hdl_tokenizer_read_id(&first, &before, why));
    HDL_TRY(hdl_tokenizer_read_id(&last, &after, why));
    if (post->n_before + post->n_after > 0)
        return hdl_tokenizer_unsupported(json, why, "is a second one that adds ids");
    post->before[post->n_before++] = (hdl_token)before;
    post->after[post->n_after++] = (hdl_token)after;
    return HDL_OK;
}

/* ByteLevel as a post-processor only moves offsets. */
hdl_err hdl_post_read(hdl_post *post, const hdl_jv *json, hdl_errmsg *why)
{
    hdl_jv type = hdl_jv_get(json, "type"), list = hdl_jv_get(json, "processors");
    const char *name;
    if (!hdl_jv_given(json))
        return HDL_OK;
    HDL_TRY(hdl_jv_string(&type, &name, NULL, why));
    if (strcmp(name, "ByteLevel") == 0)
        return HDL_OK;
    if (strcmp(name, "TemplateProcessing") == 0)
        return read_template(post, json, why);
    if (strcmp(name, "BertProcessing") == 0 || strcmp(name, "RobertaProcessing") == 0)
        return read_around(post, json, why);
    if (strcmp(name, "Sequence") != 0) {
        hdl_jv_fail(&type, why,
                    "is \"%.32s\"; heddle has ByteLevel, TemplateProcessing, BertProcessing, "
                    "RobertaProcessing and Sequence",
                    name);
        return hdl_fail_prefix(HDL_UNSUPPORTED, why, "tokenizer.json");
    }
    for (size_t i = 0; i < hdl_jv_len(&list); i++) {
        hdl_jv item = hdl_jv_at(&list, i), inner = hdl_jv_get(&item, "type");
        HDL_TRY(hdl_jv_string(&inner, &name, NULL, why));
        if (strcmp(name, "Sequence") == 0)
            return hdl_tokenizer_unsupported(&inner, why, "is a Sequence inside a Sequence");
        HDL_TRY(hdl_post_read(post, &item, why));
    }
    return HDL_OK;
}
