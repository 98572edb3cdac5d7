/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of hdl_tokenizer: filled by tokenizer_open.c (tokenizer.json) and load.c (the files beside
 * it), used by tokenizer.c. */
#pragma once

#include "base/arena.h"
#include "scheduler/text/added.h"
#include "scheduler/text/bpe.h"
#include "scheduler/text/normalize.h"
#include "scheduler/text/pretok.h"
#include "scheduler/text/tokenizer.h"
#include "scheduler/text/vocab.h"

enum {
    HDL_TOKENIZER_JSON_MAX = 64 << 20, /* Gemma's, the largest published, has 33 MB */
    HDL_TOKENIZER_ARENA_MAX = 1 << 30,
    HDL_TOKENIZER_TEXT_MAX = 256 << 20, /* of one encode; request bodies end long before */
    HDL_POST_IDS_MAX = 8,
};

/* Ids that the post-processor puts around the text. */
typedef struct hdl_post {
    hdl_token before[HDL_POST_IDS_MAX], after[HDL_POST_IDS_MAX];
    uint32_t n_before, n_after;
} hdl_post;

struct hdl_tokenizer {
    hdl_pool_arena arena; /* everything below but the regexes */
    uint64_t
        serial; /* unlike that of any tokenizer before: scratches know whose words they remember */
    hdl_vocab vocab;
    hdl_added_set added_raw, added_normalized;
    hdl_normalizer normalizer;
    hdl_pretok pretok;
    hdl_bpe bpe;
    hdl_post post;
    hdl_tok_info info;
};
