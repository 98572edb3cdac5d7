/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/jinja_value.h"

#include <string.h>

#include "base/hash.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

enum { INDEX_FROM = 16, NEST_MAX = 128 };

hdl_err hdl_jlist_new(hdl_jmem *mem, size_t room, hdl_jlist **out)
{
    hdl_jlist *list = hdl_jmem_alloc(mem, sizeof *list);
    if (list != NULL && room > 0) {
        list->v = hdl_jmem_array(mem, room, sizeof *list->v);
        list->size = room;
    }
    if (list == NULL || (room > 0 && list->v == NULL))
        return HDL_BUSY;
    *out = list;
    return HDL_OK;
}

hdl_err hdl_jlist_push(hdl_jmem *mem, hdl_jlist *list, hdl_jval v)
{
    if (list->n == list->size) {
        size_t size = list->size ? 2 * list->size : 8;
        hdl_jval *bigger = hdl_jmem_array(mem, size, sizeof *bigger);
        if (bigger == NULL)
            return HDL_BUSY;
        if (list->n > 0)
            memcpy(bigger, list->v, list->n * sizeof *bigger);
        list->v = bigger;
        list->size = size;
    }
    list->v[list->n++] = v;
    return HDL_OK;
}

hdl_err hdl_jdict_new(hdl_jmem *mem, hdl_jdict **out)
{
    *out = hdl_jmem_alloc(mem, sizeof **out);
    return *out ? HDL_OK : HDL_BUSY;
}

static size_t slot_of(const hdl_jdict *dict, hdl_text key)
{
    return (size_t)hdl_hash_bytes(key.p, key.len, 1) & (dict->n_slots - 1);
}

static void index_key(hdl_jdict *dict, size_t i)
{
    if (dict->keys[i].kind != HDL_J_STRING)
        return;
    size_t at = slot_of(dict, dict->keys[i].s);
    while (dict->slots[at] != 0)
        at = (at + 1) & (dict->n_slots - 1);
    dict->slots[at] = (uint32_t)i + 1;
}

static hdl_err grow_dict(hdl_jmem *mem, hdl_jdict *dict)
{
    size_t size = dict->size ? 2 * dict->size : 8;
    hdl_jval *keys = hdl_jmem_array(mem, size, sizeof *keys);
    hdl_jval *values = hdl_jmem_array(mem, size, sizeof *values);
    if (keys == NULL || values == NULL)
        return HDL_BUSY;
    if (dict->n > 0) {
        memcpy(keys, dict->keys, dict->n * sizeof *keys);
        memcpy(values, dict->values, dict->n * sizeof *values);
    }
    dict->keys = keys;
    dict->values = values;
    dict->size = size;
    if (size <= INDEX_FROM)
        return HDL_OK;
    dict->n_slots = 2 * size;
    dict->slots = hdl_jmem_array(mem, dict->n_slots, sizeof *dict->slots);
    if (dict->slots == NULL || !hdl_jsteps_add(&mem->steps, dict->n))
        return HDL_BUSY;
    for (size_t i = 0; i < dict->n; i++)
        index_key(dict, i);
    return HDL_OK;
}

static bool same_text(hdl_text a, hdl_text b, hdl_jsteps *steps)
{
    return a.len == b.len && hdl_jsteps_add(steps, a.len / 64) && memcmp(a.p, b.p, a.len) == 0;
}

hdl_jval *hdl_jdict_get(const hdl_jdict *dict, hdl_jval key, hdl_jsteps *steps)
{
    hdl_jsteps own = {0, UINT64_MAX};
    steps = steps ? steps : &own;
    if (dict->slots != NULL && key.kind == HDL_J_STRING) {
        if (!hdl_jsteps_add(steps, 1 + key.s.len / 64))
            return NULL;
        for (size_t at = slot_of(dict, key.s); dict->slots[at] != 0;
             at = (at + 1) & (dict->n_slots - 1)) {
            size_t i = dict->slots[at] - 1;
            if (same_text(dict->keys[i].s, key.s, steps))
                return &dict->values[i];
            if (!hdl_jsteps_add(steps, 1))
                return NULL;
        }
        return NULL;
    }
    for (size_t i = 0; i < dict->n; i++)
        if (hdl_jval_equal(&dict->keys[i], &key, steps))
            return &dict->values[i];
    return NULL;
}

hdl_err hdl_jdict_set(hdl_jmem *mem, hdl_jdict *dict, hdl_jval key, hdl_jval value)
{
    hdl_jval *old = hdl_jdict_get(dict, key, &mem->steps);
    if (!hdl_jsteps_add(&mem->steps, 0))
        return HDL_BUSY;
    if (old != NULL) {
        *old = value;
        return HDL_OK;
    }
    if (dict->n == dict->size)
        HDL_TRY(grow_dict(mem, dict));
    dict->keys[dict->n] = key;
    dict->values[dict->n] = value;
    if (dict->slots != NULL)
        index_key(dict, dict->n);
    dict->n++;
    return HDL_OK;
}

