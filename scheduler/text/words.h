/* SPDX-License-Identifier: Apache-2.0 */
/* Recently encoded words and their ids: text repeats itself, so most words are looked up and not
 * encoded again.
 *
 * A direct-mapped table of cache lines; a new word takes the place of whatever had its slot. One
 * thread's; forgotten (hdl_words_reset) when another tokenizer comes. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>
#include <string.h>

#include "base/hash.h"
#include "scheduler/text/ids.h"
#include "scheduler/text/vocab.h"

enum {
    HDL_WORDS_SLOTS = 1 << 14, /* 1 MiB a thread */
    HDL_WORD_BYTES_MAX = 34,   /* longer words are rare and not remembered */
    HDL_WORD_IDS_MAX = 7,
};

typedef struct hdl_word {
    uint8_t len; /* 0: free */
    uint8_t n_ids;
    char bytes[HDL_WORD_BYTES_MAX];
    hdl_token ids[HDL_WORD_IDS_MAX];
} hdl_word;
_Static_assert(sizeof(hdl_word) == 64, "one cache line");

typedef struct hdl_words {
    hdl_word *v; /* [HDL_WORDS_SLOTS] owned */
} hdl_words;

hdl_err hdl_words_init(hdl_words *words) HDL_MUST_CHECK;
void hdl_words_deinit(hdl_words *words);
void hdl_words_reset(hdl_words *words);

/* The place for a word; NULL: it is too long to be remembered. */
static inline hdl_word *hdl_words_slot(const hdl_words *words, hdl_text text)
{
    if (text.len > HDL_WORD_BYTES_MAX)
        return NULL;
    return &words->v[hdl_hash_bytes(text.p, text.len, 0) & (HDL_WORDS_SLOTS - 1)];
}

static inline bool hdl_word_is(const hdl_word *word, hdl_text text)
{
    return word != NULL && word->len == text.len && memcmp(word->bytes, text.p, text.len) == 0;
}

static inline void hdl_word_put(hdl_word *word, hdl_text text, const hdl_token *ids, size_t n)
{
    if (word == NULL || n > HDL_WORD_IDS_MAX)
        return;
    word->len = (uint8_t)text.len;
    word->n_ids = (uint8_t)n;
    memcpy(word->bytes, text.p, text.len);
    memcpy(word->ids, ids, n * sizeof *ids);
}
