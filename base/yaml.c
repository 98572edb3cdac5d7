/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that includes libyaml. One pass over its events builds our own tree; everything
 * the subset refuses is an event, an anchor or a tag, and is refused where it is met, so that
 * neither alias bombs nor deep nesting (quadratic in libyaml) cost anything. */
#include "base/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/fs.h"
#include "base/units.h"

enum { NODES_MAX = 1 << 16, ARENA_BYTES_MAX = 32 << 20 };

struct hdl_yaml {
    hdl_pool_arena arena; /* owned: every node and text */
    const char *name;
    const hdl_yaml_node *root;
};

/* Children of an open container, in a list until their number is known. */
typedef struct child {
    struct child *next;
    const hdl_yaml_node *node;
} child;

typedef struct level {
    hdl_yaml_node *node;
    child *first;
    child **last;
    size_t count; /* of nodes: keys and values both */
} level;

typedef struct builder {
    hdl_yaml *doc;
    hdl_errmsg *why;
    level levels[HDL_YAML_DEPTH_MAX];
    int depth;
    size_t n_nodes;
    hdl_yaml_node *root;
    bool ended; /* the document is complete */
} builder;

/* `name:line:col: message`; marks count from 0. */
static hdl_err fail_at(builder *b, yaml_mark_t mark, const char *fmt, ...) HDL_PRINTF(3, 4);

static hdl_err fail_at(builder *b, yaml_mark_t mark, const char *fmt, ...)
{
    char text[384];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return hdl_fail(HDL_INVALID, b->why, "%s:%zu:%zu: %s", b->doc->name, mark.line + 1,
                    mark.column + 1, text);
}

static hdl_err out_of_memory(builder *b)
{
    return hdl_fail(HDL_NOMEM, b->why, "%s: no memory for the document", b->doc->name);
}

static bool is_null_word(const char *text)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(text, words[i]) == 0)
            return true;
    return false;
}

/* YAML 1.2 core schema for plain scalars, without octal look-alikes and infinities, which stay
 * strings. */
static hdl_yaml_kind kind_of(const char *text)
{
    bool flag;
    int64_t number;
    double real;
    return is_null_word(text)             ? HDL_YAML_NULL
           : hdl_parse_bool(text, &flag)  ? HDL_YAML_BOOL
           : hdl_parse_int(text, &number) ? HDL_YAML_INT
           : hdl_parse_float(text, &real) ? HDL_YAML_FLOAT
                                          : HDL_YAML_STRING;
}

static bool next_is_key(const builder *b)
{
    if (b->depth == 0)
        return false;
    const level *top = &b->levels[b->depth - 1];
    return top->node->kind == HDL_YAML_MAP && top->count % 2 == 0;
}

static hdl_err add_node(builder *b, yaml_mark_t mark, hdl_yaml_node **out)
{
    if (++b->n_nodes > NODES_MAX)
        return fail_at(b, mark, "too many values; at most %d", NODES_MAX);
    hdl_yaml_node *node = hdl_pool_arena_alloc(&b->doc->arena, sizeof *node);
    child *link = hdl_pool_arena_alloc(&b->doc->arena, sizeof *link);
    if (!node || !link)
        return out_of_memory(b);
    node->line = (uint32_t)mark.line + 1;
    node->col = (uint32_t)mark.column + 1;
    link->node = node;
    if (b->depth > 0) {
        level *top = &b->levels[b->depth - 1];
        *top->last = link;
        top->last = &link->next;
        top->count++;
    } else {
        b->root = node;
    }
    *out = node;
    return HDL_OK;
}

