/* SPDX-License-Identifier: Apache-2.0 */
/* Texts to measure tokenizers with: code and prose in a dozen languages, made from a few lines that
 * come with the program. Pure: the same seed gives the same text. */
#pragma once

#include "base/buf.h"

typedef enum hdl_corpus_kind {
    HDL_CORPUS_MIXED, /* a prompt: lines come back, one word in eight is new */
    HDL_CORPUS_RARE,  /* every word is made of random letters of its script */
    HDL_CORPUS_COUNT,
} hdl_corpus_kind;

const char *hdl_corpus_name(hdl_corpus_kind kind);
/* Appends text until out has at least size bytes; ends with a whole character. */
hdl_err hdl_corpus_write(hdl_corpus_kind kind, uint64_t seed, size_t size, hdl_buf *out);
