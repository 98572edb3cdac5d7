/* SPDX-License-Identifier: Apache-2.0 */
/* Key table, files and flags. A file is walked by its own structure, not by the table's, so that
 * nothing in it goes unread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/config_private.h"
#include "base/units.h"
#include "base/yaml.h"

enum { PATH_BYTES = 128, ARENA_BYTES_MAX = 16 << 20, NAMES_MAX = 512 };

/* Length of the part of path before its last dot, 0 when there is none. */
static size_t section_len(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? (size_t)(dot - path) : 0;
}

static bool in_section(const char *path, const char *section, size_t len)
{
    return strncmp(path, section, len) == 0 && (path[len] == '.' || len == 0);
}

/* The keys of a section stand together, or the printed YAML would open it twice. */
static void check_table(const hdl_cfg_opts *opts)
{
    for (size_t i = 0; i < opts->keys_count; i++) {
        const char *path = opts->keys[i].path;
        HDL_ASSERT(strlen(path) < PATH_BYTES);
        HDL_ASSERT((opts->keys[i].type == HDL_CFG_ENUM) == (opts->keys[i].choices != NULL));
        for (size_t j = 0; j < i; j++) {
            const char *other = opts->keys[j].path;
            HDL_ASSERT(strcmp(other, path) != 0);
            HDL_ASSERT(!in_section(other, path, strlen(path)));
            HDL_ASSERT(!in_section(path, other, strlen(other)));
            size_t len = section_len(path);
            bool together = in_section(opts->keys[i - 1].path, path, len);
            HDL_ASSERT(len == 0 || !in_section(other, path, len) || together);
        }
    }
}

hdl_err hdl_cfg_open(hdl_cfg **out, const hdl_cfg_opts *opts)
{
    *out = NULL;
    check_table(opts);
    hdl_cfg *cfg = calloc(1, sizeof *cfg);
    if (!cfg)
        return HDL_NOMEM;
    hdl_pool_arena_init(&cfg->arena, ARENA_BYTES_MAX);
    cfg->keys = opts->keys;
    cfg->keys_count = opts->keys_count;
    cfg->values = opts->values;
    cfg->origins = hdl_pool_arena_alloc_array(&cfg->arena, opts->keys_count, sizeof(char *));
    cfg->loaded = hdl_pool_arena_alloc_array(&cfg->arena, opts->keys_count, sizeof(bool));
    if (!cfg->origins || !cfg->loaded) {
        hdl_cfg_close(cfg);
        return HDL_NOMEM;
    }
    for (size_t i = 0; i < cfg->keys_count; i++) {
        static const char *const zero[] = {
            [HDL_CFG_BOOL] = "false", [HDL_CFG_INT] = "0",      [HDL_CFG_FLOAT] = "0",
            [HDL_CFG_SIZE] = "0",     [HDL_CFG_DURATION] = "0", [HDL_CFG_STRING] = "",
            [HDL_CFG_LIST] = "",      [HDL_CFG_ENUM] = NULL,
        };
        const hdl_cfg_key *key = &cfg->keys[i];
        const char *def = key->def                    ? key->def
                          : key->type == HDL_CFG_ENUM ? key->choices[0]
                                                      : zero[key->type];
        hdl_err err = hdl_cfg_store(cfg, key, def, NULL);
        HDL_ASSERT(err == HDL_OK || err == HDL_NOMEM); /* a default must be a good value */
        if (err != HDL_OK) {
            hdl_cfg_close(cfg);
            return err;
        }
        cfg->origins[i] = "default";
    }
    *out = cfg;
    return HDL_OK;
}

void hdl_cfg_close(hdl_cfg *cfg)
{
    if (!cfg)
        return;
    hdl_pool_arena_deinit(&cfg->arena);
    free(cfg);
}

const hdl_cfg_key *hdl_cfg_find(const hdl_cfg *cfg, const char *path)
{
    for (size_t i = 0; i < cfg->keys_count; i++)
        if (strcmp(cfg->keys[i].path, path) == 0)
            return &cfg->keys[i];
    return NULL;
}

const char *hdl_cfg_origin(const hdl_cfg *cfg, const char *path)
{
    const hdl_cfg_key *key = hdl_cfg_find(cfg, path);
    return key ? cfg->origins[key - cfg->keys] : NULL;
}

static bool is_section(const hdl_cfg *cfg, const char *path)
{
    for (size_t i = 0; i < cfg->keys_count; i++)
        if (in_section(cfg->keys[i].path, path, strlen(path)))
            return true;
    return false;
}