static hdl_err json_array(hdl_jmem *mem, const hdl_jv *json, hdl_jval *out)
{
    hdl_jlist *list;
    HDL_TRY(hdl_jlist_new(mem, hdl_jv_len(json), &list));
    for (size_t i = 0; i < hdl_jv_len(json); i++) {
        hdl_jv item = hdl_jv_at(json, i);
        hdl_jval v;
        HDL_TRY(hdl_jval_of_json(mem, &item, &v));
        HDL_TRY(hdl_jlist_push(mem, list, v));
    }
    *out = hdl_jlist_val(list);
    return HDL_OK;
}

static hdl_err json_object(hdl_jmem *mem, const hdl_jv *json, hdl_jval *out)
{
    hdl_jdict *dict;
    void *iter = NULL;
    HDL_TRY(hdl_jdict_new(mem, &dict));
    for (hdl_jv member; hdl_jv_next(json, &iter, &member);) {
        hdl_jval key, v;
        HDL_TRY(hdl_jstring(mem, (hdl_text){member.key, strlen(member.key)}, &key));
        HDL_TRY(hdl_jval_of_json(mem, &member, &v));
        HDL_TRY(hdl_jdict_set(mem, dict, key, v));
    }
    *out = hdl_jdict_val(dict);
    return HDL_OK;
}

/* Depth is bounded by the JSON reader. */
hdl_err hdl_jval_of_json(hdl_jmem *mem, const hdl_jv *json, hdl_jval *out)
{
    const hdl_jv_range any = {INT64_MIN, INT64_MAX};
    hdl_text text;
    *out = hdl_jnone();
    switch (hdl_jv_kind(json)) {
    case HDL_JSON_NULL: return HDL_OK;
    case HDL_JSON_BOOL: out->kind = HDL_J_BOOL; return hdl_jv_bool(json, &out->b, NULL);
    case HDL_JSON_INT: out->kind = HDL_J_INT; return hdl_jv_int(json, any, &out->i, NULL);
    case HDL_JSON_REAL: out->kind = HDL_J_FLOAT; return hdl_jv_double(json, &out->f, NULL);
    case HDL_JSON_STRING:
        HDL_TRY(hdl_jv_string(json, &text.p, &text.len, NULL));
        return hdl_jstring(mem, text, out);
    case HDL_JSON_ARRAY: return json_array(mem, json, out);
    case HDL_JSON_OBJECT: return json_object(mem, json, out);
    }
    return HDL_BUG;
}

hdl_jval hdl_jcstr(const char *text) { return hdl_jslice((hdl_text){text, strlen(text)}); }

hdl_jval hdl_jundefined(const char *name)
{
    return (hdl_jval){.kind = HDL_J_UNDEFINED, .s = {name, strlen(name)}};
}

bool hdl_jval_is(const hdl_jval *v, const char *text)
{
    size_t len = strlen(text);
    return v->kind == HDL_J_STRING && v->s.len == len && memcmp(v->s.p, text, len) == 0;
}

bool hdl_jval_true(const hdl_jval *v)
{
    switch (v->kind) {
    case HDL_J_UNDEFINED:
    case HDL_J_NONE: return false;
    case HDL_J_BOOL: return v->b;
    case HDL_J_INT: return v->i != 0;
    case HDL_J_FLOAT: return v->f < 0 || v->f > 0 || v->f != v->f;
    case HDL_J_STRING: return v->s.len > 0;
    case HDL_J_LIST:
    case HDL_J_TUPLE: return v->list->n > 0;
    case HDL_J_DICT: return v->dict->n > 0;
    default: return true;
    }
}

bool hdl_jval_number(const hdl_jval *v, double *out)
{
    if (v->kind == HDL_J_BOOL)
        *out = v->b;
    else if (v->kind == HDL_J_INT)
        *out = (double)v->i;
    else if (v->kind == HDL_J_FLOAT)
        *out = v->f;
    else
        return false;
    return true;
}

const char *hdl_jval_type(const hdl_jval *v)
{
    static const char *const names[] = {"Undefined", "NoneType",  "bool",      "int",
                                        "float",     "str",       "list",      "tuple",
                                        "dict",      "generator", "Namespace", "LoopContext",
                                        "Macro",     "function",  "method",    "missing"};
    return names[v->kind];
}

/* A template can nest lists without end (`ns.x = [ns.x]`): beyond a depth that no message has,
 * values count as unequal. */
typedef struct compare {
    hdl_jsteps *steps;
    int depth;
} compare;

static bool equal(const hdl_jval *a, const hdl_jval *b, compare c);

