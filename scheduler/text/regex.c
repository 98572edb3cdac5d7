/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "scheduler/text/regex_rewrite.h"

enum {
    PATTERN_BYTES_MAX = 16384, /* the longest published one has about 900 */
    NEST_MAX = 64,
    MATCH_STEPS_MAX = 10000000,
    HEAP_KIB_MAX = 16384,
    JIT_STACK_START = 32 << 10,
    JIT_STACK_MAX = 4 << 20,
};

struct hdl_regex {
    pcre2_code *code; /* NULL: literal is looked for */
    bool jit;
    bool has_starts; /* a match starts with one of these bytes, and is not empty */
    bool starts[256];
    hdl_text literal; /* owned */
};

struct hdl_regex_work {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* PCRE2 knows no first bytes of properties. Numbers alone are what half of all pre-tokenisers look
 * for in one of their steps. Most scripts have no digits of their own. */
static bool starts_with_number(hdl_text pattern)
{
    static const char *const numbers[] = {"\\p{N}", "\\p{N}+", "\\p{N}{1}", "\\p{N}{1,3}"};
    for (size_t i = 0; i < HDL_ARRAY_LEN(numbers); i++)
        if (pattern.len == strlen(numbers[i]) && memcmp(pattern.p, numbers[i], pattern.len) == 0)
            return true;
    return false;
}

static bool can_start_number(unsigned byte)
{
    static const char beyond_ascii[] = "\xc2\xd9\xdb\xdf\xe0\xe1\xe2\xe3\xea\xef\xf0";
    return (byte >= '0' && byte <= '9') || (byte > 0x7f && strchr(beyond_ascii, (int)byte) != NULL);
}

static void find_starts(hdl_regex *regex, hdl_text pattern)
{
    const uint8_t *bits = NULL;
    bool known =
        pcre2_pattern_info(regex->code, PCRE2_INFO_FIRSTBITMAP, &bits) == 0 && bits != NULL;
    bool number = !known && starts_with_number(pattern);
    regex->has_starts = known || number;
    for (unsigned b = 0; b < 256 && regex->has_starts; b++)
        regex->starts[b] = number ? can_start_number(b) : bits[b / 8] >> (b % 8) & 1;
}

static hdl_err compile(hdl_regex *regex, hdl_text pattern, hdl_errmsg *why)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL)
        return HDL_NOMEM;
    pcre2_set_max_pattern_length(context, 4 * PATTERN_BYTES_MAX);
    pcre2_set_parens_nest_limit(context, NEST_MAX);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int error;
    size_t at;
    /* In Oniguruma's syntax ^ and $ always mean the ends of a line. */
    regex->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                &error, &at, context);
    pcre2_compile_context_free(context);
    if (regex->code == NULL) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(error, text, sizeof text);
        return hdl_fail(HDL_UNSUPPORTED, why, "pre-tokeniser pattern does not compile; %s",
                        (const char *)text);
    }
    regex->jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
    find_starts(regex, pattern);
    return HDL_OK;
}

static hdl_err open_with(hdl_regex **out, hdl_text pattern, hdl_errmsg *why)
{
    hdl_regex *regex = calloc(1, sizeof *regex);
    if (regex == NULL)
        return HDL_NOMEM;
    hdl_err err = compile(regex, pattern, why);
    if (err != HDL_OK) {
        free(regex);
        return err;
    }
    *out = regex;
    return HDL_OK;
}

hdl_err hdl_regex_open(hdl_regex **out, hdl_text pattern, hdl_errmsg *why)
{
    if (pattern.len > PATTERN_BYTES_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why, "pre-tokeniser pattern: longer than %d bytes",
                        PATTERN_BYTES_MAX);
    hdl_buf rewritten;
    hdl_buf_init(&rewritten, 32 * PATTERN_BYTES_MAX);
    hdl_err err = hdl_regex_rewrite(pattern.p, pattern.len, &rewritten, why);
    if (err == HDL_OK)
        err =
            open_with(out, (hdl_text){(const char *)hdl_buf_data(&rewritten), rewritten.len}, why);
    hdl_buf_deinit(&rewritten);
    return err;
}

/* PCRE2's own \X (10.42) joins pictures that stand side by side, where Unicode joins those with a
 * zero width joiner between them alone; and it parts flags from spacing marks and pictures from
 * signs that come before them. */
#define PICTURE "\\p{Extended_Pictographic}"
#define FLAG    "[\\x{1f1e6}-\\x{1f1ff}]"
#define MARKS   "\\p{Grapheme_Extend}\\p{Emoji_Modifier}"
#define JOINED  "(?:" PICTURE "[" MARKS "]*\\x{200d}(?=" PICTURE "))*+"
#define ALONE   PICTURE "[" MARKS "\\x{200d}]*(?=" PICTURE ")"
#define SIGNS   "(?:\\p{Prepended_Concatenation_Mark}++(?=" PICTURE "))?+"
#define FLAGS   FLAG "{1,2}+[" MARKS "\\x{200d}\\p{Mc}\\x{e33}\\x{eb3}]*+"

