/* SPDX-License-Identifier: Apache-2.0 */
/* The "normalizer" of tokenizer.json: a sequence of rewrites of the text before it is split.
 * Immutable; any thread. */
#pragma once

#include <heddle/err.h>

#include "base/json.h"
#include "scheduler/text/charsmap.h"
#include "scheduler/text/regex.h"

enum { HDL_NORMALIZE_STEPS_MAX = 16 };

typedef enum hdl_normalize_kind {
    HDL_NORMALIZE_NFC,
    HDL_NORMALIZE_NFD,
    HDL_NORMALIZE_LOWERCASE,
    HDL_NORMALIZE_STRIP,
    HDL_NORMALIZE_PREPEND,
    HDL_NORMALIZE_REPLACE,
    HDL_NORMALIZE_PRECOMPILED,
    HDL_NORMALIZE_SENTENCEPIECE,
} hdl_normalize_kind;

typedef struct hdl_normalize_step {
    hdl_normalize_kind kind;
    bool left, right;  /* STRIP */
    hdl_text text;     /* PREPEND and REPLACE: what is put in; the arena's */
    hdl_regex *regex;  /* REPLACE: what is replaced; PRECOMPILED: one grapheme; owned */
    hdl_charsmap map;  /* PRECOMPILED, SENTENCEPIECE (n_units 0: none) */
    bool add_prefix;   /* SENTENCEPIECE: a space before the first word */
    bool merge_spaces; /* SENTENCEPIECE: one space before each word, none elsewhere */
} hdl_normalize_step;

typedef struct hdl_normalizer {
    hdl_normalize_step steps[HDL_NORMALIZE_STEPS_MAX];
    uint32_t n_steps;
} hdl_normalizer;

/* From the value of "normalizer" (null: none). deinit also after a failure. */
hdl_err hdl_normalizer_init(hdl_normalizer *normalizer, hdl_pool_arena *arena, const hdl_jv *json,
                            hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_normalizer_deinit(hdl_normalizer *normalizer);
/* A step of a format that is not tokenizer.json; takes over what it owns, also on failure. */
hdl_err hdl_normalizer_add(hdl_normalizer *normalizer, const hdl_normalize_step *step,
                           hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_normalize_work {
    hdl_regex_work *regex;
    hdl_buf bufs[2]; /* results lie in one of them */
    bool part;       /* the text goes on from another: nothing is prepended */
} hdl_normalize_work;
/* *text becomes the normalised text: unchanged, or in work->bufs until the next run. */
hdl_err hdl_normalizer_run(const hdl_normalizer *normalizer, hdl_normalize_work *work,
                           hdl_text *text) HDL_MUST_CHECK;
