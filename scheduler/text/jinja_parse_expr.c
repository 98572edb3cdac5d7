/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions of chat templates, with the precedence of Jinja 3: if-else, or, and, not,
 * comparisons, + -, ~, * / // %, **, unary, then postfix and filters. */
#include "scheduler/text/jinja_parse.h"

#include "scheduler/text/jinja_run.h"

#define NEW(kind, out) HDL_TRY(hdl_jparse_node(p, kind, out))

static hdl_err parse_unary(hdl_jparser *p, bool with_filter, hdl_jnode **out);

/* ( a, *b, c=d ): items and names of `call`. */
static hdl_err parse_args(hdl_jparser *p, hdl_jnode *call)
{
    HDL_TRY(hdl_jparse_expect_op(p, "("));
    const char *names[64];
    bool keywords = false;
    while (!hdl_jparse_op(p, ")")) {
        if (call->n_items > 0) {
            HDL_TRY(hdl_jparse_expect_op(p, ","));
            if (hdl_jparse_op(p, ")"))
                break;
        }
        if (hdl_jparse_op(p, "*") || hdl_jparse_op(p, "**"))
            return hdl_jparse_unsupported(p, "* and ** in a call");
        if (call->n_items == sizeof names / sizeof *names)
            return hdl_jparse_unsupported(p, "more than 64 arguments");
        const char *name = NULL;
        hdl_jval next = hdl_jslice(p->at->kind == HDL_JT_NAME ? p->at[1].text : p->at->text);
        if (p->at->kind == HDL_JT_NAME && p->at[1].kind == HDL_JT_OP && hdl_jval_is(&next, "=")) {
            HDL_TRY(hdl_jparse_expect_name(p, &name));
            p->at++;
        }
        if (name == NULL && keywords)
            return hdl_jparse_fail(p, "a positional argument after a keyword");
        keywords = name != NULL;
        hdl_jnode *arg;
        HDL_TRY(hdl_jparse_expr(p, &arg));
        names[call->n_items] = name;
        HDL_TRY(hdl_jparse_add_item(p, call, arg));
    }
    if (call->n_items > 0) {
        call->names = hdl_jmem_alloc(&p->program->mem, call->n_items * sizeof *names);
        if (call->names == NULL)
            return HDL_BUSY;
    }
    for (size_t i = 0; i < call->n_items; i++)
        call->names[i] = names[i];
    return hdl_jparse_expect_op(p, ")");
}

static hdl_err parse_items(hdl_jparser *p, hdl_jnode *list, const char *close)
{
    while (!hdl_jparse_op(p, close)) {
        hdl_jnode *item;
        if (list->n_items > 0)
            HDL_TRY(hdl_jparse_expect_op(p, ","));
        if (hdl_jparse_op(p, close))
            break;
        HDL_TRY(hdl_jparse_expr(p, &item));
        HDL_TRY(hdl_jparse_add_item(p, list, item));
        if (list->kind != HDL_JN_DICT)
            continue;
        HDL_TRY(hdl_jparse_expect_op(p, ":"));
        HDL_TRY(hdl_jparse_expr(p, &item));
        HDL_TRY(hdl_jparse_add_item(p, list, item));
    }
    return hdl_jparse_expect_op(p, close);
}

/* Items with commas between; without a comma just the one expression. */
static hdl_err parse_tuple_until(hdl_jparser *p, bool may_be_empty, hdl_jnode **out)
{
    hdl_jnode *tuple, *item = NULL;
    bool comma = false;
    NEW(HDL_JN_TUPLE, &tuple);
    for (;;) {
        bool end = p->at->kind == HDL_JT_PRINT_END || p->at->kind == HDL_JT_BLOCK_END ||
                   hdl_jparse_op(p, ")");
        if (end)
            break;
        HDL_TRY(hdl_jparse_expr(p, &item));
        HDL_TRY(hdl_jparse_add_item(p, tuple, item));
        if (!hdl_jparse_skip_op(p, ","))
            break;
        comma = true;
    }
    if (!comma && tuple->n_items == 0 && !may_be_empty)
        return hdl_jparse_fail(p, "an expression is missing");
    *out = comma || tuple->n_items == 0 ? tuple : item;
    return HDL_OK;
}

