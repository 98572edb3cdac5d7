/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on lists. */
#include <string.h>

#include "scheduler/text/jinja_builtin.h"

bool hdl_jiterable(const hdl_jval *v)
{
    return v->kind == HDL_J_UNDEFINED || (v->kind >= HDL_J_STRING && v->kind <= HDL_J_GENERATOR);
}

hdl_err hdl_jgenerate(hdl_jrun *run, hdl_jlist *list, const hdl_jval *v, hdl_jval *out)
{
    hdl_jgenerator *generator = hdl_jmem_alloc(&run->mem, sizeof *generator);
    if (generator == NULL)
        return HDL_BUSY;
    generator->list = list;
    generator->broken = list ? NULL : hdl_jval_type(v);
    *out = (hdl_jval){.kind = HDL_J_GENERATOR, .generator = generator};
    return HDL_OK;
}

METHOD(f_list)
{
    hdl_jlist *items, *copy;
    (void)args;
    HDL_TRY(hdl_jiterate(run, self, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, items->n, &copy));
    for (size_t i = 0; i < items->n; i++)
        HDL_TRY(hdl_jlist_push(&run->mem, copy, items->v[i]));
    *out = hdl_jlist_val(copy);
    return HDL_OK;
}

METHOD(f_first)
{
    hdl_jlist *items;
    (void)args;
    HDL_TRY(hdl_jiterate(run, self, &items));
    *out = items->n ? items->v[0] : hdl_jundefined("the first item of nothing");
    return HDL_OK;
}

METHOD(f_last)
{
    hdl_jlist *items;
    (void)args;
    HDL_TRY(hdl_jiterate(run, self, &items));
    *out = items->n ? items->v[items->n - 1] : hdl_jundefined("the last item of nothing");
    return HDL_OK;
}

METHOD(f_reverse)
{
    hdl_jlist *items, *list;
    (void)args;
    HDL_TRY(hdl_jiterate(run, self, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, items->n, &list));
    for (size_t i = items->n; i-- > 0;)
        HDL_TRY(hdl_jlist_push(&run->mem, list, items->v[i]));
    if (self->kind != HDL_J_STRING)
        return hdl_jgenerate(run, list, self, out);
    *out = hdl_jcstr("");
    for (size_t i = 0; i < list->n; i++)
        HDL_TRY(hdl_jconcat(&run->mem, out->s, list->v[i].s, out));
    return HDL_OK;
}

/* What an attribute path ("a.b", "0") finds in an item; an absent path is the item itself. */
static hdl_err get_path(hdl_jrun *run, const hdl_jval *item, const hdl_jval *path, hdl_jval *out)
{
    *out = *item;
    if (path->kind == HDL_J_MISSING || path->kind == HDL_J_NONE)
        return HDL_OK;
    if (path->kind == HDL_J_INT)
        return hdl_jitem(run, item, path, out);
    hdl_text rest;
    HDL_TRY(hdl_jarg_text(run, path, "", &rest));
    while (rest.len > 0) {
        const char *dot = memchr(rest.p, '.', rest.len);
        hdl_text part = {rest.p, dot ? (size_t)(dot - rest.p) : rest.len};
        bool number = part.len > 0 && part.len < 9;
        int64_t index = 0;
        for (size_t i = 0; i < part.len && number; i++) {
            number = part.p[i] >= '0' && part.p[i] <= '9';
            index = index * 10 + (part.p[i] - '0');
        }
        hdl_jval key = number ? hdl_jint(index) : hdl_jslice(part), next;
        HDL_TRY(hdl_jstep(run, 2 + part.len / 64));
        HDL_TRY(hdl_jitem(run, out, &key, &next));
        *out = next;
        rest = (hdl_text){part.p + part.len + (dot != NULL), rest.len - part.len - (dot != NULL)};
    }
    return HDL_OK;
}

