/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/regex_rewrite.h"

#include <string.h>

/* White_Space and Oniguruma's word characters (letter, mark, decimal number, connector), as the
 * inside of a class. PCRE2's \s has U+180E too, and its \w lacks marks and connectors. */
#define SPACE_SET                                                                                  \
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"
#define WORD_SET "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

typedef struct pattern {
    const char *p;
    size_t len, at;
    bool in_class;
    hdl_buf *out;
    hdl_errmsg *why;
} pattern;

static hdl_err refuse(const pattern *re, const char *what)
{
    return hdl_fail(
        HDL_UNSUPPORTED, re->why,
        "pre-tokeniser pattern: %s at byte %zu is not supported; PCRE2 and Oniguruma read it "
        "differently",
        what, re->at);
}

static int peek(const pattern *re, size_t ahead)
{
    return ahead < re->len - re->at ? (unsigned char)re->p[re->at + ahead] : -1;
}

static void copy(pattern *re, size_t n)
{
    hdl_buf_append(re->out, re->p + re->at, n);
    re->at += n;
}

static void emit(pattern *re, size_t n, const char *text)
{
    hdl_buf_puts(re->out, text);
    re->at += n;
}

/* Names that mean the same to both; any other is taken for a script. */
static bool is_category(const char *name, size_t len)
{
    static const char *const names[] = {
        "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu",  "M",
        "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf",  "Pi",
        "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs", "Any", "Alphabetic"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return true;
    return false;
}

/* \p{Han} means script extensions in PCRE2 10.40 and later, 288 characters more than Oniguruma's
 * script. */
static hdl_err property(pattern *re)
{
    bool negated = peek(re, 1) == 'P';
    if (peek(re, 2) != '{')
        return refuse(re, "\\p without braces");
    const char *name = re->p + re->at + 3;
    const char *end = memchr(name, '}', re->len - re->at - 3);
    if (end == NULL)
        return refuse(re, "an unfinished \\p{");
    size_t whole = (size_t)(end + 1 - (re->p + re->at));
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    size_t len = (size_t)(end - name);
    hdl_buf_puts(re->out, negated ? "\\P{" : "\\p{");
    if (!is_category(name, len))
        hdl_buf_puts(re->out, "sc:");
    hdl_buf_append(re->out, name, len);
    emit(re, whole, "}");
    return HDL_OK;
}

static int hex_value(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 32) >= 'a' && (c | 32) <= 'f')
        return (c | 32) - 'a' + 10;
    return -1;
}

/* \uHHHH, \x{H...}, \xHH. Oniguruma takes \xHH from 0x80 up as a raw byte. */
static hdl_err code_point(pattern *re)
{
    bool u = peek(re, 1) == 'u';
    if (!u && peek(re, 2) == '{') {
        const char *end = memchr(re->p + re->at, '}', re->len - re->at);
        if (end == NULL)
            return refuse(re, "an unfinished \\x{");
        copy(re, (size_t)(end + 1 - (re->p + re->at)));
        return HDL_OK;
    }
    unsigned value = 0;
    size_t digits = u ? 4 : 2;
    for (size_t i = 0; i < digits; i++) {
        int v = hex_value(peek(re, 2 + i));
        if (v < 0)
            return refuse(re, "a \\x or \\u without all its digits");
        value = value << 4 | (unsigned)v;
    }
    if (!u && value >= 0x80)
        return refuse(re, "a raw byte (\\x80 and above)");
    hdl_buf_printf(re->out, "\\x{%x}", value);
    re->at += 2 + digits;
    return HDL_OK;
}

/* The classes \s \S \w \W \d \D and the boundaries \b \B. */
static hdl_err shorthand(pattern *re)
{
    int c = peek(re, 1);
    if (re->in_class) {
        switch (c) {
        case 's': emit(re, 2, SPACE_SET); return HDL_OK;
        case 'S': emit(re, 2, "\\S\\x{180e}"); return HDL_OK;
        case 'w': emit(re, 2, WORD_SET); return HDL_OK;
        case 'd':
        case 'D': copy(re, 2); return HDL_OK;
        default: return refuse(re, "\\W or \\b inside a class");
        }
    }
    switch (c) {
    case 's': emit(re, 2, "[" SPACE_SET "]"); return HDL_OK;
    case 'S': emit(re, 2, "[^" SPACE_SET "]"); return HDL_OK;
    case 'w': emit(re, 2, "[" WORD_SET "]"); return HDL_OK;
    case 'W': emit(re, 2, "[^" WORD_SET "]"); return HDL_OK;
    case 'b':
        emit(re, 2,
             "(?:(?<=[" WORD_SET "])(?![" WORD_SET "])|(?<![" WORD_SET "])(?=[" WORD_SET "]))");
        return HDL_OK;
    case 'B':
        emit(re, 2,
             "(?:(?<=[" WORD_SET "])(?=[" WORD_SET "])|(?<![" WORD_SET "])(?![" WORD_SET "]))");
        return HDL_OK;
    default: copy(re, 2); return HDL_OK;
    }
}

