/* SPDX-License-Identifier: Apache-2.0 */
/* Values of chat templates: Python's types as far as Jinja shows them, with Python's str, repr, ==,
 * < and json.dumps.
 *
 * All memory is that of one hdl_jmem, a capped arena: a render's own, or the compiled template's
 * for constants. Strings are UTF-8 slices that never change; lists and dictionaries change only
 * while they are built, but for namespaces. One thread. */
#pragma once

#include <heddle/err.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "scheduler/text/vocab.h"

typedef enum hdl_jkind {
    HDL_J_UNDEFINED, /* s: what was looked for */
    HDL_J_NONE,
    HDL_J_BOOL,
    HDL_J_INT,
    HDL_J_FLOAT,
    HDL_J_STRING,
    HDL_J_LIST,
    HDL_J_TUPLE,
    HDL_J_DICT,
    HDL_J_GENERATOR, /* what select, map, ... give: always true, good for one walk, no length */
    HDL_J_NAMESPACE,
    HDL_J_LOOP,
    HDL_J_MACRO,
    HDL_J_FUNCTION,
    HDL_J_METHOD,
    HDL_J_MISSING, /* an argument that was not given; templates never see it */
} hdl_jkind;

typedef struct hdl_jval {
    hdl_jkind kind;
    bool markup; /* STRING: from `safe`; with + it escapes what it is joined to, as Python's Markup
                  */
    union {
        bool b;
        int64_t i;
        double f;
        hdl_text s;
        struct hdl_jlist *list; /* LIST, TUPLE */
        struct hdl_jdict *dict; /* DICT, NAMESPACE */
        struct hdl_jgenerator *generator;
        struct hdl_jloop *loop;
        struct hdl_jmacro *macro;
        const struct hdl_jfunction *function;
        struct hdl_jmethod *method;
    };
} hdl_jval;

typedef struct hdl_jlist {
    hdl_jval *v;
    size_t n, size;
} hdl_jlist;

typedef struct hdl_jgenerator {
    hdl_jlist *list;
    const char *broken; /* type of the value that was to be walked and cannot be; else NULL */
} hdl_jgenerator;

typedef struct hdl_jdict {
    hdl_jval *keys, *values; /* [n] in the order of insertion */
    size_t n, size;
    uint32_t *slots; /* index + 1 by hash of string keys; NULL while small */
    size_t n_slots;
} hdl_jdict;

/* Memory of strings, and for each byte of it whether it is the template's own: written in its
 * source, and not taken from a message. Only own text may become special tokens, so whatever copies
 * strings copies their origin too. */
typedef struct hdl_jchunk {
    char *p;
    size_t size;
    unsigned char *own; /* [size] 1 or 0; NULL: all of it is */
} hdl_jchunk;

/* What is done with values is counted, because foreign code asks for it. A step is work of some
 * 30 ns: a value looked at, a piece of memory taken, 64 bytes copied or compared. */
typedef struct hdl_jsteps {
    uint64_t n, max;
} hdl_jsteps;

/* Adds n; false: they are used up. */
static inline bool hdl_jsteps_add(hdl_jsteps *steps, size_t n)
{
    if (__builtin_add_overflow(steps->n, n, &steps->n))
        steps->n = UINT64_MAX;
    return steps->n <= steps->max;
}

/* Where values live. A string that was built last can grow in place: `s = s ~ x` in a loop stays
 * linear. */
typedef struct hdl_jmem {
    hdl_pool_arena arena;
    hdl_jchunk *chunks; /* [n_chunks] by address; the arena's */
    size_t n_chunks, chunks_max;
    hdl_jchunk at;                    /* the chunk that strings go to now */
    size_t used;                      /* of it */
    const struct hdl_jmem *constants; /* the compiled template's memory; NULL: this is it */
    hdl_jsteps steps; /* what is taken and copied here is counted; without end unless max is set */
} hdl_jmem;

