/* SPDX-License-Identifier: Apache-2.0 */
/* Operators of chat templates on values: arithmetic, repetition, comparison, membership. */
#include <math.h>
#include <string.h>

#include "scheduler/text/jinja_run.h"

hdl_err hdl_jundefined_error(hdl_jrun *run, const hdl_jval *v)
{
    return hdl_jfail(run, HDL_INVALID, "'%.*s' is undefined", (int)v->s.len, v->s.p);
}

hdl_err hdl_joperand_error(hdl_jrun *run, const char *op, const hdl_jval *a, const hdl_jval *b)
{
    if (a->kind == HDL_J_UNDEFINED || b->kind == HDL_J_UNDEFINED)
        return hdl_jundefined_error(run, a->kind == HDL_J_UNDEFINED ? a : b);
    return hdl_jfail(run, HDL_INVALID, "unsupported operand types for %s: '%s' and '%s'", op,
                     hdl_jval_type(a), hdl_jval_type(b));
}

/* Place by place where the part's first byte stands, each paid for: quick for any text that people
 * write, and stopped where it would be quadratic. */
static hdl_err find(hdl_jrun *run, hdl_text in, hdl_text part, bool last, const char **hit)
{
    const char *from = in.p, *end = in.p + (part.len > in.len ? 0 : in.len - part.len + 1);
    size_t quarters = 4; /* of a step */
    *hit = part.len > 0 ? NULL : last ? in.p + in.len : in.p;
    while (part.len > 0 && from < end) {
        size_t n = (size_t)(end - from);
        const char *p = last ? memrchr(from, part.p[0], n) : memchr(from, part.p[0], n);
        size_t passed = p == NULL ? n : (size_t)(last ? end - p : p - from);
        quarters += 2 + part.len / 16 + passed / 32;
        HDL_TRY(hdl_jstep(run, quarters / 4));
        quarters %= 4;
        if (p == NULL)
            return HDL_OK;
        if (memcmp(p, part.p, part.len) == 0) {
            *hit = p;
            return HDL_OK;
        }
        from = last ? from : p + 1;
        end = last ? p : end;
    }
    return hdl_jstep(run, 1);
}

hdl_err hdl_jfind(hdl_jrun *run, hdl_text in, hdl_text part, const char **hit)
{
    return find(run, in, part, false, hit);
}

hdl_err hdl_jfind_last(hdl_jrun *run, hdl_text in, hdl_text part, const char **hit)
{
    return find(run, in, part, true, hit);
}

hdl_err hdl_jequal(hdl_jrun *run, const hdl_jval *a, const hdl_jval *b, bool *out)
{
    *out = hdl_jval_equal(a, b, &run->mem.steps);
    return hdl_jstep(run, 0);
}

hdl_err hdl_jorder(hdl_jrun *run, const hdl_jval *a, const hdl_jval *b, int *out)
{
    hdl_err err = hdl_jval_order(a, b, &run->mem.steps, out);
    HDL_TRY(hdl_jstep(run, 0));
    if (err == HDL_OK)
        return HDL_OK;
    return hdl_jfail(run, HDL_INVALID, "'%s' and '%s' have no order", hdl_jval_type(a),
                     hdl_jval_type(b));
}

hdl_err hdl_jcontains(hdl_jrun *run, const hdl_jval *in, const hdl_jval *v, bool *out)
{
    *out = false;
    if (in->kind == HDL_J_STRING) {
        if (v->kind != HDL_J_STRING)
            return hdl_joperand_error(run, "in", v, in);
        const char *hit;
        HDL_TRY(hdl_jfind(run, in->s, v->s, &hit));
        *out = hit != NULL;
        return HDL_OK;
    }
    if (in->kind == HDL_J_DICT) {
        *out = hdl_jdict_get(in->dict, *v, &run->mem.steps) != NULL;
        return hdl_jstep(run, 0);
    }
    hdl_jlist *items;
    HDL_TRY(hdl_jiterate(run, in, &items));
    for (size_t i = 0; i < items->n && !*out; i++)
        *out = hdl_jval_equal(&items->v[i], v, &run->mem.steps);
    return hdl_jstep(run, 0);
}

