/* SPDX-License-Identifier: Apache-2.0 */
/* One rendering of a chat template: what the evaluator and the built-in filters, tests, methods and
 * functions share.
 *
 * Foreign code runs here: every node and every item costs a step, and steps, depth, memory and
 * output are limited. */
#pragma once

#include "scheduler/text/jinja_ast.h"

enum {
    HDL_JRUN_STEPS_MAX = 1500000, /* and more for a long conversation; under 100 ms */
    HDL_JRUN_DEPTH_MAX = 400,     /* of nested evaluation: under 512 KiB of stack */
    HDL_JRUN_MEMORY_MAX = 256 << 20,
    HDL_JRUN_OUTPUT_MAX = 64 << 20,
    HDL_JRUN_RANGE_MAX = 100000, /* as in Jinja's sandbox */
};

/* Variables of one scope; a name may be set in an inner scope without being seen outside. */
typedef struct hdl_jframe {
    struct hdl_jframe *parent;
    const char **names; /* interned */
    hdl_jval *values;
    size_t n, size;
    bool kept; /* a macro was defined here: the scope outlives its turn */
} hdl_jframe;

typedef struct hdl_jrun {
    const hdl_jprogram *program;
    hdl_jmem mem;
    hdl_jframe *frame; /* innermost */
    hdl_jout *out;     /* where text goes now */
    uint32_t depth, line;
    uint64_t now_wall_us;
    hdl_errmsg *why;
} hdl_jrun;

/* The state of a for loop, as `loop` shows it. */
typedef struct hdl_jloop {
    const hdl_jlist *items;
    size_t at;
} hdl_jloop;

typedef struct hdl_jmacro {
    const hdl_jnode *node; /* MACRO or CALL_BLOCK */
    hdl_jframe *frame;     /* where it was defined */
} hdl_jmacro;

/* Arguments as written: positional ones first. */
typedef struct hdl_jargs {
    const hdl_jval *v;
    size_t n;
    const char *const *names; /* [n] NULL for positional ones; NULL when there are only such */
} hdl_jargs;

/* A built-in: self is the filtered or tested value, or the receiver of a method. A test gives a
 * BOOL. */
typedef struct hdl_jfunction {
    const char *name;
    hdl_err (*call)(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, hdl_jval *out);
} hdl_jfunction;

typedef struct hdl_jmethod {
    const hdl_jfunction *function;
    hdl_jval self;
} hdl_jmethod;

