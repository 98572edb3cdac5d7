/* SPDX-License-Identifier: Apache-2.0 */
/* One value: from text into the caller's struct and back into YAML. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/config_private.h"
#include "base/json_write.h"
#include "base/units.h"
#include "base/utf8.h"

#define TYPE_TEXT(name, text) text,
static const char *const type_names[] = {HDL_CFG_TYPE_LIST(TYPE_TEXT)};
#undef TYPE_TEXT

const char *hdl_cfg_type_name(hdl_cfg_type type)
{
    HDL_ASSERT_LT((unsigned)type, (unsigned)HDL_CFG_TYPE_COUNT);
    return type_names[type];
}

/* What a value must look like, for messages. */
static const char *form_of(hdl_cfg_type type)
{
    switch (type) {
    case HDL_CFG_BOOL: return "true or false";
    case HDL_CFG_INT: return "an integer";
    case HDL_CFG_FLOAT: return "a number";
    case HDL_CFG_SIZE: return "a size such as 512MiB or 4GiB";
    case HDL_CFG_DURATION: return "a duration such as 150ms, 2s or 5m";
    default: return "text";
    }
}

/* A bound in the notation of the key's type. */
static void bound_text(const hdl_cfg_key *key, double bound, char out[HDL_UNITS_TEXT_BYTES])
{
    if (key->type == HDL_CFG_SIZE && bound >= 0)
        hdl_format_size_exact((uint64_t)bound, out);
    else if (key->type == HDL_CFG_DURATION && bound >= 0)
        hdl_format_duration((uint64_t)bound, out);
    else
        snprintf(out, HDL_UNITS_TEXT_BYTES, "%.15g", bound);
}

static bool has_range(const hdl_cfg_key *key) { return key->min != 0 || key->max != 0; }

static hdl_err check_range(const hdl_cfg_key *key, double value, const char *text, hdl_errmsg *why)
{
    if (!has_range(key) || (value >= key->min && value <= key->max))
        return HDL_OK;
    char min[HDL_UNITS_TEXT_BYTES], max[HDL_UNITS_TEXT_BYTES];
    bound_text(key, key->min, min);
    bound_text(key, key->max, max);
    return hdl_fail(HDL_INVALID, why, "must be %s to %s; it is %.60s", min, max, text);
}

static hdl_err store_choice(const hdl_cfg_key *key, int *field, const char *text, hdl_errmsg *why)
{
    size_t count = 0;
    for (; key->choices[count]; count++) {
        if (strcmp(key->choices[count], text) == 0) {
            *field = (int)count;
            return HDL_OK;
        }
    }
    char list[256] = "";
    size_t at = 0;
    for (size_t i = 0; i < count && at < sizeof list; i++) {
        int n = snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", key->choices[i]);
        at += n > 0 ? (size_t)n : 0;
    }
    int near = hdl_suggest(text, key->choices, count);
    return hdl_fail(HDL_INVALID, why, "must be one of %s; it is \"%.60s\"%s%s%s", list, text,
                    near >= 0 ? "; did you mean \"" : "", near >= 0 ? key->choices[near] : "",
                    near >= 0 ? "\"?" : "");
}

hdl_err hdl_cfg_store_list(hdl_cfg *cfg, const hdl_cfg_key *key, const char *const *items,
                           size_t count)
{
    const char **copy = hdl_pool_arena_alloc_array(&cfg->arena, count, sizeof *copy);
    if (!copy)
        return HDL_NOMEM;
    for (size_t i = 0; i < count; i++) {
        copy[i] = hdl_pool_arena_copy(&cfg->arena, items[i], strlen(items[i]));
        if (!copy[i])
            return HDL_NOMEM;
    }
    hdl_cfg_list list = {.items = copy, .count = count};
    memcpy(cfg->values + key->offset, &list, sizeof list);
    return HDL_OK;
}

/* "a,b,c"; an empty text is an empty list. */
static hdl_err store_comma_list(hdl_cfg *cfg, const hdl_cfg_key *key, const char *text)
{
    char *copy = hdl_pool_arena_copy(&cfg->arena, text, strlen(text));
    if (!copy)
        return HDL_NOMEM;
    size_t count = *text != '\0';
    for (const char *p = text; *p; p++)
        count += *p == ',';
    const char **items = hdl_pool_arena_alloc_array(&cfg->arena, count, sizeof *items);
    if (!items)
        return HDL_NOMEM;
    for (size_t i = 0; i < count; i++) {
        items[i] = copy;
        copy += strcspn(copy, ",");
        *copy++ = '\0';
    }
    hdl_cfg_list list = {.items = items, .count = count};
    memcpy(cfg->values + key->offset, &list, sizeof list);
    return HDL_OK;
}

/* The field is written only when the value is good; memcpy because the table, not the compiler,
 * knows its type. */
