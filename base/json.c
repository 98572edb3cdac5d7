/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that includes jansson. Of the C parsers tried it alone refuses every hostile
 * input by default; what it leaves open, the caps of bytes, depth and values, is checked here
 * before it sees the text. */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_write.h"
#include "heddle/limits.h"

enum { BYTES_MAX_DEFAULT = 32 << 20 };

struct hdl_json {
    json_t *root; /* owned */
};

/* What jansson does not bound: it recurses up to 2048 levels where a request needs a handful, and
 * makes of each value of two bytes an object of 40. Brackets and commas inside strings do not
 * count. */
static hdl_err check_shape(const char *text, size_t len, hdl_errmsg *why)
{
    size_t depth = 0, n_values = 1;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            n_values++;
            if (++depth > HDL_JSON_DEPTH_MAX)
                return hdl_fail(HDL_INVALID, why, "JSON is nested too deeply; at most %d levels",
                                HDL_JSON_DEPTH_MAX);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        } else if (c == ',') {
            n_values++;
        }
    }
    if (n_values > HDL_JSON_VALUES_MAX)
        return hdl_fail(HDL_INVALID, why, "JSON holds too many values; at most %d",
                        HDL_JSON_VALUES_MAX);
    return HDL_OK;
}

typedef struct source {
    const char *text;
    size_t len, max_bytes;
    size_t flags; /* jansson's */
} source;

static hdl_err parse(source s, hdl_json **out, hdl_errmsg *why)
{
    const char *text = s.text;
    size_t len = s.len, max_bytes = s.max_bytes;
    *out = NULL;
    if (max_bytes == 0)
        max_bytes = BYTES_MAX_DEFAULT;
    if (len > max_bytes)
        return hdl_fail(HDL_INVALID, why, "JSON text is too long; it has %zu bytes, at most %zu",
                        len, max_bytes);
    HDL_TRY(check_shape(text, len, why));
    json_error_t error;
    json_t *root = json_loadb(text, len, s.flags, &error);
    if (!root) {
        enum json_error_code code = json_error_code(&error);
        return hdl_fail(code == json_error_out_of_memory ? HDL_NOMEM : HDL_INVALID, why,
                        "not valid JSON; line %d column %d: %s", error.line, error.column,
                        code == json_error_null_character ? "a string holds \\u0000" : error.text);
    }
    hdl_json *doc = malloc(sizeof *doc);
    if (!doc) {
        json_decref(root);
        return hdl_fail(HDL_NOMEM, why, "no memory for a JSON document");
    }
    doc->root = root;
    *out = doc;
    return HDL_OK;
}

hdl_err hdl_json_parse(const char *text, size_t len, size_t max_bytes, hdl_json **out,
                       hdl_errmsg *why)
{
    source s = {text, len, max_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY};
    return parse(s, out, why);
}

hdl_err hdl_json_parse_nul(const char *text, size_t len, size_t max_bytes, hdl_json **out,
                           hdl_errmsg *why)
{
    source s = {text, len, max_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL};
    return parse(s, out, why);
}

void hdl_json_close(hdl_json *doc)
{
    if (!doc)
        return;
    json_decref(doc->root);
    free(doc);
}

hdl_jv hdl_json_root(const hdl_json *doc) { return (hdl_jv){.node = doc->root}; }

hdl_json_kind hdl_jv_kind(const hdl_jv *v)
{
    switch (v->node ? json_typeof((const json_t *)v->node) : JSON_NULL) {
    case JSON_OBJECT: return HDL_JSON_OBJECT;
    case JSON_ARRAY: return HDL_JSON_ARRAY;
    case JSON_STRING: return HDL_JSON_STRING;
    case JSON_INTEGER: return HDL_JSON_INT;
    case JSON_REAL: return HDL_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return HDL_JSON_BOOL;
    case JSON_NULL: return HDL_JSON_NULL;
    }
    return HDL_JSON_NULL;
}

const char *hdl_json_kind_text(hdl_json_kind kind)
{
    static const char *const text[] = {"null",     "a boolean", "an integer", "a number",
                                       "a string", "an array",  "an object"};
    return (unsigned)kind < sizeof text / sizeof text[0] ? text[kind] : "?";
}

hdl_jv hdl_jv_get(const hdl_jv *obj, const char *key)
{
    /* json_object_get gives NULL for what is no object. */
    const json_t *node = obj->node ? json_object_get((const json_t *)obj->node, key) : NULL;
    return (hdl_jv){.node = node, .parent = obj, .key = key};
}

hdl_jv hdl_jv_at(const hdl_jv *arr, size_t idx)
{
    const json_t *node = arr->node ? json_array_get((const json_t *)arr->node, idx) : NULL;
    return (hdl_jv){.node = node, .parent = arr, .idx = idx};
}

size_t hdl_jv_len(const hdl_jv *v)
{
    const json_t *node = v->node;
    /* Both give 0 for what is none of theirs. */
    return json_array_size(node) + json_object_size(node);
}

bool hdl_jv_next(const hdl_jv *obj, void **iter, hdl_jv *member)
{
    /* jansson's iterators take a mutable object but only read it. */
    json_t *node = (json_t *)(uintptr_t)obj->node;
    if (!json_is_object(node))
        return false;
    *iter = *iter ? json_object_iter_next(node, *iter) : json_object_iter(node);
    if (!*iter)
        return false;
    *member = (hdl_jv){
        .node = json_object_iter_value(*iter), .parent = obj, .key = json_object_iter_key(*iter)};
    return true;
}

