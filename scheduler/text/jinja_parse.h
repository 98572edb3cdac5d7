/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the parser: jinja_parse.c has the statements, jinja_parse_expr.c the expressions. */
#pragma once

#include "scheduler/text/jinja_ast.h"
#include "scheduler/text/jinja_lex.h"

typedef struct hdl_jparser {
    hdl_jprogram *program;
    const hdl_jtoken *at; /* the current token; the last is END */
    uint32_t depth;       /* of recursion */
    uint32_t branches;    /* ifs around here: what is missing in one is found when it is reached */
    uint32_t loops;       /* loops around here: for break and continue */
    hdl_errmsg *why;
} hdl_jparser;

/* Errors at the current token. */
hdl_err hdl_jparse_fail(const hdl_jparser *p, const char *what);
hdl_err hdl_jparse_unsupported(const hdl_jparser *p, const char *what);

hdl_err hdl_jparse_node(hdl_jparser *p, hdl_jnode_kind kind, hdl_jnode **out) HDL_MUST_CHECK;
hdl_err hdl_jparse_add_item(hdl_jparser *p, hdl_jnode *node, hdl_jnode *item) HDL_MUST_CHECK;
hdl_err hdl_jparse_intern(hdl_jparser *p, hdl_text word, const char **out) HDL_MUST_CHECK;
/* Guard of every recursive rule: BUSY when the source nests too deeply. */
hdl_err hdl_jparse_enter(hdl_jparser *p) HDL_MUST_CHECK;

static inline bool hdl_jparse_is(const hdl_jparser *p, hdl_jtoken_kind kind, const char *text)
{
    hdl_jval v = hdl_jslice(p->at->text);
    return p->at->kind == kind && hdl_jval_is(&v, text);
}
static inline bool hdl_jparse_op(const hdl_jparser *p, const char *text)
{
    return hdl_jparse_is(p, HDL_JT_OP, text);
}
static inline bool hdl_jparse_word(const hdl_jparser *p, const char *text)
{
    return hdl_jparse_is(p, HDL_JT_NAME, text);
}
bool hdl_jparse_skip_op(hdl_jparser *p, const char *text);
bool hdl_jparse_skip_word(hdl_jparser *p, const char *text);
hdl_err hdl_jparse_expect_op(hdl_jparser *p, const char *text) HDL_MUST_CHECK;
hdl_err hdl_jparse_expect_name(hdl_jparser *p, const char **out) HDL_MUST_CHECK;

/* An expression; one that may be a tuple without parentheses; a chain of filters on `node` (NULL:
 * on a block), starting at the first filter's name; the target of set or for (stops before `in`).
 */
hdl_err hdl_jparse_expr(hdl_jparser *p, hdl_jnode **out) HDL_MUST_CHECK;
/* As hdl_jparse_expr, but stops before "if". */
hdl_err hdl_jparse_iterable(hdl_jparser *p, hdl_jnode **out) HDL_MUST_CHECK;
hdl_err hdl_jparse_tuple(hdl_jparser *p, hdl_jnode **out) HDL_MUST_CHECK;
hdl_err hdl_jparse_filters(hdl_jparser *p, hdl_jnode *node, hdl_jnode **out) HDL_MUST_CHECK;
hdl_err hdl_jparse_target(hdl_jparser *p, hdl_jnode **out) HDL_MUST_CHECK;
