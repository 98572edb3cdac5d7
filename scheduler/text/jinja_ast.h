/* SPDX-License-Identifier: Apache-2.0 */
/* A parsed chat template: the nodes that jinja_parse*.c make and jinja_eval*.c walk. Immutable;
 * lives in the template's memory. */
#pragma once

#include "scheduler/text/jinja_value.h"

typedef enum hdl_jnode_kind {
    /* statements */
    HDL_JN_TEXT,       /* value */
    HDL_JN_PRINT,      /* a: expression */
    HDL_JN_IF,         /* a: condition, body, other (an IF for elif) */
    HDL_JN_FOR,        /* target, a: iterable, b: filter or NULL, body, other: else */
    HDL_JN_SET,        /* target, a: value */
    HDL_JN_SET_BLOCK,  /* target, a: filters around the body (innermost a is NULL) or NULL, body */
    HDL_JN_MACRO,      /* name, items: NAMEs with a: default, body */
    HDL_JN_CALL_BLOCK, /* a: CALL, items: the caller's NAMEs, body */
    HDL_JN_FILTER_BLOCK, /* a: filters as in SET_BLOCK, body */
    HDL_JN_WITH,         /* items: SETs, body */
    HDL_JN_BODY,         /* body: what stands between {% generation %} tags */
    HDL_JN_BREAK,
    HDL_JN_CONTINUE,
    /* expressions */
    HDL_JN_CONST,   /* value */
    HDL_JN_NAME,    /* name */
    HDL_JN_LIST,    /* items */
    HDL_JN_TUPLE,   /* items; also as a target */
    HDL_JN_DICT,    /* items: key, value, key, value ... */
    HDL_JN_ATTR,    /* a, name; as a target: a is NAME */
    HDL_JN_ITEM,    /* a, b */
    HDL_JN_SLICE,   /* a, items: start, stop, step; each may be NULL */
    HDL_JN_CALL,    /* a, items and names: arguments */
    HDL_JN_FILTER,  /* a, name, filter, items and names: arguments */
    HDL_JN_TEST,    /* a, name, test, items */
    HDL_JN_NOT,     /* a */
    HDL_JN_NEG,     /* a */
    HDL_JN_POS,     /* a */
    HDL_JN_AND,     /* a, b */
    HDL_JN_OR,      /* a, b */
    HDL_JN_COND,    /* a: condition, b, c: NULL gives undefined */
    HDL_JN_COMPARE, /* a, items: operands; ops */
    HDL_JN_BINARY,  /* a, b, op */
    HDL_JN_CONCAT,  /* items */
} hdl_jnode_kind;

typedef enum hdl_jop {
    HDL_JOP_EQ,
    HDL_JOP_NE,
    HDL_JOP_LT,
    HDL_JOP_LE,
    HDL_JOP_GT,
    HDL_JOP_GE,
    HDL_JOP_IN,
    HDL_JOP_NOT_IN,
    HDL_JOP_ADD,
    HDL_JOP_SUB,
    HDL_JOP_MUL,
    HDL_JOP_DIV,
    HDL_JOP_FLOORDIV,
    HDL_JOP_MOD,
    HDL_JOP_POW,
} hdl_jop;

typedef struct hdl_jnode {
    hdl_jnode_kind kind;
    uint32_t line;
    hdl_jop op;
    const char *name; /* one pointer per spelling: compared as pointers */
    struct hdl_jnode *a, *b, *c, *target;
    struct hdl_jnode **items;
    size_t n_items;
    const char **names; /* [n_items] keyword of each argument; NULL: positional */
    hdl_jop *ops;       /* [n_items] */
    struct hdl_jnode *body, *other, *next; /* lists of statements */
    const struct hdl_jfunction *function;  /* FILTER, TEST */
    hdl_jval value;
} hdl_jnode;

/* Words with one pointer each. */
typedef struct hdl_jnames {
    const char **v;
    size_t n, size;
} hdl_jnames;

typedef struct hdl_jprogram {
    hdl_jmem mem; /* of everything here */
    hdl_jnames names;
    hdl_jnode *body;
    bool wants_parts; /* loops over a message's content: lists of parts are passed on as they are */
} hdl_jprogram;

/* UNSUPPORTED or INVALID with the line. deinit also after a failure. */
hdl_err hdl_jprogram_init(hdl_jprogram *program, hdl_text source, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_jprogram_deinit(hdl_jprogram *program);
/* The pointer for a word; NULL when the program does not contain it. */
const char *hdl_jnames_find(const hdl_jnames *names, hdl_text word);
