/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tokens: id -> text as the file writes it and the raw bytes that a model merges; text
 * -> id; raw bytes -> id.
 *
 * Byte-level vocabularies write each byte as one printable character (GPT-2's map), so that JSON
 * can hold half a UTF-8 character; in plain ones (SentencePiece's, tekken's) a token's text is its
 * bytes. Everything behind this table works on raw bytes. Filled while opening, then immutable;
 * memory is the tokenizer's arena. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

#include "base/arena.h"

enum { HDL_VOCAB_IDS_MAX = 1 << 22 }; /* 16 times the largest published vocabulary */

/* Bytes in place, not terminated. */
typedef struct hdl_text {
    const char *p;
    size_t len;
} hdl_text;

typedef struct hdl_vocab_token {
    const char *text;    /* as written; NULL: no such id */
    const char *raw;     /* the same pointer where both are equal */
    const char *decoded; /* what decoding gives (decode.h) */
    uint32_t text_len, raw_len, decoded_len;
    bool special;
    bool learned; /* in the model's own vocabulary, not only among the added tokens */
    bool mapped;  /* raw is what text stands for; false: text itself, by want of a byte for each */
    bool byte;    /* "<0x0A>" of byte fallback: decoded is that byte */
    bool redone;  /* decoded does not come from text (hdl_vocab_set_decoded) */
} hdl_vocab_token;

typedef struct hdl_vocab {
    bool plain;              /* texts are their own raw bytes; set before the first token */
    hdl_vocab_token *tokens; /* [n_ids] */
    uint32_t n_ids;          /* highest id + 1 */
    uint32_t ids_max;        /* room in tokens */
    uint32_t slots;          /* of each hash table, a power of two */
    uint32_t *by_text;       /* [slots] id + 1, 0 free; open addressing */
    uint32_t *by_raw;        /* [slots] the same for learned, mapped tokens */
} hdl_vocab;

/* Room for ids 0..ids_max-1 and as many texts. */
hdl_err hdl_vocab_init(hdl_vocab *vocab, hdl_pool_arena *arena, uint32_t ids_max) HDL_MUST_CHECK;

typedef struct hdl_vocab_entry {
    const char *text; /* copied */
    size_t len;
    uint32_t id;
    bool special, learned;
    bool unnamed; /* not found by its text: formats whose added tokens may repeat a learned text */
} hdl_vocab_entry;
/* An id or a text that is there already may come again only as the same pair (an added token that
 * the model knows too). */
hdl_err hdl_vocab_add(hdl_vocab *vocab, hdl_pool_arena *arena, const hdl_vocab_entry *entry,
                      hdl_errmsg *why) HDL_MUST_CHECK;

/* Decoding starts from another text than the token's own: an added token that is looked for in
 * normalised text is decoded as what normalisation made of it. */
hdl_err hdl_vocab_set_decoded(hdl_vocab *vocab, hdl_pool_arena *arena, uint32_t id,
                              hdl_text text) HDL_MUST_CHECK;

/* -1 when there is none. */
hdl_token hdl_vocab_find(const hdl_vocab *vocab, const char *text, size_t len);
hdl_token hdl_vocab_find_raw(const hdl_vocab *vocab, const char *raw, size_t len);
static inline const hdl_vocab_token *hdl_vocab_get(const hdl_vocab *vocab, hdl_token id)
{
    return id >= 0 && (uint32_t)id < vocab->n_ids && vocab->tokens[id].text != NULL
               ? &vocab->tokens[id]
               : NULL;
}

/* GPT-2's map: the character that stands for a byte, and back (-1: stands for none). */
uint32_t hdl_byte_char(unsigned char byte);
int hdl_char_byte(uint32_t cp);
