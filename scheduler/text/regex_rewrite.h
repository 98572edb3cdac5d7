/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokeniser patterns are written for Oniguruma; this spells them so that PCRE2 means the same.
 *
 * The two agree on most syntax. Where they differ without an error the pattern is rewritten
 * (scripts, \s, \w, \b, \u) or refused by name: a wrong split is never an error later, only worse
 * answers. Pure. */
#pragma once

#include <heddle/err.h>

#include "base/buf.h"

hdl_err hdl_regex_rewrite(const char *pattern, size_t len, hdl_buf *out,
                          hdl_errmsg *why) HDL_MUST_CHECK;
