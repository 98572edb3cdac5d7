/* SPDX-License-Identifier: Apache-2.0 */
/* What the names in "tokenizer.ggml.pre" of a GGUF file stand for: patterns that the file itself
 * does not carry, and what else the tokenizers of that name do. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { HDL_GGUF_PATTERNS_MAX = 6 };

typedef struct hdl_gguf_pre {
    const char *names; /* separated by spaces */
    const char
        *patterns[HDL_GGUF_PATTERNS_MAX]; /* in order; every match and every gap is a piece */
    bool ignore_merges;                   /* a piece that is a token is that token */
    bool add_bos;                         /* where the file does not say */
    bool nfc;                             /* the published tokenizer composes characters first */
} hdl_gguf_pre;

/* NULL: no tokenizer that heddle knows. */
const hdl_gguf_pre *hdl_gguf_pre_find(const char *name, size_t len);
