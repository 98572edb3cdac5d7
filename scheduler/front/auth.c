/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/front/auth.h"

#include <heddle/limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/fs.h"
#include "scheduler/front/tls.h"

enum { FILE_BYTES_MAX = 1 << 20, KEY_BYTES_MIN = 8, KEYS_MAX = 4096, NAME_BYTES_MAX = 64 };

typedef struct key_row {
    unsigned char hash[HDL_SHA256_BYTES];
    hdl_tenant tenant;
} key_row;

typedef struct key_table {
    size_t n;
    uint32_t n_tenants;
    char (*names)[NAME_BYTES_MAX + 1]; /* [HDL_TENANTS_MAX]; only while reading */
    key_row rows[KEYS_MAX];
} key_table;

struct hdl_keys {
    pthread_rwlock_t lock; /* of table: written by a reload alone */
    key_table *table;      /* owned */
    char *path;
};

/* Tenant 0 is for servers without keys; named and unnamed lines count from 1. */
static hdl_err find_tenant(key_table *table, const char *name, uint32_t *out, hdl_errmsg *why)
{
    for (uint32_t t = 1; *name && t <= table->n_tenants; t++)
        if (strcmp(table->names[t], name) == 0) {
            *out = t;
            return HDL_OK;
        }
    if (table->n_tenants + 1 >= HDL_TENANTS_MAX)
        return hdl_fail(HDL_INVALID, why,
                        "too many tenants; there is room for %d; give several keys one name",
                        HDL_TENANTS_MAX - 1);
    *out = ++table->n_tenants;
    (void)snprintf(table->names[*out], sizeof table->names[*out], "%s", name);
    return HDL_OK;
}

static hdl_err read_line(key_table *table, char *line, size_t line_no, hdl_errmsg *why)
{
    while (*line == ' ' || *line == '\t')
        line++;
    size_t len = strlen(line);
    while (len && (line[len - 1] == ' ' || line[len - 1] == '\t' || line[len - 1] == '\r'))
        line[--len] = 0;
    if (len == 0 || *line == '#')
        return HDL_OK;
    char *colon = strchr(line, ':');
    const char *key = colon ? colon + 1 : line;
    if (colon)
        *colon = 0;
    if (strlen(key) < KEY_BYTES_MIN)
        return hdl_fail(HDL_INVALID, why,
                        "line %zu: the key is too short; fewer than %d characters can be guessed; "
                        "make one with `openssl rand -hex 24`",
                        line_no, KEY_BYTES_MIN);
    if (colon && strlen(line) > NAME_BYTES_MAX)
        return hdl_fail(HDL_INVALID, why, "line %zu: the name is longer than %d bytes; shorten it",
                        line_no, NAME_BYTES_MAX);
    if (table->n == KEYS_MAX)
        return hdl_fail(HDL_INVALID, why, "line %zu: more than %d keys; remove some", line_no,
                        KEYS_MAX);
    key_row *row = &table->rows[table->n];
    HDL_TRY(find_tenant(table, colon ? line : "", &row->tenant.idx, why));
    hdl_tls_sha256(key, strlen(key), row->hash);
    unsigned char salt[HDL_SHA256_BYTES];
    const void *salted = colon && *line ? (const void *)line : row->hash;
    hdl_tls_sha256(salted, colon && *line ? strlen(line) : sizeof row->hash, salt);
    memcpy(&row->tenant.salt, salt, sizeof row->tenant.salt);
    table->n++;
    return HDL_OK;
}

static hdl_err read_lines(key_table *table, char *text, hdl_errmsg *why)
{
    size_t line_no = 0;
    for (char *line = text; line;) {
        char *lf = strchr(line, '\n');
        if (lf)
            *lf = 0;
        HDL_TRY(read_line(table, line, ++line_no, why));
        line = lf ? lf + 1 : NULL;
    }
    if (table->n == 0)
        return hdl_fail(HDL_INVALID, why,
                        "no key in the file; nobody could use the API; add a line NAME:KEY");
    return HDL_OK;
}

static hdl_err load_table(key_table **out, const char *path, hdl_errmsg *why)
{
    char *text = NULL;
    size_t len = 0;
    hdl_err err = hdl_fs_read(path, FILE_BYTES_MAX, &text, &len, why);
    if (err != HDL_OK)
        return hdl_fail_prefix(err, why, "the file of API keys (http.api_key_file)");
    key_table *table = calloc(1, sizeof *table);
    err = table ? HDL_OK : HDL_NOMEM;
    if (table && !(table->names = calloc(HDL_TENANTS_MAX, sizeof *table->names)))
        err = HDL_NOMEM;
    if (err == HDL_OK && (err = read_lines(table, text, why)) != HDL_OK)
        (void)hdl_fail_prefix(err, why, "%s", path);
    explicit_bzero(text, len);
    free(text);
    if (table) {
        free(table->names);
        table->names = NULL;
    }
    if (err != HDL_OK)
        free(table);
    else
        *out = table;
    return err;
}

hdl_err hdl_keys_open(hdl_keys **out, const char *path, hdl_errmsg *why)
{
    hdl_keys *keys = calloc(1, sizeof *keys);
    if (!keys || !(keys->path = strdup(path)) || pthread_rwlock_init(&keys->lock, NULL) != 0) {
        if (keys)
            free(keys->path);
        free(keys);
        return HDL_NOMEM;
    }
    hdl_err err = load_table(&keys->table, path, why);
    if (err != HDL_OK) {
        hdl_keys_close(keys);
        return err;
    }
    *out = keys;
    return HDL_OK;
}

hdl_err hdl_keys_reload(hdl_keys *keys, hdl_errmsg *why)
{
    key_table *fresh = NULL;
    HDL_TRY(load_table(&fresh, keys->path, why));
    pthread_rwlock_wrlock(&keys->lock);
    key_table *old = keys->table;
    keys->table = fresh;
    pthread_rwlock_unlock(&keys->lock);
    free(old);
    return HDL_OK;
}

void hdl_keys_close(hdl_keys *keys)
{
    if (!keys)
        return;
    pthread_rwlock_destroy(&keys->lock);
    free(keys->table);
    free(keys->path);
    free(keys);
}

bool hdl_keys_find(hdl_keys *keys, const char *key, size_t len, hdl_tenant *tenant)
{
    unsigned char hash[HDL_SHA256_BYTES];
    bool found = false;
    hdl_tls_sha256(key, len, hash);
    pthread_rwlock_rdlock(&keys->lock);
    for (size_t i = 0; i < keys->table->n; i++)
        if (hdl_tls_equal(hash, keys->table->rows[i].hash, sizeof hash)) {
            *tenant = keys->table->rows[i].tenant;
            found = true;
        }
    pthread_rwlock_unlock(&keys->lock);
    return found;
}
