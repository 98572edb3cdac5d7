/* SPDX-License-Identifier: Apache-2.0 */
/* Methods of strings, lists and dictionaries. Those that change their object are missing, as in
 * Jinja's immutable sandbox. */
#include <string.h>

#include "scheduler/text/jinja_builtin.h"
#include "scheduler/text/utf8.h"

/* True when the character at p[at..] is one of `chars`; with chars.p NULL: white space. */
static bool in_set(uint32_t cp, hdl_text chars)
{
    if (chars.p == NULL)
        return hdl_jspace(cp);
    for (size_t at = 0; at < chars.len;)
        if (hdl_utf8_next(chars.p, &at) == cp)
            return true;
    return false;
}

/* Takes the character at `at` off; false: it is none of chars, or the steps are used up. */
static bool strips(hdl_jrun *run, hdl_text s, size_t *at, hdl_text chars)
{
    size_t cost = chars.p == NULL || chars.len <= 8 ? *at % 4 == 0 : chars.len / 8;
    return hdl_jsteps_add(&run->mem.steps, cost) && in_set(hdl_utf8_next(s.p, at), chars);
}

hdl_err hdl_jstrip(hdl_jrun *run, hdl_text *s, hdl_text chars, unsigned ends)
{
    size_t from = 0, to = s->len;
    for (size_t at = 0; (ends & HDL_JSTRIP_LEFT) && at < to && strips(run, *s, &at, chars);)
        from = at;
    while ((ends & HDL_JSTRIP_RIGHT) && to > from) {
        size_t start = hdl_utf8_before(s->p, to), at = start;
        if (!strips(run, *s, &at, chars))
            break;
        to = start;
    }
    *s = (hdl_text){s->p + from, to - from};
    return hdl_jstep(run, 0);
}

/* An optional argument that may be None: p is NULL then. */
static hdl_err optional_text(hdl_jrun *run, const hdl_jval *arg, hdl_text *out)
{
    *out = (hdl_text){NULL, 0};
    return arg->kind == HDL_J_NONE ? HDL_OK : hdl_jarg_text(run, arg, NULL, out);
}

static hdl_err strip_with(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, unsigned ends,
                          hdl_jval *out)
{
    hdl_jval arg;
    hdl_text chars;
    HDL_TRY(hdl_jargs_bind(run, args, "chars", &arg));
    HDL_TRY(optional_text(run, &arg, &chars));
    *out = hdl_jslice(self->s);
    return hdl_jstrip(run, &out->s, chars, ends);
}

METHOD(str_strip) { return strip_with(run, self, args, HDL_JSTRIP_LEFT | HDL_JSTRIP_RIGHT, out); }
METHOD(str_lstrip) { return strip_with(run, self, args, HDL_JSTRIP_LEFT, out); }
METHOD(str_rstrip) { return strip_with(run, self, args, HDL_JSTRIP_RIGHT, out); }

static hdl_err push_text(hdl_jrun *run, hdl_jlist *list, const char *from, const char *to)
{
    HDL_TRY(hdl_jstep(run, 1));
    return hdl_jlist_push(&run->mem, list, hdl_jslice((hdl_text){from, (size_t)(to - from)}));
}

/* Words between runs of white space. */
static hdl_err split_space(hdl_jrun *run, hdl_text s, int64_t max, hdl_jlist *list)
{
    const char *end = s.p + s.len;
    HDL_TRY(hdl_jstep(run, s.len / 8));
    for (hdl_text rest = hdl_jtrim(s, true, false); rest.len > 0;) {
        size_t at = 0, stop = 0;
        if (max >= 0 && (int64_t)list->n == max)
            return push_text(run, list, rest.p, end);
        while (at < rest.len && !hdl_jspace(hdl_utf8_next(rest.p, &at)))
            stop = at;
        HDL_TRY(push_text(run, list, rest.p, rest.p + stop));
        rest = hdl_jtrim((hdl_text){rest.p + stop, rest.len - stop}, true, false);
    }
    return HDL_OK;
}

static hdl_err split_at(hdl_jrun *run, hdl_text s, hdl_text sep, int64_t max, hdl_jlist *list)
{
    const char *from = s.p, *end = s.p + s.len;
    while (max < 0 || (int64_t)list->n < max) {
        const char *hit;
        HDL_TRY(hdl_jfind(run, (hdl_text){from, (size_t)(end - from)}, sep, &hit));
        if (hit == NULL)
            break;
        HDL_TRY(push_text(run, list, from, hit));
        from = hit + sep.len;
    }
    return push_text(run, list, from, end);
}

