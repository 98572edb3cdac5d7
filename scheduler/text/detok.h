/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids to text, one at a time, for streams.
 *
 * The pieces of all pushes and the flush, put together, are the bytes that hdl_tokenizer_decode
 * gives for all ids at once, and every piece alone is valid UTF-8: a character whose bytes are
 * spread over tokens comes out with its last byte. Byte tokens of byte fallback are held until
 * their run ends, since one wrong byte turns the whole run into U+FFFD; runs beyond HDL_DETOK_HELD
 * come out piecemeal. POD, no owner of anything; lives in a request's choice. One thread at a
 * time. */
#pragma once

#include "scheduler/text/tokenizer.h"

enum { HDL_DETOK_HELD = 64 };

typedef struct hdl_detok {
    unsigned char held[HDL_DETOK_HELD]; /* start of a character, or a run of byte tokens */
    uint8_t n_held;
    uint8_t to_strip; /* characters that may still be dropped at the start of the text */
    bool skip_special;
    bool started;   /* a token has come */
    bool wrong_run; /* this run of byte tokens is no text: a U+FFFD for each */
} hdl_detok;

void hdl_detok_init(hdl_detok *detok, bool skip_special);
/* Appends what can be said now, often nothing. */
hdl_err hdl_detok_push(hdl_detok *detok, const hdl_tokenizer *tok, hdl_token id,
                       hdl_buf *out) HDL_MUST_CHECK;
/* At the end of the stream: what is held back comes out, a U+FFFD for what is no character. The
 * state is then as after init. */
hdl_err hdl_detok_flush(hdl_detok *detok, const hdl_tokenizer *tok, hdl_buf *out) HDL_MUST_CHECK;