static bool equal_items(const hdl_jval *a, const hdl_jval *b, compare c)
{
    if (a->kind == HDL_J_DICT) {
        if (a->dict->n != b->dict->n)
            return false;
        for (size_t i = 0; i < a->dict->n; i++) {
            const hdl_jval *other = hdl_jdict_get(b->dict, a->dict->keys[i], c.steps);
            if (other == NULL || !equal(&a->dict->values[i], other, c))
                return false;
        }
        return true;
    }
    if (a->list->n != b->list->n)
        return false;
    for (size_t i = 0; i < a->list->n; i++)
        if (!equal(&a->list->v[i], &b->list->v[i], c))
            return false;
    return true;
}

static bool equal(const hdl_jval *a, const hdl_jval *b, compare c)
{
    double x, y;
    if (!hdl_jsteps_add(c.steps, 1))
        return false;
    if (a->kind == HDL_J_INT && b->kind == HDL_J_INT)
        return a->i == b->i;
    if (hdl_jval_number(a, &x) && hdl_jval_number(b, &y))
        return x <= y && x >= y;
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case HDL_J_UNDEFINED:
    case HDL_J_NONE: return true;
    case HDL_J_STRING: return same_text(a->s, b->s, c.steps);
    case HDL_J_LIST:
    case HDL_J_TUPLE:
    case HDL_J_DICT:
        return c.depth < NEST_MAX && equal_items(a, b, (compare){c.steps, c.depth + 1});
    default: return a->list == b->list; /* identity */
    }
}

bool hdl_jval_equal(const hdl_jval *a, const hdl_jval *b, hdl_jsteps *steps)
{
    hdl_jsteps own = {0, UINT64_MAX};
    return equal(a, b, (compare){steps ? steps : &own, 0});
}

static hdl_err order(const hdl_jval *a, const hdl_jval *b, compare c, int *out)
{
    double x, y;
    if (!hdl_jsteps_add(c.steps, 1))
        return HDL_BUSY;
    if (a->kind == HDL_J_INT && b->kind == HDL_J_INT) {
        *out = (a->i > b->i) - (a->i < b->i);
        return HDL_OK;
    }
    if (hdl_jval_number(a, &x) && hdl_jval_number(b, &y)) {
        *out = (x > y) - (x < y);
        return HDL_OK;
    }
    if (a->kind == HDL_J_STRING && b->kind == HDL_J_STRING) {
        /* The order of UTF-8 bytes is that of code points. */
        size_t both = a->s.len < b->s.len ? a->s.len : b->s.len;
        if (!hdl_jsteps_add(c.steps, both / 64))
            return HDL_BUSY;
        int bytes = memcmp(a->s.p, b->s.p, both);
        *out = bytes != 0 ? bytes : (a->s.len > b->s.len) - (a->s.len < b->s.len);
        return HDL_OK;
    }
    if (c.depth == NEST_MAX || a->kind != b->kind ||
        (a->kind != HDL_J_LIST && a->kind != HDL_J_TUPLE))
        return HDL_INVALID;
    for (size_t i = 0; i < a->list->n && i < b->list->n; i++) {
        if (hdl_jval_equal(&a->list->v[i], &b->list->v[i], c.steps))
            continue;
        return order(&a->list->v[i], &b->list->v[i], (compare){c.steps, c.depth + 1}, out);
    }
    *out = (a->list->n > b->list->n) - (a->list->n < b->list->n);
    return HDL_OK;
}

hdl_err hdl_jval_order(const hdl_jval *a, const hdl_jval *b, hdl_jsteps *steps, int *out)
{
    hdl_jsteps own = {0, UINT64_MAX};
    return order(a, b, (compare){steps ? steps : &own, 0}, out);
}

size_t hdl_jtext_chars(hdl_text text)
{
    size_t n = text.len, i = 0;
    for (; i + 8 <= text.len; i += 8) { /* less the bytes 10xxxxxx, eight at once */
        uint64_t v;
        memcpy(&v, text.p + i, 8);
        n -= (size_t)__builtin_popcountll(v >> 7 & ~v >> 6 & 0x0101010101010101u);
    }
    for (; i < text.len; i++)
        n -= ((unsigned char)text.p[i] & 0xc0) == 0x80;
    return n;
}

size_t hdl_jtext_at(hdl_text text, size_t chars)
{
    size_t at = 0;
    while (chars-- > 0 && at < text.len)
        hdl_utf8_next(text.p, &at);
    return at;
}

bool hdl_jspace(uint32_t cp) { return (cp >= 0x1c && cp <= 0x1f) || hdl_unicode_is_space(cp); }

hdl_text hdl_jtrim(hdl_text text, bool left, bool right)
{
    while (left && text.len > 0) {
        size_t at = 0;
        if (!hdl_jspace(hdl_utf8_next(text.p, &at)))
            break;
        text = (hdl_text){text.p + at, text.len - at};
    }
    while (right && text.len > 0) {
        size_t start = hdl_utf8_before(text.p, text.len), at = start;
        if (!hdl_jspace(hdl_utf8_next(text.p, &at)))
            break;
        text.len = start;
    }
    return text;
}
