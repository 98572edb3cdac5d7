/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/jinja_lex.h"

#include <stdlib.h>
#include <string.h>

#include "scheduler/text/utf8.h"

typedef struct lexer {
    hdl_jmem *mem;
    const char *p; /* source with "\n" line ends only */
    size_t len, at;
    uint32_t line;
    bool line_starting; /* what came before ended with a newline */
    hdl_jtokens *out;
    hdl_errmsg *why;
} lexer;

static hdl_err fail(const lexer *lx, const char *what)
{
    return hdl_fail(HDL_INVALID, lx->why, "chat template, line %u: %s", lx->line, what);
}

static hdl_err too_large(const lexer *lx)
{
    return hdl_fail(HDL_UNSUPPORTED, lx->why,
                    "chat template, line %u: the template is too large; no published one is; "
                    "repair the model's chat template",
                    lx->line);
}

static hdl_err add(lexer *lx, hdl_jtoken token)
{
    hdl_jtokens *out = lx->out;
    if (out->n == out->size) {
        size_t size = out->size ? 2 * out->size : 256;
        hdl_jtoken *v = hdl_jmem_alloc(lx->mem, size * sizeof *v);
        if (v == NULL)
            return too_large(lx);
        if (out->n > 0)
            memcpy(v, out->v, out->n * sizeof *v);
        out->v = v;
        out->size = size;
    }
    token.line = lx->line;
    out->v[out->n++] = token;
    return HDL_OK;
}

static bool looking_at(const lexer *lx, const char *text)
{
    size_t n = strlen(text);
    return lx->len - lx->at >= n && memcmp(lx->p + lx->at, text, n) == 0;
}

static void skip(lexer *lx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        lx->line += lx->p[lx->at + i] == '\n';
    lx->line_starting = n > 0 ? lx->p[lx->at + n - 1] == '\n' : lx->line_starting;
    lx->at += n;
}

static void skip_space(lexer *lx)
{
    hdl_text rest = {lx->p + lx->at, lx->len - lx->at};
    size_t n = rest.len - hdl_jtrim(rest, true, false).len;
    if (n > 0)
        skip(lx, n);
}

/* The end of a tag: `-` takes all white space after it, a block or comment else its newline unless
 * `+` stands there. */
static void after_tag(lexer *lx, char sign, bool trims)
{
    if (sign == '-')
        skip_space(lx);
    else if (trims && sign != '+' && looking_at(lx, "\n"))
        skip(lx, 1);
}

/* Text up to the next tag, without what the tag's sign or lstrip_blocks takes from its end. */
static hdl_err text_before(lexer *lx, size_t end, bool is_print)
{
    hdl_text text = {lx->p + lx->at, end - lx->at};
    char sign = end + 2 < lx->len ? lx->p[end + 2] : '\0';
    bool starting = lx->line_starting;
    if (end < lx->len && sign == '-') {
        text = hdl_jtrim(text, false, true);
    } else if (end < lx->len && sign != '+' && !is_print) {
        size_t line = text.len;
        while (line > 0 && (text.p[line - 1] == ' ' || text.p[line - 1] == '\t'))
            line--;
        if (line > 0 ? text.p[line - 1] == '\n' : starting)
            text.len = line;
    }
    if (text.len > 0)
        HDL_TRY(add(lx, (hdl_jtoken){.kind = HDL_JT_TEXT, .text = text}));
    if (end > lx->at)
        skip(lx, end - lx->at);
    return HDL_OK;
}

/* Up to "endraw"; the text between comes out as it is, but for the white space that the tags take.
 */
