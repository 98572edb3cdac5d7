/* SPDX-License-Identifier: Apache-2.0 */
/* Capitals and small letters, as Python's str methods and Jinja's filters of the same names. */
#include <string.h>

#include "scheduler/text/jinja_builtin.h"
#include "scheduler/text/unicode.h"
#include "scheduler/text/utf8.h"

static uint32_t upper(uint32_t cp)
{
    return cp < 0x80 ? cp - (cp >= 'a' && cp <= 'z' ? 32 : 0) : hdl_unicode_upper(cp);
}

static size_t lower(uint32_t cp, uint32_t out[2])
{
    out[0] = cp + (cp >= 'A' && cp <= 'Z' ? 32 : 0);
    return cp < 0x80 ? 1 : hdl_unicode_lower(cp, out);
}

static bool has_case(uint32_t cp)
{
    uint32_t lowered[2];
    return upper(cp) != cp || lower(cp, lowered) > 1 || lowered[0] != cp;
}

/* Lower case of a character of s, which goes on at `next`; sigma has a form of its own at the end
 * of a word. */
static size_t lower_at(hdl_text s, size_t next, uint32_t cp, uint32_t before, uint32_t out[2])
{
    if (cp == 0x3a3 && has_case(before) &&
        (next == s.len || !has_case(hdl_utf8_next(s.p, &next)))) {
        out[0] = 0x3c2;
        return 1;
    }
    return lower(cp, out);
}

/* Does the character after `before` (0: the first) become a capital? */
static bool goes_up(hdl_jcase how, uint32_t before)
{
    switch (how) {
    case HDL_JCASE_UPPER: return true;
    case HDL_JCASE_LOWER: return false;
    case HDL_JCASE_CAPITALIZE: return before == 0;
    case HDL_JCASE_TITLE: return !has_case(before);
    case HDL_JCASE_WORDS:
        return before == 0 || hdl_jspace(before) ||
               (before < 0x80 && strchr("-({[<", (int)before) != NULL);
    }
    return false;
}

hdl_err hdl_jrecase(hdl_jrun *run, hdl_text s, hdl_jcase how, hdl_jval *out)
{
    hdl_buf text;
    hdl_buf_init(&text, HDL_JRUN_OUTPUT_MAX);
    hdl_err err = hdl_jstep(run, 4 + s.len / 2);
    uint32_t before = 0;
    for (size_t at = 0; at < s.len && err == HDL_OK;) {
        uint32_t cp = hdl_utf8_next(s.p, &at), cps[2] = {cp, 0};
        size_t n = 1;
        if (cp >= 0x80) /* tables are looked through */
            err = hdl_jstep(run, how == HDL_JCASE_TITLE || cp == 0x3a3 ? 48 : 12);
        if (goes_up(how, before))
            cps[0] = upper(cp);
        else
            n = lower_at(s, at, cp, before, cps);
        before = cp;
        for (size_t i = 0; i < n && err == HDL_OK; i++) {
            char bytes[4];
            err = hdl_buf_append(&text, bytes, hdl_utf8_write(cps[i], bytes));
        }
    }
    if (err == HDL_OK)
        err = hdl_jstring_own(&run->mem, (hdl_text){(const char *)hdl_buf_data(&text), text.len},
                              hdl_jmem_is_own(&run->mem, s), out);
    hdl_buf_deinit(&text);
    return err;
}
