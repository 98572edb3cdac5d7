/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/utf8.h"

void hdl_jw_init(hdl_json_writer *w, hdl_buf *buf) { *w = (hdl_json_writer){.buf = buf}; }

static uint64_t level_bit(const hdl_json_writer *w) { return (uint64_t)1 << (w->depth - 1); }

/* Everything that must stand before a value: a comma inside an array, nothing after a key. */
static void before_value(hdl_json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (w->depth == 0)
        return;
    HDL_ASSERT(!(w->is_object & level_bit(w))); /* a member needs its key first */
    if (w->has_items & level_bit(w))
        hdl_buf_append(w->buf, ",", 1);
    w->has_items |= level_bit(w);
}

static void begin(hdl_json_writer *w, bool object)
{
    before_value(w);
    HDL_ASSERT_LT(w->depth, HDL_JW_DEPTH_MAX);
    w->depth++;
    w->has_items &= ~level_bit(w);
    if (object)
        w->is_object |= level_bit(w);
    else
        w->is_object &= ~level_bit(w);
    hdl_buf_append(w->buf, object ? "{" : "[", 1);
}

static void end(hdl_json_writer *w, bool object)
{
    HDL_ASSERT(w->depth > 0 && !w->after_key);
    HDL_ASSERT_EQ((w->is_object & level_bit(w)) != 0, object);
    w->depth--;
    hdl_buf_append(w->buf, object ? "}" : "]", 1);
}

void hdl_jw_begin_object(hdl_json_writer *w) { begin(w, true); }

void hdl_jw_end_object(hdl_json_writer *w) { end(w, true); }

void hdl_jw_begin_array(hdl_json_writer *w) { begin(w, false); }

void hdl_jw_end_array(hdl_json_writer *w) { end(w, false); }

static void put_escape(hdl_buf *buf, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char short_form[] = "btn?fr"; /* 0x08 .. 0x0d; 0x0b has none */
    if (c == '"' || c == '\\') {
        hdl_buf_append(buf, (const char[]){'\\', (char)c}, 2);
    } else if (c >= 0x08 && c <= 0x0d && c != 0x0b) {
        hdl_buf_append(buf, (const char[]){'\\', short_form[c - 8]}, 2);
    } else {
        hdl_buf_append(buf, (const char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
    }
}

static void put_string(hdl_buf *buf, const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t run = 0; /* bytes before i that may be copied as they are */
    hdl_buf_append(buf, "\"", 1);
    for (size_t i = 0; i < len;) {
        size_t n = p[i] >= 0x20 && p[i] < 0x80 && p[i] != '"' && p[i] != '\\' ? 1
                   : p[i] >= 0x80 ? hdl_utf8_multibyte(p + i, len - i)
                                  : 0;
        if (n > 0) {
            run += n;
            i += n;
            continue;
        }
        hdl_buf_append(buf, p + i - run, run);
        run = 0;
        if (p[i] >= 0x80)
            hdl_buf_append(buf, "\xEF\xBF\xBD", 3); /* U+FFFD */
        else
            put_escape(buf, p[i]);
        i++;
    }
    hdl_buf_append(buf, p + len - run, run);
    hdl_buf_append(buf, "\"", 1);
}

void hdl_jw_key(hdl_json_writer *w, const char *key)
{
    HDL_ASSERT(w->depth > 0 && (w->is_object & level_bit(w)) && !w->after_key);
    if (w->has_items & level_bit(w))
        hdl_buf_append(w->buf, ",", 1);
    w->has_items |= level_bit(w);
    put_string(w->buf, key, strlen(key));
    hdl_buf_append(w->buf, ":", 1);
    w->after_key = true;
}

void hdl_jw_string(hdl_json_writer *w, const char *text, size_t len)
{
    before_value(w);
    put_string(w->buf, text, len);
}

void hdl_jw_cstr(hdl_json_writer *w, const char *text)
{
    if (text)
        hdl_jw_string(w, text, strlen(text));
    else
        hdl_jw_null(w);
}

void hdl_jw_uint(hdl_json_writer *w, uint64_t v)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + v % 10);
    while (v /= 10);
    before_value(w);
    hdl_buf_append(w->buf, digits + at, sizeof digits - at);
}

void hdl_jw_int(hdl_json_writer *w, int64_t v)
{
    if (v >= 0) {
        hdl_jw_uint(w, (uint64_t)v);
        return;
    }
    before_value(w);
    hdl_buf_printf(w->buf, "%lld", (long long)v);
}

void hdl_jw_bool(hdl_json_writer *w, bool v) { hdl_jw_raw(w, v ? "true" : "false", v ? 4 : 5); }

void hdl_jw_null(hdl_json_writer *w) { hdl_jw_raw(w, "null", 4); }

void hdl_jw_double(hdl_json_writer *w, double v)
{
    if (!isfinite(v)) {
        hdl_jw_null(w);
        return;
    }
    char text[32];
    int n = 0;
    /* 15 digits are enough for most, 17 for all. */
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    /* "3" and "-0" would read back as integers. */
    if (!strpbrk(text, ".e"))
        n += snprintf(text + n, sizeof text - (size_t)n, ".0");
    hdl_jw_raw(w, text, (size_t)n);
}

void hdl_jw_float(hdl_json_writer *w, float v)
{
    if (!isfinite(v)) {
        hdl_jw_null(w);
        return;
    }
    char text[32];
    int n = 0;
    for (int digits = 6; digits <= 9; digits++) {
        n = snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    hdl_jw_raw(w, text, (size_t)n);
}

void hdl_jw_fixed(hdl_json_writer *w, double v, int digits)
{
    HDL_ASSERT(digits >= 0 && digits <= 9);
    if (!isfinite(v)) {
        hdl_jw_null(w);
        return;
    }
    before_value(w);
    hdl_buf_printf(w->buf, "%.*f", digits, v);
}

void hdl_jw_raw(hdl_json_writer *w, const char *json, size_t len)
{
    before_value(w);
    hdl_buf_append(w->buf, json, len);
}
