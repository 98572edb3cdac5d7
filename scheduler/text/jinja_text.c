/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text: Python's str(), repr() and json.dumps(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/jinja_value.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

enum { NEST_MAX = 128 };

/* Python writes the shortest decimal that reads back the same, with an exponent outside 1e-4 ..
 * 1e16. */
static hdl_err put_float(double f, hdl_buf *out)
{
    char digits[40];
    if (isnan(f))
        return hdl_buf_puts(out, "nan");
    if (isinf(f))
        return hdl_buf_puts(out, f < 0 ? "-inf" : "inf");
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision - 1, f);
        double back = strtod(digits, NULL);
        if (back <= f && back >= f)
            break;
    }
    char *mark = strchr(digits, 'e');
    int exponent = atoi(mark + 1);
    int precision = (int)(mark - digits) - (digits[0] == '-') - (strchr(digits, '.') != NULL);
    if (exponent < -4 || exponent >= 16) {
        *mark = '\0';
        return hdl_buf_printf(out, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
    }
    int decimals = precision - 1 - exponent;
    return hdl_buf_printf(out, "%.*f", decimals > 1 ? decimals : 1, f);
}

static hdl_err put_number(const hdl_jval *v, hdl_buf *out)
{
    return v->kind == HDL_J_INT ? hdl_buf_printf(out, "%lld", (long long)v->i)
                                : put_float(v->f, out);
}

/* Characters that repr() escapes: controls, formats, private and unassigned ones, separators but
 * the space. The blocks that occur. */
static bool printable(uint32_t cp)
{
    if (cp < 0x20 || (cp >= 0x7f && cp < 0xa1) || cp == 0xad)
        return false;
    if (cp < 0x600)
        return cp != 0x378 && cp != 0x379;
    if ((cp >= 0x600 && cp <= 0x605) || cp == 0x61c || cp == 0x6dd || cp == 0x70f || cp == 0x180e)
        return false;
    if ((cp >= 0x200b && cp <= 0x200f) || (cp >= 0x202a && cp <= 0x202e) ||
        (cp >= 0x2060 && cp <= 0x206f))
        return false;
    if ((cp >= 0xe000 && cp <= 0xf8ff) || cp == 0xfeff || (cp >= 0xfff0 && cp <= 0xfffb) ||
        (cp & 0xfffe) == 0xfffe)
        return false;
    if (cp >= 0xe0000)
        return cp >= 0xe0100 && cp <= 0xe01ef;
    return !hdl_unicode_is_space(cp);
}