hdl_err hdl_cfg_store(hdl_cfg *cfg, const hdl_cfg_key *key, const char *text, hdl_errmsg *why)
{
    void *field = cfg->values + key->offset;
    bool ok = true, flag;
    int64_t number;
    uint64_t amount;
    double real;
    int choice = 0;
    switch (key->type) {
    case HDL_CFG_BOOL:
        ok = hdl_parse_bool(text, &flag);
        if (ok)
            memcpy(field, &flag, sizeof flag);
        break;
    case HDL_CFG_INT:
        ok = hdl_parse_int(text, &number);
        if (ok) {
            HDL_TRY(check_range(key, (double)number, text, why));
            memcpy(field, &number, sizeof number);
        }
        break;
    case HDL_CFG_FLOAT:
        ok = hdl_parse_float(text, &real);
        if (ok) {
            HDL_TRY(check_range(key, real, text, why));
            memcpy(field, &real, sizeof real);
        }
        break;
    case HDL_CFG_SIZE:
    case HDL_CFG_DURATION:
        ok = key->type == HDL_CFG_SIZE ? hdl_parse_size(text, &amount)
                                       : hdl_parse_duration(text, &amount);
        if (ok) {
            HDL_TRY(check_range(key, (double)amount, text, why));
            memcpy(field, &amount, sizeof amount);
        }
        break;
    case HDL_CFG_STRING: {
        const char *copy = hdl_pool_arena_copy(&cfg->arena, text, strlen(text));
        if (!copy)
            return hdl_fail(HDL_NOMEM, why, "no memory for the value");
        memcpy(field, &copy, sizeof copy);
        break;
    }
    case HDL_CFG_ENUM:
        HDL_TRY(store_choice(key, &choice, text, why));
        memcpy(field, &choice, sizeof choice);
        break;
    case HDL_CFG_LIST:
        if (store_comma_list(cfg, key, text) != HDL_OK)
            return hdl_fail(HDL_NOMEM, why, "no memory for the value");
        break;
    case HDL_CFG_TYPE_COUNT: HDL_UNREACHABLE("type of a config key");
    }
    if (!ok)
        return hdl_fail(HDL_INVALID, why, "must be %s; it is \"%.60s\"", form_of(key->type), text);
    return HDL_OK;
}

void hdl_cfg_write_type(const hdl_cfg_key *key, hdl_buf *out)
{
    if (key->type == HDL_CFG_ENUM) {
        for (size_t i = 0; key->choices[i]; i++)
            hdl_buf_printf(out, "%s%s", i ? " | " : "", key->choices[i]);
        return;
    }
    hdl_buf_puts(out, type_names[key->type]);
    if (has_range(key)) {
        char min[HDL_UNITS_TEXT_BYTES], max[HDL_UNITS_TEXT_BYTES];
        bound_text(key, key->min, min);
        bound_text(key, key->max, max);
        hdl_buf_printf(out, ", %s to %s", min, max);
    }
}

/* What YAML reads as it stands between double quotes: printable, no quote, no line break of any
 * kind (YAML 1.1, 5.1 and 5.4; JSON allows more). */
static bool stands(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 0x20 && cp < 0x7f && cp != '"' && cp != '\\';
    return cp >= 0xa0 && cp != 0x2028 && cp != 0x2029 && cp != 0xfeff && cp != 0xfffe &&
           cp != 0xffff;
}

/* The character of a well-formed sequence of n bytes; of four bytes, all that matters: it is large.
 */
static uint32_t character(const unsigned char *p, size_t n)
{
    switch (n) {
    case 1: return p[0];
    case 2: return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    case 3: return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    default: return 0x10000;
    }
}

static void write_quoted(const char *text, hdl_buf *out)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t len = strlen(text);
    hdl_buf_puts(out, "\"");
    for (size_t at = 0; at < len;) {
        size_t n = p[at] < 0x80 ? 1 : hdl_utf8_multibyte(p + at, len - at);
        uint32_t c = n ? character(p + at, n) : 0xfffd;
        if (n && stands(c))
            hdl_buf_append(out, p + at, n);
        else if (c == '"' || c == '\\')
            hdl_buf_printf(out, "\\%c", (int)c);
        else
            hdl_buf_printf(out, "\\u%04x", (unsigned)c);
        at += n ? n : 1;
    }
    hdl_buf_puts(out, "\"");
}

void hdl_cfg_write_value(const hdl_cfg *cfg, const hdl_cfg_key *key, hdl_buf *out)
{
    const void *field = cfg->values + key->offset;
    char text[HDL_UNITS_TEXT_BYTES];
    union {
        bool flag;
        int64_t number;
        uint64_t amount;
        double real;
        const char *string;
        int choice;
        hdl_cfg_list list;
    } v;
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    switch (key->type) {
    case HDL_CFG_BOOL:
        memcpy(&v.flag, field, sizeof v.flag);
        hdl_jw_bool(&w, v.flag);
        break;
    case HDL_CFG_INT:
        memcpy(&v.number, field, sizeof v.number);
        hdl_jw_int(&w, v.number);
        break;
    case HDL_CFG_FLOAT:
        memcpy(&v.real, field, sizeof v.real);
        hdl_jw_double(&w, v.real);
        break;
    case HDL_CFG_SIZE:
        memcpy(&v.amount, field, sizeof v.amount);
        hdl_buf_puts(out, hdl_format_size_exact(v.amount, text));
        break;
    case HDL_CFG_DURATION:
        memcpy(&v.amount, field, sizeof v.amount);
        hdl_buf_puts(out, hdl_format_duration(v.amount, text));
        break;
    case HDL_CFG_STRING:
        memcpy(&v.string, field, sizeof v.string);
        write_quoted(v.string, out);
        break;
    case HDL_CFG_ENUM:
        memcpy(&v.choice, field, sizeof v.choice);
        write_quoted(key->choices[v.choice], out);
        break;
    case HDL_CFG_LIST:
        memcpy(&v.list, field, sizeof v.list);
        hdl_buf_puts(out, "[");
        for (size_t i = 0; i < v.list.count; i++) {
            hdl_buf_puts(out, i > 0 ? "," : "");
            write_quoted(v.list.items[i], out);
        }
        hdl_buf_puts(out, "]");
        break;
    case HDL_CFG_TYPE_COUNT: HDL_UNREACHABLE("type of a config key");
    }
}