static hdl_err add_scalar(builder *b, const yaml_event_t *event)
{
    yaml_mark_t mark = event->start_mark;
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    bool is_key = next_is_key(b);
    if (memchr(text, '\0', len))
        return fail_at(b, mark, "a NUL byte in a value; remove it");
    if (is_key && plain && strcmp(text, "<<") == 0)
        return fail_at(b, mark, "merge keys are not supported; write the keys out");
    if (is_key && len == 0)
        return fail_at(b, mark, "a key without a name; remove the colon or name the key");
    hdl_yaml_node *node;
    HDL_TRY(add_node(b, mark, &node));
    node->quoted = !plain;
    node->text = hdl_pool_arena_copy(&b->doc->arena, text, len);
    node->text_len = len;
    if (!node->text)
        return out_of_memory(b);
    node->kind = plain && !is_key ? kind_of(node->text) : HDL_YAML_STRING;
    return HDL_OK;
}

static hdl_err open_container(builder *b, yaml_mark_t mark, hdl_yaml_kind kind)
{
    if (next_is_key(b))
        return fail_at(b, mark, "a key must be a plain word, not a list or mapping");
    if (b->depth == HDL_YAML_DEPTH_MAX)
        return fail_at(b, mark, "nested too deeply; at most %d levels", HDL_YAML_DEPTH_MAX);
    hdl_yaml_node *node;
    HDL_TRY(add_node(b, mark, &node));
    node->kind = kind;
    level *top = &b->levels[b->depth++];
    *top = (level){.node = node};
    top->last = &top->first;
    return HDL_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const hdl_yaml_pair *x = a, *y = b;
    int order = strcmp(x->key->text, y->key->text);
    if (order != 0)
        return order;
    /* Equal keys in text order, so that the later one is blamed. */
    return x->key->line != y->key->line ? (x->key->line < y->key->line ? -1 : 1)
                                        : (x->key->col < y->key->col ? -1 : 1);
}

static hdl_err check_duplicates(builder *b, const hdl_yaml_pair *pairs, size_t count)
{
    if (count < 2)
        return HDL_OK;
    hdl_yaml_pair *sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        return out_of_memory(b);
    memcpy(sorted, pairs, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_keys);
    hdl_err err = HDL_OK;
    for (size_t i = 1; i < count && err == HDL_OK; i++) {
        const hdl_yaml_node *first = sorted[i - 1].key, *second = sorted[i].key;
        if (strcmp(first->text, second->text) == 0)
            err = fail_at(b, (yaml_mark_t){.line = second->line - 1, .column = second->col - 1},
                          "duplicate key \"%.100s\"; the first is in line %u; remove one",
                          second->text, first->line);
    }
    free(sorted);
    return err;
}

static hdl_err close_container(builder *b)
{
    level *top = &b->levels[--b->depth];
    hdl_yaml_node *node = top->node;
    const child *link = top->first;
    if (node->kind == HDL_YAML_SEQ) {
        const hdl_yaml_node **items =
            hdl_pool_arena_alloc_array(&b->doc->arena, top->count, sizeof *items);
        if (!items)
            return out_of_memory(b);
        for (size_t i = 0; i < top->count; i++, link = link->next)
            items[i] = link->node;
        node->items = items;
        node->count = top->count;
        return HDL_OK;
    }
    node->count = top->count / 2;
    hdl_yaml_pair *pairs = hdl_pool_arena_alloc_array(&b->doc->arena, node->count, sizeof *pairs);
    if (!pairs)
        return out_of_memory(b);
    for (size_t i = 0; i < node->count; i++, link = link->next->next)
        pairs[i] = (hdl_yaml_pair){link->node, link->next->node};
    node->pairs = pairs;
    return check_duplicates(b, pairs, node->count);
}

/* Anchors and tags of any node; NULL when it has none. */
static const char *refused_property(const yaml_event_t *event)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default: break;
    }
    return anchor ? "anchors (&) are not supported; write the value out"
           : tag  ? "tags (!) are not supported; quote the value to make it a string"
                  : NULL;
}

static hdl_err take_event(builder *b, const yaml_event_t *event)
{
    const char *refused = refused_property(event);
    if (refused)
        return fail_at(b, event->start_mark, "%s", refused);
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_at(b, event->start_mark, "aliases (*) are not supported; write the value out");
    case YAML_SCALAR_EVENT: return add_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT: return open_container(b, event->start_mark, HDL_YAML_SEQ);
    case YAML_MAPPING_START_EVENT: return open_container(b, event->start_mark, HDL_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: return close_container(b);
    case YAML_DOCUMENT_START_EVENT:
        return b->ended ? fail_at(b, event->start_mark,
                                  "a second document; one file holds one configuration")
                        : HDL_OK;
    case YAML_DOCUMENT_END_EVENT: b->ended = true; return HDL_OK;
    default: return HDL_OK;
    }
}