const char *hdl_jv_path(const hdl_jv *v, char *out, size_t size)
{
    const hdl_jv *chain[HDL_JSON_DEPTH_MAX + 1];
    size_t n = 0, at = 0;
    for (; v->parent && n <= HDL_JSON_DEPTH_MAX; v = v->parent)
        chain[n++] = v;
    if (size == 0)
        return out;
    out[0] = '\0';
    while (n-- > 0 && at < size) {
        const hdl_jv *part = chain[n];
        int len = part->key ? snprintf(out + at, size - at, "%s%s", at ? "." : "", part->key)
                            : snprintf(out + at, size - at, "[%zu]", part->idx);
        at += len > 0 ? (size_t)len : 0;
    }
    return out;
}

hdl_err hdl_jv_fail(const hdl_jv *v, hdl_errmsg *why, const char *fmt, ...)
{
    char path[160], text[320];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    hdl_jv_path(v, path, sizeof path);
    return hdl_fail(HDL_INVALID, why, "%s %s", path[0] ? path : "the document", text);
}

static hdl_err fail_kind(const hdl_jv *v, const char *want, hdl_errmsg *why)
{
    if (!v->node)
        return hdl_jv_fail(v, why, "is missing; it must be %s", want);
    return hdl_jv_fail(v, why, "must be %s; it is %s", want, hdl_json_kind_text(hdl_jv_kind(v)));
}

hdl_err hdl_jv_expect(const hdl_jv *v, hdl_json_kind kind, hdl_errmsg *why)
{
    return v->node && hdl_jv_kind(v) == kind ? HDL_OK : fail_kind(v, hdl_json_kind_text(kind), why);
}

hdl_err hdl_jv_bool(const hdl_jv *v, bool *out, hdl_errmsg *why)
{
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_BOOL, why));
    *out = json_is_true((const json_t *)v->node);
    return HDL_OK;
}

hdl_err hdl_jv_int(const hdl_jv *v, hdl_jv_range range, int64_t *out, hdl_errmsg *why)
{
    const json_t *node = v->node;
    int64_t value;
    if (json_is_integer(node)) {
        value = json_integer_value(node);
    } else if (json_is_real(node)) {
        double real = json_real_value(node);
        /* Beyond 2^53 a double does not say which integer was meant. */
        if (real != floor(real) || fabs(real) > 0x1p53)
            return fail_kind(v, "an integer", why);
        value = (int64_t)real;
    } else {
        return fail_kind(v, "an integer", why);
    }
    if (value < range.min || value > range.max)
        return hdl_jv_fail(v, why, "must be %lld to %lld; it is %lld", (long long)range.min,
                           (long long)range.max, (long long)value);
    *out = value;
    return HDL_OK;
}

hdl_err hdl_jv_double(const hdl_jv *v, double *out, hdl_errmsg *why)
{
    const json_t *node = v->node;
    if (!json_is_number(node))
        return fail_kind(v, "a number", why);
    *out = json_number_value(node);
    return HDL_OK;
}

hdl_err hdl_jv_string(const hdl_jv *v, const char **out, size_t *len, hdl_errmsg *why)
{
    HDL_TRY(hdl_jv_expect(v, HDL_JSON_STRING, why));
    const char *text = json_string_value((const json_t *)v->node);
    size_t n = json_string_length((const json_t *)v->node);
    if (memchr(text, '\0', n) != NULL)
        return hdl_jv_fail(v, why, "must not hold \\u0000");
    *out = text;
    if (len)
        *len = n;
    return HDL_OK;
}

/* Recursion is bounded by the depth cap of the parse. */
static void dump(const hdl_jv *v, hdl_json_writer *w)
{
    const json_t *node = v->node;
    hdl_jv child;
    void *iter = NULL;
    switch (hdl_jv_kind(v)) {
    case HDL_JSON_NULL: hdl_jw_null(w); return;
    case HDL_JSON_BOOL: hdl_jw_bool(w, json_is_true(node)); return;
    case HDL_JSON_INT: hdl_jw_int(w, json_integer_value(node)); return;
    case HDL_JSON_REAL: hdl_jw_double(w, json_real_value(node)); return;
    case HDL_JSON_STRING:
        hdl_jw_string(w, json_string_value(node), json_string_length(node));
        return;
    case HDL_JSON_ARRAY:
        hdl_jw_begin_array(w);
        for (size_t i = 0; i < json_array_size(node); i++) {
            child = hdl_jv_at(v, i);
            dump(&child, w);
        }
        hdl_jw_end_array(w);
        return;
    case HDL_JSON_OBJECT:
        hdl_jw_begin_object(w);
        while (hdl_jv_next(v, &iter, &child)) {
            hdl_jw_key(w, child.key);
            dump(&child, w);
        }
        hdl_jw_end_object(w);
        return;
    }
}

hdl_err hdl_jv_dump(const hdl_jv *v, hdl_buf *out)
{
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    dump(v, &w);
    return hdl_buf_ok(out) ? HDL_OK : HDL_BUSY;
}
