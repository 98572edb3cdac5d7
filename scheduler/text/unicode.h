/* SPDX-License-Identifier: Apache-2.0 */
/* Unicode normalisation (UAX 15, forms C and D), lower case, white space. Pure; any thread. */
#pragma once

#include <heddle/err.h>

#include "base/buf.h"
#include "scheduler/text/vocab.h"

typedef enum hdl_normal_form { HDL_NFC, HDL_NFD } hdl_normal_form;

/* Bytes from the start that the form leaves as they are for certain: text.len for most texts. */
size_t hdl_unicode_normal_prefix(hdl_normal_form form, hdl_text text);
/* Appends the normalised text; text is valid UTF-8. Linear, also in long runs of combining marks.
 */
hdl_err hdl_unicode_normalize(hdl_normal_form form, hdl_text text, hdl_buf *out) HDL_MUST_CHECK;

/* Lower case of one character without context (final sigma is sigma), as Rust's char::to_lowercase;
 * 1 or 2 characters. */
size_t hdl_unicode_lower(uint32_t cp, uint32_t out[2]);
/* Upper case of one character where that is one character, else itself (sharp s stays). */
uint32_t hdl_unicode_upper(uint32_t cp);
/* White_Space. */
bool hdl_unicode_is_space(uint32_t cp);
/* True only for characters between any two of which a grapheme cluster ends; false for the rare. */
bool hdl_unicode_stands_alone(uint32_t cp);
