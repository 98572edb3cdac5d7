/* SPDX-License-Identifier: Apache-2.0 */
/* Splits normalised text into the pre-tokens that the model then encodes one by one.
 *
 * Every pre-tokeniser of tokenizer.json that heddle knows is a sequence of the same step: put
 * spaces before pieces or write them as another character, then search a pattern in each piece, and
 * keep, join or drop matches and gaps. ByteLevel's own work, the map from bytes to characters, is
 * done once for the vocabulary instead (vocab.h), so pieces stay ranges of the text. A hdl_pretok
 * is immutable; hdl_pretok_work is one thread's. */
#pragma once

#include <heddle/err.h>

#include "base/json.h"
#include "scheduler/text/regex.h"

enum { HDL_PRETOK_STEPS_MAX = 16 };

/* What becomes of a match; names as in tokenizer.json. */
typedef enum hdl_split_behavior {
    HDL_SPLIT_ISOLATED,        /* a piece of its own */
    HDL_SPLIT_REMOVED,         /* dropped */
    HDL_SPLIT_MERGED_PREVIOUS, /* joined to the gap before it */
    HDL_SPLIT_MERGED_NEXT,     /* joined to the gap after it */
    HDL_SPLIT_CONTIGUOUS,      /* joined to neighbouring matches */
} hdl_split_behavior;

typedef struct hdl_pretok_step {
    hdl_regex *regex; /* owned; NULL: no splitting in this step */
    hdl_split_behavior behavior;
    bool invert;      /* matches and gaps change places */
    bool prefix;      /* first put a space before each piece that does not start with one */
    bool prefix_once; /* the same before the piece at the start of the whole text alone */
    char space[4];    /* what stands for a space from here on; n_space 0: spaces stay */
    uint8_t n_space;
} hdl_pretok_step;

typedef struct hdl_pretok {
    hdl_pretok_step steps[HDL_PRETOK_STEPS_MAX];
    uint32_t n_steps;
    bool byte_level; /* ends with ByteLevel */
} hdl_pretok;

/* From the value of "pre_tokenizer" (null: texts are one piece); UNSUPPORTED names what heddle
 * lacks. deinit also after a failure. */
hdl_err hdl_pretok_init(hdl_pretok *pretok, const hdl_jv *json, hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_pretok_deinit(hdl_pretok *pretok);
/* One more step that makes every match of a pattern a piece; for formats whose patterns are known.
 */
hdl_err hdl_pretok_add_split(hdl_pretok *pretok, hdl_text pattern, hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_span {
    uint32_t at, len;
} hdl_span;

typedef struct hdl_pretok_work hdl_pretok_work;
hdl_err hdl_pretok_work_new(hdl_pretok_work **out) HDL_MUST_CHECK;
void hdl_pretok_work_free(hdl_pretok_work *work);
/* For the other users of patterns on this thread. */
hdl_regex_work *hdl_pretok_work_regex(hdl_pretok_work *work);

typedef struct hdl_pretok_input {
    hdl_text text; /* valid UTF-8, below 2^31 bytes */
    bool at_start; /* nothing of the whole text comes before it */
} hdl_pretok_input;

/* Pieces are never empty and lie in text, which is the given one or, where spaces were put in or
 * rewritten, the work's own. */
typedef struct hdl_pieces {
    hdl_text text;
    const hdl_span *spans;
    size_t n;
} hdl_pieces;
/* Valid until the next run. */
hdl_err hdl_pretok_run(const hdl_pretok *pretok, hdl_pretok_work *work, hdl_pretok_input input,
                       hdl_pieces *out) HDL_MUST_CHECK;
