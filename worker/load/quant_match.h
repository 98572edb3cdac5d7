/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of module names in a quantization_config, as their tools read them. Cold; the thread that
 * reads the configuration. */
#pragma once

#include "base/json.h"

typedef enum hdl_match_style {
    HDL_MATCH_TRANSFORMERS, /* regular expression up to a module's end, or a name's end */
    HDL_MATCH_COMPRESSED,   /* a whole name, or re:<regular expression> of its beginning */
    HDL_MATCH_GLOB,         /* modelopt: with *; or a module that the name lies in */
} hdl_match_style;

typedef struct hdl_match hdl_match;

/* list: an array of strings, or absent. What is no regular expression of ours matches nothing and
 * is told in the log. */
hdl_err hdl_match_new(hdl_match **out, const hdl_jv *list, hdl_match_style style,
                      hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_match_free(hdl_match *m);
/* Does an entry name the module? */
bool hdl_match_any(const hdl_match *m, const char *module);