METHOD(f_join)
{
    hdl_jval arg[2], v, text;
    hdl_jlist *items;
    hdl_text sep;
    HDL_TRY(hdl_jargs_bind(run, args, "d,attribute", arg));
    HDL_TRY(hdl_jarg_text(run, &arg[0], "", &sep));
    HDL_TRY(hdl_jiterate(run, self, &items));
    *out = hdl_jcstr("");
    for (size_t i = 0; i < items->n; i++) {
        HDL_TRY(get_path(run, &items->v[i], &arg[1], &v));
        HDL_TRY(hdl_jto_string(run, &v, &text));
        if (i > 0)
            HDL_TRY(hdl_jconcat(&run->mem, out->s, sep, out));
        HDL_TRY(hdl_jconcat(&run->mem, out->s, text.s, out));
    }
    return HDL_OK;
}

/* A name given as an argument: the test or filter that select and map apply. */
static hdl_err function_name(hdl_jrun *run, const hdl_jval *arg, const char **out)
{
    hdl_text name;
    HDL_TRY(hdl_jarg_text(run, arg, "", &name));
    HDL_TRY(hdl_jstep(run, name.len / 64));
    *out = hdl_pool_arena_copy(&run->mem.arena, name.p, name.len);
    return *out ? HDL_OK : HDL_BUSY;
}

/* Jinja's select and map take every false value for an empty list: None too. */
static hdl_err walk_if_true(hdl_jrun *run, const hdl_jval *v, hdl_jlist **items)
{
    return hdl_jval_true(v) ? hdl_jiterate(run, v, items) : hdl_jlist_new(&run->mem, 0, items);
}

typedef struct selection {
    bool by_attribute, wanted;
} selection;

/* select, reject, selectattr, rejectattr: (attribute,) test, arguments of the test. */
static hdl_err select_items(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args,
                            selection how, hdl_jval *out)
{
    hdl_jval path = {.kind = HDL_J_MISSING};
    hdl_jargs rest = *args;
    const hdl_jfunction *test = NULL;
    hdl_jlist *items, *kept;
    if (args->names != NULL)
        for (size_t i = 0; i < args->n; i++)
            if (args->names[i] != NULL)
                return hdl_jfail(run, HDL_UNSUPPORTED,
                                 "select: keyword arguments are not supported");
    if (how.by_attribute) {
        if (rest.n == 0)
            return hdl_jfail(run, HDL_INVALID, "selectattr: needs an attribute");
        path = rest.v[0];
        rest = (hdl_jargs){rest.v + 1, rest.n - 1, NULL};
    }
    if (rest.n > 0) {
        const char *name;
        HDL_TRY(function_name(run, &rest.v[0], &name));
        test = hdl_jtest_find(name);
        if (test == NULL)
            return hdl_jfail(run, HDL_UNSUPPORTED, "select: there is no test '%.64s'", name);
        rest = (hdl_jargs){rest.v + 1, rest.n - 1, NULL};
    }
    if (hdl_jval_true(self) && !hdl_jiterable(self))
        return hdl_jgenerate(run, NULL, self, out);
    HDL_TRY(walk_if_true(run, self, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &kept));
    for (size_t i = 0; i < items->n; i++) {
        hdl_jval v, pass;
        HDL_TRY(hdl_jstep(run, 1));
        HDL_TRY(get_path(run, &items->v[i], &path, &v));
        pass = v;
        if (test != NULL)
            HDL_TRY(test->call(run, &v, &rest, &pass));
        if (hdl_jval_true(&pass) == how.wanted)
            HDL_TRY(hdl_jlist_push(&run->mem, kept, items->v[i]));
    }
    return hdl_jgenerate(run, kept, self, out);
}

METHOD(f_select) { return select_items(run, self, args, (selection){false, true}, out); }
METHOD(f_reject) { return select_items(run, self, args, (selection){false, false}, out); }
METHOD(f_selectattr) { return select_items(run, self, args, (selection){true, true}, out); }
METHOD(f_rejectattr) { return select_items(run, self, args, (selection){true, false}, out); }

