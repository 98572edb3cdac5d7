/* SPDX-License-Identifier: Apache-2.0 */
/* The "decoder" of tokenizer.json: how tokens become text again.
 *
 * What a decoder does to one token alone is done once for the whole vocabulary at open
 * (hdl_vocab_token.decoded); what depends on neighbours is left for detok.c: runs of byte tokens,
 * the first token, the beginning of the text. Orders of decoders that do not come apart like this
 * are refused. Immutable. */
#pragma once

#include <heddle/err.h>

#include "base/json.h"
#include "scheduler/text/vocab.h"

typedef struct hdl_decoder {
    bool byte_level; /* tokens are raw bytes; else text, but for byte tokens */
    bool byte_runs;  /* neighbouring byte tokens are characters together, or a U+FFFD for each */
    bool first_bare; /* the first token loses every `space` */
    char space[4];   /* what stands for a space in token texts (U+2581) */
    uint8_t n_space;
    char strip[4]; /* this character is dropped at the start of the text, strip_max times */
    uint8_t n_strip;
    uint8_t strip_max;
} hdl_decoder;

/* From the value of "decoder"; vocab is complete and gets what its tokens are decoded as.
 * UNSUPPORTED names what heddle lacks. */
hdl_err hdl_decoder_init(hdl_decoder *decoder, hdl_vocab *vocab, hdl_pool_arena *arena,
                         const hdl_jv *json, hdl_errmsg *why) HDL_MUST_CHECK;

typedef struct hdl_decoder_rule {
    hdl_text from, to; /* literal; from not empty */
} hdl_decoder_rule;
/* Replaces in what every token is decoded as. */
hdl_err hdl_decoder_replace(hdl_vocab *vocab, hdl_pool_arena *arena,
                            const hdl_decoder_rule *rule) HDL_MUST_CHECK;
/* Tokens <0x00> to <0xFF> are decoded as their byte. */
hdl_err hdl_decoder_mark_bytes(hdl_vocab *vocab, hdl_pool_arena *arena) HDL_MUST_CHECK;