static hdl_err rsplit_at(hdl_jrun *run, hdl_text s, hdl_text sep, int64_t max, hdl_jlist *list)
{
    const char *end = s.p + s.len;
    while (max < 0 || (int64_t)list->n < max) {
        const char *hit;
        HDL_TRY(hdl_jfind_last(run, (hdl_text){s.p, (size_t)(end - s.p)}, sep, &hit));
        if (hit == NULL)
            break;
        HDL_TRY(push_text(run, list, hit + sep.len, end));
        end = hit;
    }
    HDL_TRY(push_text(run, list, s.p, end));
    for (size_t i = 0, j = list->n - 1; i < j; i++, j--) {
        hdl_jval v = list->v[i];
        list->v[i] = list->v[j];
        list->v[j] = v;
    }
    return HDL_OK;
}

static hdl_err split_with(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args,
                          bool from_right, hdl_jval *out)
{
    hdl_jval arg[2];
    hdl_text sep;
    int64_t max;
    hdl_jlist *list;
    HDL_TRY(hdl_jargs_bind(run, args, "sep,maxsplit", arg));
    HDL_TRY(optional_text(run, &arg[0], &sep));
    HDL_TRY(hdl_jarg_int(run, &arg[1], -1, &max));
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &list));
    *out = hdl_jlist_val(list);
    if (sep.p != NULL && sep.len == 0)
        return hdl_jfail(run, HDL_INVALID, "split: empty separator");
    if (sep.p == NULL && from_right && max >= 0)
        return hdl_jfail(run, HDL_UNSUPPORTED,
                         "rsplit at white space with a limit is not supported");
    if (sep.p == NULL)
        return split_space(run, self->s, max, list);
    return from_right ? rsplit_at(run, self->s, sep, max, list)
                      : split_at(run, self->s, sep, max, list);
}

METHOD(str_split) { return split_with(run, self, args, false, out); }
METHOD(str_rsplit) { return split_with(run, self, args, true, out); }

METHOD(str_splitlines)
{
    hdl_jval keep;
    hdl_jlist *list;
    HDL_TRY(hdl_jargs_bind(run, args, "keepends", &keep));
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &list));
    HDL_TRY(hdl_jstep(run, self->s.len / 8 + 1));
    const char *p = self->s.p;
    size_t from = 0;
    for (size_t at = 0; at < self->s.len;) {
        size_t start = at;
        uint32_t c = hdl_utf8_next(p, &at);
        if (!((c >= 0xa && c <= 0xd) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
              c == 0x2029))
            continue;
        if (c == '\r' && at < self->s.len && p[at] == '\n')
            at++;
        HDL_TRY(push_text(run, list, p + from, p + (hdl_jarg_true(&keep, false) ? at : start)));
        from = at;
    }
    if (from < self->s.len)
        HDL_TRY(push_text(run, list, p + from, p + self->s.len));
    *out = hdl_jlist_val(list);
    return HDL_OK;
}

static bool affix(hdl_text s, hdl_text part, bool at_end)
{
    return part.len <= s.len &&
           memcmp(s.p + (at_end ? s.len - part.len : 0), part.p, part.len) == 0;
}

/* One text or a tuple of them. */
static hdl_err affix_test(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, bool at_end,
                          hdl_jval *out)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "prefix", &arg));
    bool tuple = arg.kind == HDL_J_TUPLE, found = false;
    for (size_t i = 0; i < (tuple ? arg.list->n : 1) && !found; i++) {
        hdl_text part;
        HDL_TRY(hdl_jarg_text(run, tuple ? &arg.list->v[i] : &arg, NULL, &part));
        if (part.p == NULL)
            return hdl_jfail(run, HDL_INVALID, "startswith and endswith need a string");
        HDL_TRY(hdl_jstep(run, 1 + part.len / 64));
        found = affix(self->s, part, at_end);
    }
    *out = hdl_jbool(found);
    return HDL_OK;
}

METHOD(str_startswith) { return affix_test(run, self, args, false, out); }
METHOD(str_endswith) { return affix_test(run, self, args, true, out); }

