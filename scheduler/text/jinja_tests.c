/* SPDX-License-Identifier: Apache-2.0 */
/* Tests (`is string`), global functions, and how arguments are bound. */
#include <string.h>

#include "scheduler/text/jinja_builtin.h"
#include "scheduler/text/strftime.h"

hdl_err hdl_jargs_bind(hdl_jrun *run, const hdl_jargs *args, const char *params, hdl_jval *slots)
{
    size_t n = 1;
    for (const char *p = params; *p; p++)
        n += *p == ',';
    for (size_t i = 0; i < n; i++)
        slots[i] = (hdl_jval){.kind = HDL_J_MISSING};
    for (size_t i = 0; i < args->n; i++) {
        const char *name = args->names ? args->names[i] : NULL;
        size_t at = i;
        if (name != NULL) {
            const char *p = params;
            for (at = 0; at < n; at++, p += strcspn(p, ",") + 1)
                if (strcspn(p, ",") == strlen(name) && memcmp(p, name, strlen(name)) == 0)
                    break;
        }
        if (at >= n)
            return hdl_jfail(run, HDL_INVALID,
                             "an argument too many or unknown: %s; (%s) are taken",
                             name ? name : "positional", params);
        slots[at] = args->v[i];
    }
    return HDL_OK;
}

hdl_err hdl_jarg_int(hdl_jrun *run, const hdl_jval *arg, int64_t fallback, int64_t *out)
{
    *out = arg->kind == HDL_J_INT ? arg->i : arg->kind == HDL_J_BOOL ? arg->b : fallback;
    if (arg->kind == HDL_J_MISSING || arg->kind == HDL_J_INT || arg->kind == HDL_J_BOOL)
        return HDL_OK;
    return hdl_jfail(run, HDL_INVALID, "a whole number is wanted, not '%s'", hdl_jval_type(arg));
}

hdl_err hdl_jarg_text(hdl_jrun *run, const hdl_jval *arg, const char *fallback, hdl_text *out)
{
    *out =
        arg->kind == HDL_J_STRING ? arg->s : (hdl_text){fallback, fallback ? strlen(fallback) : 0};
    if (arg->kind == HDL_J_MISSING || arg->kind == HDL_J_STRING)
        return HDL_OK;
    return hdl_jfail(run, HDL_INVALID, "a string is wanted, not '%s'", hdl_jval_type(arg));
}

#define KIND_TEST(name, condition)                                                                 \
    METHOD(name)                                                                                   \
    {                                                                                              \
        (void)run, (void)args;                                                                     \
        hdl_jkind k = self->kind;                                                                  \
        *out = hdl_jbool(condition);                                                               \
        return HDL_OK;                                                                             \
    }

KIND_TEST(is_defined, k != HDL_J_UNDEFINED)
KIND_TEST(is_undefined, k == HDL_J_UNDEFINED)
KIND_TEST(is_none, k == HDL_J_NONE)
KIND_TEST(is_true, k == HDL_J_BOOL && self->b)
KIND_TEST(is_false, k == HDL_J_BOOL && !self->b)
KIND_TEST(is_boolean, k == HDL_J_BOOL)
KIND_TEST(is_integer, k == HDL_J_INT)
KIND_TEST(is_float, k == HDL_J_FLOAT)
KIND_TEST(is_number, k == HDL_J_INT || k == HDL_J_FLOAT || k == HDL_J_BOOL)
KIND_TEST(is_string, k == HDL_J_STRING)
KIND_TEST(is_mapping, k == HDL_J_DICT)
/* Python's Undefined has __iter__ and __len__; a loop has them too. */
KIND_TEST(is_iterable, hdl_jiterable(self) || k == HDL_J_LOOP)
KIND_TEST(is_sequence, k == HDL_J_UNDEFINED || (k >= HDL_J_STRING && k <= HDL_J_DICT))
KIND_TEST(is_callable, k == HDL_J_MACRO || k == HDL_J_FUNCTION || k == HDL_J_METHOD)

static hdl_err integer(hdl_jrun *run, const hdl_jval *v, int64_t *out)
{
    if (v->kind != HDL_J_INT && v->kind != HDL_J_BOOL)
        return hdl_jfail(run, HDL_INVALID, "a whole number is wanted, not '%s'", hdl_jval_type(v));
    *out = v->kind == HDL_J_INT ? v->i : v->b;
    return HDL_OK;
}

METHOD(is_odd)
{
    int64_t i = 0;
    (void)args;
    HDL_TRY(integer(run, self, &i));
    *out = hdl_jbool(i % 2 != 0);
    return HDL_OK;
}