const hdl_jfunction *hdl_jfilter_find(const char *name);
const hdl_jfunction *hdl_jtest_find(const char *name);
const hdl_jfunction *hdl_jmethod_find(const hdl_jval *self, const char *name);
const hdl_jfunction *hdl_jglobal_find(const char *name);
static inline const hdl_jfunction *hdl_jfunction_in(const hdl_jfunction *table, size_t n,
                                                    const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (__builtin_strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* Fills why with the line and returns err. */
hdl_err hdl_jfail(hdl_jrun *run, hdl_err err, const char *fmt, ...) HDL_PRINTF(3, 4);
/* A limit is reached: BUSY, with what it is and what to do. */
hdl_err hdl_jlimit(hdl_jrun *run, const char *fmt, ...) HDL_PRINTF(2, 3);
/* Counts work; the limit when there was too much. Whatever a built-in does in proportion to
 * something goes through here, hdl_jmem or hdl_jsteps_add. */
hdl_err hdl_jstep(hdl_jrun *run, size_t n) HDL_MUST_CHECK;
/* One level of evaluation deeper; the caller takes it off run->depth again. */
hdl_err hdl_jenter(hdl_jrun *run) HDL_MUST_CHECK;

/* Arguments in the order of "a,b,c"; those not given are MISSING. slots has room for all of them
 * (at most 8). */
hdl_err hdl_jargs_bind(hdl_jrun *run, const hdl_jargs *args, const char *params,
                       hdl_jval *slots) HDL_MUST_CHECK;
/* A bound argument of a type, or the fallback when it is missing. */
hdl_err hdl_jarg_int(hdl_jrun *run, const hdl_jval *arg, int64_t fallback,
                     int64_t *out) HDL_MUST_CHECK;
hdl_err hdl_jarg_text(hdl_jrun *run, const hdl_jval *arg, const char *fallback,
                      hdl_text *out) HDL_MUST_CHECK;
static inline bool hdl_jarg_true(const hdl_jval *arg, bool fallback)
{
    return arg->kind == HDL_J_MISSING ? fallback : hdl_jval_true(arg);
}

/* jinja_expr.c */
hdl_err hdl_jeval(hdl_jrun *run, const hdl_jnode *node, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jcall(hdl_jrun *run, const hdl_jval *callee, const hdl_jargs *args,
                  hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jattr(hdl_jrun *run, const hdl_jval *v, const char *name, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jitem(hdl_jrun *run, const hdl_jval *v, const hdl_jval *key,
                  hdl_jval *out) HDL_MUST_CHECK;
/* Applies the filters of a block's chain to v. */
hdl_err hdl_jfilter_chain(hdl_jrun *run, const hdl_jnode *chain, hdl_jval *v) HDL_MUST_CHECK;
/* A generator over the list; with list NULL, one that breaks when it is walked, as v would. */
hdl_err hdl_jgenerate(hdl_jrun *run, hdl_jlist *list, const hdl_jval *v,
                      hdl_jval *out) HDL_MUST_CHECK;
bool hdl_jiterable(const hdl_jval *v);
/* The items that a loop sees: of a list, tuple, dictionary (its keys), string (its characters) or
 * undefined. */
hdl_err hdl_jiterate(hdl_jrun *run, const hdl_jval *v, hdl_jlist **out) HDL_MUST_CHECK;
hdl_err hdl_jto_string(hdl_jrun *run, const hdl_jval *v, hdl_jval *out) HDL_MUST_CHECK;

/* jinja_ops.c */
/* & < > " ' as HTML entities; markup. */
hdl_err hdl_jescape(hdl_jrun *run, hdl_text text, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jundefined_error(hdl_jrun *run, const hdl_jval *v);
/* Where a text stands in another, the first place or the last; NULL: nowhere. */
hdl_err hdl_jfind(hdl_jrun *run, hdl_text in, hdl_text part, const char **hit) HDL_MUST_CHECK;
hdl_err hdl_jfind_last(hdl_jrun *run, hdl_text in, hdl_text part, const char **hit) HDL_MUST_CHECK;
hdl_err hdl_jequal(hdl_jrun *run, const hdl_jval *a, const hdl_jval *b, bool *out) HDL_MUST_CHECK;
/* As hdl_jval_order, with a message. */
hdl_err hdl_jorder(hdl_jrun *run, const hdl_jval *a, const hdl_jval *b, int *out) HDL_MUST_CHECK;
hdl_err hdl_joperand_error(hdl_jrun *run, const char *op, const hdl_jval *a, const hdl_jval *b);
hdl_err hdl_jcontains(hdl_jrun *run, const hdl_jval *in, const hdl_jval *v,
                      bool *out) HDL_MUST_CHECK;
hdl_err hdl_jbinary(hdl_jrun *run, hdl_jop op, const hdl_jval *a, const hdl_jval *b,
                    hdl_jval *out) HDL_MUST_CHECK;
/* EQ to NOT_IN. */
hdl_err hdl_jcompare(hdl_jrun *run, hdl_jop op, const hdl_jval *a, const hdl_jval *b,
                     bool *out) HDL_MUST_CHECK;

/* jinja_eval.c */
hdl_err hdl_jframe_set(hdl_jrun *run, hdl_jframe *frame, const char *name,
                       hdl_jval v) HDL_MUST_CHECK;
hdl_jval *hdl_jframe_find(hdl_jrun *run, const char *name);    /* from the innermost scope on */
hdl_jframe *hdl_jframe_new(hdl_jrun *run, hdl_jframe *parent); /* NULL: the memory limit */
/* Runs the statements; *jump becomes BREAK or CONTINUE when one of these left them, else it is
 * untouched. */
hdl_err hdl_jexec(hdl_jrun *run, const hdl_jnode *body, hdl_jnode_kind *jump) HDL_MUST_CHECK;
/* The body's text as a value, in a scope of its own that is given. */
hdl_err hdl_jcapture(hdl_jrun *run, const hdl_jnode *body, hdl_jframe *frame,
                     hdl_jval *out) HDL_MUST_CHECK;