static hdl_err remove_affix(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, bool at_end,
                            hdl_jval *out)
{
    hdl_jval arg;
    hdl_text part;
    HDL_TRY(hdl_jargs_bind(run, args, "prefix", &arg));
    HDL_TRY(hdl_jarg_text(run, &arg, "", &part));
    HDL_TRY(hdl_jstep(run, part.len / 64));
    *out = *self;
    if (affix(self->s, part, at_end))
        *out = hdl_jslice((hdl_text){self->s.p + (at_end ? 0 : part.len), self->s.len - part.len});
    return HDL_OK;
}

METHOD(str_removeprefix) { return remove_affix(run, self, args, false, out); }
METHOD(str_removesuffix) { return remove_affix(run, self, args, true, out); }

hdl_err hdl_jreplace(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, hdl_jval *out)
{
    hdl_jval arg[3];
    hdl_text old, new;
    int64_t count;
    HDL_TRY(hdl_jargs_bind(run, args, "old,new,count", arg));
    HDL_TRY(hdl_jarg_text(run, &arg[0], NULL, &old));
    HDL_TRY(hdl_jarg_text(run, &arg[1], NULL, &new));
    HDL_TRY(hdl_jarg_int(
        run, arg[2].kind == HDL_J_NONE ? &(hdl_jval){.kind = HDL_J_MISSING} : &arg[2], -1, &count));
    if (old.p == NULL || new.p == NULL)
        return hdl_jfail(run, HDL_INVALID, "replace: needs two strings");
    hdl_jval text = hdl_jcstr("");
    const char *from = self->s.p, *end = self->s.p + self->s.len;
    for (size_t at = 0; count != 0; count--) {
        const char *hit;
        HDL_TRY(hdl_jfind(run, (hdl_text){from + at, (size_t)(end - from) - at}, old, &hit));
        if (hit == NULL)
            break;
        HDL_TRY(hdl_jconcat(&run->mem, text.s, (hdl_text){from, (size_t)(hit - from)}, &text));
        HDL_TRY(hdl_jconcat(&run->mem, text.s, new, &text));
        from = hit + old.len;
        at = 0;
        if (old.len > 0)
            continue;
        if (from == end)
            break;
        hdl_utf8_next(from, &at); /* the empty text stands before every character */
    }
    HDL_TRY(hdl_jconcat(&run->mem, text.s, (hdl_text){from, (size_t)(end - from)}, out));
    return HDL_OK;
}

METHOD(str_replace) { return hdl_jreplace(run, self, args, out); }

METHOD(str_upper)
{
    (void)args;
    return hdl_jrecase(run, self->s, HDL_JCASE_UPPER, out);
}
METHOD(str_lower)
{
    (void)args;
    return hdl_jrecase(run, self->s, HDL_JCASE_LOWER, out);
}
METHOD(str_capitalize)
{
    (void)args;
    return hdl_jrecase(run, self->s, HDL_JCASE_CAPITALIZE, out);
}
METHOD(str_title)
{
    (void)args;
    return hdl_jrecase(run, self->s, HDL_JCASE_TITLE, out);
}

static hdl_err find_in(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, bool from_right,
                       hdl_jval *out)
{
    hdl_jval arg;
    hdl_text part;
    HDL_TRY(hdl_jargs_bind(run, args, "sub", &arg));
    HDL_TRY(hdl_jarg_text(run, &arg, "", &part));
    const char *hit;
    HDL_TRY(from_right ? hdl_jfind_last(run, self->s, part, &hit)
                       : hdl_jfind(run, self->s, part, &hit));
    hdl_text before = {self->s.p, hit ? (size_t)(hit - self->s.p) : 0};
    HDL_TRY(hdl_jstep(run, before.len / 64));
    *out = hdl_jint(hit ? (int64_t)hdl_jtext_chars(before) : -1);
    return HDL_OK;
}

METHOD(str_find) { return find_in(run, self, args, false, out); }
METHOD(str_rfind) { return find_in(run, self, args, true, out); }

METHOD(str_count)
{
    hdl_jval arg;
    hdl_text part;
    HDL_TRY(hdl_jargs_bind(run, args, "sub", &arg));
    HDL_TRY(hdl_jarg_text(run, &arg, "", &part));
    HDL_TRY(hdl_jstep(run, self->s.len / 64));
    int64_t n = part.len == 0 ? (int64_t)hdl_jtext_chars(self->s) + 1 : 0;
    const char *end = self->s.p + self->s.len, *hit = part.len == 0 ? NULL : self->s.p;
    for (hdl_text rest = self->s; hit != NULL; n += hit != NULL) {
        HDL_TRY(hdl_jfind(run, rest, part, &hit));
        if (hit != NULL)
            rest = (hdl_text){hit + part.len, (size_t)(end - hit) - part.len};
    }
    *out = hdl_jint(n);
    return HDL_OK;
}

