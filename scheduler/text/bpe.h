/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair merging: one pre-token's bytes to ids.
 *
 * The definition (Sennrich et al. 2016, as Hugging Face's BPE does it): start from one symbol per
 * byte; as long as any two neighbours have a merge, replace the pair with the lowest rank, the
 * leftmost of equals. Short words do that literally, long ones through a heap and a linked list, so
 * that the cost is O(n log n) whatever the text. hdl_bpe is immutable after the last
 * hdl_bpe_add_merge; hdl_bpe_work is one thread's. */
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

typedef struct hdl_bpe {
    const hdl_vocab *vocab;
    hdl_token byte_ids[256];
    bool ignore_merges;  /* a whole pre-token that is in the vocabulary is that id, merges or not */
    uint32_t longest;    /* raw bytes of the longest token */
    uint32_t slots;      /* of merges, a power of two */
    uint32_t slot_shift; /* 64 - log2(slots) */
    hdl_bpe_slot *merges;
    hdl_bpe_merge *byte_pairs; /* [256 * 256] by the two bytes: the first and most frequent round */
} hdl_bpe;

/* UNSUPPORTED when a byte that UTF-8 text can contain has no token. n_merges is the room that is
 * made. */
hdl_err hdl_bpe_init(hdl_bpe *bpe, hdl_pool_arena *arena, const hdl_vocab *vocab, uint32_t n_merges,
                     hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_bpe_rule {
    hdl_text left, right; /* as written in tokenizer.json */
    uint32_t rank;
} hdl_bpe_rule;
hdl_err hdl_bpe_add_merge(hdl_bpe *bpe, const hdl_bpe_rule *rule, hdl_errmsg *why) HDL_MUST_CHECK;
/* After the last merge. */
void hdl_bpe_finish(hdl_bpe *bpe);

typedef struct hdl_bpe_work hdl_bpe_work;
hdl_err hdl_bpe_work_new(hdl_bpe_work **out) HDL_MUST_CHECK;
void hdl_bpe_work_free(hdl_bpe_work *work);
/* Forgets the remembered words (another tokenizer's) and gives back memory that one huge word took.
 */
void hdl_bpe_work_reset(hdl_bpe_work *work);

/* len >= 1. */
hdl_err hdl_bpe_encode(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word,
                       hdl_ids *out) HDL_MUST_CHECK;
