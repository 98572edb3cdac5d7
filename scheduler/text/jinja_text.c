/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text: Python's str(), repr() and json.dumps(). */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/jinja_value.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

enum { NEST_MAX = 128 };

/* Where text goes. Every value costs steps before it is written, so that what shares its items
 * without end stops early. */
typedef struct writer {
    hdl_buf *out;
    hdl_jsteps *steps;
    const hdl_jjson_style *style; /* of JSON */
    int depth;
} writer;

static hdl_err charge(const writer *w, size_t n)
{
    return hdl_jsteps_add(w->steps, n) ? HDL_OK : HDL_BUSY;
}

static hdl_err put_text(const writer *w, const char *text) { return hdl_buf_puts(w->out, text); }

static bool reads_back(const char *text, double f)
{
    double back = strtod(text, NULL);
    return back <= f && back >= f;
}

/* The shortest decimal that reads back as f > 0, as "d.ddde-xx". Every decimal of up to 15 digits
 * comes back from a normal double, so that a shorter one shows as zeros at the end of those. */
static void shortest(double f, char text[40])
{
    int from = f < DBL_MIN ? 1 : 15;
    for (int n = from; n <= 17; n++) {
        snprintf(text, 40, "%.*e", n - 1, f);
        if (reads_back(text, f))
            return;
        if (n != 16)
            continue;
        /* Below a power of two doubles are denser than above: the next decimal up may do. */
        char *mark = strchr(text, 'e'), next[40];
        unsigned long long digits = (unsigned long long)(text[0] - '0') * 1000000000000000u +
                                    strtoull(text + 2, NULL, 10) + 1;
        snprintf(next, sizeof next, "%llu.%015llu%s", digits / 1000000000000000u,
                 digits % 1000000000000000u, mark);
        if (reads_back(next, f)) {
            memcpy(text, next, sizeof next);
            return;
        }
    }
}

/* As Python's repr: with an exponent outside 1e-4 .. 1e16. */
static hdl_err put_float(double f, hdl_buf *out)
{
    char text[40] = "0.e+00", digits[20] = "";
    if (isnan(f))
        return hdl_buf_puts(out, "nan");
    if (signbit(f))
        HDL_TRY(hdl_buf_puts(out, "-"));
    if (isinf(f))
        return hdl_buf_puts(out, "inf");
    f = fabs(f);
    if (f > 0)
        shortest(f, text);
    int n = 0, exponent = atoi(strchr(text, 'e') + 1);
    for (const char *c = text; *c != 'e'; c++)
        if (*c != '.')
            digits[n++] = *c;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (exponent < -4 || exponent >= 16)
        return hdl_buf_printf(out, "%c%s%.*se%c%02d", digits[0], n > 1 ? "." : "", n - 1,
                              digits + 1, exponent < 0 ? '-' : '+', abs(exponent));
    if (exponent < 0)
        return hdl_buf_printf(out, "0.%.*s%.*s", -exponent - 1, "000", n, digits);
    int whole = exponent + 1 < n ? exponent + 1 : n;
    return hdl_buf_printf(out, "%.*s%.*s.%.*s", whole, digits, exponent + 1 - whole,
                          "0000000000000000", n > whole ? n - whole : 1,
                          n > whole ? digits + whole : "0");
}

