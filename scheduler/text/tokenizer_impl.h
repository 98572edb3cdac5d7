/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of hdl_tokenizer: filled from one of the formats (tokenizer_open.c, model_open.c and
 * post_open.c: tokenizer.json; gguf_vocab.c; tekken.c; tiktoken.c), then by load.c from the files
 * beside it; used by tokenizer.c and detok.c. */
#pragma once

#include "base/arena.h"
#include "base/json.h"
#include "scheduler/text/added.h"
#include "scheduler/text/bpe.h"
#include "scheduler/text/decode.h"
#include "scheduler/text/normalize.h"
#include "scheduler/text/pretok.h"
#include "scheduler/text/tokenizer.h"
#include "scheduler/text/unigram.h"
#include "scheduler/text/vocab.h"

enum {
    HDL_TOKENIZER_JSON_MAX = 64 << 20, /* Gemma's, the largest published, has 33 MB */
    HDL_TOKENIZER_ARENA_MAX = 1 << 30,
    HDL_TOKENIZER_TEXT_MAX = 256 << 20, /* of one encode; request bodies end long before */
    HDL_TOKENIZER_TEMPLATE_MAX = 1 << 20,
    HDL_POST_IDS_MAX = 8,
};

/* Ids that the post-processor puts around the text. */
typedef struct hdl_post {
    hdl_token before[HDL_POST_IDS_MAX], after[HDL_POST_IDS_MAX];
    uint32_t n_before, n_after;
} hdl_post;

typedef enum hdl_model_kind { HDL_MODEL_BPE, HDL_MODEL_UNIGRAM } hdl_model_kind;

struct hdl_tokenizer {
    hdl_pool_arena arena; /* everything below but the regexes */
    uint64_t
        serial; /* unlike that of any tokenizer before: scratches know whose words they remember */
    hdl_vocab vocab;
    hdl_added_set added_raw, added_normalized;
    hdl_normalizer normalizer;
    hdl_pretok pretok;
    hdl_model_kind kind;
    hdl_bpe bpe; /* one of the two */
    hdl_unigram unigram;
    hdl_decoder decoder;
    hdl_post post;
    hdl_tok_info info;
};

/* Empty, with its arena and serial. */
hdl_err hdl_tokenizer_alloc(hdl_tokenizer **out) HDL_MUST_CHECK;

/* load.c: one more id that ends an answer; the chat template's source, copied. */
hdl_err hdl_tokenizer_add_eos(hdl_tokenizer *tok, hdl_token id, hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_tokenizer_set_template(hdl_tokenizer *tok, hdl_text source) HDL_MUST_CHECK;

/* tiktoken.c: the text of tiktoken.model, and tokenizer_config.json with the special tokens. */
hdl_err hdl_tokenizer_open_tiktoken(hdl_tokenizer **out, hdl_text text, const hdl_jv *config,
                                    hdl_errmsg *why) HDL_MUST_CHECK;

/* An id of tokenizer.json. */
hdl_err hdl_tokenizer_read_id(const hdl_jv *v, uint32_t *out, hdl_errmsg *why) HDL_MUST_CHECK;
/* UNSUPPORTED: `tokenizer.json: <path> <what>`. */
hdl_err hdl_tokenizer_unsupported(const hdl_jv *v, hdl_errmsg *why, const char *what);

/* "model" of tokenizer.json; room for the ids of "added_tokens" is made too. The model is complete
 * only after hdl_model_finish, when the added tokens are known. */
hdl_err hdl_model_read(hdl_tokenizer *tok, const hdl_jv *model, const hdl_jv *added,
                       hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_model_finish(hdl_tokenizer *tok) HDL_MUST_CHECK;
/* "post_processor" of tokenizer.json. */
hdl_err hdl_post_read(hdl_post *post, const hdl_jv *json, hdl_errmsg *why) HDL_MUST_CHECK;
