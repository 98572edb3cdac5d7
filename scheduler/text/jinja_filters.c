/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on single values; those on lists are in jinja_filters_list.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/text/jinja_builtin.h"

/* Jinja makes a string of whatever a text filter gets. */
static hdl_err self_text(hdl_jrun *run, const hdl_jval *self, hdl_jval *out)
{
    return hdl_jto_string(run, self, out);
}

METHOD(f_trim)
{
    hdl_jval arg, text;
    hdl_text chars;
    HDL_TRY(hdl_jargs_bind(run, args, "chars", &arg));
    HDL_TRY(hdl_jarg_text(run, arg.kind == HDL_J_NONE ? &(hdl_jval){.kind = HDL_J_MISSING} : &arg,
                          NULL, &chars));
    HDL_TRY(self_text(run, self, &text));
    *out = text;
    return hdl_jstrip(run, &out->s, chars, HDL_JSTRIP_LEFT | HDL_JSTRIP_RIGHT);
}

static hdl_err recase(hdl_jrun *run, const hdl_jval *self, hdl_jcase how, hdl_jval *out)
{
    hdl_jval text;
    HDL_TRY(self_text(run, self, &text));
    return hdl_jrecase(run, text.s, how, out);
}

METHOD(f_upper)
{
    (void)args;
    return recase(run, self, HDL_JCASE_UPPER, out);
}
METHOD(f_lower)
{
    (void)args;
    return recase(run, self, HDL_JCASE_LOWER, out);
}
METHOD(f_capitalize)
{
    (void)args;
    return recase(run, self, HDL_JCASE_CAPITALIZE, out);
}
METHOD(f_title)
{
    (void)args;
    return recase(run, self, HDL_JCASE_WORDS, out);
}

METHOD(f_string)
{
    (void)args;
    return self_text(run, self, out);
}

METHOD(f_length)
{
    (void)args;
    switch (self->kind) {
    case HDL_J_UNDEFINED: *out = hdl_jint(0); return HDL_OK;
    case HDL_J_STRING:
        *out = hdl_jint((int64_t)hdl_jtext_chars(self->s));
        return hdl_jstep(run, self->s.len / 64);
    case HDL_J_LIST:
    case HDL_J_TUPLE: *out = hdl_jint((int64_t)self->list->n); return HDL_OK;
    case HDL_J_DICT: *out = hdl_jint((int64_t)self->dict->n); return HDL_OK;
    default:
        return hdl_jfail(run, HDL_INVALID, "object of type '%s' has no length",
                         hdl_jval_type(self));
    }
}

METHOD(f_default)
{
    hdl_jval arg[2];
    (void)run;
    HDL_TRY(hdl_jargs_bind(run, args, "default_value,boolean", arg));
    bool use =
        self->kind == HDL_J_UNDEFINED || (hdl_jarg_true(&arg[1], false) && !hdl_jval_true(self));
    *out = !use ? *self : arg[0].kind == HDL_J_MISSING ? hdl_jcstr("") : arg[0];
    return HDL_OK;
}

static hdl_err json_separators(hdl_jrun *run, const hdl_jval *arg, hdl_jjson_style *style)
{
    bool pair = (arg->kind == HDL_J_LIST || arg->kind == HDL_J_TUPLE) && arg->list->n == 2;
    if (arg->kind == HDL_J_MISSING || arg->kind == HDL_J_NONE)
        return HDL_OK;
    if (!pair)
        return hdl_jfail(run, HDL_INVALID, "tojson: separators are a pair of strings");
    HDL_TRY(hdl_jarg_text(run, &arg->list->v[0], "", &style->item_separator));
    return hdl_jarg_text(run, &arg->list->v[1], "", &style->key_separator);
}

