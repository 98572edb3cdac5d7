/* SPDX-License-Identifier: Apache-2.0 */
/* Strict YAML for configuration (libyaml stays inside yaml.c).
 *
 * One document, mappings with string keys, sequences, scalars. Refused with `file:line:col`:
 * duplicate keys, anchors, aliases, merge keys, tags, a second document, NUL bytes, more than 1
 * MiB, nesting above 32. Plain scalars follow the YAML 1.2 core schema (true/false/null, ints,
 * floats), quoted ones are strings; `yes`, `no`, `0123` are strings. The document is immutable;
 * everything is borrowed until hdl_yaml_close. Cold path, one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heddle/err.h"

enum { HDL_YAML_BYTES_MAX = 1 << 20, HDL_YAML_DEPTH_MAX = 32 };

typedef enum hdl_yaml_kind {
    HDL_YAML_NULL,
    HDL_YAML_BOOL,
    HDL_YAML_INT,
    HDL_YAML_FLOAT,
    HDL_YAML_STRING,
    HDL_YAML_SEQ,
    HDL_YAML_MAP
} hdl_yaml_kind;

typedef struct hdl_yaml_node hdl_yaml_node;
typedef struct hdl_yaml_pair {
    const hdl_yaml_node *key; /* a scalar; its text is the key */
    const hdl_yaml_node *value;
} hdl_yaml_pair;

struct hdl_yaml_node {
    hdl_yaml_kind kind;
    uint32_t line; /* from 1 */
    uint32_t col;  /* from 1 */
    bool quoted;
    const char *text; /* scalars: as written, NUL-terminated, no embedded NUL; else NULL */
    size_t text_len;
    size_t count; /* of items or pairs */
    union {
        const hdl_yaml_node *const *items;
        const hdl_yaml_pair *pairs;
    };
};

typedef struct hdl_yaml hdl_yaml; /* opaque document; heap, cold */

/* name is for messages ("heddle.yaml") and is copied. An empty document has an empty mapping as
 * root. */
hdl_err hdl_yaml_parse(const char *name, const char *text, size_t len, hdl_yaml **out,
                       hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_yaml_load(const char *path, hdl_yaml **out, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_yaml_close(hdl_yaml *doc);

const hdl_yaml_node *hdl_yaml_root(const hdl_yaml *doc);
const char *hdl_yaml_name(const hdl_yaml *doc);
/* Value of a key of a mapping, or NULL. */
const hdl_yaml_node *hdl_yaml_get(const hdl_yaml_node *map, const char *key);
const char *hdl_yaml_kind_text(hdl_yaml_kind kind); /* "a string", ... */
