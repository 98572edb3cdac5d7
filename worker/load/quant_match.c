/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/load/quant_match.h"

#include <fnmatch.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { REGEX_BYTES_MAX = 256, REGEX_COUNT_MAX = 256, DEPTH_MAX = 8 };

typedef struct entry {
    const char *text; /* owned */
    bool has_regex;
    regex_t regex; /* owned where has_regex */
} entry;

struct hdl_match {
    hdl_match_style style;
    size_t n, n_regex;
    entry *entries; /* owned */
};

/* The tools' expressions are Python's. Ours are POSIX's: \d and \w are spelt out, groups lose their
 * "?:". Counted repetition, references and look-around are left out: glibc takes any amount of
 * memory for the first and any time for the second. */
static bool translate(const char *in, char *out, size_t size)
{
    size_t at = 0;
    int depth = 0;
    for (; *in != '\0'; in++) {
        char one[2] = {*in, '\0'};
        const char *piece = one;
        if (*in == '{' || strncmp(in, "(?", 2) == 0) {
            if (strncmp(in, "(?:", 3) != 0)
                return false;
            in += 2;
            piece = "(";
        } else if (*in == '\\') {
            in++;
            if (*in >= '0' && *in <= '9')
                return false;
            piece = *in == 'd' ? "[0-9]" : *in == 'w' ? "[A-Za-z0-9_]" : NULL;
            if (!piece && (*in == '\0' || strchr(".+*?()[]|^$\\/-", *in) == NULL))
                return false;
            char quoted[3] = {'\\', *in, '\0'};
            if (!piece) {
                if (at + 2 >= size)
                    return false;
                memcpy(out + at, *in == '/' || *in == '-' ? quoted + 1 : quoted, 2);
                at += *in == '/' || *in == '-' ? 1 : 2;
                continue;
            }
        }
        depth += piece[0] == '(';
        if (depth > DEPTH_MAX || at + strlen(piece) >= size)
            return false;
        memcpy(out + at, piece, strlen(piece));
        at += strlen(piece);
    }
    out[at] = '\0';
    return true;
}

static void compile(hdl_match *m, entry *e, const char *expression, const char *end)
{
    char posix[2 * REGEX_BYTES_MAX], whole[2 * REGEX_BYTES_MAX + 32];
    if (strlen(expression) < REGEX_BYTES_MAX && m->n_regex < REGEX_COUNT_MAX &&
        translate(expression, posix, sizeof(posix))) {
        snprintf(whole, sizeof(whole), "^(%s)%s", posix, end);
        e->has_regex = regcomp(&e->regex, whole, REG_EXTENDED | REG_NOSUB) == 0;
    }
    m->n_regex += e->has_regex;
    if (!e->has_regex)
        HDL_LOG(WARN, LOAD, "pattern", "pattern=%.100s why=not_understood", expression);
}

static hdl_err add(hdl_match *m, const char *text, hdl_errmsg *why)
{
    entry *e = &m->entries[m->n];
    e->text = strdup(text);
    if (!e->text)
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    m->n++;
    if (m->style == HDL_MATCH_COMPRESSED && strncmp(text, "re:", 3) == 0)
        compile(m, e, text + 3, "");
    if (m->style == HDL_MATCH_TRANSFORMERS && strpbrk(text, "\\^$|?*+()[]{}") != NULL)
        compile(m, e, text, "(\\.|$)");
    return HDL_OK;
}

hdl_err hdl_match_new(hdl_match **out, const hdl_jv *list, hdl_match_style style, hdl_errmsg *why)
{
    size_t n = hdl_jv_given(list) ? hdl_jv_len(list) : 0;
    hdl_match *m = calloc(1, sizeof(*m));
    *out = NULL;
    if (m)
        m->entries = calloc(n + 1, sizeof(*m->entries));
    if (!m || !m->entries) {
        free(m);
        return hdl_fail(HDL_NOMEM, why, "out of memory; the machine is full; stop other programs");
    }
    m->style = style;
    hdl_err err = hdl_jv_given(list) ? hdl_jv_expect(list, HDL_JSON_ARRAY, why) : HDL_OK;
    for (size_t i = 0; i < n && err == HDL_OK; i++) {
        const char *text = "";
        hdl_jv item = hdl_jv_at(list, i);
        err = hdl_jv_string(&item, &text, NULL, why);
        if (err == HDL_OK)
            err = add(m, text, why);
    }
    if (err != HDL_OK) {
        hdl_match_free(m);
        return err;
    }
    *out = m;
    return HDL_OK;
}

void hdl_match_free(hdl_match *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++) {
        free((char *)(uintptr_t)m->entries[i].text);
        if (m->entries[i].has_regex)
            regfree(&m->entries[i].regex);
    }
    free(m->entries);
    free(m);
}

/* "a.b" holds "a.b" and "a.b.c", not "a.bc". */
static bool holds(const char *outer, const char *module)
{
    size_t len = strlen(outer);
    return len > 0 && strncmp(outer, module, len) == 0 &&
           (module[len] == '\0' || module[len] == '.');
}

static bool ends_with(const char *module, const char *end)
{
    size_t len = strlen(module), n = strlen(end);
    return n > 0 && n <= len && strcmp(module + len - n, end) == 0;
}

static bool matches(const hdl_match *m, const entry *e, const char *module)
{
    if (e->has_regex && regexec(&e->regex, module, 0, NULL, 0) == 0)
        return true;
    switch (m->style) {
    case HDL_MATCH_TRANSFORMERS: return holds(e->text, module) || ends_with(module, e->text);
    case HDL_MATCH_COMPRESSED: return strcmp(e->text, module) == 0;
    case HDL_MATCH_GLOB: return fnmatch(e->text, module, 0) == 0 || holds(e->text, module);
    }
    return false;
}

bool hdl_match_any(const hdl_match *m, const char *module)
{
    for (size_t i = 0; i < m->n; i++)
        if (matches(m, &m->entries[i], module))
            return true;
    return false;
}
