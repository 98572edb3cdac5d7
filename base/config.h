/* SPDX-License-Identifier: Apache-2.0 */
/* Strict configuration from one key table: YAML files, command-line flags, documentation and
 * dump all read it.
 *
 * The caller owns a plain struct of values and a constant table that says where each dotted key
 * lives in it; keys of a section stand together. Order: hdl_cfg_open writes the defaults,
 * hdl_cfg_load_file what the file says, hdl_cfg_set what flags say; the later wins. An unknown
 * or duplicate key, a wrong type or a value out of range is refused with `file:line:col` and,
 * where one is near, `did you mean`; the struct is then not to be used. Strings and lists are
 * owned by the hdl_cfg and live until hdl_cfg_close. Main thread, before others start. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "heddle/err.h"

/*  type      field in the struct      as text */
#define HDL_CFG_TYPE_LIST(X)                                                                       \
    X(BOOL, "bool")         /* bool                        true | false */                         \
    X(INT, "int")           /* int64_t                     42 */                                   \
    X(FLOAT, "float")       /* double                      0.5 */                                  \
    X(SIZE, "size")         /* uint64_t bytes              4GiB */                                 \
    X(DURATION, "duration") /* uint64_t microseconds       150ms */                                \
    X(STRING, "string")     /* const char *                never NULL; "" when empty */            \
    X(ENUM, "enum")         /* int                         index into choices */                   \
    X(LIST, "list")         /* hdl_cfg_list                list of strings; on a flag: a,b,c */

#define HDL_CFG_TYPE_ENUM(name, text) HDL_CFG_##name,
typedef enum hdl_cfg_type { HDL_CFG_TYPE_LIST(HDL_CFG_TYPE_ENUM) HDL_CFG_TYPE_COUNT } hdl_cfg_type;
#undef HDL_CFG_TYPE_ENUM

typedef struct hdl_cfg_list {
    const char *const *items; /* owned by the hdl_cfg */
    size_t count;
} hdl_cfg_list;

typedef struct hdl_cfg_key {
    const char *path; /* "http.port"; parts of [a-z0-9_] joined by dots */
    hdl_cfg_type type;
    size_t offset;              /* offsetof(caller's struct, field) */
    const char *def;            /* as in a flag; NULL: "", 0, false, empty */
    const char *doc;            /* one line, no period needed */
    double min, max;            /* numbers, bytes, us; included; both 0: unbounded */
    const char *const *choices; /* ENUM: NULL-terminated */
} hdl_cfg_key;

typedef struct hdl_cfg_opts {
    const hdl_cfg_key *keys; /* borrowed: until close */
    size_t keys_count;
    void *values; /* borrowed: until close */
} hdl_cfg_opts;

typedef struct hdl_cfg hdl_cfg; /* opaque; heap, cold */

/* Asserts that the table is well-formed: no duplicate paths, defaults that parse and lie in
 * range. */
hdl_err hdl_cfg_open(hdl_cfg **out, const hdl_cfg_opts *opts) HDL_MUST_CHECK;
void hdl_cfg_close(hdl_cfg *cfg);

hdl_err hdl_cfg_load_file(hdl_cfg *cfg, const char *path, hdl_errmsg *why) HDL_MUST_CHECK;
/* name is for messages. */
hdl_err hdl_cfg_load_text(hdl_cfg *cfg, const char *name, const char *text,
                          hdl_errmsg *why) HDL_MUST_CHECK;
/* One value as text; origin ("--port") starts the message and is what hdl_cfg_origin gives
 * (copied). */
typedef struct hdl_cfg_assign {
    const char *path;
    const char *value;
    const char *origin;
} hdl_cfg_assign;
hdl_err hdl_cfg_set(hdl_cfg *cfg, hdl_cfg_assign assign, hdl_errmsg *why) HDL_MUST_CHECK;

const hdl_cfg_key *hdl_cfg_find(const hdl_cfg *cfg, const char *path);
/* "default", "heddle.yaml:3:7", "--port"; NULL for an unknown key. */
const char *hdl_cfg_origin(const hdl_cfg *cfg, const char *path);

/* Commented YAML of every key with type, range, default and doc: itself a valid configuration
 * file. */
hdl_err hdl_cfg_print_docs(const hdl_cfg *cfg, hdl_buf *out) HDL_MUST_CHECK;
/* The effective values as YAML, each with its origin as a comment; loads back to the same
 * values. */
hdl_err hdl_cfg_dump(const hdl_cfg *cfg, hdl_buf *out) HDL_MUST_CHECK;