static hdl_err repeat(hdl_jrun *run, const hdl_jval *v, int64_t times, hdl_jval *out)
{
    size_t each = v->kind == HDL_J_STRING ? v->s.len : v->list->n;
    if (times <= 0 || each == 0) {
        hdl_jlist *empty;
        HDL_TRY(hdl_jlist_new(&run->mem, 0, &empty));
        *out = v->kind == HDL_J_STRING ? hdl_jcstr("") : (hdl_jval){.kind = v->kind, .list = empty};
        return HDL_OK;
    }
    if ((uint64_t)times > HDL_JRUN_OUTPUT_MAX / each)
        return hdl_jlimit(run, "a repetition of more than %d bytes or items", HDL_JRUN_OUTPUT_MAX);
    size_t total = each * (size_t)times;
    HDL_TRY(hdl_jstep(run, v->kind == HDL_J_STRING ? total / 64 : total));
    if (v->kind == HDL_J_STRING) {
        *out = hdl_jcstr("");
        for (int64_t i = 0; i < times; i++)
            HDL_TRY(hdl_jconcat(&run->mem, out->s, v->s, out));
        return HDL_OK;
    }
    hdl_jlist *list;
    HDL_TRY(hdl_jlist_new(&run->mem, total, &list));
    for (size_t i = 0; i < total; i++)
        HDL_TRY(hdl_jlist_push(&run->mem, list, v->list->v[i % each]));
    *out = (hdl_jval){.kind = v->kind, .list = list};
    return HDL_OK;
}