static hdl_err put_repr_char(uint32_t cp, char quote, hdl_buf *out)
{
    char bytes[4];
    if (cp == (unsigned char)quote || cp == '\\')
        return hdl_buf_printf(out, "\\%c", (char)cp);
    if (cp == '\n')
        return hdl_buf_puts(out, "\\n");
    if (cp == '\r')
        return hdl_buf_puts(out, "\\r");
    if (cp == '\t')
        return hdl_buf_puts(out, "\\t");
    if (cp == ' ' || printable(cp))
        return hdl_buf_append(out, bytes, hdl_utf8_write(cp, bytes));
    if (cp < 0x100)
        return hdl_buf_printf(out, "\\x%02x", cp);
    return hdl_buf_printf(out, cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
}

static hdl_err put_repr_string(hdl_text s, hdl_buf *out)
{
    bool single = memchr(s.p, '\'', s.len) != NULL, twice = memchr(s.p, '"', s.len) != NULL;
    char quote = single && !twice ? '"' : '\'';
    HDL_TRY(hdl_buf_append(out, &quote, 1));
    for (size_t at = 0; at < s.len;)
        HDL_TRY(put_repr_char(hdl_utf8_next(s.p, &at), quote, out));
    return hdl_buf_append(out, &quote, 1);
}

static hdl_err put_repr(const hdl_jval *v, int depth, hdl_buf *out);

static hdl_err put_repr_items(const hdl_jval *v, int depth, hdl_buf *out)
{
    bool tuple = v->kind == HDL_J_TUPLE;
    HDL_TRY(hdl_buf_puts(out, tuple ? "(" : "["));
    for (size_t i = 0; i < v->list->n; i++) {
        HDL_TRY(hdl_buf_puts(out, i ? ", " : ""));
        HDL_TRY(put_repr(&v->list->v[i], depth, out));
    }
    return hdl_buf_puts(out, !tuple ? "]" : v->list->n == 1 ? ",)" : ")");
}

static hdl_err put_repr_dict(const hdl_jdict *dict, int depth, hdl_buf *out)
{
    HDL_TRY(hdl_buf_puts(out, "{"));
    for (size_t i = 0; i < dict->n; i++) {
        HDL_TRY(hdl_buf_puts(out, i ? ", " : ""));
        HDL_TRY(put_repr(&dict->keys[i], depth, out));
        HDL_TRY(hdl_buf_puts(out, ": "));
        HDL_TRY(put_repr(&dict->values[i], depth, out));
    }
    return hdl_buf_puts(out, "}");
}

static hdl_err put_repr(const hdl_jval *v, int depth, hdl_buf *out)
{
    if (depth > NEST_MAX)
        return HDL_BUSY;
    switch (v->kind) {
    case HDL_J_UNDEFINED: return hdl_buf_puts(out, "Undefined");
    case HDL_J_NONE: return hdl_buf_puts(out, "None");
    case HDL_J_BOOL: return hdl_buf_puts(out, v->b ? "True" : "False");
    case HDL_J_INT:
    case HDL_J_FLOAT: return put_number(v, out);
    case HDL_J_STRING: return put_repr_string(v->s, out);
    case HDL_J_LIST:
    case HDL_J_TUPLE: return put_repr_items(v, depth + 1, out);
    case HDL_J_DICT: return put_repr_dict(v->dict, depth + 1, out);
    default: return hdl_buf_printf(out, "<%s>", hdl_jval_type(v));
    }
}

hdl_err hdl_jval_repr(const hdl_jval *v, hdl_buf *out) { return put_repr(v, 0, out); }

hdl_err hdl_jval_str(const hdl_jval *v, hdl_buf *out)
{
    if (v->kind == HDL_J_STRING)
        return hdl_buf_append(out, v->s.p, v->s.len);
    return v->kind == HDL_J_UNDEFINED ? HDL_OK : put_repr(v, 0, out);
}

static hdl_err put_json_string(hdl_text s, bool ascii, hdl_buf *out)
{
    HDL_TRY(hdl_buf_puts(out, "\""));
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        uint32_t cp = hdl_utf8_next(s.p, &at);
        const char *in = "\"\\\n\r\t\b\f", *to = "\"\\nrtbf";
        const char *found = cp < 0x80 && cp != 0 ? strchr(in, (int)cp) : NULL;
        if (found != NULL)
            HDL_TRY(hdl_buf_printf(out, "\\%c", to[found - in]));
        else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000))
            HDL_TRY(hdl_buf_printf(out, "\\u%04x", cp));
        else if (ascii && cp >= 0x10000)
            HDL_TRY(
                hdl_buf_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff)));
        else
            HDL_TRY(hdl_buf_append(out, s.p + start, at - start));
    }
    return hdl_buf_puts(out, "\"");
}

static hdl_err put_json(const hdl_jval *v, const hdl_jjson_style *style, int depth, hdl_buf *out);

static hdl_err line_break(const hdl_jjson_style *style, int depth, hdl_buf *out)
{
    if (style->indent < 0)
        return HDL_OK;
    HDL_TRY(hdl_buf_puts(out, "\n"));
    return hdl_buf_printf(out, "%*s", style->indent * depth, "");
}

