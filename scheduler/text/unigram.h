/* SPDX-License-Identifier: Apache-2.0 */
/* Unigram (Kudo 2018): the split of a word into tokens whose log probabilities have the greatest
 * sum, found by Viterbi as Hugging Face's and SentencePiece's Unigram do.
 *
 * A character that no token covers alone costs the lowest score less ten; neighbours of that kind
 * become one unk, or their bytes' tokens. Sums are doubles and of equals the first found stays, so
 * that ties fall as in the original. hdl_unigram is immutable; hdl_unigram_work is one thread's. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

#include "base/arena.h"
#include "scheduler/text/ids.h"
#include "scheduler/text/trie.h"

typedef struct hdl_unigram {
    const hdl_vocab *vocab;
    hdl_trie trie;
    double *scores; /* [n_ids] */
    double unk_score;
    hdl_token unk; /* -1: a text with an unknown character is refused */
    bool byte_fallback;
    hdl_token byte_ids[256];
} hdl_unigram;

typedef struct hdl_unigram_options {
    hdl_token unk;
    bool byte_fallback;
    double score_min; /* of the scores that count for unknown characters */
} hdl_unigram_options;

/* scores: [n_ids], the arena's. Tokens of the vocabulary that are learned can be found in text. */
hdl_err hdl_unigram_init(hdl_unigram *unigram, hdl_pool_arena *arena, const hdl_vocab *vocab,
                         const hdl_unigram_options *opt) HDL_MUST_CHECK;

typedef struct hdl_unigram_work hdl_unigram_work;
hdl_err hdl_unigram_work_new(hdl_unigram_work **out) HDL_MUST_CHECK;
void hdl_unigram_work_free(hdl_unigram_work *work);
void hdl_unigram_work_reset(hdl_unigram_work *work);

typedef struct hdl_unigram_word {
    hdl_text text;        /* len >= 1 */
    bool special_is_text; /* special tokens are not found in it */
} hdl_unigram_word;
/* INVALID: an unknown character and no unk. */
hdl_err hdl_unigram_encode(const hdl_unigram *unigram, hdl_unigram_work *work,
                           hdl_unigram_word word, hdl_ids *out) HDL_MUST_CHECK;
