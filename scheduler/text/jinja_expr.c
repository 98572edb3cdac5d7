/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions of chat templates, evaluated as Python would. */
#include <string.h>

#include "scheduler/text/jinja_run.h"
#include "scheduler/text/utf8.h"

hdl_err hdl_jto_string(hdl_jrun *run, const hdl_jval *v, hdl_jval *out)
{
    if (v->kind == HDL_J_STRING) {
        *out = *v;
        return HDL_OK;
    }
    hdl_buf text;
    hdl_buf_init(&text, HDL_JRUN_OUTPUT_MAX);
    hdl_err err = hdl_jstep(run, 4); /* a buffer comes and goes */
    if (err == HDL_OK)
        err = hdl_jval_str(v, &run->mem.steps, &text);
    if (err == HDL_OK)
        err = hdl_jstring(&run->mem, (hdl_text){(const char *)hdl_buf_data(&text), text.len}, out);
    hdl_buf_deinit(&text);
    return err;
}

hdl_err hdl_jiterate(hdl_jrun *run, const hdl_jval *v, hdl_jlist **out)
{
    if (v->kind == HDL_J_LIST || v->kind == HDL_J_TUPLE) {
        *out = v->list;
        return hdl_jstep(run, v->list->n);
    }
    if (v->kind == HDL_J_GENERATOR && v->generator->broken != NULL)
        return hdl_jfail(run, HDL_INVALID, "'%s' object is not iterable", v->generator->broken);
    if (v->kind == HDL_J_GENERATOR && v->generator->list != NULL) {
        *out = v->generator->list;
        v->generator->list = NULL; /* a second walk sees nothing */
        return hdl_jstep(run, (*out)->n);
    }
    HDL_TRY(hdl_jlist_new(&run->mem, 0, out));
    if (v->kind == HDL_J_UNDEFINED || v->kind == HDL_J_GENERATOR)
        return HDL_OK;
    if (v->kind == HDL_J_DICT) {
        HDL_TRY(hdl_jstep(run, v->dict->n));
        for (size_t i = 0; i < v->dict->n; i++)
            HDL_TRY(hdl_jlist_push(&run->mem, *out, v->dict->keys[i]));
        return HDL_OK;
    }
    if (v->kind != HDL_J_STRING)
        return hdl_jfail(run, HDL_INVALID, "'%s' object is not iterable", hdl_jval_type(v));
    HDL_TRY(hdl_jstep(run, v->s.len));
    for (size_t at = 0; at < v->s.len;) {
        size_t start = at;
        hdl_utf8_next(v->s.p, &at);
        HDL_TRY(
            hdl_jlist_push(&run->mem, *out, hdl_jslice((hdl_text){v->s.p + start, at - start})));
    }
    return HDL_OK;
}

static hdl_err loop_attr(hdl_jrun *run, const hdl_jloop *loop, const char *name, hdl_jval *out)
{
    (void)run;
    int64_t at = (int64_t)loop->at, n = (int64_t)loop->items->n;
    const struct {
        const char *name;
        hdl_jval value;
    } attrs[] = {
        {"index", hdl_jint(at + 1)},
        {"index0", hdl_jint(at)},
        {"first", hdl_jbool(at == 0)},
        {"last", hdl_jbool(at + 1 == n)},
        {"length", hdl_jint(n)},
        {"revindex", hdl_jint(n - at)},
        {"revindex0", hdl_jint(n - at - 1)},
        {"depth", hdl_jint(1)},
        {"depth0", hdl_jint(0)},
        {"previtem", at > 0 ? loop->items->v[at - 1] : hdl_jundefined("there is no previous item")},
        {"nextitem", at + 1 < n ? loop->items->v[at + 1] : hdl_jundefined("there is no next item")},
    };
    *out = hdl_jundefined(name);
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++)
        if (strcmp(attrs[i].name, name) == 0)
            *out = attrs[i].value;
    return HDL_OK;
}

static hdl_err bind_method(hdl_jrun *run, const hdl_jval *v, const char *name, hdl_jval *out)
{
    const hdl_jfunction *function = hdl_jmethod_find(v, name);
    *out = hdl_jundefined(name);
    if (function == NULL)
        return HDL_OK;
    *out =
        (hdl_jval){.kind = HDL_J_METHOD, .method = hdl_jmem_alloc(&run->mem, sizeof(hdl_jmethod))};
    if (out->method == NULL)
        return HDL_BUSY;
    *out->method = (hdl_jmethod){function, *v};
    return HDL_OK;
}

