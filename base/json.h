/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON reading (jansson stays inside json.c). The writer is json_write.h.
 *
 * Duplicate keys, NaN, comments, lone surrogates, U+0000, trailing text, numbers beyond
 * int64/double and nesting above HDL_JSON_DEPTH_MAX are refused. A parsed document is immutable
 * and may be read by any thread; all views and strings are borrowed until hdl_json_close. A
 * hdl_jv is a small value: the node and the way to it, so that an error can say
 * `messages[2].content must be a string; it is a number`. A child view points at its parent
 * view, which must stay in place while the child is used. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "heddle/err.h"

typedef struct hdl_json hdl_json; /* opaque document; heap, cold */

typedef enum hdl_json_kind {
    HDL_JSON_NULL,
    HDL_JSON_BOOL,
    HDL_JSON_INT,
    HDL_JSON_REAL,
    HDL_JSON_STRING,
    HDL_JSON_ARRAY,
    HDL_JSON_OBJECT
} hdl_json_kind;

typedef struct hdl_jv {
    const void *node;            /* NULL: absent */
    const struct hdl_jv *parent; /* borrowed; NULL: the root */
    const char *key;             /* in an object */
    size_t idx;                  /* in an array */
} hdl_jv;

/* max_bytes is checked before parsing (0: 32 MiB). The message has line and column. Top level
 * may be any value. */
hdl_err hdl_json_parse(const char *text, size_t len, size_t max_bytes, hdl_json **out,
                       hdl_errmsg *why) HDL_MUST_CHECK;
/* As hdl_json_parse, but strings may hold U+0000 (vocabularies show the byte 0 so); hdl_jv_string
 * still refuses those. */
hdl_err hdl_json_parse_nul(const char *text, size_t len, size_t max_bytes, hdl_json **out,
                           hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_json_close(hdl_json *doc);

hdl_jv hdl_json_root(const hdl_json *doc);
hdl_json_kind hdl_jv_kind(const hdl_jv *v);         /* of an absent one: NULL */
const char *hdl_json_kind_text(hdl_json_kind kind); /* "a string", "an object", ... */

/* Member of an object; node NULL when absent or when obj is no object. An explicit null is
 * present. */
hdl_jv hdl_jv_get(const hdl_jv *obj, const char *key);
/* Element; node NULL past the end or when arr is no array. */
hdl_jv hdl_jv_at(const hdl_jv *arr, size_t idx);
size_t hdl_jv_len(const hdl_jv *v); /* elements or members; 0 for others */
static inline bool hdl_jv_present(const hdl_jv *v) { return v->node != NULL; }
/* Present and not null. */
static inline bool hdl_jv_given(const hdl_jv *v)
{
    return v->node != NULL && hdl_jv_kind(v) != HDL_JSON_NULL;
}

/* Walks an object in the order of the text: *iter starts as NULL. */
bool hdl_jv_next(const hdl_jv *obj, void **iter, hdl_jv *member);

/* "messages[2].content"; "" for the root. Cut to fit; returns out. */
const char *hdl_jv_path(const hdl_jv *v, char *out, size_t size);

/* Typed reading: HDL_OK, or HDL_INVALID with the path in the message. An absent value is
 * HDL_INVALID too: test with hdl_jv_given. */
hdl_err hdl_jv_bool(const hdl_jv *v, bool *out, hdl_errmsg *why) HDL_MUST_CHECK;
/* min and max included. A real with an integral value (1.0) is taken. */
typedef struct hdl_jv_range {
    int64_t min;
    int64_t max;
} hdl_jv_range;
hdl_err hdl_jv_int(const hdl_jv *v, hdl_jv_range range, int64_t *out,
                   hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_jv_double(const hdl_jv *v, double *out, hdl_errmsg *why) HDL_MUST_CHECK;
/* NUL-terminated, valid UTF-8 without embedded NUL; len may be NULL. */
hdl_err hdl_jv_string(const hdl_jv *v, const char **out, size_t *len,
                      hdl_errmsg *why) HDL_MUST_CHECK;
/* Must be of this kind. */
hdl_err hdl_jv_expect(const hdl_jv *v, hdl_json_kind kind, hdl_errmsg *why) HDL_MUST_CHECK;
/* `<path> <what>`, code HDL_INVALID: for checks of the caller's own. */
hdl_err hdl_jv_fail(const hdl_jv *v, hdl_errmsg *why, const char *fmt, ...) HDL_PRINTF(3, 4);

/* The value as compact JSON text appended to a buffer (tool schemas, template values). */
hdl_err hdl_jv_dump(const hdl_jv *v, hdl_buf *out) HDL_MUST_CHECK;