METHOD(is_even)
{
    HDL_TRY(is_odd(run, self, args, out));
    out->b = !out->b;
    return HDL_OK;
}

METHOD(is_divisibleby)
{
    hdl_jval arg;
    int64_t i = 0, by = 0;
    HDL_TRY(hdl_jargs_bind(run, args, "num", &arg));
    HDL_TRY(integer(run, self, &i));
    HDL_TRY(integer(run, &arg, &by));
    if (by == 0)
        return hdl_jfail(run, HDL_INVALID, "division by zero");
    *out = hdl_jbool(by == -1 || i % by == 0);
    return HDL_OK;
}

METHOD(is_eq)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "other", &arg));
    *out = hdl_jbool(false);
    return hdl_jequal(run, self, &arg, &out->b);
}

METHOD(is_ne)
{
    HDL_TRY(is_eq(run, self, args, out));
    out->b = !out->b;
    return HDL_OK;
}

METHOD(is_sameas)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "other", &arg));
    *out = hdl_jbool(false);
    return self->kind == arg.kind ? hdl_jequal(run, self, &arg, &out->b) : HDL_OK;
}

METHOD(is_in)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "seq", &arg));
    *out = hdl_jbool(false);
    return hdl_jcontains(run, &arg, self, &out->b);
}

static hdl_err ordered(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, int *order)
{
    hdl_jval arg;
    HDL_TRY(hdl_jargs_bind(run, args, "other", &arg));
    return hdl_jorder(run, self, &arg, order);
}

#define ORDER_TEST(name, condition)                                                                \
    METHOD(name)                                                                                   \
    {                                                                                              \
        int order;                                                                                 \
        HDL_TRY(ordered(run, self, args, &order));                                                 \
        *out = hdl_jbool(order condition 0);                                                       \
        return HDL_OK;                                                                             \
    }

ORDER_TEST(is_lt, <)
ORDER_TEST(is_le, <=)
ORDER_TEST(is_gt, >)
ORDER_TEST(is_ge, >=)

static hdl_err same_when_recased(hdl_jrun *run, const hdl_jval *self, hdl_jcase how, hdl_jval *out)
{
    hdl_jval text, changed, other;
    HDL_TRY(hdl_jto_string(run, self, &text));
    HDL_TRY(hdl_jrecase(run, text.s, how, &changed));
    HDL_TRY(hdl_jrecase(run, text.s, how == HDL_JCASE_LOWER ? HDL_JCASE_UPPER : HDL_JCASE_LOWER,
                        &other));
    bool same, caseless;
    HDL_TRY(hdl_jequal(run, &text, &changed, &same));
    HDL_TRY(hdl_jequal(run, &changed, &other, &caseless));
    *out = hdl_jbool(same && !caseless);
    return HDL_OK;
}

METHOD(is_lower)
{
    (void)args;
    return same_when_recased(run, self, HDL_JCASE_LOWER, out);
}
METHOD(is_upper)
{
    (void)args;
    return same_when_recased(run, self, HDL_JCASE_UPPER, out);
}

static const hdl_jfunction TESTS[] = {{"defined", is_defined},
                                      {"undefined", is_undefined},
                                      {"none", is_none},
                                      {"true", is_true},
                                      {"false", is_false},
                                      {"boolean", is_boolean},
                                      {"integer", is_integer},
                                      {"float", is_float},
                                      {"number", is_number},
                                      {"string", is_string},
                                      {"mapping", is_mapping},
                                      {"iterable", is_iterable},
                                      {"sequence", is_sequence},
                                      {"callable", is_callable},
                                      {"odd", is_odd},
                                      {"even", is_even},
                                      {"divisibleby", is_divisibleby},
                                      {"eq", is_eq},
                                      {"equalto", is_eq},
                                      {"==", is_eq},
                                      {"ne", is_ne},
                                      {"!=", is_ne},
                                      {"sameas", is_sameas},
                                      {"in", is_in},
                                      {"lt", is_lt},
                                      {"lessthan", is_lt},
                                      {"<", is_lt},
                                      {"le", is_le},
                                      {"<=", is_le},
                                      {"gt", is_gt},
                                      {"greaterthan", is_gt},
                                      {">", is_gt},
                                      {"ge", is_ge},
                                      {">=", is_ge},
                                      {"lower", is_lower},
                                      {"upper", is_upper}};

const hdl_jfunction *hdl_jtest_find(const char *name)
{
    return hdl_jfunction_in(TESTS, HDL_ARRAY_LEN(TESTS), name);
}