/* a.name: Jinja asks for an attribute first (a method) and then for an item. */
hdl_err hdl_jattr(hdl_jrun *run, const hdl_jval *v, const char *name, hdl_jval *out)
{
    if (v->kind == HDL_J_UNDEFINED)
        return hdl_jundefined_error(run, v);
    if (v->kind == HDL_J_LOOP)
        return loop_attr(run, v->loop, name, out);
    if (v->kind != HDL_J_NAMESPACE) {
        HDL_TRY(bind_method(run, v, name, out));
        if (out->kind != HDL_J_UNDEFINED || v->kind != HDL_J_DICT)
            return HDL_OK;
    }
    const hdl_jval *item = hdl_jdict_get(v->dict, hdl_jcstr(name), &run->mem.steps);
    *out = item ? *item : hdl_jundefined(name);
    return HDL_OK;
}

/* Character i, from the end where it is negative; leaves *out when there is none. */
static hdl_err char_of(hdl_jrun *run, hdl_text s, int64_t i, hdl_jval *out)
{
    size_t at = i < 0 ? s.len : 0, walk = i < 0 ? (size_t) - (i + 1) + 1 : (size_t)i;
    HDL_TRY(hdl_jstep(run, 1 + (walk < s.len ? walk : s.len) / 16));
    if (i >= 0) {
        at = hdl_jtext_at(s, walk);
    } else {
        for (; walk > 0 && at > 0; walk--)
            at = hdl_utf8_before(s.p, at);
        if (walk > 0)
            return HDL_OK;
    }
    size_t next = at;
    if (at < s.len) {
        hdl_utf8_next(s.p, &next);
        *out = hdl_jslice((hdl_text){s.p + at, next - at});
    }
    return HDL_OK;
}

static hdl_err index_of(hdl_jrun *run, const hdl_jval *v, int64_t i, hdl_jval *out)
{
    *out = hdl_jundefined("an item beyond the end");
    if (v->kind == HDL_J_STRING)
        return char_of(run, v->s, i, out);
    int64_t n = (int64_t)v->list->n;
    if (i < 0)
        i += n;
    if (i >= 0 && i < n)
        *out = v->list->v[i];
    return HDL_OK;
}

enum { ATTR_BYTES_MAX = 64 }; /* no attribute has a longer name */

/* v[key]: an item first, then, for a string key, an attribute. */
hdl_err hdl_jitem(hdl_jrun *run, const hdl_jval *v, const hdl_jval *key, hdl_jval *out)
{
    if (v->kind == HDL_J_UNDEFINED)
        return hdl_jundefined_error(run, v);
    bool whole = key->kind == HDL_J_INT || key->kind == HDL_J_BOOL;
    if (whole && (v->kind == HDL_J_LIST || v->kind == HDL_J_TUPLE || v->kind == HDL_J_STRING))
        return index_of(run, v, key->kind == HDL_J_INT ? key->i : key->b, out);
    if (v->kind == HDL_J_DICT || v->kind == HDL_J_NAMESPACE) {
        const hdl_jval *item = hdl_jdict_get(v->dict, *key, &run->mem.steps);
        if (item != NULL) {
            *out = *item;
            return HDL_OK;
        }
    }
    *out = hdl_jundefined("a missing item");
    if (key->kind != HDL_J_STRING || key->s.len > ATTR_BYTES_MAX)
        return HDL_OK;
    char *name = hdl_jmem_alloc(&run->mem, key->s.len + 1);
    if (name == NULL)
        return HDL_BUSY;
    memcpy(name, key->s.p, key->s.len);
    if (v->kind == HDL_J_LOOP)
        return loop_attr(run, v->loop, name, out);
    return bind_method(run, v, name, out);
}

static hdl_err slice_bound(hdl_jrun *run, const hdl_jnode *node, int64_t *out, bool *given)
{
    hdl_jval v;
    *given = false;
    if (node == NULL)
        return HDL_OK;
    HDL_TRY(hdl_jeval(run, node, &v));
    if (v.kind == HDL_J_NONE)
        return HDL_OK;
    if (v.kind != HDL_J_INT && v.kind != HDL_J_BOOL)
        return hdl_jfail(run, HDL_INVALID, "a slice needs whole numbers, not '%s'",
                         hdl_jval_type(&v));
    *out = v.kind == HDL_J_INT ? v.i : v.b;
    *given = true;
    return HDL_OK;
}