/* What an unknown path may have meant, into out, or "": first a word that is written nearly so
 * in the same section, then the same last word in another section. */
static void suggest(const hdl_cfg *cfg, const char *path, char out[PATH_BYTES])
{
    size_t len = section_len(path);
    const char *word = len ? path + len + 1 : path;
    char names[NAMES_MAX][48];
    const char *candidates[NAMES_MAX];
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < cfg->keys_count && n < NAMES_MAX; i++) {
        if (!in_section(cfg->keys[i].path, path, len))
            continue;
        const char *name = cfg->keys[i].path + (len ? len + 1 : 0);
        snprintf(names[n], sizeof names[n], "%.*s", (int)strcspn(name, "."), name);
        candidates[n] = names[n];
        n++;
    }
    int near = hdl_suggest(word, candidates, n);
    if (near >= 0) {
        snprintf(out, PATH_BYTES, "%.*s%s%s", (int)len, path, len ? "." : "", names[near]);
        return;
    }
    for (size_t i = 0; i < cfg->keys_count; i++) {
        const char *last = cfg->keys[i].path + section_len(cfg->keys[i].path);
        if (strcmp(last + (*last == '.'), word) == 0) {
            snprintf(out, PATH_BYTES, "%s", cfg->keys[i].path);
            return;
        }
    }
}

static hdl_err fail_unknown(const hdl_cfg *cfg, const char *path, hdl_errmsg *why)
{
    char near[PATH_BYTES];
    suggest(cfg, path, near);
    return hdl_fail(HDL_INVALID, why, "unknown key \"%s\"; %s%s%s", path,
                    near[0] ? "did you mean \"" : "`heddle config` lists all keys", near,
                    near[0] ? "\"?" : "");
}

/* State of loading one file. */
typedef struct loading {
    hdl_cfg *cfg;
    const char *name;
    hdl_errmsg *why;
} loading;

static hdl_err fail_node(const loading *l, const hdl_yaml_node *node, hdl_err err)
{
    return hdl_fail_prefix(err, l->why, "%s:%u:%u", l->name, node->line, node->col);
}

static bool kind_fits(hdl_cfg_type type, const hdl_yaml_node *value)
{
    hdl_yaml_kind kind = value->kind;
    switch (type) {
    case HDL_CFG_BOOL: return kind == HDL_YAML_BOOL;
    case HDL_CFG_INT: return kind == HDL_YAML_INT;
    case HDL_CFG_FLOAT: return kind == HDL_YAML_INT || kind == HDL_YAML_FLOAT;
    case HDL_CFG_SIZE:
    case HDL_CFG_DURATION: return kind == HDL_YAML_INT || kind == HDL_YAML_STRING;
    case HDL_CFG_STRING: return kind == HDL_YAML_STRING;
    case HDL_CFG_ENUM: /* a choice may look like a number */
        return kind == HDL_YAML_STRING || kind == HDL_YAML_INT || kind == HDL_YAML_BOOL;
    default: return false;
    }
}

static hdl_err load_list(const loading *l, const hdl_cfg_key *key, const hdl_yaml_node *value)
{
    if (value->kind != HDL_YAML_SEQ)
        return fail_node(l, value,
                         hdl_fail(HDL_INVALID, l->why, "%s must be a list of strings; it is %s",
                                  key->path, hdl_yaml_kind_text(value->kind)));
    const char **items = hdl_pool_arena_alloc_array(&l->cfg->arena, value->count, sizeof *items);
    if (!items)
        return hdl_fail(HDL_NOMEM, l->why, "no memory for %s", key->path);
    for (size_t i = 0; i < value->count; i++) {
        if (value->items[i]->kind != HDL_YAML_STRING)
            return fail_node(l, value->items[i],
                             hdl_fail(HDL_INVALID, l->why,
                                      "%s must hold strings; this is %s; quote it", key->path,
                                      hdl_yaml_kind_text(value->items[i]->kind)));
        items[i] = value->items[i]->text;
    }
    return hdl_cfg_store_list(l->cfg, key, items, value->count);
}