static hdl_err raw_block(lexer *lx)
{
    size_t start = lx->at;
    for (size_t at = start; at + 2 <= lx->len; at++) {
        if (lx->p[at] != '{' || lx->p[at + 1] != '%')
            continue;
        size_t i = at + 2;
        bool minus = i < lx->len && lx->p[i] == '-';
        i += i < lx->len && (lx->p[i] == '-' || lx->p[i] == '+');
        while (i < lx->len && (lx->p[i] == ' ' || lx->p[i] == '\n' || lx->p[i] == '\t'))
            i++;
        if (lx->len - i < 6 || memcmp(lx->p + i, "endraw", 6) != 0)
            continue;
        for (i += 6; i < lx->len && (lx->p[i] == ' ' || lx->p[i] == '\n' || lx->p[i] == '\t');)
            i++;
        char sign = i < lx->len ? lx->p[i] : '\0';
        i += sign == '-' || sign == '+';
        if (lx->len - i < 2 || memcmp(lx->p + i, "%}", 2) != 0)
            continue;
        (void)minus; /* text_before reads the sign itself */
        HDL_TRY(text_before(lx, at, false));
        skip(lx, i + 2 - at);
        after_tag(lx, sign, true);
        return HDL_OK;
    }
    return fail(lx, "{% raw %} without {% endraw %}");
}

static hdl_err comment(lexer *lx)
{
    skip(lx, 2);
    while (lx->at < lx->len && !looking_at(lx, "#}"))
        skip(lx, 1);
    if (lx->at == lx->len)
        return fail(lx, "a comment without its end");
    char sign = lx->p[lx->at - 1]; /* the - of "-#}" or the + of "+#}" */
    skip(lx, 2);
    after_tag(lx, sign, true);
    return HDL_OK;
}

static bool name_char(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static uint32_t hex(const char *p, size_t n, bool *ok)
{
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        const char *digits = "0123456789abcdef", *d = p[i] ? strchr(digits, p[i] | 32) : NULL;
        if (d == NULL) {
            *ok = false;
            return 0;
        }
        v = v << 4 | (uint32_t)(d - digits);
    }
    return v;
}

/* One escape of a string; *at stands behind the backslash and moves on. Unknown ones keep their
 * backslash, as in Python. */
static hdl_err unescape(lexer *lx, hdl_text s, size_t *at, hdl_buf *out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.p[*at];
    const char *simple = c != '\0' ? strchr(from, c) : NULL;
    if (simple != NULL) {
        (*at)++;
        return hdl_buf_append(out, &to[simple - from], 1);
    }
    if (c == '\n') { /* a continued line */
        (*at)++;
        return HDL_OK;
    }
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t cp = 0;
    if (digits > 0) {
        bool ok = s.len - *at > digits;
        if (ok)
            cp = hex(s.p + *at + 1, digits, &ok);
        if (!ok || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000) || cp == 0)
            return fail(lx, "a string with a wrong \\x, \\u or \\U");
        *at += 1 + digits;
    } else if (c >= '0' && c <= '7') {
        for (size_t i = 0; i < 3 && *at < s.len && s.p[*at] >= '0' && s.p[*at] <= '7'; i++)
            cp = cp * 8 + (uint32_t)(s.p[(*at)++] - '0');
        if (cp == 0)
            return fail(lx, "a string with U+0000");
    } else {
        return hdl_buf_puts(out, "\\");
    }
    char bytes[4];
    return hdl_buf_append(out, bytes, hdl_utf8_write(cp, bytes));
}

static hdl_err string(lexer *lx)
{
    char quote = lx->p[lx->at];
    size_t end = lx->at + 1;
    bool escapes = false;
    while (end < lx->len && lx->p[end] != quote) {
        escapes |= lx->p[end] == '\\';
        end += lx->p[end] == '\\' ? 2 : 1;
    }
    if (end >= lx->len)
        return fail(lx, "a string without its end");
    hdl_text s = {lx->p + lx->at + 1, end - lx->at - 1};
    hdl_jtoken token = {.kind = HDL_JT_STRING, .text = s, .value = hdl_jslice(s)};
    hdl_err err = HDL_OK;
    if (escapes) {
        hdl_buf out;
        hdl_buf_init(&out, s.len + 4);
        for (size_t at = 0; at < s.len && err == HDL_OK;) {
            if (s.p[at] == '\\' && ++at < s.len)
                err = unescape(lx, s, &at, &out);
            else
                err = hdl_buf_append(&out, s.p + at++, 1);
        }
        if (err == HDL_OK)
            err = hdl_jstring(lx->mem, (hdl_text){(const char *)hdl_buf_data(&out), out.len},
                              &token.value);
        hdl_buf_deinit(&out);
    }
    HDL_TRY(err);
    HDL_TRY(add(lx, token));
    skip(lx, end + 1 - lx->at);
    return HDL_OK;
}