/* Python's slice.indices: clamps to 0..n, or -1..n-1 for a negative step. */
static int64_t clamp_bound(int64_t i, int64_t n, bool backwards)
{
    if (i < 0)
        i = i < -n ? -1 : i + n;
    if (i < 0)
        return backwards ? -1 : 0;
    return i >= n ? (backwards ? n - 1 : n) : i;
}

/* Characters start to stop of a text that has as many: a piece of the same text. */
static hdl_err text_between(hdl_jrun *run, hdl_text s, int64_t start, int64_t stop, hdl_jval *out)
{
    *out = hdl_jslice((hdl_text){s.p, 0});
    if (stop <= start)
        return HDL_OK;
    HDL_TRY(hdl_jstep(run, (size_t)stop / 16));
    size_t from = hdl_jtext_at(s, (size_t)start);
    hdl_text rest = {s.p + from, s.len - from};
    *out = hdl_jslice((hdl_text){rest.p, hdl_jtext_at(rest, (size_t)(stop - start))});
    return HDL_OK;
}

static hdl_err eval_slice(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval v;
    int64_t start = 0, stop = 0, step = 1;
    bool has_start, has_stop, has_step;
    HDL_TRY(hdl_jeval(run, node->a, &v));
    HDL_TRY(slice_bound(run, node->items[0], &start, &has_start));
    HDL_TRY(slice_bound(run, node->items[1], &stop, &has_stop));
    HDL_TRY(slice_bound(run, node->items[2], &step, &has_step));
    if (v.kind == HDL_J_UNDEFINED)
        return hdl_jundefined_error(run, &v);
    if ((v.kind != HDL_J_STRING && v.kind != HDL_J_LIST && v.kind != HDL_J_TUPLE) || step == 0)
        return hdl_jfail(run, HDL_INVALID, "a '%s' cannot be sliced so", hdl_jval_type(&v));
    bool backwards = step < 0, is_text = v.kind == HDL_J_STRING;
    if (is_text)
        HDL_TRY(hdl_jstep(run, 1 + v.s.len / 64));
    int64_t n = (int64_t)(is_text ? hdl_jtext_chars(v.s) : v.list->n);
    start = has_start ? clamp_bound(start, n, backwards) : backwards ? n - 1 : 0;
    stop = has_stop ? clamp_bound(stop, n, backwards) : backwards ? -1 : n;
    if (is_text && step == 1)
        return text_between(run, v.s, start, stop, out);
    hdl_jlist *items, *kept;
    HDL_TRY(hdl_jiterate(run, &v, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &kept));
    for (int64_t i = start; backwards ? i > stop : i < stop; i += step) {
        HDL_TRY(hdl_jlist_push(&run->mem, kept, items->v[i]));
        if (step > n || step < -n)
            break;
    }
    if (v.kind != HDL_J_STRING) {
        *out = (hdl_jval){.kind = v.kind, .list = kept};
        return HDL_OK;
    }
    *out = hdl_jcstr("");
    for (size_t i = 0; i < kept->n; i++)
        HDL_TRY(hdl_jconcat(&run->mem, out->s, kept->v[i].s, out));
    return HDL_OK;
}

static hdl_err call_macro(hdl_jrun *run, const hdl_jmacro *macro, const hdl_jargs *args,
                          hdl_jval *out)
{
    const hdl_jnode *node = macro->node;
    hdl_jframe *outer = run->frame, *frame = hdl_jframe_new(run, macro->frame);
    if (frame == NULL)
        return HDL_BUSY;
    const char *name = node->kind == HDL_JN_MACRO ? node->name : "caller";
    size_t n_positional = 0;
    for (size_t i = 0; i < args->n; i++) {
        const char *keyword = args->names ? args->names[i] : NULL;
        size_t at = 0;
        while (keyword != NULL && at < node->n_items && strcmp(node->items[at]->name, keyword) != 0)
            at++;
        HDL_TRY(hdl_jstep(run, 1 + at / 4));
        if (keyword == NULL)
            at = n_positional++;
        const char *param = at < node->n_items ? node->items[at]->name : NULL;
        if (param == NULL && keyword != NULL && strcmp(keyword, "caller") == 0)
            param = hdl_jnames_find(&run->program->names, (hdl_text){"caller", 6});
        else if (param == NULL)
            return hdl_jfail(run, HDL_INVALID, "macro '%s' takes no %s", name,
                             keyword ? keyword : "more arguments");
        if (param != NULL)
            HDL_TRY(hdl_jframe_set(run, frame, param, args->v[i]));
    }
    run->frame = frame;
    for (size_t i = 0; i < node->n_items; i++) {
        bool given = false;
        HDL_TRY(hdl_jstep(run, 1 + frame->n / 32));
        for (size_t k = 0; k < frame->n; k++)
            given |= frame->names[k] == node->items[i]->name;
        hdl_jval v = hdl_jundefined(node->items[i]->name);
        if (!given && node->items[i]->a != NULL)
            HDL_TRY(hdl_jeval(run, node->items[i]->a, &v));
        if (!given)
            HDL_TRY(hdl_jframe_set(run, frame, node->items[i]->name, v));
    }
    hdl_err err = hdl_jcapture(run, node->body, frame, out);
    run->frame = outer;
    return err;
}