METHOD(str_join)
{
    hdl_jval arg;
    hdl_jlist *items;
    HDL_TRY(hdl_jargs_bind(run, args, "iterable", &arg));
    HDL_TRY(hdl_jiterate(run, &arg, &items));
    *out = hdl_jcstr("");
    for (size_t i = 0; i < items->n; i++) {
        if (items->v[i].kind != HDL_J_STRING)
            return hdl_jfail(run, HDL_INVALID, "join: item %zu is no string", i);
        if (i > 0)
            HDL_TRY(hdl_jconcat(&run->mem, out->s, self->s, out));
        HDL_TRY(hdl_jconcat(&run->mem, out->s, items->v[i].s, out));
    }
    return HDL_OK;
}

/* {} {0} {name}; nothing behind a colon. */
METHOD(str_format)
{
    hdl_jval text = hdl_jcstr("");
    size_t next = 0;
    HDL_TRY(hdl_jstep(run, self->s.len / 16));
    for (size_t at = 0; at < self->s.len;) {
        const char *p = self->s.p + at, *end = self->s.p + self->s.len;
        size_t plain = 0;
        while (p + plain < end && p[plain] != '{' && p[plain] != '}')
            plain++;
        bool twice = plain == 0 && p + 1 < end && p[0] == p[1];
        if (twice || plain > 0) {
            HDL_TRY(hdl_jconcat(&run->mem, text.s, (hdl_text){p, twice ? 1 : plain}, &text));
            at += twice ? 2 : plain;
            continue;
        }
        const char *close = memchr(p, '}', (size_t)(end - p));
        hdl_text field = {p + 1, close ? (size_t)(close - p - 1) : 0};
        size_t i = args->n;
        if (*p == '}' || close == NULL || memchr(field.p, ':', field.len) != NULL)
            return hdl_jfail(run, HDL_UNSUPPORTED, "format: only {}, {0} and {name} are supported");
        if (field.len == 0)
            i = next++;
        else if (field.len == 1 && *field.p >= '0' && *field.p <= '9')
            i = (size_t)(*field.p - '0');
        else
            for (i = 0; i < args->n; i++)
                if (args->names != NULL && args->names[i] != NULL &&
                    strlen(args->names[i]) == field.len &&
                    memcmp(args->names[i], field.p, field.len) == 0)
                    break;
        if (i >= args->n)
            return hdl_jfail(run, HDL_INVALID, "format: no argument for {%.*s}", (int)field.len,
                             field.p);
        hdl_jval v;
        HDL_TRY(hdl_jto_string(run, &args->v[i], &v));
        HDL_TRY(hdl_jstep(run, 1 + i / 2));
        HDL_TRY(hdl_jconcat(&run->mem, text.s, v.s, &text));
        at += field.len + 2;
    }
    *out = text;
    return HDL_OK;
}

/* Every character of a not empty text is of a kind. */
static hdl_err all_chars(hdl_jrun *run, hdl_text s, bool (*is)(uint32_t cp), hdl_jval *out)
{
    bool all = s.len > 0;
    HDL_TRY(hdl_jstep(run, s.len / 8));
    for (size_t at = 0; at < s.len && all;)
        all = is(hdl_utf8_next(s.p, &at));
    *out = hdl_jbool(all);
    return HDL_OK;
}

static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }
static bool is_alpha(uint32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0xc0;
}
static bool is_alnum(uint32_t c) { return is_digit(c) || is_alpha(c); }

METHOD(str_isdigit)
{
    (void)args;
    return all_chars(run, self->s, is_digit, out);
}
METHOD(str_isalpha)
{
    (void)args;
    return all_chars(run, self->s, is_alpha, out);
}
METHOD(str_isalnum)
{
    (void)args;
    return all_chars(run, self->s, is_alnum, out);
}
METHOD(str_isspace)
{
    (void)args;
    return all_chars(run, self->s, hdl_jspace, out);
}

METHOD(list_index)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "value", &arg));
    HDL_TRY(hdl_jstep(run, self->list->n));
    for (size_t i = 0; i < self->list->n; i++) {
        bool equal;
        HDL_TRY(hdl_jequal(run, &self->list->v[i], &arg, &equal));
        *out = hdl_jint((int64_t)i);
        if (equal)
            return HDL_OK;
    }
    return hdl_jfail(run, HDL_INVALID, "index: the value is not in the list");
}

