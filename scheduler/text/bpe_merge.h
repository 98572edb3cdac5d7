/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of bpe.c and bpe_merge.c: how one word is merged. */
#pragma once

#include "scheduler/text/bpe.h"
#include "scheduler/text/words.h"

enum { HDL_BPE_SHORT_WORD = 48 }; /* bytes up to which a scan for the lowest rank beats the heap */
#define HDL_BPE_NO_RANK UINT32_MAX

typedef struct hdl_bpe_node hdl_bpe_node;
struct hdl_bpe_work {
    hdl_words words;
    hdl_bpe_node *nodes; /* of a long word */
    uint64_t *heap;      /* rank << 32 | place of the left symbol */
    size_t nodes_max;    /* room in nodes; heap has twice that */
};

static inline uint64_t hdl_bpe_pair(hdl_token left, hdl_token right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* Fibonacci hashing: the top bits of the product depend on every bit of the pair. */
static inline uint64_t hdl_bpe_hash(uint64_t pair) { return pair * 0x9e3779b97f4a7c15u; }

static inline hdl_bpe_slot *hdl_bpe_find(const hdl_bpe *bpe, uint64_t pair)
{
    uint32_t at = (uint32_t)(hdl_bpe_hash(pair) >> bpe->slot_shift);
    while (bpe->merges[at].pair != pair && bpe->merges[at].pair != UINT64_MAX)
        at = (at + 1) & (bpe->slots - 1);
    return &bpe->merges[at];
}

/* Most pairs have no rule. This says so for most of them from a table that caches hold. */
static inline bool hdl_bpe_may_merge(const hdl_bpe *bpe, uint64_t pair)
{
    uint64_t bit = hdl_bpe_hash(pair) >> (bpe->slot_shift - 2);
    return bpe->may_merge[bit / 64] >> (bit % 64) & 1;
}

/* Of a character; -1: it has no token of its own. */
static inline hdl_token hdl_bpe_char_id(const hdl_bpe *bpe, const char *p, size_t n)
{
    return n == 1 ? bpe->ascii_ids[(unsigned char)*p] : hdl_vocab_find_raw(bpe->vocab, p, n);
}

/* What stands before the first merge: n_ids of them, each where it begins in the word. An unknown
 * character of by_vocab is -1, since it may still become part of a token. Room: word.len. */
size_t hdl_bpe_symbols(const hdl_bpe *bpe, hdl_text word, hdl_token *ids, uint32_t *at);
/* Appends what an unknown character stands for. */
hdl_err hdl_bpe_push_unknown(const hdl_bpe *bpe, hdl_text text, hdl_ids *out) HDL_MUST_CHECK;

/* word.len <= HDL_BPE_SHORT_WORD; ids has room for as many. Returns how many. */
size_t hdl_bpe_merge_short(const hdl_bpe *bpe, hdl_text word, hdl_token *ids);
hdl_err hdl_bpe_merge_long(const hdl_bpe *bpe, hdl_bpe_work *work, hdl_text word,
                           hdl_ids *out) HDL_MUST_CHECK;
void hdl_bpe_give_back(hdl_bpe_work *work);