/* As transformers defines it: json.dumps without HTML escapes. */
METHOD(f_tojson)
{
    enum { INDENT_MAX = 64 };
    hdl_jval arg[4];
    int64_t indent = -1;
    HDL_TRY(hdl_jargs_bind(run, args, "ensure_ascii,indent,separators,sort_keys", arg));
    if (arg[1].kind != HDL_J_NONE)
        HDL_TRY(hdl_jarg_int(run, &arg[1], -1, &indent));
    if (indent > INDENT_MAX)
        return hdl_jfail(run, HDL_UNSUPPORTED, "tojson: an indent of more than %d", INDENT_MAX);
    hdl_jjson_style style = {.ensure_ascii = hdl_jarg_true(&arg[0], false),
                             .sort_keys = hdl_jarg_true(&arg[3], false),
                             .indent = indent < 0 ? -1 : (int)indent,
                             .item_separator = {", ", 2},
                             .key_separator = {": ", 2}};
    if (indent >= 0)
        style.item_separator.len = 1;
    HDL_TRY(json_separators(run, &arg[2], &style));
    hdl_buf text;
    hdl_buf_init(&text, HDL_JRUN_OUTPUT_MAX);
    hdl_err err = hdl_jval_json(self, &style, &run->mem.steps, &text);
    if (err == HDL_INVALID)
        err = hdl_jfail(run, err, "tojson: a value that JSON cannot hold");
    if (err == HDL_OK)
        err = hdl_jstep(run, 4); /* a buffer comes and goes */
    if (err == HDL_OK)
        err = hdl_jstring(&run->mem, (hdl_text){(const char *)hdl_buf_data(&text), text.len}, out);
    hdl_buf_deinit(&text);
    return err;
}

METHOD(f_replace)
{
    hdl_jval text;
    HDL_TRY(self_text(run, self, &text));
    return hdl_jreplace(run, &text, args, out);
}

METHOD(f_safe)
{
    (void)args;
    HDL_TRY(self_text(run, self, out));
    out->markup = true;
    return HDL_OK;
}

METHOD(f_escape)
{
    (void)args;
    HDL_TRY(self_text(run, self, out));
    return out->markup ? HDL_OK : hdl_jescape(run, out->s, out);
}

static hdl_err add_indent(hdl_jrun *run, const hdl_jval *width, hdl_jval *text)
{
    int64_t n;
    if (width->kind == HDL_J_STRING)
        return hdl_jconcat(&run->mem, text->s, width->s, text);
    HDL_TRY(hdl_jarg_int(run, width, 4, &n));
    HDL_TRY(hdl_jstep(run, n > 0 ? (size_t)n : 0)); /* before the first: n may be anything */
    for (int64_t i = 0; i < n; i++)
        HDL_TRY(hdl_jconcat(&run->mem, text->s, (hdl_text){" ", 1}, text));
    return HDL_OK;
}

/* Every line but the first gets spaces; empty ones only when asked. */
METHOD(f_indent)
{
    hdl_jval arg[3], text, all = hdl_jcstr("");
    HDL_TRY(hdl_jargs_bind(run, args, "width,first,blank", arg));
    HDL_TRY(self_text(run, self, &text));
    const char *p = text.s.p, *end = p + text.s.len;
    for (bool first = true;; first = false) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        const char *line_end = stop ? stop : end;
        bool wanted =
            first ? hdl_jarg_true(&arg[1], false) : hdl_jarg_true(&arg[2], false) || line_end > p;
        if (wanted)
            HDL_TRY(add_indent(run, &arg[0], &all));
        HDL_TRY(hdl_jconcat(&run->mem, all.s,
                            (hdl_text){p, (size_t)(line_end - p) + (stop != NULL)}, &all));
        if (stop == NULL)
            break;
        p = stop + 1;
    }
    *out = all;
    return HDL_OK;
}

/* A generator in Jinja too, so what is wrong shows when it is walked. */
METHOD(f_items)
{
    hdl_jval pairs = {.kind = HDL_J_LIST};
    (void)args;
    if (self->kind == HDL_J_UNDEFINED)
        HDL_TRY(hdl_jlist_new(&run->mem, 0, &pairs.list));
    else if (self->kind == HDL_J_DICT)
        HDL_TRY(hdl_jdict_items(run, self->dict, &pairs));
    return hdl_jgenerate(run, pairs.list, self, out);
}

METHOD(f_abs)
{
    (void)args;
    *out = *self;
    if (self->kind == HDL_J_INT && self->i != INT64_MIN)
        out->i = self->i < 0 ? -self->i : self->i;
    else if (self->kind == HDL_J_FLOAT)
        out->f = fabs(self->f);
    else
        return hdl_jfail(run, HDL_INVALID, "abs: needs a number, not '%s'", hdl_jval_type(self));
    return HDL_OK;
}

