/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log_format.h"

#include <stdio.h>
#include <string.h>

#include "base/json_write.h"

static const char level_letters[HDL_LOG_LEVEL_COUNT] = {'E', 'W', 'I', 'D'};
static const char *const level_names[HDL_LOG_LEVEL_COUNT] = {"error", "warn", "info", "debug"};

#define MOD_TEXT(name, text) text,
static const char *const mod_names[HDL_MOD_COUNT] = {HDL_MOD_LIST(MOD_TEXT)};
#undef MOD_TEXT

bool hdl_log_level_parse(const char *text, hdl_log_level *out)
{
    for (int i = 0; i < HDL_LOG_LEVEL_COUNT; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (hdl_log_level)i;
            return true;
        }
    }
    return false;
}

static bool is_control(char c) { return (unsigned char)c < 0x20 || c == 0x7f; }

/* A control byte as \n, \t, \r or \xHH; returns the length. */
static size_t escape(char c, char out[5])
{
    char letter = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : '\0';
    int n = letter ? snprintf(out, 5, "\\%c", letter)
                   : snprintf(out, 5, "\\x%02x", (unsigned)(unsigned char)c);
    return (size_t)n;
}

const char *hdl_log_quote(char *out, size_t size, const char *text)
{
    size_t n = 0;
    if (size < 4) {
        if (size)
            out[0] = '\0';
        return out;
    }
    out[n++] = '"';
    for (; *text; text++) {
        char piece[5];
        size_t len = 1;
        piece[0] = *text;
        if (is_control(*text)) {
            len = escape(*text, piece);
        } else if (*text == '"' || *text == '\\') {
            piece[0] = '\\';
            piece[1] = *text;
            len = 2;
        }
        if (n + len + 2 > size)
            break;
        memcpy(out + n, piece, len);
        n += len;
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

static void append_escaped(hdl_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char piece[5];
        if (is_control(text[i]))
            hdl_buf_append(out, piece, escape(text[i], piece));
        else
            hdl_buf_append(out, &text[i], 1);
    }
}

void hdl_log_format_text(const hdl_log_record *record, hdl_buf *out)
{
    char when[HDL_CLOCK_TEXT_BYTES];
    hdl_clock_format(record->wall_us, when);
    hdl_buf_printf(out, "%s %c %s %s", when, level_letters[record->level], mod_names[record->mod],
                   record->event);
    if (record->text_len) {
        hdl_buf_append(out, " ", 1);
        append_escaped(out, record->text, record->text_len);
    }
    if (record->suppressed)
        hdl_buf_printf(out, " suppressed=%u", record->suppressed);
    hdl_buf_append(out, "\n", 1);
}

typedef struct span {
    const char *text;
    size_t len;
} span;

/* The grammar of JSON numbers, so that such values may be written as they are. */
static bool is_json_number(span v)
{
    size_t i = 0;
    if (i < v.len && v.text[i] == '-')
        i++;
    size_t digits = i;
    while (i < v.len && v.text[i] >= '0' && v.text[i] <= '9')
        i++;
    if (i == digits || (v.text[digits] == '0' && i - digits > 1))
        return false;
    if (i < v.len && v.text[i] == '.') {
        digits = ++i;
        while (i < v.len && v.text[i] >= '0' && v.text[i] <= '9')
            i++;
        if (i == digits)
            return false;
    }
    return i == v.len;
}

/* Undoes hdl_log_quote: v is what stands between the quotes. */
static void json_unquoted(hdl_json_writer *w, span v)
{
    char plain[HDL_LOG_TEXT_BYTES];
    size_t n = 0;
    for (size_t i = 0; i < v.len; i++) {
        char c = v.text[i];
        if (c == '\\' && i + 1 < v.len) {
            c = v.text[++i];
            unsigned byte;
            if (c == 'x' && i + 2 < v.len && sscanf(&v.text[i + 1], "%2x", &byte) == 1) {
                c = (char)byte;
                i += 2;
            } else {
                c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
            }
        }
        plain[n++] = c;
    }
    hdl_jw_string(w, plain, n);
}

static void json_pairs(hdl_json_writer *w, span text)
{
    const char *p = text.text, *end = text.text + text.len;
    int n_loose = 0;
    while (p < end) {
        if (*p == ' ') {
            p++;
            continue;
        }
        const char *key = p;
        while (p < end && *p != '=' && *p != ' ')
            p++;
        char name[64];
        if (p == end || *p == ' ') { /* a word without a value */
            snprintf(name, sizeof name, "word%d", ++n_loose);
            hdl_jw_key(w, name);
            hdl_jw_string(w, key, (size_t)(p - key));
            continue;
        }
        snprintf(name, sizeof name, "%.*s", (int)(p - key), key);
        hdl_jw_key(w, name);
        span value = {.text = ++p};
        if (p < end && *p == '"') {
            value.text = ++p;
            while (p < end && *p != '"')
                p += *p == '\\' && p + 1 < end ? 2 : 1;
            value.len = (size_t)(p - value.text);
            json_unquoted(w, value);
            p += p < end;
            continue;
        }
        while (p < end && *p != ' ')
            p++;
        value.len = (size_t)(p - value.text);
        if (is_json_number(value))
            hdl_jw_raw(w, value.text, value.len);
        else
            hdl_jw_string(w, value.text, value.len);
    }
}

void hdl_log_format_json(const hdl_log_record *record, hdl_buf *out)
{
    char when[HDL_CLOCK_TEXT_BYTES];
    hdl_clock_format(record->wall_us, when);
    hdl_json_writer w;
    hdl_jw_init(&w, out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "ts", when);
    hdl_jw_kv_cstr(&w, "level", level_names[record->level]);
    hdl_jw_kv_cstr(&w, "component", mod_names[record->mod]);
    hdl_jw_kv_cstr(&w, "event", record->event);
    json_pairs(&w, (span){record->text, record->text_len});
    if (record->suppressed)
        hdl_jw_kv_uint(&w, "suppressed", record->suppressed);
    hdl_jw_end_object(&w);
    hdl_buf_append(out, "\n", 1);
}