hdl_err hdl_regex_open_grapheme(hdl_regex **out, hdl_errmsg *why)
{
    static const char pattern[] = FLAGS "|" SIGNS JOINED "(?:" ALONE "|\\X)";
    return open_with(out, (hdl_text){pattern, sizeof pattern - 1}, why);
}

hdl_err hdl_regex_open_literal(hdl_regex **out, hdl_text text, hdl_errmsg *why)
{
    if (text.len == 0 || text.len > PATTERN_BYTES_MAX)
        return hdl_fail(HDL_UNSUPPORTED, why,
                        "pre-tokeniser pattern: empty or longer than %d bytes", PATTERN_BYTES_MAX);
    hdl_regex *regex = calloc(1, sizeof *regex);
    char *copy = malloc(text.len);
    if (regex == NULL || copy == NULL) {
        free(regex);
        free(copy);
        return HDL_NOMEM;
    }
    memcpy(copy, text.p, text.len);
    regex->literal = (hdl_text){copy, text.len};
    *out = regex;
    return HDL_OK;
}

void hdl_regex_free(hdl_regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    free((void *)regex->literal.p);
    free(regex);
}

hdl_err hdl_regex_work_new(hdl_regex_work **out)
{
    hdl_regex_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return HDL_NOMEM;
    work->match = pcre2_match_data_create(1, NULL);
    work->context = pcre2_match_context_create(NULL);
    work->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    if (work->match == NULL || work->context == NULL) {
        hdl_regex_work_free(work);
        return HDL_NOMEM;
    }
    pcre2_set_match_limit(work->context, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(work->context, HEAP_KIB_MAX);
    if (work->stack != NULL) /* NULL where PCRE2 has no JIT for the machine */
        pcre2_jit_stack_assign(work->context, NULL, work->stack);
    *out = work;
    return HDL_OK;
}

void hdl_regex_work_free(hdl_regex_work *work)
{
    if (work == NULL)
        return;
    pcre2_match_data_free(work->match);
    pcre2_match_context_free(work->context);
    pcre2_jit_stack_free(work->stack);
    free(work);
}

static size_t step_over(hdl_text subject, size_t at)
{
    at++;
    while (at < subject.len && ((unsigned char)subject.p[at] & 0xc0) == 0x80)
        at++;
    return at;
}

static void next_literal(hdl_regex_scan *scan, bool *found)
{
    hdl_text literal = scan->regex->literal, subject = scan->subject;
    const char *from = subject.p + scan->from;
    const char *hit = memmem(from, subject.len - scan->from, literal.p, literal.len);
    *found = hit != NULL;
    if (hit == NULL)
        return;
    scan->start = (size_t)(hit - subject.p);
    scan->end = scan->from = scan->start + literal.len;
}

/* The first place from there on where a match can start; text.len: nowhere. */
static size_t next_start(const hdl_regex *regex, hdl_text text, size_t from)
{
    while (from < text.len && !regex->starts[(unsigned char)text.p[from]])
        from++;
    return from;
}

bool hdl_regex_may_match(const hdl_regex *regex, hdl_text text)
{
    return !regex->has_starts || next_start(regex, text, 0) < text.len;
}

hdl_err hdl_regex_next(hdl_regex_scan *scan, bool *found)
{
    const hdl_regex *regex = scan->regex;
    size_t from = scan->from;
    *found = false;
    if (regex->code == NULL) {
        next_literal(scan, found);
        return HDL_OK;
    }
    while (from <= scan->subject.len) {
        if (regex->has_starts &&
            (from = next_start(regex, scan->subject, from)) == scan->subject.len)
            return HDL_OK;
        PCRE2_SPTR text = (PCRE2_SPTR)scan->subject.p;
        int rc = regex->jit
                     ? pcre2_jit_match(regex->code, text, scan->subject.len, from, 0,
                                       scan->work->match, scan->work->context)
                     : pcre2_match(regex->code, text, scan->subject.len, from, PCRE2_NO_UTF_CHECK,
                                   scan->work->match, scan->work->context);
        if (rc == PCRE2_ERROR_NOMATCH)
            return HDL_OK;
        if (rc < 0)
            return HDL_INVALID;
        const size_t *range = pcre2_get_ovector_pointer(scan->work->match);
        /* A look-behind can end a match before its start with \K only, which the rewriter refuses.
         */
        if (range[0] == range[1] && scan->matched_before && range[1] == scan->end) {
            from = step_over(scan->subject, range[1]);
            continue;
        }
        scan->start = range[0];
        scan->end = range[1];
        scan->from = range[1];
        scan->matched_before = true;
        *found = true;
        return HDL_OK;
    }
    return HDL_OK;
}
