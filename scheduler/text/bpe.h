/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair merging: one pre-token to ids.
 *
 * The definition (Sennrich et al. 2016, as Hugging Face's BPE, SentencePiece and tiktoken do it):
 * start from one symbol per byte or character; as long as any two neighbours have a merge, replace
 * the pair with the lowest rank, the leftmost of equals. The merges are a list of pairs, or
 * everything that is a token (by_vocab; hdl_bpe_finish lists the pairs where they are of bytes).
 * Short words are merged literally, long ones through a heap and a linked list (bpe_merge.c), so
 * that the cost is O(n log n) whatever the text. hdl_bpe is immutable after hdl_bpe_finish;
 * hdl_bpe_work is one thread's. */
#pragma once

#include <heddle/err.h>
#include <heddle/types.h>

#include "base/arena.h"
#include "scheduler/text/ids.h"
#include "scheduler/text/vocab.h"

/* What a pair becomes. */
typedef struct hdl_bpe_merge {
    uint32_t rank; /* UINT32_MAX: stays two */
    hdl_token id;
} hdl_bpe_merge;

typedef struct hdl_bpe_slot {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    hdl_bpe_merge to;
} hdl_bpe_slot;

typedef struct hdl_bpe_options {
    bool chars;         /* first symbols are characters; else bytes */
    bool by_vocab;      /* two symbols merge when together they are a token with a rank */
    bool ignore_merges; /* a whole pre-token that is in the vocabulary is that id, merges or not */
    bool byte_fallback; /* chars: a character without a token becomes its bytes' tokens <0x00> */
    bool fuse_unk;      /* chars: neighbouring unknown characters give one unk */
    hdl_token unk;      /* chars: -1: unknown characters are dropped */
    uint32_t n_merges;  /* room for so many rules */
} hdl_bpe_options;

typedef struct hdl_bpe {
    const hdl_vocab *vocab;
    hdl_bpe_options opt;
    hdl_token byte_ids[256];   /* of bytes, or of <0x00>...; -1: none */
    hdl_token ascii_ids[128];  /* chars: of the first characters */
    uint32_t longest;          /* raw bytes of the longest token */
    bool covers;               /* there is no text without tokens: nothing unknown, nothing lost */
    uint32_t *ranks;           /* by_vocab: [n_ids], UINT32_MAX: never formed */
    uint32_t slots;            /* of merges, a power of two */
    uint32_t slot_shift;       /* 64 - log2(slots) */
    hdl_bpe_slot *merges;      /* the rules */
    uint64_t *may_merge;       /* [slots / 16] four bits a slot: all zero where no rule hashes to */
    hdl_bpe_merge *byte_pairs; /* bytes: [256 * 256] by two bytes: the first and busiest round */
    uint64_t *adjacent;        /* chars: set of character pairs that some token has side by side */
    uint32_t adjacent_shift;   /* 64 - log2(bits of adjacent) */
    bool makes_special;        /* plain text can become a special token by merging alone */
} hdl_bpe;

/* vocab holds all learned tokens. Bytes and characters without a token (and without a fallback or
 * unk) are left out of the text, as in Hugging Face's BPE; INVALID when by_vocab lacks a byte. */
hdl_err hdl_bpe_init(hdl_bpe *bpe, hdl_pool_arena *arena, const hdl_vocab *vocab,
                     const hdl_bpe_options *opt, hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_bpe_rule {
    hdl_text left, right; /* as written in the file */
    uint32_t rank;
} hdl_bpe_rule;
hdl_err hdl_bpe_add_merge(hdl_bpe *bpe, const hdl_bpe_rule *rule, hdl_errmsg *why) HDL_MUST_CHECK;
/* by_vocab: the token forms in this order; equal ranks from left to right. */
static inline void hdl_bpe_set_rank(hdl_bpe *bpe, hdl_token id, uint32_t rank)
{
    bpe->ranks[id] = rank;
}
/* After the last merge, and after the vocabulary knows which tokens are special. */
hdl_err hdl_bpe_finish(hdl_bpe *bpe, hdl_pool_arena *arena) HDL_MUST_CHECK;

typedef struct hdl_bpe_work hdl_bpe_work;
hdl_err hdl_bpe_work_new(hdl_bpe_work **out) HDL_MUST_CHECK;
void hdl_bpe_work_free(hdl_bpe_work *work);
/* Forgets the remembered words (another tokenizer's) and gives back memory that one huge word took.
 */
void hdl_bpe_work_reset(hdl_bpe_work *work);

/* len >= 1. */
hdl_err hdl_bpe_encode(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word,
                       hdl_ids *out) HDL_MUST_CHECK;
/* The first symbols as they are, none merged. */
hdl_err hdl_bpe_encode_unmerged(const hdl_bpe *bpe, hdl_text word, hdl_ids *out) HDL_MUST_CHECK;