/* Reader errors (bad UTF-8) carry an offset but no mark. */
static yaml_mark_t mark_of_offset(const char *text, size_t len, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < len && i < offset; i++) {
        mark.column++;
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

static hdl_err build(builder *b, const char *text, size_t len)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return out_of_memory(b);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    hdl_err err = HDL_OK;
    for (bool more = true; more && err == HDL_OK;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            bool reader = parser.error == YAML_READER_ERROR;
            err = parser.error == YAML_MEMORY_ERROR
                      ? out_of_memory(b)
                      : fail_at(b,
                                reader ? mark_of_offset(text, len, parser.problem_offset)
                                       : parser.problem_mark,
                                "not valid YAML; %s", parser.problem ? parser.problem : "?");
            break;
        }
        more = event.type != YAML_STREAM_END_EVENT;
        err = take_event(b, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return err;
}

hdl_err hdl_yaml_parse(const char *name, const char *text, size_t len, hdl_yaml **out,
                       hdl_errmsg *why)
{
    *out = NULL;
    if (len > HDL_YAML_BYTES_MAX)
        return hdl_fail(HDL_INVALID, why, "%s is too long; it has %zu bytes, at most %d", name, len,
                        HDL_YAML_BYTES_MAX);
    hdl_yaml *doc = calloc(1, sizeof *doc);
    if (!doc)
        return hdl_fail(HDL_NOMEM, why, "%s: no memory for the document", name);
    hdl_pool_arena_init(&doc->arena, ARENA_BYTES_MAX);
    builder b = {.doc = doc, .why = why};
    doc->name = hdl_pool_arena_copy(&doc->arena, name, strlen(name));
    hdl_err err = doc->name ? build(&b, text, len) : HDL_NOMEM;
    if (err == HDL_OK && (!b.root || b.root->kind == HDL_YAML_NULL)) {
        if (!b.root)
            err = add_node(&b, (yaml_mark_t){0}, &b.root);
        if (err == HDL_OK)
            b.root->kind = HDL_YAML_MAP;
    }
    if (err != HDL_OK) {
        hdl_yaml_close(doc);
        return err;
    }
    doc->root = b.root;
    *out = doc;
    return HDL_OK;
}

hdl_err hdl_yaml_load(const char *path, hdl_yaml **out, hdl_errmsg *why)
{
    char *text;
    size_t len;
    *out = NULL;
    HDL_TRY(hdl_fs_read(path, HDL_YAML_BYTES_MAX, &text, &len, why));
    hdl_err err = hdl_yaml_parse(path, text, len, out, why);
    free(text);
    return err;
}

void hdl_yaml_close(hdl_yaml *doc)
{
    if (!doc)
        return;
    hdl_pool_arena_deinit(&doc->arena);
    free(doc);
}

const hdl_yaml_node *hdl_yaml_root(const hdl_yaml *doc) { return doc->root; }

const char *hdl_yaml_name(const hdl_yaml *doc) { return doc->name; }

const hdl_yaml_node *hdl_yaml_get(const hdl_yaml_node *map, const char *key)
{
    for (size_t i = 0; map && map->kind == HDL_YAML_MAP && i < map->count; i++)
        if (strcmp(map->pairs[i].key->text, key) == 0)
            return map->pairs[i].value;
    return NULL;
}

const char *hdl_yaml_kind_text(hdl_yaml_kind kind)
{
    static const char *const text[] = {"nothing",  "a boolean", "an integer", "a number",
                                       "a string", "a list",    "a mapping"};
    return (unsigned)kind < sizeof text / sizeof text[0] ? text[kind] : "?";
}
