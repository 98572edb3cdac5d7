/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings over the detokenised byte stream, wherever token boundaries fall.
 *
 * A hdl_stop_set (compiled strings; immutable, shared by the choices of a request) and a hdl_stop
 * (position of one stream; POD). The match that ends first wins; of several that end together the
 * longest. Text goes out as soon as it can no longer be part of a match, so what is held back is
 * always the longest suffix that begins some stop string, and it needs no storage: it is a prefix
 * of that string. */
#pragma once

#include <heddle/err.h>
#include <heddle/limits.h>
#include <heddle/types.h>

#include "base/buf.h"

typedef struct hdl_stop_set hdl_stop_set; /* heap, cold */

typedef struct hdl_stop_text {
    const char *text; /* not empty, at most HDL_STOP_STRING_BYTES_MAX bytes; copied */
    size_t len;
} hdl_stop_text;

/* At most HDL_STOP_STRINGS_MAX strings; n = 0 gives a set that never matches. INVALID for an empty
 * or too long string. */
hdl_err hdl_stop_set_new(hdl_stop_set **out, const hdl_stop_text *texts, size_t n,
                         hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_stop_set_free(hdl_stop_set *set);

typedef struct hdl_stop {
    const hdl_stop_set *set;           /* borrowed: outlives the stream; NULL: never matches */
    bool include;                      /* the stop string itself is part of the output */
    int8_t matched;                    /* index of the string that ended the stream, or -1 */
    uint16_t at[HDL_STOP_STRINGS_MAX]; /* bytes of each string that the stream now ends with */
} hdl_stop;

void hdl_stop_init(hdl_stop *stop, const hdl_stop_set *set, bool include);
/* Appends to out what is free to go. After a match everything further is swallowed. out must not be
 * the pushed text. */
hdl_err hdl_stop_push(hdl_stop *stop, const void *text, size_t len, hdl_buf *out) HDL_MUST_CHECK;
/* The stream ended otherwise (length, eos): what was held back goes out. */
hdl_err hdl_stop_flush(hdl_stop *stop, hdl_buf *out) HDL_MUST_CHECK;
static inline bool hdl_stop_matched(const hdl_stop *stop) { return stop->matched >= 0; }