hdl_err hdl_jparse_tuple(hdl_jparser *p, hdl_jnode **out)
{
    return parse_tuple_until(p, false, out);
}

static hdl_err parse_name(hdl_jparser *p, hdl_jnode **out)
{
    static const struct {
        const char *word;
        hdl_jval value;
    } constants[] = {{"true", {.kind = HDL_J_BOOL, .b = true}},
                     {"True", {.kind = HDL_J_BOOL, .b = true}},
                     {"false", {.kind = HDL_J_BOOL, .b = false}},
                     {"False", {.kind = HDL_J_BOOL, .b = false}},
                     {"none", {.kind = HDL_J_NONE}},
                     {"None", {.kind = HDL_J_NONE}}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (hdl_jparse_word(p, constants[i].word)) {
            NEW(HDL_JN_CONST, out);
            (*out)->value = constants[i].value;
            p->at++;
            return HDL_OK;
        }
    }
    NEW(HDL_JN_NAME, out);
    return hdl_jparse_expect_name(p, &(*out)->name);
}

static hdl_err parse_primary(hdl_jparser *p, hdl_jnode **out)
{
    const hdl_jtoken *t = p->at;
    if (t->kind == HDL_JT_NAME)
        return parse_name(p, out);
    if (t->kind == HDL_JT_STRING || t->kind == HDL_JT_INT || t->kind == HDL_JT_FLOAT) {
        NEW(HDL_JN_CONST, out);
        (*out)->value = t->value;
        p->at++;
        while (t->kind == HDL_JT_STRING &&
               p->at->kind == HDL_JT_STRING) { /* 'a' 'b' is one string */
            HDL_TRY(hdl_jconcat(&p->program->mem, (*out)->value.s, p->at->value.s, &(*out)->value));
            p->at++;
        }
        return HDL_OK;
    }
    if (hdl_jparse_skip_op(p, "(")) {
        HDL_TRY(parse_tuple_until(p, true, out));
        return hdl_jparse_expect_op(p, ")");
    }
    if (hdl_jparse_skip_op(p, "[")) {
        NEW(HDL_JN_LIST, out);
        return parse_items(p, *out, "]");
    }
    if (hdl_jparse_skip_op(p, "{")) {
        NEW(HDL_JN_DICT, out);
        return parse_items(p, *out, "}");
    }
    return hdl_jparse_fail(p, "an expression is missing or wrong");
}

/* start:stop:step, each may be missing. */
static hdl_err parse_slice(hdl_jparser *p, hdl_jnode *start, hdl_jnode **out)
{
    hdl_jnode *parts[3] = {start, NULL, NULL};
    for (size_t i = 1; i < 3 && hdl_jparse_skip_op(p, ":"); i++)
        if (!hdl_jparse_op(p, ":") && !hdl_jparse_op(p, "]"))
            HDL_TRY(hdl_jparse_expr(p, &parts[i]));
    NEW(HDL_JN_SLICE, out);
    for (size_t i = 0; i < 3; i++)
        HDL_TRY(hdl_jparse_add_item(p, *out, parts[i]));
    return HDL_OK;
}

static hdl_err parse_subscript(hdl_jparser *p, hdl_jnode *node, hdl_jnode **out)
{
    hdl_jnode *key = NULL;
    if (hdl_jparse_skip_op(p, ".")) {
        if (p->at->kind == HDL_JT_INT) {
            NEW(HDL_JN_ITEM, out);
            NEW(HDL_JN_CONST, &key);
            key->value = p->at->value;
            p->at++;
            (*out)->b = key;
        } else {
            NEW(HDL_JN_ATTR, out);
            HDL_TRY(hdl_jparse_expect_name(p, &(*out)->name));
        }
        (*out)->a = node;
        return HDL_OK;
    }
    HDL_TRY(hdl_jparse_expect_op(p, "["));
    if (!hdl_jparse_op(p, ":"))
        HDL_TRY(hdl_jparse_expr(p, &key));
    if (hdl_jparse_op(p, ":")) {
        HDL_TRY(parse_slice(p, key, out));
    } else {
        NEW(HDL_JN_ITEM, out);
        (*out)->b = key;
    }
    (*out)->a = node;
    return hdl_jparse_expect_op(p, "]");
}