static hdl_err escape(pattern *re)
{
    int c = peek(re, 1);
    if (c < 0)
        return refuse(re, "a backslash at the end");
    switch (c) {
    case 'p':
    case 'P': return property(re);
    case 'u':
    case 'x': return code_point(re);
    case 's':
    case 'S':
    case 'w':
    case 'W':
    case 'd':
    case 'D':
    case 'b':
    case 'B': return shorthand(re);
    case 'n':
    case 'r':
    case 't':
    case 'f':
    case 'a':
    case 'e': copy(re, 2); return HDL_OK;
    case 'A':
    case 'z':
    case 'Z':
        if (re->in_class)
            return refuse(re, "an anchor inside a class");
        copy(re, 2);
        return HDL_OK;
    default: break;
    }
    if ((c | 32) >= 'a' && (c | 32) <= 'z')
        return refuse(re, "this escaped letter");
    if (c >= '0' && c <= '9')
        return refuse(re, "a back-reference or octal number");
    if (c >= 0x80)
        return refuse(re, "an escaped character outside ASCII");
    copy(re, 2);
    return HDL_OK;
}

static hdl_err char_class(pattern *re)
{
    re->in_class = true;
    copy(re, peek(re, 1) == '^' ? 2 : 1);
    if (peek(re, 0) == ']')
        return refuse(re, "']' as the first of a class");
    while (peek(re, 0) != ']') {
        int c = peek(re, 0);
        if (c < 0)
            return refuse(re, "an unfinished class");
        if (c == '[')
            return refuse(re, "a class inside a class");
        if (c == '&' && peek(re, 1) == '&')
            return refuse(re, "an intersection of classes (&&)");
        if (c == '\\')
            HDL_TRY(escape(re));
        else
            copy(re, 1);
    }
    copy(re, 1);
    re->in_class = false;
    return HDL_OK;
}

/* "(" and what follows it: plain groups, (?: (?= (?! (?<= (?<! (?> and the flag i. */
static hdl_err group(pattern *re)
{
    if (peek(re, 1) == '*')
        return refuse(re, "a verb (*...)");
    if (peek(re, 1) != '?') {
        copy(re, 1);
        return HDL_OK;
    }
    int c = peek(re, 2), d = peek(re, 3);
    if (c == ':' || c == '=' || c == '!' || c == '>') {
        copy(re, 3);
        return HDL_OK;
    }
    if (c == '<' && (d == '=' || d == '!')) {
        copy(re, 4);
        return HDL_OK;
    }
    size_t n = c == '-' ? 3 : 2;
    if (peek(re, n) == 'i' && (peek(re, n + 1) == ':' || peek(re, n + 1) == ')')) {
        copy(re, n + 2);
        return HDL_OK;
    }
    return refuse(re, "this kind of group");
}

/* {,n} is a literal in PCRE2; a lazy {n}? or possessive {n,m}+ means something else in each. */
static hdl_err interval(pattern *re)
{
    size_t i = 1;
    bool comma = false;
    if (peek(re, 1) == ',')
        return refuse(re, "an interval without its lower bound");
    for (; peek(re, i) == ',' || (peek(re, i) >= '0' && peek(re, i) <= '9'); i++)
        comma |= peek(re, i) == ',';
    if (i == 1 || peek(re, i) != '}') {
        copy(re, 1);
        return HDL_OK;
    }
    if (peek(re, i + 1) == '+' || (peek(re, i + 1) == '?' && !comma))
        return refuse(re, "a possessive interval or a lazy {n}");
    copy(re, i + 1);
    return HDL_OK;
}

hdl_err hdl_regex_rewrite(const char *text, size_t len, hdl_buf *out, hdl_errmsg *why)
{
    pattern re = {.p = text, .len = len, .out = out, .why = why};
    while (re.at < len) {
        switch (text[re.at]) {
        case '\\': HDL_TRY(escape(&re)); break;
        case '[': HDL_TRY(char_class(&re)); break;
        case '(': HDL_TRY(group(&re)); break;
        case '{': HDL_TRY(interval(&re)); break;
        default: copy(&re, 1); break;
        }
    }
    return hdl_buf_ok(out) ? HDL_OK
                           : hdl_fail(HDL_UNSUPPORTED, why, "pre-tokeniser pattern: too long");
}
