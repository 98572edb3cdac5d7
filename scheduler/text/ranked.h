/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabularies in which a token's rank is the order of merging and every token is a merge: what
 * tiktoken reads, and tekken. Shared by tekken.c and tiktoken.c. */
#pragma once

#include "scheduler/text/tokenizer_impl.h"

typedef struct hdl_ranked {
    uint32_t n_learned;     /* ranks 0..n_learned-1 */
    uint32_t first_learned; /* id of rank 0 */
    uint32_t n_special;
    uint32_t first_special; /* id */
} hdl_ranked;

/* Room for both kinds; the vocabulary and the sets of added tokens are empty then. */
hdl_err hdl_ranked_begin(hdl_tokenizer *tok, const hdl_ranked *layout,
                         hdl_errmsg *why) HDL_MUST_CHECK;
/* The bytes of a rank, as base64. */
hdl_err hdl_ranked_learn(hdl_tokenizer *tok, const hdl_ranked *layout, uint32_t rank,
                         hdl_text base64, hdl_errmsg *why) HDL_MUST_CHECK;
/* A token that is found by its text; special ones are skipped when decoding. */
typedef struct hdl_ranked_added {
    uint32_t id;
    hdl_text text;
    bool special;
} hdl_ranked_added;
hdl_err hdl_ranked_add(hdl_tokenizer *tok, const hdl_ranked_added *added,
                       hdl_errmsg *why) HDL_MUST_CHECK;
/* After the last token: the pattern that cuts words, and the tables of merging. */
hdl_err hdl_ranked_finish(hdl_tokenizer *tok, const hdl_ranked *layout, hdl_text pattern,
                          hdl_errmsg *why) HDL_MUST_CHECK;
