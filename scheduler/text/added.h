/* SPDX-License-Identifier: Apache-2.0 */
/* Finds added tokens ("<|im_end|>") in text, as Hugging Face's AddedVocabulary does.
 *
 * Leftmost, then longest. A token that is skipped (special, while special tokens are plain text; or
 * single_word inside a word) still uses up its place: what overlaps it is not looked at, since that
 * is how the original behaves. Special tokens may also be restricted to ranges of the text; one
 * that begins outside never hides one inside. Tokens with normalized=false are looked for in the
 * text as given, the others in normalised text: one hdl_added_set for each. Immutable; any thread.
 */
#pragma once

#include <heddle/err.h>

#include "base/arena.h"
#include "scheduler/text/ranges.h"
#include "scheduler/text/regex.h"
#include "scheduler/text/vocab.h"

enum { HDL_ADDED_MAX = 1 << 17, HDL_ADDED_BYTES_MAX = 4096 };

typedef struct hdl_added_token {
    hdl_text text; /* borrowed from the vocabulary or the arena */
    hdl_token id;
    bool special, single_word, lstrip, rstrip;
} hdl_added_token;

typedef struct hdl_added_set {
    hdl_added_token *tokens; /* [n] by text after hdl_added_finish */
    uint32_t n, n_max;
    uint32_t first[257]; /* tokens that start with byte b: first[b]..first[b + 1] - 1 */
    hdl_regex *word;     /* owned; NULL unless a token is single_word */
    bool has_special;
} hdl_added_set;

hdl_err hdl_added_init(hdl_added_set *set, hdl_pool_arena *arena, uint32_t n_max) HDL_MUST_CHECK;
/* Empty texts are ignored. */
void hdl_added_put(hdl_added_set *set, const hdl_added_token *token);
hdl_err hdl_added_finish(hdl_added_set *set, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_added_deinit(hdl_added_set *set);

typedef struct hdl_added_scan {
    const hdl_added_set *set;
    hdl_regex_work *work;
    hdl_text text;
    bool special_is_text;
    const hdl_ranges *special_in; /* special tokens are read in these places alone; NULL: in all */
    size_t base;                  /* where text begins in the text that these count in */
    size_t cursor;                /* for hdl_ranges_hold; starts as 0 */
    size_t from;                  /* where the search goes on; starts as 0 */
    size_t done;                  /* end of what was handed out; starts as 0 */
    hdl_text gap;                 /* out: text before the token, may be empty */
    hdl_token id;                 /* out: the token; -1: none, gap is the rest */
} hdl_added_scan;
/* Call until id is -1. */
hdl_err hdl_added_next(hdl_added_scan *scan) HDL_MUST_CHECK;
