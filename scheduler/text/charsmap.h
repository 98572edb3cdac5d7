/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece's compiled rewriting rules ("precompiled_charsmap"): a double-array trie from byte
 * strings to their replacements. Foreign: every step inside it is checked. Immutable; any thread.
 */
#pragma once

#include <heddle/err.h>

#include "base/buf.h"
#include "scheduler/text/regex.h"

typedef struct hdl_charsmap {
    const unsigned char *units; /* little-endian 32-bit words, not aligned; borrowed */
    size_t n_units;
    const char *strings; /* replacements, each ends with a zero byte; valid UTF-8 */
    size_t n_strings;    /* bytes */
    bool ascii[128];     /* does a rule begin with this character */
} hdl_charsmap;

/* From the bytes of the map: u32 size of the trie, trie, strings. Borrows them. */
hdl_err hdl_charsmap_init(hdl_charsmap *map, hdl_text bytes, hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_charsmap_hit {
    size_t len;    /* bytes of the text that are replaced; 0: none */
    hdl_text with; /* may be empty */
} hdl_charsmap_hit;
/* Of the keys that the text begins with the shortest or the longest. INVALID: the map lies. */
hdl_err hdl_charsmap_find(const hdl_charsmap *map, hdl_text text, bool longest,
                          hdl_charsmap_hit *hit) HDL_MUST_CHECK;

/* The whole text as Hugging Face's Precompiled rewrites it: grapheme by grapheme (given as a
 * pattern that matches one), small ones as a whole, else character by character. */
hdl_err hdl_charsmap_graphemes(const hdl_charsmap *map, hdl_regex_scan *graphemes,
                               hdl_buf *out) HDL_MUST_CHECK;