static hdl_err parse_call(hdl_jparser *p, hdl_jnode *node, hdl_jnode **out)
{
    NEW(HDL_JN_CALL, out);
    (*out)->a = node;
    return parse_args(p, *out);
}

static hdl_err parse_postfix(hdl_jparser *p, hdl_jnode **node)
{
    for (;;) {
        if (hdl_jparse_op(p, ".") || hdl_jparse_op(p, "["))
            HDL_TRY(parse_subscript(p, *node, node));
        else if (hdl_jparse_op(p, "("))
            HDL_TRY(parse_call(p, *node, node));
        else
            return HDL_OK;
    }
}

hdl_err hdl_jparse_filters(hdl_jparser *p, hdl_jnode *node, hdl_jnode **out)
{
    do {
        hdl_jnode *filter;
        NEW(HDL_JN_FILTER, &filter);
        filter->a = node;
        HDL_TRY(hdl_jparse_expect_name(p, &filter->name));
        filter->function = hdl_jfilter_find(filter->name);
        if (filter->function == NULL && p->branches == 0) {
            p->at--;
            return hdl_jparse_unsupported(p, "this filter");
        }
        if (hdl_jparse_op(p, "("))
            HDL_TRY(parse_args(p, filter));
        node = filter;
    } while (hdl_jparse_skip_op(p, "|"));
    *out = node;
    return HDL_OK;
}

/* Jinja takes whatever can start a value right after a test's name for its argument. */
static bool starts_test_argument(const hdl_jparser *p)
{
    if (p->at->kind == HDL_JT_NAME)
        return !hdl_jparse_word(p, "else") && !hdl_jparse_word(p, "or") &&
               !hdl_jparse_word(p, "and");
    return p->at->kind == HDL_JT_STRING || p->at->kind == HDL_JT_INT ||
           p->at->kind == HDL_JT_FLOAT || hdl_jparse_op(p, "[") || hdl_jparse_op(p, "{");
}

/* Behind `is`. */
static hdl_err parse_test(hdl_jparser *p, hdl_jnode *node, hdl_jnode **out)
{
    bool negated = hdl_jparse_skip_word(p, "not");
    hdl_jnode *test;
    NEW(HDL_JN_TEST, &test);
    test->a = node;
    HDL_TRY(hdl_jparse_expect_name(p, &test->name));
    test->function = hdl_jtest_find(test->name);
    if (test->function == NULL && p->branches == 0) {
        p->at--;
        return hdl_jparse_unsupported(p, "this test");
    }
    if (hdl_jparse_op(p, "(")) {
        HDL_TRY(parse_args(p, test));
    } else if (starts_test_argument(p)) {
        hdl_jnode *arg;
        if (hdl_jparse_word(p, "is"))
            return hdl_jparse_fail(p, "a test of a test");
        HDL_TRY(parse_primary(p, &arg));
        HDL_TRY(parse_postfix(p, &arg));
        HDL_TRY(hdl_jparse_add_item(p, test, arg));
    }
    *out = test;
    if (negated) {
        NEW(HDL_JN_NOT, out);
        (*out)->a = test;
    }
    return HDL_OK;
}

static hdl_err parse_filter_chain(hdl_jparser *p, hdl_jnode **node)
{
    for (;;) {
        if (hdl_jparse_skip_op(p, "|"))
            HDL_TRY(hdl_jparse_filters(p, *node, node));
        else if (hdl_jparse_skip_word(p, "is"))
            HDL_TRY(parse_test(p, *node, node));
        else if (hdl_jparse_op(p, "("))
            HDL_TRY(parse_call(p, *node, node));
        else
            return HDL_OK;
    }
}