/* The number at the start of a whole text; false when there is more or less than that. */
static bool parse_number(hdl_jrun *run, hdl_text s, double *out)
{
    char text[64], *end;
    if (hdl_jstrip(run, &s, (hdl_text){NULL, 0}, HDL_JSTRIP_LEFT | HDL_JSTRIP_RIGHT) != HDL_OK)
        return false;
    if (s.len == 0 || s.len >= sizeof text || strchr("0123456789+-.", s.p[0]) == NULL ||
        memchr(s.p, 'x', s.len) != NULL)
        return false;
    memcpy(text, s.p, s.len);
    text[s.len] = '\0';
    *out = strtod(text, &end);
    return *end == '\0';
}

METHOD(f_int)
{
    hdl_jval arg[2];
    double f;
    HDL_TRY(hdl_jargs_bind(run, args, "default,base", arg));
    if (arg[1].kind != HDL_J_MISSING)
        return hdl_jfail(run, HDL_UNSUPPORTED, "int: a base is not supported");
    *out = arg[0].kind == HDL_J_MISSING ? hdl_jint(0) : arg[0];
    if (self->kind == HDL_J_INT)
        *out = *self;
    else if (hdl_jval_number(self, &f) ||
             (self->kind == HDL_J_STRING && parse_number(run, self->s, &f)))
        if (f > -9e18 && f < 9e18)
            *out = hdl_jint((int64_t)f);
    return hdl_jstep(run, 0);
}

METHOD(f_float)
{
    hdl_jval arg;
    double f;
    HDL_TRY(hdl_jargs_bind(run, args, "default", &arg));
    *out = arg.kind == HDL_J_MISSING ? (hdl_jval){.kind = HDL_J_FLOAT} : arg;
    if (hdl_jval_number(self, &f) || (self->kind == HDL_J_STRING && parse_number(run, self->s, &f)))
        *out = (hdl_jval){.kind = HDL_J_FLOAT, .f = f};
    return hdl_jstep(run, 0);
}

METHOD(f_round)
{
    hdl_jval arg[2];
    int64_t digits;
    double f;
    hdl_text method;
    HDL_TRY(hdl_jargs_bind(run, args, "precision,method", arg));
    HDL_TRY(hdl_jarg_int(run, &arg[0], 0, &digits));
    HDL_TRY(hdl_jarg_text(run, &arg[1], "common", &method));
    if (!hdl_jval_number(self, &f) || digits < 0 || digits > 15)
        return hdl_jfail(run, HDL_INVALID, "round: needs a number and a precision from 0 to 15");
    hdl_jval name = hdl_jslice(method);
    double scale = pow(10, (double)digits), scaled = f * scale;
    f = hdl_jval_is(&name, "ceil")    ? ceil(scaled)
        : hdl_jval_is(&name, "floor") ? floor(scaled)
                                      : nearbyint(scaled);
    *out = (hdl_jval){.kind = HDL_J_FLOAT, .f = f / scale};
    return HDL_OK;
}

METHOD(f_attr)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "name", &arg));
    return hdl_jitem(run, self, &arg, out);
}

static const hdl_jfunction FILTERS[] = {{"trim", f_trim},       {"upper", f_upper},
                                        {"lower", f_lower},     {"capitalize", f_capitalize},
                                        {"title", f_title},     {"string", f_string},
                                        {"length", f_length},   {"count", f_length},
                                        {"default", f_default}, {"d", f_default},
                                        {"tojson", f_tojson},   {"replace", f_replace},
                                        {"safe", f_safe},       {"escape", f_escape},
                                        {"e", f_escape},        {"indent", f_indent},
                                        {"items", f_items},     {"abs", f_abs},
                                        {"int", f_int},         {"float", f_float},
                                        {"round", f_round},     {"attr", f_attr}};

const hdl_jfunction *hdl_jfilter_find(const char *name)
{
    const hdl_jfunction *found = hdl_jfunction_in(FILTERS, HDL_ARRAY_LEN(FILTERS), name);
    return found ? found : hdl_jfunction_in(hdl_jlist_filters, hdl_jlist_filters_n, name);
}