hdl_err hdl_jcall(hdl_jrun *run, const hdl_jval *callee, const hdl_jargs *args, hdl_jval *out)
{
    hdl_jval none = hdl_jnone();
    switch (callee->kind) {
    case HDL_J_MACRO: return call_macro(run, callee->macro, args, out);
    case HDL_J_FUNCTION: return callee->function->call(run, &none, args, out);
    case HDL_J_METHOD: return callee->method->function->call(run, &callee->method->self, args, out);
    case HDL_J_UNDEFINED: return hdl_jundefined_error(run, callee);
    default:
        return hdl_jfail(run, HDL_INVALID, "'%s' object is not callable", hdl_jval_type(callee));
    }
}

/* Arguments evaluated in order, in the render's memory. */
static hdl_err eval_args(hdl_jrun *run, const hdl_jnode *node, hdl_jargs *args)
{
    hdl_jval *v = node->n_items ? hdl_jmem_array(&run->mem, node->n_items, sizeof *v) : NULL;
    if (node->n_items > 0 && v == NULL)
        return HDL_BUSY;
    for (size_t i = 0; i < node->n_items; i++)
        HDL_TRY(hdl_jeval(run, node->items[i], &v[i]));
    *args = (hdl_jargs){v, node->n_items, node->names};
    return HDL_OK;
}

static hdl_err eval_call(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval callee;
    hdl_jargs args;
    HDL_TRY(hdl_jeval(run, node->a, &callee));
    HDL_TRY(eval_args(run, node, &args));
    run->line = node->line;
    return hdl_jcall(run, &callee, &args, out);
}

static hdl_err apply_filter(hdl_jrun *run, const hdl_jnode *node, const hdl_jval *v, hdl_jval *out)
{
    hdl_jargs args;
    hdl_jval input = *v;
    HDL_TRY(eval_args(run, node, &args));
    run->line = node->line;
    if (node->function == NULL)
        return hdl_jfail(run, HDL_UNSUPPORTED, "there is no filter or test '%s'", node->name);
    return node->function->call(run, &input, &args, out);
}

hdl_err hdl_jfilter_chain(hdl_jrun *run, const hdl_jnode *chain, hdl_jval *v)
{
    if (chain->a != NULL) {
        HDL_TRY(hdl_jenter(run));
        HDL_TRY(hdl_jfilter_chain(run, chain->a, v));
        run->depth--;
    }
    return apply_filter(run, chain, v, v);
}

static hdl_err eval_test(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval v;
    HDL_TRY(hdl_jeval(run, node->a, &v));
    return apply_filter(run, node, &v, out);
}

static hdl_err eval_binary(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval a, b;
    HDL_TRY(hdl_jeval(run, node->a, &a));
    HDL_TRY(hdl_jeval(run, node->b, &b));
    run->line = node->line;
    return hdl_jbinary(run, node->op, &a, &b, out);
}

static hdl_err eval_compare(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval left, right;
    bool holds = true;
    HDL_TRY(hdl_jeval(run, node->a, &left));
    for (size_t i = 0; i < node->n_items && holds; i++) {
        HDL_TRY(hdl_jeval(run, node->items[i], &right));
        run->line = node->line;
        HDL_TRY(hdl_jcompare(run, node->ops[i], &left, &right, &holds));
        left = right;
    }
    *out = hdl_jbool(holds);
    return HDL_OK;
}

static hdl_err eval_concat(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval joined = hdl_jcstr("");
    for (size_t i = 0; i < node->n_items; i++) {
        hdl_jval v;
        HDL_TRY(hdl_jeval(run, node->items[i], &v));
        HDL_TRY(hdl_jto_string(run, &v, &v));
        if (i == 0) {
            joined = v;
            continue;
        }
        HDL_TRY(hdl_jconcat(&run->mem, joined.s, v.s, &joined));
    }
    *out = joined;
    return HDL_OK;
}