static hdl_err put_number(const hdl_jval *v, const writer *w)
{
    HDL_TRY(charge(w, v->kind == HDL_J_INT ? 4 : 100));
    return v->kind == HDL_J_INT ? hdl_buf_printf(w->out, "%lld", (long long)v->i)
                                : put_float(v->f, w->out);
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

static hdl_err put_repr_char(uint32_t cp, char quote, const writer *w)
{
    char bytes[4];
    HDL_TRY(charge(w, 1));
    if (cp == (unsigned char)quote || cp == '\\') {
        bytes[0] = '\\';
        bytes[1] = (char)cp;
        return hdl_buf_append(w->out, bytes, 2);
    }
    if (cp == '\n')
        return put_text(w, "\\n");
    if (cp == '\r')
        return put_text(w, "\\r");
    if (cp == '\t')
        return put_text(w, "\\t");
    if (printable(cp))
        return hdl_buf_append(w->out, bytes, hdl_utf8_write(cp, bytes));
    HDL_TRY(charge(w, 4));
    if (cp < 0x100)
        return hdl_buf_printf(w->out, "\\x%02x", cp);
    return hdl_buf_printf(w->out, cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
}

static bool is_plain(unsigned char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\'; }

static hdl_err put_repr_string(hdl_text s, const writer *w)
{
    HDL_TRY(charge(w, s.len / 16));
    bool single = memchr(s.p, '\'', s.len) != NULL, twice = memchr(s.p, '"', s.len) != NULL;
    char quote = single && !twice ? '"' : '\'';
    HDL_TRY(hdl_buf_append(w->out, &quote, 1));
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        while (at < s.len && is_plain((unsigned char)s.p[at]) && s.p[at] != quote)
            at++;
        HDL_TRY(hdl_buf_append(w->out, s.p + start, at - start));
        if (at < s.len)
            HDL_TRY(put_repr_char(hdl_utf8_next(s.p, &at), quote, w));
    }
    return hdl_buf_append(w->out, &quote, 1);
}

static hdl_err put_repr(const hdl_jval *v, writer w);

static hdl_err put_repr_items(const hdl_jval *v, writer w)
{
    bool tuple = v->kind == HDL_J_TUPLE;
    HDL_TRY(charge(&w, 1));
    HDL_TRY(put_text(&w, tuple ? "(" : "["));
    for (size_t i = 0; i < v->list->n; i++) {
        HDL_TRY(put_text(&w, i ? ", " : ""));
        HDL_TRY(put_repr(&v->list->v[i], w));
    }
    return put_text(&w, !tuple ? "]" : v->list->n == 1 ? ",)" : ")");
}

static hdl_err put_repr_dict(const hdl_jdict *dict, writer w)
{
    HDL_TRY(put_text(&w, "{"));
    for (size_t i = 0; i < dict->n; i++) {
        HDL_TRY(put_text(&w, i ? ", " : ""));
        HDL_TRY(put_repr(&dict->keys[i], w));
        HDL_TRY(put_text(&w, ": "));
        HDL_TRY(put_repr(&dict->values[i], w));
    }
    return put_text(&w, "}");
}

static hdl_err put_repr(const hdl_jval *v, writer w)
{
    if (w.depth++ > NEST_MAX)
        return HDL_BUSY;
    HDL_TRY(charge(&w, 1));
    switch (v->kind) {
    case HDL_J_UNDEFINED: return put_text(&w, "Undefined");
    case HDL_J_NONE: return put_text(&w, "None");
    case HDL_J_BOOL: return put_text(&w, v->b ? "True" : "False");
    case HDL_J_INT:
    case HDL_J_FLOAT: return put_number(v, &w);
    case HDL_J_STRING: return put_repr_string(v->s, &w);
    case HDL_J_LIST:
    case HDL_J_TUPLE: return put_repr_items(v, w);
    case HDL_J_DICT: return put_repr_dict(v->dict, w);
    default: return hdl_buf_printf(w.out, "<%s>", hdl_jval_type(v));
    }
}

hdl_err hdl_jval_str(const hdl_jval *v, hdl_jsteps *steps, hdl_buf *out)
{
    hdl_jsteps own = {0, UINT64_MAX};
    if (v->kind == HDL_J_STRING)
        return hdl_buf_append(out, v->s.p, v->s.len);
    if (v->kind == HDL_J_UNDEFINED)
        return HDL_OK;
    return put_repr(v, (writer){.out = out, .steps = steps ? steps : &own});
}

static hdl_err put_json_char(uint32_t cp, const writer *w)
{
    static const char in[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    const char *found = cp < 0x80 && cp != 0 ? strchr(in, (int)cp) : NULL;
    HDL_TRY(charge(w, found != NULL ? 1 : 5));
    if (found != NULL)
        return hdl_buf_append(w->out, (const char[]){'\\', to[found - in]}, 2);
    if (cp < 0x10000)
        return hdl_buf_printf(w->out, "\\u%04x", cp);
    return hdl_buf_printf(w->out, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
}

static hdl_err put_json_string(hdl_text s, const writer *w)
{
    bool ascii = w->style->ensure_ascii;
    HDL_TRY(charge(w, s.len / 16));
    HDL_TRY(put_text(w, "\""));
    for (size_t at = 0; at < s.len;) {
        size_t start = at;
        while (at < s.len &&
               (is_plain((unsigned char)s.p[at]) || (!ascii && (unsigned char)s.p[at] >= 0x7f)))
            at++;
        HDL_TRY(hdl_buf_append(w->out, s.p + start, at - start));
        if (at < s.len)
            HDL_TRY(put_json_char(hdl_utf8_next(s.p, &at), w));
    }
    return put_text(w, "\"");
}

static hdl_err put_json(const hdl_jval *v, writer w);

static hdl_err line_break(const writer *w, int depth)
{
    if (w->style->indent < 0)
        return HDL_OK;
    int width = w->style->indent * depth;
    HDL_TRY(charge(w, 4 + (size_t)width / 16));
    HDL_TRY(put_text(w, "\n"));
    return hdl_buf_printf(w->out, "%*s", width, "");
}

static hdl_err put_separator(const writer *w, size_t i)
{
    hdl_text separator = w->style->item_separator;
    HDL_TRY(charge(w, separator.len / 64));
    if (i > 0)
        HDL_TRY(hdl_buf_append(w->out, separator.p, separator.len));
    return line_break(w, w->depth);
}

static hdl_err put_json_list(const hdl_jlist *list, writer w)
{
    if (list->n == 0)
        return put_text(&w, "[]");
    HDL_TRY(put_text(&w, "["));
    for (size_t i = 0; i < list->n; i++) {
        HDL_TRY(put_separator(&w, i));
        HDL_TRY(put_json(&list->v[i], w));
    }
    HDL_TRY(line_break(&w, w.depth - 1));
    return put_text(&w, "]");
}

/* Keys that are no strings are written as json.dumps writes them: 1 -> "1", True -> "true". */
static hdl_err put_json_key(const hdl_jval *key, const writer *w)
{
    if (key->kind == HDL_J_STRING) {
        HDL_TRY(put_json_string(key->s, w));
    } else {
        if (key->kind != HDL_J_NONE && key->kind != HDL_J_BOOL && key->kind != HDL_J_INT &&
            key->kind != HDL_J_FLOAT)
            return HDL_INVALID;
        HDL_TRY(put_text(w, "\""));
        HDL_TRY(put_json(key, *w));
        HDL_TRY(put_text(w, "\""));
    }
    hdl_text separator = w->style->key_separator;
    HDL_TRY(charge(w, separator.len / 64));
    return hdl_buf_append(w->out, separator.p, separator.len);
}

typedef struct sorting {
    const hdl_jval *keys;
    hdl_jsteps *steps;
} sorting;

static int by_key(const void *a, const void *b, void *arg)
{
    const sorting *s = arg;
    int order = 0;
    (void)!hdl_jval_order(&s->keys[*(const uint32_t *)a], &s->keys[*(const uint32_t *)b], s->steps,
                          &order);
    return order;
}

static hdl_err put_json_dict(hdl_jdict *dict, writer w)
{
    if (dict->n == 0)
        return put_text(&w, "{}");
    HDL_TRY(charge(&w, 4));
    uint32_t *order = malloc(dict->n * sizeof *order);
    if (order == NULL)
        return HDL_NOMEM;
    for (size_t i = 0; i < dict->n; i++)
        order[i] = (uint32_t)i;
    if (w.style->sort_keys)
        qsort_r(order, dict->n, sizeof *order, by_key, &(sorting){dict->keys, w.steps});
    hdl_err err;
    HDL_TRY_GOTO(put_text(&w, "{"), fail);
    for (size_t i = 0; i < dict->n; i++) {
        HDL_TRY_GOTO(put_separator(&w, i), fail);
        HDL_TRY_GOTO(put_json_key(&dict->keys[order[i]], &w), fail);
        HDL_TRY_GOTO(put_json(&dict->values[order[i]], w), fail);
    }
    HDL_TRY_GOTO(line_break(&w, w.depth - 1), fail);
    err = put_text(&w, "}");
fail:
    free(order);
    return err;
}

static hdl_err put_json(const hdl_jval *v, writer w)
{
    if (w.depth++ > NEST_MAX)
        return HDL_BUSY;
    HDL_TRY(charge(&w, 1));
    switch (v->kind) {
    case HDL_J_NONE: return put_text(&w, "null");
    case HDL_J_BOOL: return put_text(&w, v->b ? "true" : "false");
    case HDL_J_INT: return put_number(v, &w);
    case HDL_J_FLOAT:
        if (isnan(v->f))
            return put_text(&w, "NaN");
        if (isinf(v->f))
            return put_text(&w, v->f < 0 ? "-Infinity" : "Infinity");
        return put_number(v, &w);
    case HDL_J_STRING: return put_json_string(v->s, &w);
    case HDL_J_LIST:
    case HDL_J_TUPLE: return put_json_list(v->list, w);
    case HDL_J_DICT: return put_json_dict(v->dict, w);
    default: return HDL_INVALID;
    }
}

hdl_err hdl_jval_json(const hdl_jval *v, const hdl_jjson_style *style, hdl_jsteps *steps,
                      hdl_buf *out)
{
    hdl_jsteps own = {0, UINT64_MAX};
    return put_json(v, (writer){.out = out, .steps = steps ? steps : &own, .style = style});
}
