/* SPDX-License-Identifier: Apache-2.0 */
/* Names, texts and messages of hdl_err (include/heddle/err.h). */
#include "heddle/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct err_row {
    const char *name;
    const char *text;
    int http_status;
} err_row;

#define ERR_ROW(name, text, http) [HDL_##name] = {#name, text, http},
static const err_row rows[HDL_ERR_COUNT] = {HDL_ERR_LIST(ERR_ROW)};
#undef ERR_ROW

static const err_row *row_of(hdl_err err)
{
    return &rows[(unsigned)err < HDL_ERR_COUNT ? err : HDL_BUG];
}

const char *hdl_err_name(hdl_err err) { return row_of(err)->name; }

const char *hdl_err_text(hdl_err err) { return row_of(err)->text; }

int hdl_err_http_status(hdl_err err) { return row_of(err)->http_status; }

/* A cut message must not end in half a character: it may become JSON. */
static void trim_partial_utf8(char *text)
{
    size_t len = strlen(text);
    size_t back = 0;
    while (back < 3 && back < len && ((unsigned char)text[len - 1 - back] & 0xC0) == 0x80)
        back++;
    if (back == len)
        return;
    unsigned char lead = (unsigned char)text[len - 1 - back];
    size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (need > back)
        text[len - 1 - back] = '\0';
}

static void format(hdl_errmsg *msg, const char *fmt, va_list args)
{
    int n = vsnprintf(msg->text, sizeof msg->text, fmt, args);
    if (n < 0)
        msg->text[0] = '\0';
    else if ((size_t)n >= sizeof msg->text)
        trim_partial_utf8(msg->text);
}

hdl_err hdl_fail(hdl_err err, hdl_errmsg *msg, const char *fmt, ...)
{
    if (msg) {
        /* An argument may point into msg itself: format beside it. */
        hdl_errmsg fresh;
        va_list args;
        va_start(args, fmt);
        format(&fresh, fmt, args);
        va_end(args);
        *msg = fresh;
    }
    return err;
}

hdl_err hdl_fail_prefix(hdl_err err, hdl_errmsg *msg, const char *fmt, ...)
{
    if (msg) {
        hdl_errmsg prefix;
        va_list args;
        va_start(args, fmt);
        format(&prefix, fmt, args);
        va_end(args);
        if (msg->text[0] == '\0')
            *msg = prefix;
        else
            hdl_fail(err, msg, "%s: %s", prefix.text, msg->text);
    }
    return err;
}
