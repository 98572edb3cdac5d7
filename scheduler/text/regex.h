/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of tokenizer.json (PCRE2 with JIT stays inside regex.c).
 *
 * A hdl_regex is immutable and shared by threads; a hdl_regex_work is one thread's. Patterns are
 * foreign: their length, nesting and the steps of a match are limited. Subjects are valid UTF-8. */
#pragma once

#include <heddle/err.h>

#include "scheduler/text/vocab.h"

typedef struct hdl_regex hdl_regex;
typedef struct hdl_regex_work hdl_regex_work;

/* The pattern in Oniguruma's syntax (regex_rewrite.h). */
hdl_err hdl_regex_open(hdl_regex **out, hdl_text pattern, hdl_errmsg *why) HDL_MUST_CHECK;
/* Matches one extended grapheme cluster. */
hdl_err hdl_regex_open_grapheme(hdl_regex **out, hdl_errmsg *why) HDL_MUST_CHECK;
/* Matches exactly these bytes. */
hdl_err hdl_regex_open_literal(hdl_regex **out, hdl_text text, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_regex_free(hdl_regex *regex);

/* False: it matches nowhere in the text, at the cost of one look at each byte. */
bool hdl_regex_may_match(const hdl_regex *regex, hdl_text text);

hdl_err hdl_regex_work_new(hdl_regex_work **out) HDL_MUST_CHECK;
void hdl_regex_work_free(hdl_regex_work *work);

/* Walks the matches of a subject from left to right. */
typedef struct hdl_regex_scan {
    const hdl_regex *regex;
    hdl_regex_work *work;
    hdl_text subject;
    size_t from;       /* where the search goes on; starts as 0 */
    size_t start, end; /* of the match found */
    bool matched_before;
} hdl_regex_scan;
/* HDL_OK with *found; INVALID when the limits of matching are reached. An empty match right after
 * another match is passed over. */
hdl_err hdl_regex_next(hdl_regex_scan *scan, bool *found) HDL_MUST_CHECK;
