/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of built-ins share: filters (jinja_filters*.c), tests and functions
 * (jinja_tests.c), methods (jinja_methods.c). */
#pragma once

#include <heddle/types.h>

#include "scheduler/text/jinja_run.h"

/* The head of a built-in; the compiler says when one is in no table. */
#define METHOD(name)                                                                               \
    static hdl_err name(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args, hdl_jval *out)

typedef enum hdl_jcase {
    HDL_JCASE_LOWER,
    HDL_JCASE_UPPER,
    HDL_JCASE_CAPITALIZE, /* first character up, the others down */
    HDL_JCASE_TITLE, /* the first letter after anything that is no letter: Python's str.title */
    HDL_JCASE_WORDS, /* the first character after space, -, (, {, [ or <: Jinja's title */
} hdl_jcase;

enum { HDL_JSTRIP_LEFT = 1, HDL_JSTRIP_RIGHT = 2 };
/* chars.p NULL: white space. */
hdl_err hdl_jstrip(hdl_jrun *run, hdl_text *s, hdl_text chars, unsigned ends) HDL_MUST_CHECK;
hdl_err hdl_jrecase(hdl_jrun *run, hdl_text s, hdl_jcase how, hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jreplace(hdl_jrun *run, const hdl_jval *self, const hdl_jargs *args,
                     hdl_jval *out) HDL_MUST_CHECK;
hdl_err hdl_jdict_items(hdl_jrun *run, const hdl_jdict *dict,
                        hdl_jval *out) HDL_MUST_CHECK; /* list of pairs */

/* Filters on lists, in jinja_filters_list.c. */
extern const hdl_jfunction hdl_jlist_filters[];
extern const size_t hdl_jlist_filters_n;