static hdl_err parse_unary(hdl_jparser *p, bool with_filter, hdl_jnode **out)
{
    bool neg = hdl_jparse_op(p, "-"), pos = hdl_jparse_op(p, "+");
    if (neg || pos) {
        hdl_jnode *node;
        NEW(neg ? HDL_JN_NEG : HDL_JN_POS, &node);
        p->at++;
        HDL_TRY(hdl_jparse_enter(p));
        HDL_TRY(parse_unary(p, false, &node->a));
        p->depth--;
        *out = node;
    } else {
        HDL_TRY(parse_primary(p, out));
    }
    HDL_TRY(parse_postfix(p, out));
    return with_filter ? parse_filter_chain(p, out) : HDL_OK;
}

/* Binary operators by level, the loosest first. */
static const struct {
    const char *text;
    hdl_jop op;
    int level;
} BINARY[] = {{"+", HDL_JOP_ADD, 0}, {"-", HDL_JOP_SUB, 0},       {"*", HDL_JOP_MUL, 2},
              {"/", HDL_JOP_DIV, 2}, {"//", HDL_JOP_FLOORDIV, 2}, {"%", HDL_JOP_MOD, 2},
              {"**", HDL_JOP_POW, 3}};
enum { LEVEL_CONCAT = 1, LEVEL_UNARY = 4 };

static hdl_err parse_level(hdl_jparser *p, int level, hdl_jnode **out)
{
    if (level == LEVEL_UNARY)
        return parse_unary(p, true, out);
    HDL_TRY(parse_level(p, level + 1, out));
    for (;;) {
        hdl_jnode *node;
        if (level == LEVEL_CONCAT) {
            if (!hdl_jparse_op(p, "~"))
                return HDL_OK;
            NEW(HDL_JN_CONCAT, &node);
            HDL_TRY(hdl_jparse_add_item(p, node, *out));
            while (hdl_jparse_skip_op(p, "~")) {
                hdl_jnode *right;
                HDL_TRY(parse_level(p, level + 1, &right));
                HDL_TRY(hdl_jparse_add_item(p, node, right));
            }
            *out = node;
            return HDL_OK;
        }
        size_t i = 0;
        while (i < sizeof BINARY / sizeof *BINARY &&
               !(BINARY[i].level == level && hdl_jparse_op(p, BINARY[i].text)))
            i++;
        if (i == sizeof BINARY / sizeof *BINARY)
            return HDL_OK;
        NEW(HDL_JN_BINARY, &node);
        node->op = BINARY[i].op;
        p->at++;
        node->a = *out;
        HDL_TRY(parse_level(p, level + 1, &node->b));
        *out = node;
    }
}

/* The comparison at hand, taken; false: there is none. */
static bool comparison(hdl_jparser *p, hdl_jop *op)
{
    static const char *const texts[] = {"==", "!=", "<",
                                        "<=", ">",  ">="}; /* in the order of hdl_jop */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        *op = (hdl_jop)i;
        if (hdl_jparse_skip_op(p, texts[i]))
            return true;
    }
    *op = HDL_JOP_IN;
    if (hdl_jparse_skip_word(p, "in"))
        return true;
    hdl_jval next = hdl_jslice(p->at[0].kind == HDL_JT_NAME ? p->at[1].text : (hdl_text){"", 0});
    if (hdl_jparse_word(p, "not") && p->at[1].kind == HDL_JT_NAME && hdl_jval_is(&next, "in")) {
        *op = HDL_JOP_NOT_IN;
        p->at += 2;
        return true;
    }
    return false;
}