static hdl_err load_value(const loading *l, const hdl_cfg_key *key, const hdl_yaml_node *value)
{
    hdl_cfg *cfg = l->cfg;
    size_t idx = (size_t)(key - cfg->keys);
    if (cfg->loaded[idx])
        return fail_node(l, value,
                         hdl_fail(HDL_INVALID, l->why, "%s is given twice; remove one", key->path));
    cfg->loaded[idx] = true;
    if (value->kind == HDL_YAML_NULL)
        return fail_node(l, value,
                         hdl_fail(HDL_INVALID, l->why,
                                  "%s has no value; give one or remove the key", key->path));
    if (key->type == HDL_CFG_LIST) {
        HDL_TRY(load_list(l, key, value));
    } else if (!kind_fits(key->type, value)) {
        bool quote = key->type == HDL_CFG_STRING && value->text;
        return fail_node(l, value,
                         hdl_fail(HDL_INVALID, l->why, "%s must be of type %s; it is %s%s",
                                  key->path, hdl_cfg_type_name(key->type),
                                  hdl_yaml_kind_text(value->kind), quote ? "; quote it" : ""));
    } else if (hdl_cfg_store(cfg, key, value->text, l->why) != HDL_OK) {
        return fail_node(l, value, hdl_fail_prefix(HDL_INVALID, l->why, "%s", key->path));
    }
    char origin[320];
    int n = snprintf(origin, sizeof origin, "%.280s:%u:%u", l->name, value->line, value->col);
    const char *copy = hdl_pool_arena_copy(&cfg->arena, origin, (size_t)n);
    cfg->origins[idx] = copy ? copy : "file";
    return HDL_OK;
}

/* Recursion is bounded by the depth of sections, at most HDL_YAML_DEPTH_MAX. */
static hdl_err load_map(const loading *l, const hdl_yaml_node *map, const char *prefix)
{
    for (size_t i = 0; i < map->count; i++) {
        const hdl_yaml_node *name = map->pairs[i].key, *value = map->pairs[i].value;
        char path[PATH_BYTES];
        int n = snprintf(path, sizeof path, "%s%s%s", prefix, prefix[0] ? "." : "", name->text);
        if (n < 0 || (size_t)n >= sizeof path)
            return fail_node(l, name,
                             hdl_fail(HDL_INVALID, l->why, "unknown key \"%.40s...\"", path));
        const hdl_cfg_key *key = hdl_cfg_find(l->cfg, path);
        if (key) {
            HDL_TRY(load_value(l, key, value));
        } else if (!is_section(l->cfg, path)) {
            return fail_node(l, name, fail_unknown(l->cfg, path, l->why));
        } else if (value->kind == HDL_YAML_MAP) {
            HDL_TRY(load_map(l, value, path));
        } else if (value->kind != HDL_YAML_NULL) { /* an empty section is fine */
            return fail_node(l, value,
                             hdl_fail(HDL_INVALID, l->why,
                                      "%s is a section; write its keys below it, indented", path));
        }
    }
    return HDL_OK;
}

static hdl_err load_doc(hdl_cfg *cfg, const hdl_yaml *doc, hdl_errmsg *why)
{
    loading l = {.cfg = cfg, .name = hdl_yaml_name(doc), .why = why};
    const hdl_yaml_node *root = hdl_yaml_root(doc);
    if (root->kind != HDL_YAML_MAP)
        return fail_node(&l, root,
                         hdl_fail(HDL_INVALID, why, "a configuration is a mapping; it is %s",
                                  hdl_yaml_kind_text(root->kind)));
    memset(cfg->loaded, 0, cfg->keys_count * sizeof *cfg->loaded);
    return load_map(&l, root, "");
}

hdl_err hdl_cfg_load_text(hdl_cfg *cfg, const char *name, const char *text, hdl_errmsg *why)
{
    hdl_yaml *doc;
    HDL_TRY(hdl_yaml_parse(name, text, strlen(text), &doc, why));
    hdl_err err = load_doc(cfg, doc, why);
    hdl_yaml_close(doc);
    return err;
}

hdl_err hdl_cfg_load_file(hdl_cfg *cfg, const char *path, hdl_errmsg *why)
{
    hdl_yaml *doc;
    HDL_TRY(hdl_yaml_load(path, &doc, why));
    hdl_err err = load_doc(cfg, doc, why);
    hdl_yaml_close(doc);
    return err;
}

hdl_err hdl_cfg_set(hdl_cfg *cfg, hdl_cfg_assign assign, hdl_errmsg *why)
{
    const char *origin = assign.origin ? assign.origin : "set";
    const hdl_cfg_key *key = hdl_cfg_find(cfg, assign.path);
    if (!key)
        return hdl_fail_prefix(fail_unknown(cfg, assign.path, why), why, "%s", origin);
    hdl_err err = hdl_cfg_store(cfg, key, assign.value, why);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "%s", origin);
    const char *copy = hdl_pool_arena_copy(&cfg->arena, origin, strlen(origin));
    cfg->origins[key - cfg->keys] = copy ? copy : "set";
    return HDL_OK;
}