/* 12, 1_000, 0x1f, 1.5, 2e3. */
static hdl_err number(lexer *lx)
{
    char digits[64];
    size_t n = 0, at = lx->at;
    bool is_float = false, is_hex = looking_at(lx, "0x") || looking_at(lx, "0X");
    for (; at < lx->len && n + 1 < sizeof digits; at++) {
        char c = lx->p[at];
        bool exponent = !is_hex && (c == 'e' || c == 'E') && at + 1 < lx->len &&
                        (strchr("0123456789+-", lx->p[at + 1]) != NULL);
        bool sign = (c == '+' || c == '-') && n > 0 && (digits[n - 1] | 32) == 'e' && !is_hex;
        bool point = c == '.' && !is_float && at + 1 < lx->len && lx->p[at + 1] >= '0' &&
                     lx->p[at + 1] <= '9';
        bool digit = (c >= '0' && c <= '9') || (is_hex && name_char(c, true) && c != '_');
        is_float |= exponent || point;
        if (digit || exponent || sign || point)
            digits[n++] = c;
        else if (c != '_')
            break;
    }
    digits[n] = '\0';
    char *end;
    hdl_jtoken token = {.kind = is_float ? HDL_JT_FLOAT : HDL_JT_INT,
                        .text = {lx->p + lx->at, at - lx->at}};
    if (is_float)
        token.value = (hdl_jval){.kind = HDL_J_FLOAT, .f = strtod(digits, &end)};
    else
        token.value = hdl_jint(strtoll(digits, &end, is_hex ? 16 : 10));
    if (*end != '\0' || n + 1 == sizeof digits || (!is_float && n > 18))
        return fail(lx, "a number that cannot be read");
    HDL_TRY(add(lx, token));
    skip(lx, at - lx->at);
    return HDL_OK;
}

static hdl_err operator(lexer *lx)
{
    static const char *const ops[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "*",
                                      "/",  "%",  "~",  "<",  ">",  "=",  ".", ":", "|",
                                      ",",  ";",  "(",  ")",  "[",  "]",  "{", "}"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!looking_at(lx, ops[i]))
            continue;
        HDL_TRY(add(lx, (hdl_jtoken){.kind = HDL_JT_OP, .text = {ops[i], strlen(ops[i])}}));
        skip(lx, strlen(ops[i]));
        return HDL_OK;
    }
    return fail(lx, "a character that no expression has");
}

/* Inside a tag, up to its end. Braces that were opened hide the end: {{ {'a': {}}['a'] }}. */
static hdl_err inside(lexer *lx, bool is_print)
{
    const char *close = is_print ? "}}" : "%}";
    size_t open = 0;
    for (;;) {
        skip_space(lx);
        if (lx->at == lx->len)
            return fail(lx, is_print ? "{{ without }}" : "{% without %}");
        char c = lx->p[lx->at];
        size_t sign = c == '-' || (c == '+' && !is_print) ? 1 : 0;
        if (open == 0 && lx->len - lx->at >= sign + 2 &&
            memcmp(lx->p + lx->at + sign, close, 2) == 0) {
            HDL_TRY(add(lx, (hdl_jtoken){.kind = is_print ? HDL_JT_PRINT_END : HDL_JT_BLOCK_END}));
            skip(lx, sign + 2);
            after_tag(lx, sign ? c : '\0', !is_print);
            return HDL_OK;
        }
        if (c == '\'' || c == '"') {
            HDL_TRY(string(lx));
        } else if (c >= '0' && c <= '9') {
            HDL_TRY(number(lx));
        } else if (name_char(c, true)) {
            size_t n = 1;
            while (lx->at + n < lx->len && name_char(lx->p[lx->at + n], false))
                n++;
            HDL_TRY(add(lx, (hdl_jtoken){.kind = HDL_JT_NAME, .text = {lx->p + lx->at, n}}));
            skip(lx, n);
        } else {
            open += c == '{' || c == '[' || c == '(';
            open -= open > 0 && (c == '}' || c == ']' || c == ')');
            HDL_TRY(operator(lx));
        }
    }
}

