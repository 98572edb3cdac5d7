/* SPDX-License-Identifier: Apache-2.0 */
/* Text to token ids and back, exactly as Hugging Face's tokenizers does it from the same
 * tokenizer.json, or as the owner of another format does it.
 *
 * A hdl_tokenizer is immutable after open and shared by any number of threads; whoever opened it
 * closes it after the last user. Everything that changes while encoding lives in a hdl_tok_scratch,
 * one per thread. What a tokenizer.json asks for and heddle does not have is refused at open, by
 * name; nothing is approximated. Not here: chat templates (template.h), streaming (detok.h). */
#pragma once

#include <heddle/err.h>
#include <heddle/limits.h>
#include <heddle/types.h>

#include "base/buf.h"
#include "scheduler/text/ids.h"
#include "scheduler/text/ranges.h"

struct hdl_gguf;
typedef struct hdl_tokenizer hdl_tokenizer;     /* immutable */
typedef struct hdl_tok_scratch hdl_tok_scratch; /* one thread's */

/* What the model folder says beside the vocabulary. Borrowed from the tokenizer, as are its
 * strings. */
typedef struct hdl_special_texts {
    const char *bos, *eos, *pad, *unk; /* as templates see them; NULL where the model has none */
} hdl_special_texts;

typedef struct hdl_tok_info {
    uint32_t vocab_size; /* highest id + 1; the model's embedding may have more rows than that */
    uint32_t n_eos_ids;
    /* These end an answer: those of generation_config.json, and the eos_token. */
    hdl_token eos_ids[HDL_STOP_IDS_MAX];
    hdl_token bos_id; /* -1: none */
    hdl_special_texts special;
    const char *chat_template; /* source, NUL-terminated; NULL: the model has none */
    size_t chat_template_len;
    /* Of tekken.json and config.json, or NULL: what decides how chats without a template are
     * written. */
    const char *tekken_version, *model_type;
} hdl_tok_info;

/* Of a model: a .gguf file, or a folder with tokenizer.json (or else tekken.json or tiktoken.model)
 * and, where present, tokenizer_config.json, special_tokens_map.json, generation_config.json and
 * chat_template.jinja.
 * NOTFOUND, INVALID (broken file) or UNSUPPORTED (says what is missing). */
hdl_err hdl_tokenizer_open(hdl_tokenizer **out, const char *model, hdl_errmsg *why) HDL_MUST_CHECK;
/* From the text of a tokenizer.json alone: no eos, bos or chat template are known then. */
hdl_err hdl_tokenizer_open_json(hdl_tokenizer **out, const char *json, size_t len,
                                hdl_errmsg *why) HDL_MUST_CHECK;
hdl_err hdl_tokenizer_open_tekken(hdl_tokenizer **out, const char *json, size_t len,
                                  hdl_errmsg *why) HDL_MUST_CHECK;
/* From the metadata of a GGUF file, which may be closed afterwards. */
hdl_err hdl_tokenizer_open_gguf(hdl_tokenizer **out, const struct hdl_gguf *gguf,
                                hdl_errmsg *why) HDL_MUST_CHECK;
void hdl_tokenizer_free(hdl_tokenizer *tok);

const hdl_tok_info *hdl_tokenizer_info(const hdl_tokenizer *tok);
/* Id of an added token or vocabulary entry by its text as written in tokenizer.json ("<|im_end|>");
 * -1 when there is none. */
hdl_token hdl_tokenizer_find(const hdl_tokenizer *tok, const char *text);
bool hdl_tokenizer_is_special(const hdl_tokenizer *tok, hdl_token id);
/* Raw bytes that the id stands for (possibly half a character); false when the vocabulary has no
 * such id. Borrowed. */
bool hdl_tokenizer_token_bytes(const hdl_tokenizer *tok, hdl_token id, const char **bytes,
                               size_t *len);

/* Works with any tokenizer; remembers the last one and its recently split words. */
hdl_err hdl_tok_scratch_new(hdl_tok_scratch **out) HDL_MUST_CHECK;
void hdl_tok_scratch_free(hdl_tok_scratch *scratch);

typedef struct hdl_encode_args {
    const char *text; /* UTF-8; need not be NUL-terminated */
    size_t len;
    hdl_tok_scratch *scratch; /* the calling thread's */
    bool add_special; /* what the post-processor adds (usually bos); false after a chat template */
    bool parse_special; /* special tokens in the text become their ids; false: are plain text */
    /* Only in these places of it, whatever stands elsewhere; NULL: in all of it. For prompts that a
     * chat template made: what a user writes never becomes a special token. */
    const hdl_ranges *special_in;
} hdl_encode_args;

/* Appends to out. INVALID: not UTF-8, or beyond the limits of splitting; BUSY: more ids than
 * out->cap. On error out is as before. */
hdl_err hdl_tokenizer_encode(const hdl_tokenizer *tok, const hdl_encode_args *args, hdl_ids *out,
                             hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_decode_args {
    const hdl_token *ids;
    size_t n;
    bool skip_special;
} hdl_decode_args;

/* Appends valid UTF-8: bytes that are none become U+FFFD. Ids outside the vocabulary give nothing.
 */
hdl_err hdl_tokenizer_decode(const hdl_tokenizer *tok, const hdl_decode_args *args,
                             hdl_buf *out) HDL_MUST_CHECK;