/* map(attribute='a', default=x), or map('filter', arguments). */
METHOD(f_map)
{
    hdl_jlist *items, *list;
    bool by_attribute = args->n > 0 && args->names != NULL && args->names[0] != NULL;
    hdl_jval arg[2];
    const hdl_jfunction *filter = NULL;
    hdl_jargs rest = {0};
    if (by_attribute) {
        HDL_TRY(hdl_jargs_bind(run, args, "attribute,default", arg));
    } else {
        const char *name;
        if (args->n == 0)
            return hdl_jfail(run, HDL_INVALID, "map: needs a filter or an attribute");
        HDL_TRY(function_name(run, &args->v[0], &name));
        filter = hdl_jfilter_find(name);
        if (filter == NULL)
            return hdl_jfail(run, HDL_UNSUPPORTED, "map: there is no filter '%.64s'", name);
        rest = (hdl_jargs){args->v + 1, args->n - 1, args->names ? args->names + 1 : NULL};
    }
    if (hdl_jval_true(self) && !hdl_jiterable(self))
        return hdl_jgenerate(run, NULL, self, out);
    HDL_TRY(walk_if_true(run, self, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, items->n, &list));
    for (size_t i = 0; i < items->n; i++) {
        hdl_jval v;
        HDL_TRY(hdl_jstep(run, 1));
        if (filter != NULL)
            HDL_TRY(filter->call(run, &items->v[i], &rest, &v));
        else
            HDL_TRY(get_path(run, &items->v[i], &arg[0], &v));
        if (filter == NULL && v.kind == HDL_J_UNDEFINED && arg[1].kind != HDL_J_MISSING)
            v = arg[1];
        HDL_TRY(hdl_jlist_push(&run->mem, list, v));
    }
    return hdl_jgenerate(run, list, self, out);
}

/* What sort, min, max and unique compare: the attribute, without case unless asked. */
static hdl_err sort_key(hdl_jrun *run, const hdl_jval *item, const hdl_jval *path,
                        bool case_sensitive, hdl_jval *out)
{
    HDL_TRY(get_path(run, item, path, out));
    if (out->kind == HDL_J_STRING && !case_sensitive)
        return hdl_jrecase(run, out->s, HDL_JCASE_LOWER, out);
    return HDL_OK;
}

/* Stable merge sort of items by keys; what has no order is an error, as in Python. */
static hdl_err merge_sort(hdl_jrun *run, hdl_jval *keys, hdl_jval *items, size_t n, bool reverse)
{
    hdl_jval *k = hdl_jmem_array(&run->mem, n + 1, sizeof *k);
    hdl_jval *v = hdl_jmem_array(&run->mem, n + 1, sizeof *v);
    if (k == NULL || v == NULL)
        return HDL_BUSY;
    for (size_t width = 1; width < n; width *= 2) {
        HDL_TRY(hdl_jstep(run, n));
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n,
                   hi = lo + 2 * width < n ? lo + 2 * width : n;
            for (size_t a = lo, b = mid, at = lo; at < hi; at++) {
                int order = a < mid ? -1 : 1;
                if (a < mid && b < hi)
                    HDL_TRY(hdl_jorder(run, &keys[a], &keys[b], &order));
                bool left = a < mid && (b >= hi || (reverse ? order >= 0 : order <= 0));
                k[at] = left ? keys[a] : keys[b];
                v[at] = left ? items[a++] : items[b++];
            }
        }
        memcpy(keys, k, n * sizeof *k);
        memcpy(items, v, n * sizeof *v);
    }
    return HDL_OK;
}

METHOD(f_sort)
{
    hdl_jval arg[3];
    hdl_jlist *keys;
    HDL_TRY(hdl_jargs_bind(run, args, "reverse,case_sensitive,attribute", arg));
    HDL_TRY(f_list(run, self, &(hdl_jargs){0}, out));
    HDL_TRY(hdl_jlist_new(&run->mem, out->list->n, &keys));
    for (size_t i = 0; i < out->list->n; i++) {
        hdl_jval key;
        HDL_TRY(sort_key(run, &out->list->v[i], &arg[2], hdl_jarg_true(&arg[1], false), &key));
        HDL_TRY(hdl_jlist_push(&run->mem, keys, key));
    }
    return merge_sort(run, keys->v, out->list->v, keys->n, hdl_jarg_true(&arg[0], false));
}

