/* SPDX-License-Identifier: Apache-2.0 */
/* What a fuzz target does with a tokenizer that a foreign file gave: encodes a text of everything,
 * as a whole and with special tokens in a part of it only, and decodes its ids and any others. The
 * tokenizer is freed. */
#pragma once

#include <string.h>

#include "base/assert.h"
#include "scheduler/text/tokenizer.h"
#include "scheduler/text/utf8.h"

static inline void try_decode(const hdl_tokenizer *tok, const hdl_ids *ids)
{
    hdl_buf out;
    hdl_buf_init(&out, 1 << 22);
    hdl_err err = hdl_tokenizer_decode(tok, &(hdl_decode_args){ids->v, ids->n, false}, &out);
    HDL_ASSERT(err != HDL_OK ||
               hdl_utf8_valid_prefix((const char *)hdl_buf_data(&out), out.len) == out.len);
    hdl_buf_deinit(&out);
}

static inline void try_encode(const hdl_tokenizer *tok, hdl_tok_scratch *scratch, hdl_ids *ids)
{
    static const char text[] =
        "The \u00e9e\u0301 quick <x></s> 12345  \n\t \u6f22\u5b57 it's\x01 "
        "\u2581\U0001f600\uff21\ufb01 <0x41> <|im_end|> aaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    hdl_range some = {10, 60};
    hdl_ranges part = {.v = &some, .n = 1, .size = 1};
    hdl_errmsg why = {""};
    for (int i = 0; i < 3; i++) {
        hdl_encode_args args = {.text = text,
                                .len = sizeof text - 1,
                                .scratch = scratch,
                                .add_special = i == 0,
                                .parse_special = i != 1,
                                .special_in = i == 2 ? &part : NULL};
        ids->n = 0;
        if (hdl_tokenizer_encode(tok, &args, ids, &why) == HDL_OK)
            try_decode(tok, ids);
    }
}

static inline void try_tokenizer(hdl_tokenizer *tok)
{
    hdl_tok_scratch *scratch;
    hdl_ids ids;
    hdl_ids_init(&ids, 100000);
    if (hdl_tok_scratch_new(&scratch) == HDL_OK) {
        try_encode(tok, scratch, &ids);
        hdl_tok_scratch_free(scratch);
    }
    uint32_t n = hdl_tokenizer_info(tok)->vocab_size;
    ids.n = 0;
    for (uint32_t i = 0; i < 300; i++)
        HDL_ASSERT(hdl_ids_push(&ids, (hdl_token)(i * 7 % (n + 1))) == HDL_OK);
    try_decode(tok, &ids);
    hdl_ids_deinit(&ids);
    hdl_tokenizer_free(tok);
}