static hdl_err eval_items(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jlist *list;
    HDL_TRY(hdl_jstep(run, node->n_items)); /* beside what the items themselves take */
    HDL_TRY(hdl_jlist_new(&run->mem, node->n_items, &list));
    for (size_t i = 0; i < node->n_items; i++) {
        hdl_jval v;
        HDL_TRY(hdl_jeval(run, node->items[i], &v));
        HDL_TRY(hdl_jlist_push(&run->mem, list, v));
    }
    *out = (hdl_jval){.kind = node->kind == HDL_JN_LIST ? HDL_J_LIST : HDL_J_TUPLE, .list = list};
    return HDL_OK;
}

static hdl_err eval_dict(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jdict *dict;
    HDL_TRY(hdl_jdict_new(&run->mem, &dict));
    for (size_t i = 0; i + 1 < node->n_items; i += 2) {
        hdl_jval key, v;
        HDL_TRY(hdl_jeval(run, node->items[i], &key));
        HDL_TRY(hdl_jeval(run, node->items[i + 1], &v));
        if (key.kind == HDL_J_LIST || key.kind == HDL_J_DICT)
            return hdl_jfail(run, HDL_INVALID, "a '%s' cannot be a key", hdl_jval_type(&key));
        HDL_TRY(hdl_jdict_set(&run->mem, dict, key, v));
    }
    *out = hdl_jdict_val(dict);
    return HDL_OK;
}

static hdl_err eval_sign(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval v, zero = hdl_jint(0);
    HDL_TRY(hdl_jeval(run, node->a, &v));
    if (v.kind == HDL_J_FLOAT) { /* 0 - 0.0 would lose the sign */
        *out = v;
        out->f = node->kind == HDL_JN_NEG ? -v.f : v.f;
        return HDL_OK;
    }
    return hdl_jbinary(run, node->kind == HDL_JN_NEG ? HDL_JOP_SUB : HDL_JOP_ADD, &zero, &v, out);
}

static hdl_err eval_logic(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    HDL_TRY(hdl_jeval(run, node->a, out));
    if (node->kind == HDL_JN_NOT)
        *out = hdl_jbool(!hdl_jval_true(out));
    else if (node->kind == HDL_JN_COND) {
        const hdl_jnode *branch = hdl_jval_true(out) ? node->b : node->c;
        *out = hdl_jundefined("an if without else");
        return branch ? hdl_jeval(run, branch, out) : HDL_OK;
    } else if (hdl_jval_true(out) == (node->kind == HDL_JN_AND)) {
        return hdl_jeval(run, node->b, out);
    }
    return HDL_OK;
}

static hdl_err eval_one(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    hdl_jval a, b;
    const hdl_jval *found;
    switch (node->kind) {
    case HDL_JN_CONST: *out = node->value; return HDL_OK;
    case HDL_JN_NAME:
        found = hdl_jframe_find(run, node->name);
        *out = found ? *found : hdl_jundefined(node->name);
        return HDL_OK;
    case HDL_JN_LIST:
    case HDL_JN_TUPLE: return eval_items(run, node, out);
    case HDL_JN_DICT: return eval_dict(run, node, out);
    case HDL_JN_ATTR:
        HDL_TRY(hdl_jeval(run, node->a, &a));
        run->line = node->line;
        return hdl_jattr(run, &a, node->name, out);
    case HDL_JN_ITEM:
        HDL_TRY(hdl_jeval(run, node->a, &a));
        HDL_TRY(hdl_jeval(run, node->b, &b));
        run->line = node->line;
        return hdl_jitem(run, &a, &b, out);
    case HDL_JN_SLICE: return eval_slice(run, node, out);
    case HDL_JN_CALL: return eval_call(run, node, out);
    case HDL_JN_FILTER:
    case HDL_JN_TEST: return eval_test(run, node, out);
    case HDL_JN_NOT:
    case HDL_JN_AND:
    case HDL_JN_OR:
    case HDL_JN_COND: return eval_logic(run, node, out);
    case HDL_JN_NEG:
    case HDL_JN_POS: return eval_sign(run, node, out);
    case HDL_JN_COMPARE: return eval_compare(run, node, out);
    case HDL_JN_BINARY: return eval_binary(run, node, out);
    case HDL_JN_CONCAT: return eval_concat(run, node, out);
    default: return HDL_BUG;
    }
}

hdl_err hdl_jeval(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out)
{
    HDL_TRY(hdl_jenter(run));
    hdl_err err = eval_one(run, node, out);
    run->depth--;
    return err;
}
