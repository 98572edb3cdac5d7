/* SPDX-License-Identifier: Apache-2.0 */
/* Recently encoded words and their ids: text repeats itself, so most words are looked up and not
 * encoded again.
 *
 * A direct-mapped table; a new word takes the place of whatever had its slot. One
 * thread's; forgotten (hdl_words_reset) when another tokenizer comes. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>
#include <string.h>

#include "base/hash.h"
#include "scheduler/text/ids.h"
#include "scheduler/text/vocab.h"

enum {
    HDL_WORDS_SLOTS = 1 << 14, /* 2 MiB a thread */
    HDL_WORD_HEAD_BYTES = 30,
    HDL_WORD_BYTES_MAX = HDL_WORD_HEAD_BYTES + 18, /* longer words are rare and not remembered */
    HDL_WORD_HEAD_IDS = 8,
    HDL_WORD_IDS_MAX = HDL_WORD_HEAD_IDS + 11,
};

/* Two cache lines, of which most words need the first alone. */
typedef struct hdl_word {
    uint8_t len; /* 0: free */
    uint8_t n_ids;
    char head[HDL_WORD_HEAD_BYTES];
    hdl_token ids[HDL_WORD_HEAD_IDS];
    char tail[HDL_WORD_BYTES_MAX - HDL_WORD_HEAD_BYTES];
    hdl_token more_ids[HDL_WORD_IDS_MAX - HDL_WORD_HEAD_IDS];
} hdl_word;
_Static_assert(sizeof(hdl_word) == 128, "two cache lines");

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
    if (word == NULL || word->len != text.len)
        return false;
    if (text.len <= HDL_WORD_HEAD_BYTES)
        return memcmp(word->head, text.p, text.len) == 0;
    return memcmp(word->head, text.p, HDL_WORD_HEAD_BYTES) == 0 &&
           memcmp(word->tail, text.p + HDL_WORD_HEAD_BYTES, text.len - HDL_WORD_HEAD_BYTES) == 0;
}

static inline void hdl_word_put(hdl_word *word, hdl_text text, const hdl_token *ids, size_t n)
{
    size_t head = text.len < HDL_WORD_HEAD_BYTES ? text.len : HDL_WORD_HEAD_BYTES,
           head_ids = n < HDL_WORD_HEAD_IDS ? n : HDL_WORD_HEAD_IDS;
    if (word == NULL || n > HDL_WORD_IDS_MAX)
        return;
    word->len = (uint8_t)text.len;
    word->n_ids = (uint8_t)n;
    memcpy(word->head, text.p, head);
    memcpy(word->tail, text.p + head, text.len - head);
    memcpy(word->ids, ids, head_ids * sizeof *ids);
    memcpy(word->more_ids, ids + head_ids, (n - head_ids) * sizeof *ids);
}

static inline hdl_err hdl_word_append(const hdl_word *word, hdl_ids *out)
{
    size_t head_ids = word->n_ids < HDL_WORD_HEAD_IDS ? word->n_ids : HDL_WORD_HEAD_IDS;
    HDL_TRY(hdl_ids_append(out, word->ids, head_ids));
    return word->n_ids > head_ids ? hdl_ids_append(out, word->more_ids, word->n_ids - head_ids)
                                  : HDL_OK;
}