METHOD(list_count)
{
    hdl_jval arg;
    int64_t n = 0;
    HDL_TRY(hdl_jargs_bind(run, args, "value", &arg));
    HDL_TRY(hdl_jstep(run, self->list->n));
    for (size_t i = 0; i < self->list->n; i++)
        n += hdl_jval_equal(&self->list->v[i], &arg, &run->mem.steps);
    *out = hdl_jint(n);
    return hdl_jstep(run, 0);
}

hdl_err hdl_jdict_items(hdl_jrun *run, const hdl_jdict *dict, hdl_jval *out)
{
    hdl_jlist *list;
    HDL_TRY(hdl_jstep(run, dict->n));
    HDL_TRY(hdl_jlist_new(&run->mem, dict->n, &list));
    for (size_t i = 0; i < dict->n; i++) {
        hdl_jval pair = {.kind = HDL_J_TUPLE};
        HDL_TRY(hdl_jlist_new(&run->mem, 2, &pair.list));
        HDL_TRY(hdl_jlist_push(&run->mem, pair.list, dict->keys[i]));
        HDL_TRY(hdl_jlist_push(&run->mem, pair.list, dict->values[i]));
        HDL_TRY(hdl_jlist_push(&run->mem, list, pair));
    }
    *out = hdl_jlist_val(list);
    return HDL_OK;
}

METHOD(dict_items)
{
    (void)args;
    return hdl_jdict_items(run, self->dict, out);
}

static hdl_err copy_list(hdl_jrun *run, const hdl_jval *v, size_t n, hdl_jval *out)
{
    hdl_jlist *list;
    HDL_TRY(hdl_jstep(run, n));
    HDL_TRY(hdl_jlist_new(&run->mem, n, &list));
    for (size_t i = 0; i < n; i++)
        HDL_TRY(hdl_jlist_push(&run->mem, list, v[i]));
    *out = hdl_jlist_val(list);
    return HDL_OK;
}

METHOD(dict_keys)
{
    (void)args;
    return copy_list(run, self->dict->keys, self->dict->n, out);
}
METHOD(dict_values)
{
    (void)args;
    return copy_list(run, self->dict->values, self->dict->n, out);
}

METHOD(dict_get)
{
    hdl_jval arg[2];
    HDL_TRY(hdl_jargs_bind(run, args, "key,default", arg));
    const hdl_jval *v = hdl_jdict_get(self->dict, arg[0], &run->mem.steps);
    *out = v ? *v : arg[1].kind == HDL_J_MISSING ? hdl_jnone() : arg[1];
    return hdl_jstep(run, 0);
}

static const hdl_jfunction STR_METHODS[] = {{"strip", str_strip},
                                            {"lstrip", str_lstrip},
                                            {"rstrip", str_rstrip},
                                            {"split", str_split},
                                            {"rsplit", str_rsplit},
                                            {"splitlines", str_splitlines},
                                            {"startswith", str_startswith},
                                            {"endswith", str_endswith},
                                            {"removeprefix", str_removeprefix},
                                            {"removesuffix", str_removesuffix},
                                            {"replace", str_replace},
                                            {"upper", str_upper},
                                            {"lower", str_lower},
                                            {"capitalize", str_capitalize},
                                            {"title", str_title},
                                            {"find", str_find},
                                            {"rfind", str_rfind},
                                            {"count", str_count},
                                            {"join", str_join},
                                            {"format", str_format},
                                            {"isdigit", str_isdigit},
                                            {"isalpha", str_isalpha},
                                            {"isalnum", str_isalnum},
                                            {"isspace", str_isspace}};
static const hdl_jfunction LIST_METHODS[] = {{"index", list_index}, {"count", list_count}};
static const hdl_jfunction DICT_METHODS[] = {
    {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"get", dict_get}};

const hdl_jfunction *hdl_jmethod_find(const hdl_jval *self, const char *name)
{
    switch (self->kind) {
    case HDL_J_STRING: return hdl_jfunction_in(STR_METHODS, HDL_ARRAY_LEN(STR_METHODS), name);
    case HDL_J_LIST:
    case HDL_J_TUPLE: return hdl_jfunction_in(LIST_METHODS, HDL_ARRAY_LEN(LIST_METHODS), name);
    case HDL_J_DICT: return hdl_jfunction_in(DICT_METHODS, HDL_ARRAY_LEN(DICT_METHODS), name);
    default: return NULL;
    }
}