static hdl_err parse_compare(hdl_jparser *p, hdl_jnode **out)
{
    hdl_jop ops[16], op;
    HDL_TRY(parse_level(p, 0, out));
    hdl_jnode *node = NULL;
    while (comparison(p, &op)) {
        hdl_jnode *right;
        if (node == NULL) {
            NEW(HDL_JN_COMPARE, &node);
            node->a = *out;
        }
        if (node->n_items == sizeof ops / sizeof *ops)
            return hdl_jparse_unsupported(p, "a chain of more than 16 comparisons");
        ops[node->n_items] = op;
        HDL_TRY(parse_level(p, 0, &right));
        HDL_TRY(hdl_jparse_add_item(p, node, right));
    }
    if (node == NULL)
        return HDL_OK;
    node->ops = hdl_jmem_alloc(&p->program->mem, node->n_items * sizeof *ops);
    if (node->ops == NULL)
        return HDL_BUSY;
    for (size_t i = 0; i < node->n_items; i++)
        node->ops[i] = ops[i];
    *out = node;
    return HDL_OK;
}

static hdl_err parse_not(hdl_jparser *p, hdl_jnode **out)
{
    if (!hdl_jparse_word(p, "not"))
        return parse_compare(p, out);
    hdl_jnode *node;
    NEW(HDL_JN_NOT, &node);
    p->at++;
    HDL_TRY(hdl_jparse_enter(p));
    HDL_TRY(parse_not(p, &node->a));
    p->depth--;
    *out = node;
    return HDL_OK;
}

static hdl_err parse_and(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(parse_not(p, out));
    while (hdl_jparse_word(p, "and")) {
        hdl_jnode *node;
        NEW(HDL_JN_AND, &node);
        p->at++;
        node->a = *out;
        HDL_TRY(parse_not(p, &node->b));
        *out = node;
    }
    return HDL_OK;
}

static hdl_err parse_or(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(parse_and(p, out));
    while (hdl_jparse_word(p, "or")) {
        hdl_jnode *node;
        NEW(HDL_JN_OR, &node);
        p->at++;
        node->a = *out;
        HDL_TRY(parse_and(p, &node->b));
        *out = node;
    }
    return HDL_OK;
}

hdl_err hdl_jparse_iterable(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(hdl_jparse_enter(p));
    HDL_TRY(parse_or(p, out));
    p->depth--;
    return HDL_OK;
}

hdl_err hdl_jparse_expr(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(hdl_jparse_enter(p));
    HDL_TRY(parse_or(p, out));
    while (hdl_jparse_word(p, "if")) {
        hdl_jnode *node;
        NEW(HDL_JN_COND, &node);
        p->at++;
        node->b = *out;
        HDL_TRY(parse_or(p, &node->a));
        if (hdl_jparse_skip_word(p, "else"))
            HDL_TRY(hdl_jparse_expr(p, &node->c));
        *out = node;
    }
    p->depth--;
    return HDL_OK;
}

static hdl_err parse_one_target(hdl_jparser *p, hdl_jnode **out)
{
    if (hdl_jparse_skip_op(p, "(")) {
        HDL_TRY(hdl_jparse_enter(p));
        HDL_TRY(hdl_jparse_target(p, out));
        p->depth--;
        return hdl_jparse_expect_op(p, ")");
    }
    hdl_jnode *name;
    NEW(HDL_JN_NAME, &name);
    HDL_TRY(hdl_jparse_expect_name(p, &name->name));
    *out = name;
    if (!hdl_jparse_skip_op(p, "."))
        return HDL_OK;
    NEW(HDL_JN_ATTR, out);
    (*out)->a = name;
    return hdl_jparse_expect_name(p, &(*out)->name);
}

hdl_err hdl_jparse_target(hdl_jparser *p, hdl_jnode **out)
{
    HDL_TRY(parse_one_target(p, out));
    if (!hdl_jparse_op(p, ","))
        return HDL_OK;
    hdl_jnode *tuple;
    NEW(HDL_JN_TUPLE, &tuple);
    HDL_TRY(hdl_jparse_add_item(p, tuple, *out));
    while (hdl_jparse_skip_op(p, ",")) {
        if (p->at->kind != HDL_JT_NAME && !hdl_jparse_op(p, "("))
            break;
        hdl_jnode *item;
        HDL_TRY(parse_one_target(p, &item));
        HDL_TRY(hdl_jparse_add_item(p, tuple, item));
    }
    *out = tuple;
    return HDL_OK;
}
