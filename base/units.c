/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "heddle/types.h"

typedef struct suffix {
    const char *text;
    uint64_t factor;
} suffix;

static const suffix size_suffixes[] = {
    {"", 1},           {"B", 1},          {"k", 1u << 10},     {"K", 1u << 10},
    {"KiB", 1u << 10}, {"M", 1u << 20},   {"MiB", 1u << 20},   {"G", 1u << 30},
    {"GiB", 1u << 30}, {"T", 1ull << 40}, {"TiB", 1ull << 40}, {"kB", 1000},
    {"KB", 1000},      {"MB", 1000000},   {"GB", 1000000000},  {"TB", 1000000000000},
};

static const suffix duration_suffixes[] = {
    {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000ull}, {"h", 3600000000ull},
};

/* Reads digits[.digits] and a suffix of the table; the product must be whole and fit. */
static bool parse_scaled(const char *text, const suffix *table, size_t count, uint64_t *out)
{
    uint64_t whole = 0, part = 0, scale = 1;
    const char *p = text;
    if (!isdigit((unsigned char)*p))
        return false;
    for (; isdigit((unsigned char)*p); p++)
        if (!hdl_mul_u64(whole, 10, &whole) || !hdl_add_u64(whole, (uint64_t)(*p - '0'), &whole))
            return false;
    if (*p == '.') {
        if (!isdigit((unsigned char)*++p))
            return false;
        for (; isdigit((unsigned char)*p); p++) {
            if (scale >= 1000000)
                return false; /* nobody means a millionth of a unit */
            scale *= 10;
            part = part * 10 + (uint64_t)(*p - '0');
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(p, table[i].text) != 0)
            continue;
        uint64_t base, more = part;
        if (!hdl_mul_u64(whole, table[i].factor, &base) ||
            !hdl_mul_u64(more, table[i].factor, &more) || more % scale != 0)
            return false;
        return hdl_add_u64(base, more / scale, out);
    }
    return false;
}

bool hdl_parse_size(const char *text, uint64_t *bytes)
{
    return parse_scaled(text, size_suffixes, HDL_ARRAY_LEN(size_suffixes), bytes);
}

bool hdl_parse_duration(const char *text, uint64_t *us)
{
    if (strcmp(text, "0") == 0) {
        *us = 0;
        return true;
    }
    return parse_scaled(text, duration_suffixes, HDL_ARRAY_LEN(duration_suffixes), us);
}

bool hdl_parse_int(const char *text, int64_t *out)
{
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'o')) {
        if (digits != text)
            return false; /* YAML knows no signed hexadecimal */
        base = digits[1] == 'x' ? 16 : 8;
        digits += 2;
    }
    /* strtoll itself would take blanks and a second sign. */
    if (!isxdigit((unsigned char)*digits))
        return false;
    if (base == 10 && digits[0] == '0' && digits[1] != '\0')
        return false; /* 0123: octal to some readers, decimal to others */
    char *end;
    errno = 0;
    long long v = strtoll(base == 10 ? text : digits, &end, base);
    if (errno != 0 || *end != '\0' || end == digits)
        return false;
    *out = v;
    return true;
}

bool hdl_parse_float(const char *text, double *out)
{
    const char *p = text + (*text == '-' || *text == '+');
    const char *start = p;
    size_t n_digits = 0;
    for (; isdigit((unsigned char)*p); p++)
        n_digits++;
    if (n_digits > 1 && *start == '0')
        return false;
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++)
            n_digits++;
    if (n_digits == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (!isdigit((unsigned char)*p))
            return false;
        while (isdigit((unsigned char)*p))
            p++;
    }
    if (*p != '\0')
        return false;
    double v = strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

bool hdl_parse_bool(const char *text, bool *out)
{
    static const char *const words[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i < 3;
            return true;
        }
    }
    return false;
}

const char *hdl_format_size(uint64_t bytes, char out[HDL_UNITS_TEXT_BYTES])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t i = 0;
    double v = (double)bytes;
    /* 1023.96 would print as 1024.0 */
    for (; v >= 1023.95 && i + 1 < HDL_ARRAY_LEN(names); i++)
        v /= 1024;
    bool whole = i == 0 || v == floor(v);
    snprintf(out, HDL_UNITS_TEXT_BYTES, "%.*f %s", whole ? 0 : v < 10 ? 2 : 1, v, names[i]);
    return out;
}

const char *hdl_format_size_exact(uint64_t bytes, char out[HDL_UNITS_TEXT_BYTES])
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    for (; bytes && bytes % 1024 == 0 && i + 1 < HDL_ARRAY_LEN(names); i++)
        bytes /= 1024;
    snprintf(out, HDL_UNITS_TEXT_BYTES, "%" PRIu64 "%s", bytes, names[i]);
    return out;
}

const char *hdl_format_duration(uint64_t us, char out[HDL_UNITS_TEXT_BYTES])
{
    const char *unit = us % 1000000 == 0 ? "s" : us % 1000 == 0 ? "ms" : "us";
    uint64_t by = us % 1000000 == 0 ? 1000000 : us % 1000 == 0 ? 1000 : 1;
    snprintf(out, HDL_UNITS_TEXT_BYTES, "%" PRIu64 "%s", us / by, unit);
    return out;
}
