/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids to text, one at a time, for streams.
 *
 * The pieces of all pushes and the flush, put together, are the bytes that hdl_tokenizer_decode
 * gives for all ids at once, and every piece alone is valid UTF-8: a character whose bytes are
 * spread over tokens comes out with its last byte. POD, no owner of anything; lives in a request's
 * choice. One thread at a time. */
#pragma once

#include "scheduler/text/tokenizer.h"

typedef struct hdl_detok {
    unsigned char held[4]; /* start of a character whose end has not come */
    uint8_t n_held;        /* 0..3 */
    bool skip_special;
} hdl_detok;

void hdl_detok_init(hdl_detok *detok, bool skip_special);
/* Appends what can be said now, often nothing. */
hdl_err hdl_detok_push(hdl_detok *detok, const hdl_tokenizer *tok, hdl_token id,
                       hdl_buf *out) HDL_MUST_CHECK;
/* At the end of the stream: what is held back becomes U+FFFD. The state is then as after init. */
hdl_err hdl_detok_flush(hdl_detok *detok, hdl_buf *out) HDL_MUST_CHECK;