/* "raw" right after "{%": its inside is not looked at. */
static bool raw_tag(lexer *lx)
{
    size_t at = lx->at;
    skip_space(lx);
    if (looking_at(lx, "raw") && (lx->len - lx->at == 3 || !name_char(lx->p[lx->at + 3], false))) {
        skip(lx, 3);
        skip_space(lx);
        char sign = looking_at(lx, "-%}") ? '-' : looking_at(lx, "+%}") ? '+' : '\0';
        if (sign != '\0' || looking_at(lx, "%}")) {
            skip(lx, sign ? 3 : 2);
            after_tag(lx, sign, false); /* the newline stays: it is inside */
            return true;
        }
    }
    while (lx->at > at) /* step back: lines too */
        lx->line -= lx->p[--lx->at] == '\n';
    return false;
}

static hdl_err tag(lexer *lx)
{
    if (looking_at(lx, "{#"))
        return comment(lx);
    bool is_print = looking_at(lx, "{{");
    HDL_TRY(add(lx, (hdl_jtoken){.kind = is_print ? HDL_JT_PRINT_BEGIN : HDL_JT_BLOCK_BEGIN}));
    skip(lx, 2);
    if (looking_at(lx, "-") || (!is_print && looking_at(lx, "+")))
        skip(lx, 1);
    if (!is_print && raw_tag(lx)) {
        lx->out->n--; /* nothing of the tag itself remains */
        return raw_block(lx);
    }
    return inside(lx, is_print);
}

/* Copy with "\n" for every kind of line end, and without the last one (keep_trailing_newline is
 * off). */
static hdl_err normalize_newlines(lexer *lx, hdl_text source)
{
    char *copy = hdl_jmem_alloc(lx->mem, source.len + 1);
    if (copy == NULL)
        return too_large(lx);
    size_t n = 0;
    for (size_t i = 0; i < source.len; i++) {
        if (source.p[i] == '\r' && i + 1 < source.len && source.p[i + 1] == '\n')
            continue;
        copy[n++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    if (n > 0 && copy[n - 1] == '\n')
        n--;
    lx->p = copy;
    lx->len = n;
    return hdl_jmem_note(lx->mem, (hdl_text){copy, n}) == HDL_OK ? HDL_OK : too_large(lx);
}

hdl_err hdl_jlex(hdl_jmem *mem, hdl_text source, hdl_jtokens *out, hdl_errmsg *why)
{
    lexer lx = {.mem = mem, .line = 1, .line_starting = true, .out = out, .why = why};
    *out = (hdl_jtokens){0};
    HDL_TRY(normalize_newlines(&lx, source));
    while (lx.at < lx.len) {
        size_t end = lx.at;
        while (end < lx.len && !(lx.p[end] == '{' && end + 1 < lx.len &&
                                 strchr("{%#", lx.p[end + 1]) != NULL && lx.p[end + 1] != '\0'))
            end++;
        bool is_print = end + 1 < lx.len && lx.p[end + 1] == '{';
        HDL_TRY(text_before(&lx, end, is_print));
        if (lx.at < lx.len)
            HDL_TRY(tag(&lx));
    }
    return add(&lx, (hdl_jtoken){.kind = HDL_JT_END});
}