static const char *entity(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&#34;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

hdl_err hdl_jescape(hdl_jrun *run, hdl_text text, hdl_jval *out)
{
    hdl_jval escaped = hdl_jcstr("");
    HDL_TRY(hdl_jstep(run, text.len / 16));
    for (size_t from = 0, at = 0; from < text.len; from = ++at) {
        while (at < text.len && entity(text.p[at]) == NULL)
            at++;
        hdl_text before = {text.p + from, at - from};
        HDL_TRY(hdl_jconcat(&run->mem, escaped.s, before, &escaped));
        if (at < text.len)
            HDL_TRY(hdl_jconcat(&run->mem, escaped.s, hdl_jcstr(entity(text.p[at])).s, &escaped));
    }
    *out = escaped;
    out->markup = true;
    return HDL_OK;
}

static hdl_err add_strings(hdl_jrun *run, hdl_jval a, hdl_jval b, hdl_jval *out)
{
    bool markup = a.markup || b.markup;
    if (markup && !a.markup)
        HDL_TRY(hdl_jescape(run, a.s, &a));
    if (markup && !b.markup)
        HDL_TRY(hdl_jescape(run, b.s, &b));
    HDL_TRY(hdl_jconcat(&run->mem, a.s, b.s, out));
    out->markup = markup;
    return HDL_OK;
}

static hdl_err add_sequences(hdl_jrun *run, const hdl_jval *a, const hdl_jval *b, hdl_jval *out)
{
    if (a->kind == HDL_J_STRING)
        return add_strings(run, *a, *b, out);
    hdl_jlist *list;
    HDL_TRY(hdl_jstep(run, a->list->n + b->list->n));
    HDL_TRY(hdl_jlist_new(&run->mem, a->list->n + b->list->n, &list));
    for (size_t i = 0; i < a->list->n; i++)
        HDL_TRY(hdl_jlist_push(&run->mem, list, a->list->v[i]));
    for (size_t i = 0; i < b->list->n; i++)
        HDL_TRY(hdl_jlist_push(&run->mem, list, b->list->v[i]));
    *out = (hdl_jval){.kind = a->kind, .list = list};
    return HDL_OK;
}

/* Whole numbers stay whole, as in Python; what leaves 64 bits is an error here. */
static hdl_err integer_op(hdl_jrun *run, hdl_jop op, int64_t a, int64_t b, hdl_jval *out)
{
    int64_t r = 0;
    bool overflow = false;
    if ((op == HDL_JOP_FLOORDIV || op == HDL_JOP_MOD || op == HDL_JOP_DIV) && b == 0)
        return hdl_jfail(run, HDL_INVALID, "division by zero");
    switch (op) {
    case HDL_JOP_ADD: overflow = __builtin_add_overflow(a, b, &r); break;
    case HDL_JOP_SUB: overflow = __builtin_sub_overflow(a, b, &r); break;
    case HDL_JOP_MUL: overflow = __builtin_mul_overflow(a, b, &r); break;
    case HDL_JOP_DIV:
        *out = (hdl_jval){.kind = HDL_J_FLOAT, .f = (double)a / (double)b};
        return HDL_OK;
    case HDL_JOP_FLOORDIV:
    case HDL_JOP_MOD:
        overflow = a == INT64_MIN && b == -1;
        if (!overflow) {
            bool down = a % b != 0 && (a < 0) != (b < 0); /* Python rounds towards minus infinity */
            r = op == HDL_JOP_MOD ? a % b + (down ? b : 0) : a / b - down;
        }
        break;
    default:
        if (b < 0) {
            *out = (hdl_jval){.kind = HDL_J_FLOAT, .f = pow((double)a, (double)b)};
            return HDL_OK;
        }
        r = 1;
        overflow = b > 64 && a != 0 && a != 1 && a != -1;
        b = overflow ? 0 : b > 64 ? 64 + (b & 1) : b;
        for (int64_t i = 0; i < b && !overflow; i++)
            overflow = __builtin_mul_overflow(r, a, &r);
    }
    *out = hdl_jint(r);
    return overflow ? hdl_jfail(run, HDL_INVALID, "a number beyond 64 bits") : HDL_OK;
}

hdl_err hdl_jbinary(hdl_jrun *run, hdl_jop op, const hdl_jval *a, const hdl_jval *b, hdl_jval *out)
{
    static const char *const texts[] = {"+", "-", "*", "/", "//", "%", "**"};
    double x, y;
    bool sequence = a->kind == HDL_J_STRING || a->kind == HDL_J_LIST || a->kind == HDL_J_TUPLE;
    if (op == HDL_JOP_ADD && sequence && a->kind == b->kind)
        return add_sequences(run, a, b, out);
    if (op == HDL_JOP_MUL && sequence && b->kind == HDL_J_INT)
        return repeat(run, a, b->i, out);
    if (!hdl_jval_number(a, &x) || !hdl_jval_number(b, &y))
        return hdl_joperand_error(run, texts[op - HDL_JOP_ADD], a, b);
    if (a->kind != HDL_J_FLOAT && b->kind != HDL_J_FLOAT)
        return integer_op(run, op, a->kind == HDL_J_INT ? a->i : a->b,
                          b->kind == HDL_J_INT ? b->i : b->b, out);
    bool divides = op == HDL_JOP_DIV || op == HDL_JOP_FLOORDIV || op == HDL_JOP_MOD;
    if (divides && !(y < 0 || y > 0))
        return hdl_jfail(run, HDL_INVALID, "division by zero");
    double r = op == HDL_JOP_ADD   ? x + y
               : op == HDL_JOP_SUB ? x - y
               : op == HDL_JOP_MUL ? x * y
               : op == HDL_JOP_DIV ? x / y
               : op == HDL_JOP_POW ? pow(x, y)
               : op == HDL_JOP_MOD ? x - floor(x / y) * y
                                   : floor(x / y);
    *out = (hdl_jval){.kind = HDL_J_FLOAT, .f = r};
    return HDL_OK;
}

hdl_err hdl_jcompare(hdl_jrun *run, hdl_jop op, const hdl_jval *a, const hdl_jval *b, bool *out)
{
    static const char *const texts[] = {"==", "!=", "<", "<=", ">", ">="};
    int order;
    switch (op) {
    case HDL_JOP_EQ:
    case HDL_JOP_NE:
        HDL_TRY(hdl_jequal(run, a, b, out));
        *out ^= op == HDL_JOP_NE;
        return HDL_OK;
    case HDL_JOP_IN: return hdl_jcontains(run, b, a, out);
    case HDL_JOP_NOT_IN:
        HDL_TRY(hdl_jcontains(run, b, a, out));
        *out = !*out;
        return HDL_OK;
    default: break;
    }
    hdl_err err = hdl_jval_order(a, b, &run->mem.steps, &order);
    HDL_TRY(hdl_jstep(run, 0));
    if (err != HDL_OK)
        return hdl_joperand_error(run, texts[op], a, b);
    *out = op == HDL_JOP_LT   ? order < 0
           : op == HDL_JOP_LE ? order <= 0
           : op == HDL_JOP_GT ? order > 0
                              : order >= 0;
    return HDL_OK;
}
