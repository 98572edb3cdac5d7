/* SPDX-License-Identifier: Apache-2.0 */
/* Template source to tokens, with the white-space rules that transformers sets (trim_blocks,
 * lstrip_blocks, one newline at the end dropped). The whole source is cut up at once; tokens point
 * into the source copy that the lexer makes. */
#pragma once

#include "scheduler/text/jinja_value.h"

typedef enum hdl_jtoken_kind {
    HDL_JT_TEXT,        /* between tags */
    HDL_JT_PRINT_BEGIN, /* {{ */
    HDL_JT_PRINT_END,
    HDL_JT_BLOCK_BEGIN, /* {% */
    HDL_JT_BLOCK_END,
    HDL_JT_NAME,
    HDL_JT_STRING, /* value is unescaped */
    HDL_JT_INT,
    HDL_JT_FLOAT,
    HDL_JT_OP, /* text is the operator */
    HDL_JT_END,
} hdl_jtoken_kind;

typedef struct hdl_jtoken {
    hdl_jtoken_kind kind;
    uint32_t line;
    hdl_text text;
    hdl_jval value; /* STRING, INT, FLOAT */
} hdl_jtoken;

typedef struct hdl_jtokens {
    hdl_jtoken *v; /* [n], the last is END; in mem */
    size_t n, size;
} hdl_jtokens;

hdl_err hdl_jlex(hdl_jmem *mem, hdl_text source, hdl_jtokens *out, hdl_errmsg *why) HDL_MUST_CHECK;