METHOD(f_dictsort)
{
    hdl_jval arg[3];
    hdl_jlist *keys;
    HDL_TRY(hdl_jargs_bind(run, args, "case_sensitive,by,reverse", arg));
    if (self->kind != HDL_J_DICT)
        return hdl_jfail(run, HDL_INVALID, "dictsort: needs a mapping, not '%s'",
                         hdl_jval_type(self));
    hdl_jval path = hdl_jint(hdl_jval_is(&arg[1], "value") ? 1 : 0);
    HDL_TRY(hdl_jdict_items(run, self->dict, out));
    HDL_TRY(hdl_jlist_new(&run->mem, out->list->n, &keys));
    for (size_t i = 0; i < out->list->n; i++) {
        hdl_jval key;
        HDL_TRY(sort_key(run, &out->list->v[i], &path, hdl_jarg_true(&arg[0], false), &key));
        HDL_TRY(hdl_jlist_push(&run->mem, keys, key));
    }
    return merge_sort(run, keys->v, out->list->v, keys->n, hdl_jarg_true(&arg[2], false));
}

static hdl_err extreme(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, bool largest,
                       hdl_jval *out)
{
    hdl_jval arg[2], best = {.kind = HDL_J_MISSING};
    hdl_jlist *items;
    HDL_TRY(hdl_jargs_bind(run, args, "case_sensitive,attribute", arg));
    HDL_TRY(hdl_jiterate(run, self, &items));
    *out = hdl_jundefined("the least or greatest of nothing");
    for (size_t i = 0; i < items->n; i++) {
        hdl_jval key;
        int order = 0;
        HDL_TRY(sort_key(run, &items->v[i], &arg[1], hdl_jarg_true(&arg[0], false), &key));
        if (i > 0)
            HDL_TRY(hdl_jorder(run, &key, &best, &order));
        if (i == 0 || (largest ? order > 0 : order < 0)) {
            best = key;
            *out = items->v[i];
        }
    }
    return HDL_OK;
}

METHOD(f_min) { return extreme(run, self, args, false, out); }
METHOD(f_max) { return extreme(run, self, args, true, out); }

METHOD(f_unique)
{
    hdl_jval arg[2];
    hdl_jlist *items, *kept;
    hdl_jdict *seen;
    HDL_TRY(hdl_jargs_bind(run, args, "case_sensitive,attribute", arg));
    HDL_TRY(hdl_jiterate(run, self, &items));
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &kept));
    HDL_TRY(hdl_jdict_new(&run->mem, &seen));
    for (size_t i = 0; i < items->n; i++) {
        hdl_jval key;
        HDL_TRY(sort_key(run, &items->v[i], &arg[1], hdl_jarg_true(&arg[0], false), &key));
        if (hdl_jdict_get(seen, key, &run->mem.steps) != NULL)
            continue;
        HDL_TRY(hdl_jdict_set(&run->mem, seen, key, hdl_jnone()));
        HDL_TRY(hdl_jlist_push(&run->mem, kept, items->v[i]));
    }
    return hdl_jgenerate(run, kept, self, out);
}

METHOD(f_sum)
{
    hdl_jval arg[2];
    hdl_jlist *items;
    HDL_TRY(hdl_jargs_bind(run, args, "attribute,start", arg));
    HDL_TRY(hdl_jiterate(run, self, &items));
    *out = arg[1].kind == HDL_J_MISSING ? hdl_jint(0) : arg[1];
    for (size_t i = 0; i < items->n; i++) {
        hdl_jval v, total;
        HDL_TRY(get_path(run, &items->v[i], &arg[0], &v));
        HDL_TRY(hdl_jbinary(run, HDL_JOP_ADD, out, &v, &total));
        *out = total;
    }
    return HDL_OK;
}

const hdl_jfunction hdl_jlist_filters[] = {{"list", f_list},
                                           {"first", f_first},
                                           {"last", f_last},
                                           {"reverse", f_reverse},
                                           {"join", f_join},
                                           {"select", f_select},
                                           {"reject", f_reject},
                                           {"selectattr", f_selectattr},
                                           {"rejectattr", f_rejectattr},
                                           {"map", f_map},
                                           {"sort", f_sort},
                                           {"dictsort", f_dictsort},
                                           {"min", f_min},
                                           {"max", f_max},
                                           {"unique", f_unique},
                                           {"sum", f_sum}};
const size_t hdl_jlist_filters_n = HDL_ARRAY_LEN(hdl_jlist_filters);