static hdl_err put_json_list(const hdl_jlist *list, const hdl_jjson_style *style, int depth,
                             hdl_buf *out)
{
    if (list->n == 0)
        return hdl_buf_puts(out, "[]");
    HDL_TRY(hdl_buf_puts(out, "["));
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            HDL_TRY(hdl_buf_append(out, style->item_separator.p, style->item_separator.len));
        HDL_TRY(line_break(style, depth, out));
        HDL_TRY(put_json(&list->v[i], style, depth, out));
    }
    HDL_TRY(line_break(style, depth - 1, out));
    return hdl_buf_puts(out, "]");
}

/* Keys that are no strings are written as json.dumps writes them: 1 -> "1", True -> "true". */
static hdl_err put_json_key(const hdl_jval *key, const hdl_jjson_style *style, hdl_buf *out)
{
    if (key->kind == HDL_J_STRING)
        return put_json_string(key->s, style->ensure_ascii, out);
    if (key->kind != HDL_J_NONE && key->kind != HDL_J_BOOL && key->kind != HDL_J_INT &&
        key->kind != HDL_J_FLOAT)
        return HDL_INVALID;
    HDL_TRY(hdl_buf_puts(out, "\""));
    HDL_TRY(put_json(key, style, 0, out));
    return hdl_buf_puts(out, "\"");
}

static int by_key(const void *a, const void *b, void *dict)
{
    int order = 0;
    const hdl_jval *keys = ((const hdl_jdict *)dict)->keys;
    (void)!hdl_jval_order(&keys[*(const uint32_t *)a], &keys[*(const uint32_t *)b], &order);
    return order;
}

static hdl_err put_json_dict(hdl_jdict *dict, const hdl_jjson_style *style, int depth, hdl_buf *out)
{
    if (dict->n == 0)
        return hdl_buf_puts(out, "{}");
    uint32_t *order = malloc(dict->n * sizeof *order);
    if (order == NULL)
        return HDL_NOMEM;
    for (size_t i = 0; i < dict->n; i++)
        order[i] = (uint32_t)i;
    if (style->sort_keys)
        qsort_r(order, dict->n, sizeof *order, by_key, dict);
    hdl_err err;
    HDL_TRY_GOTO(hdl_buf_puts(out, "{"), fail);
    for (size_t i = 0; i < dict->n; i++) {
        if (i > 0)
            HDL_TRY_GOTO(hdl_buf_append(out, style->item_separator.p, style->item_separator.len),
                         fail);
        HDL_TRY_GOTO(line_break(style, depth, out), fail);
        HDL_TRY_GOTO(put_json_key(&dict->keys[order[i]], style, out), fail);
        HDL_TRY_GOTO(hdl_buf_append(out, style->key_separator.p, style->key_separator.len), fail);
        HDL_TRY_GOTO(put_json(&dict->values[order[i]], style, depth, out), fail);
    }
    HDL_TRY_GOTO(line_break(style, depth - 1, out), fail);
    err = hdl_buf_puts(out, "}");
fail:
    free(order);
    return err;
}

static hdl_err put_json(const hdl_jval *v, const hdl_jjson_style *style, int depth, hdl_buf *out)
{
    if (depth > NEST_MAX)
        return HDL_BUSY;
    switch (v->kind) {
    case HDL_J_NONE: return hdl_buf_puts(out, "null");
    case HDL_J_BOOL: return hdl_buf_puts(out, v->b ? "true" : "false");
    case HDL_J_INT: return put_number(v, out);
    case HDL_J_FLOAT:
        if (isnan(v->f))
            return hdl_buf_puts(out, "NaN");
        if (isinf(v->f))
            return hdl_buf_puts(out, v->f < 0 ? "-Infinity" : "Infinity");
        return put_number(v, out);
    case HDL_J_STRING: return put_json_string(v->s, style->ensure_ascii, out);
    case HDL_J_LIST:
    case HDL_J_TUPLE: return put_json_list(v->list, style, depth + 1, out);
    case HDL_J_DICT: return put_json_dict(v->dict, style, depth + 1, out);
    default: return HDL_INVALID;
    }
}

hdl_err hdl_jval_json(const hdl_jval *v, const hdl_jjson_style *style, hdl_buf *out)
{
    return put_json(v, style, 0, out);
}