/* namespace(**members) and dict(**members); one positional dictionary is copied first. */
static hdl_err make_dict(hdl_jrun *run, const hdl_jargs *args, hdl_jkind kind, hdl_jval *out)
{
    hdl_jdict *dict;
    HDL_TRY(hdl_jdict_new(&run->mem, &dict));
    for (size_t i = 0; i < args->n; i++) {
        const char *name = args->names ? args->names[i] : NULL;
        if (name != NULL) {
            HDL_TRY(hdl_jdict_set(&run->mem, dict, hdl_jcstr(name), args->v[i]));
            continue;
        }
        if (args->v[i].kind != HDL_J_DICT)
            return hdl_jfail(run, HDL_UNSUPPORTED,
                             "namespace and dict take keywords or a dictionary");
        const hdl_jdict *from = args->v[i].dict;
        HDL_TRY(hdl_jstep(run, from->n));
        for (size_t k = 0; k < from->n; k++)
            HDL_TRY(hdl_jdict_set(&run->mem, dict, from->keys[k], from->values[k]));
    }
    *out = (hdl_jval){.kind = kind, .dict = dict};
    return HDL_OK;
}

METHOD(global_namespace)
{
    (void)self;
    return make_dict(run, args, HDL_J_NAMESPACE, out);
}
METHOD(global_dict)
{
    (void)self;
    return make_dict(run, args, HDL_J_DICT, out);
}

METHOD(global_range)
{
    hdl_jval arg[3];
    int64_t start, stop, step;
    (void)self;
    HDL_TRY(hdl_jargs_bind(run, args, "start,stop,step", arg));
    if (arg[0].kind == HDL_J_MISSING)
        return hdl_jfail(run, HDL_INVALID, "range: needs a number");
    HDL_TRY(hdl_jarg_int(run, &arg[0], 0, &start));
    HDL_TRY(hdl_jarg_int(run, &arg[1], 0, &stop));
    HDL_TRY(hdl_jarg_int(run, &arg[2], 1, &step));
    if (arg[1].kind == HDL_J_MISSING) {
        stop = start;
        start = 0;
    }
    if (step == 0)
        return hdl_jfail(run, HDL_INVALID, "range: the step must not be 0");
    hdl_jlist *list;
    HDL_TRY(hdl_jlist_new(&run->mem, 0, &list));
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (list->n == HDL_JRUN_RANGE_MAX)
            return hdl_jlimit(run, "a range of more than %d items", HDL_JRUN_RANGE_MAX);
        HDL_TRY(hdl_jstep(run, 1));
        HDL_TRY(hdl_jlist_push(&run->mem, list, hdl_jint(i)));
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    *out = hdl_jlist_val(list);
    return HDL_OK;
}

/* The template's own refusal: its words go to the client as they are. */
METHOD(global_raise)
{
    hdl_jval arg, text;
    (void)self, (void)out;
    HDL_TRY(hdl_jargs_bind(run, args, "message", &arg));
    HDL_TRY(hdl_jto_string(run, &arg, &text));
    return hdl_fail(HDL_INVALID, run->why, "the chat template refuses: %.*s",
                    (int)(text.s.len < 400 ? text.s.len : 400), text.s.p);
}

METHOD(global_strftime_now)
{
    hdl_jval arg;
    hdl_text format;
    (void)self;
    HDL_TRY(hdl_jargs_bind(run, args, "format", &arg));
    HDL_TRY(hdl_jarg_text(run, &arg, "", &format));
    HDL_TRY(hdl_jstep(run, 16 + 4 * format.len));
    hdl_buf text;
    hdl_buf_init(&text, 4096);
    hdl_err err = hdl_strftime(run->now_wall_us, format, &text);
    if (err == HDL_UNSUPPORTED)
        err = hdl_jfail(run, err, "strftime_now(\"%.*s\"): a directive is not supported",
                        (int)format.len, format.p);
    if (err == HDL_OK)
        err = hdl_jstring(&run->mem, (hdl_text){(const char *)hdl_buf_data(&text), text.len}, out);
    hdl_buf_deinit(&text);
    return err;
}

static const hdl_jfunction GLOBALS[] = {{"namespace", global_namespace},
                                        {"dict", global_dict},
                                        {"range", global_range},
                                        {"raise_exception", global_raise},
                                        {"strftime_now", global_strftime_now}};

const hdl_jfunction *hdl_jglobal_find(const char *name)
{
    return hdl_jfunction_in(GLOBALS, HDL_ARRAY_LEN(GLOBALS), name);
}