/* jinja_mem.c */
void hdl_jmem_init(hdl_jmem *mem, size_t cap_bytes, const hdl_jmem *constants);
void hdl_jmem_deinit(hdl_jmem *mem);
/* Zeroed. NULL: the cap is reached, or the steps are used up. */
void *hdl_jmem_alloc(hdl_jmem *mem, size_t bytes);
void *hdl_jmem_array(hdl_jmem *mem, size_t count, size_t item_bytes);
/* This memory of the arena holds strings of the template's source. */
hdl_err hdl_jmem_note(hdl_jmem *mem, hdl_text text) HDL_MUST_CHECK;
/* Copies; BUSY as NULL above. Text from elsewhere is not the template's own. */
hdl_err hdl_jstring(hdl_jmem *mem, hdl_text text, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jstring_own(hdl_jmem *mem, hdl_text text, bool own, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jconcat(hdl_jmem *mem, hdl_text a, hdl_text b, hdl_jval *out) HDL_MUST_CHECK;
/* The origin of each byte; and: is all of it the template's own. */
void hdl_jmem_origin(const hdl_jmem *mem, hdl_text text, unsigned char *own);
bool hdl_jmem_is_own(const hdl_jmem *mem, hdl_text text);

/* Text that comes out, with its origin. */
typedef struct hdl_jout {
    hdl_buf *text; /* borrowed */
    hdl_buf own;   /* a byte 1 or 0 for each byte that was put here */
} hdl_jout;
void hdl_jout_init(hdl_jout *out, hdl_buf *text);
void hdl_jout_deinit(hdl_jout *out);
/* str() of a value. */
hdl_err hdl_jout_put(hdl_jout *out, hdl_jmem *mem, const hdl_jval *v) HDL_MUST_CHECK;
/* All that was put, as a string; the text has nothing else. */
hdl_err hdl_jout_string(const hdl_jout *out, hdl_jmem *mem, hdl_jval *v) HDL_MUST_CHECK;

hdl_err hdl_jlist_new(hdl_jmem *mem, size_t room, hdl_jlist **out) HDL_MUST_CHECK;
hdl_err hdl_jlist_push(hdl_jmem *mem, hdl_jlist *list, hdl_jval v) HDL_MUST_CHECK;
hdl_err hdl_jdict_new(hdl_jmem *mem, hdl_jdict **out) HDL_MUST_CHECK;
hdl_err hdl_jdict_set(hdl_jmem *mem, hdl_jdict *dict, hdl_jval key, hdl_jval value) HDL_MUST_CHECK;
/* NULL: no such key. steps as below. */
hdl_jval *hdl_jdict_get(const hdl_jdict *dict, hdl_jval key, hdl_jsteps *steps);
hdl_err hdl_jval_of_json(hdl_jmem *mem, const hdl_jv *json, hdl_jval *out) HDL_MUST_CHECK;

static inline hdl_jval hdl_jnone(void) { return (hdl_jval){.kind = HDL_J_NONE}; }
static inline hdl_jval hdl_jbool(bool b) { return (hdl_jval){.kind = HDL_J_BOOL, .b = b}; }
static inline hdl_jval hdl_jint(int64_t i) { return (hdl_jval){.kind = HDL_J_INT, .i = i}; }
static inline hdl_jval hdl_jslice(hdl_text s) { return (hdl_jval){.kind = HDL_J_STRING, .s = s}; }
static inline hdl_jval hdl_jlist_val(hdl_jlist *l)
{
    return (hdl_jval){.kind = HDL_J_LIST, .list = l};
}
static inline hdl_jval hdl_jdict_val(hdl_jdict *d)
{
    return (hdl_jval){.kind = HDL_J_DICT, .dict = d};
}
hdl_jval hdl_jcstr(const char *text);      /* borrows */
hdl_jval hdl_jundefined(const char *name); /* borrows */

bool hdl_jval_is(const hdl_jval *v, const char *text); /* a string with this text */
bool hdl_jval_true(const hdl_jval *v);
bool hdl_jval_number(const hdl_jval *v, double *out); /* bool, int, float */
const char *hdl_jval_type(const hdl_jval *v);         /* Python's name */
/* The lists of a template can share their items, so that walking a small one may take for ever.
 * Whatever walks counts in *steps and gives up when they are used up: equal and get with any
 * answer, so that their caller has to look at the steps; the others with BUSY. NULL: values that
 * came as JSON, which share nothing; not counted. */
bool hdl_jval_equal(const hdl_jval *a, const hdl_jval *b, hdl_jsteps *steps);
/* -1, 0, 1; INVALID when Python has no order for the two. */
hdl_err hdl_jval_order(const hdl_jval *a, const hdl_jval *b, hdl_jsteps *steps,
                       int *out) HDL_MUST_CHECK;
size_t hdl_jtext_chars(hdl_text text);
size_t hdl_jtext_at(hdl_text text, size_t chars); /* where that many characters end; len at most */
/* Python's white space: Unicode's and U+001C to U+001F. */
bool hdl_jspace(uint32_t cp);
hdl_text hdl_jtrim(hdl_text text, bool left, bool right);

/* str() of a value, appended. */
hdl_err hdl_jval_str(const hdl_jval *v, hdl_jsteps *steps, hdl_buf *out) HDL_MUST_CHECK;
typedef struct hdl_jjson_style {
    bool ensure_ascii, sort_keys;
    int indent; /* -1: none */
    hdl_text item_separator, key_separator;
} hdl_jjson_style;
/* json.dumps; INVALID for what JSON has no form for. */
hdl_err hdl_jval_json(const hdl_jval *v, const hdl_jjson_style *style, hdl_jsteps *steps,
                      hdl_buf *out) HDL_MUST_CHECK;
